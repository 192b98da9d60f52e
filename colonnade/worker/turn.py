"""One turn of the loop on one load balancer: look, plan, apply, until nothing is left to do; then say so.

Promises: the lease is ours at every write; whatever happens ends in a verdict in the ledger (done, failed, gone or
put back), in one event and in one line of the log.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from colonnade.core import certificates, status, tls
from colonnade.core.plan import plan
from colonnade.core.steps import Step, about
from colonnade.errors import Broken, Later
from colonnade.model import Tree
from colonnade.store import amphorae, events, rows, verdict, work
from colonnade.store import certificates as watched
from colonnade.types import ProvisioningStatus
from colonnade.worker.apply import Hands, apply
from colonnade.worker.observe import Render, Sight, look

log = logging.getLogger("colonnade.worker")

_LOOKS = 8  # in one turn, while writes keep coming: then others get theirs
_PLANS = 24  # after one look; a load balancer that needs more is being undone by someone


class Stopped(Exception):
    """The program is to end: the turn puts its load balancer back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long failures are borne, and the dice that spread retries."""

    pending_limit_s: float
    retry_longest_s: float
    chance: Callable[[], float]


@dataclass(kw_only=True)
class Turn:
    """One turn. ``count`` is told every step's kind and result; ``stopping`` is asked between steps."""

    hands: Hands
    render: Render
    patience: Patience
    count: Callable[[str, str], None]
    stopping: Callable[[], bool]
    number: int
    did: list[str] = field(default_factory=list)
    due_at: float | None = None  # when the next turn is due, as far as this one knows
    _watched: list[watched.Watched] = field(default_factory=list)  # what is known of certificates

    @property
    def subject(self) -> str:
        return self.hands.lease.subject

    def run(self) -> None:
        """The whole turn. Raises work.Lost when another worker has taken over."""
        for _ in range(_LOOKS):
            with self.hands.store.read() as conn:
                tree = rows.tree(conn, self.subject)
                self._watched = watched.of(conn, self.subject)
            if tree is None:
                return self._forget()
            sight: Sight | None = None
            try:
                sight = look(tree, self.hands.network, self.hands.link, self.hands.secrets)
                self._reach(sight)
                if sight.waiting:
                    raise Later(" ".join(sight.waiting))
            except Stopped:
                return self._put_back(sight, "Stopping; the next worker goes on.")
            except (Later, Broken) as e:
                return self._failed(tree, sight, e)
            except work.Lost:
                raise
            except Exception as e:  # a fault of ours must not keep the load balancer, nor the thread
                self._log(logging.ERROR, f"A fault of the program: {e!r}.", exc_info=True)
                text = f"A fault of the program ({type(e).__name__}); the worker's log has more."
                return self._failed(tree, sight, Later(text))
            if self._ended(sight):
                return None
        return self._put_back(None, "Writes keep coming; others get their turn.")

    def _reach(self, sight: Sight) -> None:
        """Plan and apply until the plan is empty. A step that failed holds up only what depends on it."""
        failures: dict[str, Later | Broken] = {}
        for _ in range(_PLANS):
            left = plan(sight.desired(self.render), sight.observed())
            steps = [s for s in left if about(s) not in failures]
            for step in steps:
                if self.stopping():
                    raise Stopped
                if about(step) not in failures:
                    self._apply(step, sight, failures)
            if not steps:
                if left:
                    raise _worst(failures[about(s)] for s in left)
                return
        raise Later("What was done does not last: something else changes this load balancer's parts.")

    def _apply(self, step: Step, sight: Sight, failures: dict[str, Later | Broken]) -> None:
        kind = type(step).__name__
        try:
            self.did.append(apply(step, sight, self.hands))
            self.count(kind, "done")
        except (Later, Broken) as e:
            failures[about(step)] = e
            self.count(kind, "later" if isinstance(e, Later) else "broken")

    def _ended(self, sight: Sight) -> bool:
        """Write that it is done. False when a write came meanwhile: look again, at both."""
        self._say_used(sight)
        lease, now, tree = self.hands.lease, self.hands.clock.now(), sight.tree
        with self.hands.store.write() as conn:
            if tree.delete_wanted:
                verdict.gone(conn, lease, tree)
            else:
                done = verdict.done(conn, lease, tree, now, sight.problems)
                self._facts(conn, sight, now)
                if not done:
                    return False
                self._note_certificates(conn, sight)
            sentence = self._story(tree)
            if sentence:
                self._event(conn, tree, "did", sentence)
        digests = [s.row.digest[:12] for s in sight.amphorae.values() if s.row.digest]
        self._log(
            logging.INFO, sentence or "Nothing to do.", amphora=",".join(sight.amphorae), bundle=",".join(digests)
        )
        return True

    def _say_used(self, sight: Sight) -> None:
        """Tell the key manager what is in use, if anything is or was. Before the verdict: a worker that dies between
        the two says it once more."""
        tree, secrets = sight.tree, self.hands.secrets
        if secrets is None:
            return
        before, now = {w.ref for w in self._watched}, set(sight.found)
        if tree.delete_wanted:
            now, before = set(), before | {use.ref for use in tls.uses(tree)}
        if before | now:
            try:
                secrets.used(tree.load_balancer.id, now)
            except (Later, Broken) as e:  # it is a courtesy; the sweep says it again
                self._log(logging.WARNING, f"The key manager was not told what is in use: {e}")

    def _note_certificates(self, conn: Connection, sight: Sight) -> None:
        if not sight.found and not self._watched:
            return
        balancer, now = sight.balancer, self.hands.clock.now()
        known = certificates.known(sight.live, sight.found)
        for trouble in watched.note(conn, balancer.id, self._watched, known):
            use = trouble.use
            sentence = f"{use.kind.capitalize()} {status.called(sight.live, (use.kind, use.owner))}: {trouble.problem}"
            events.add(conn, balancer.id, balancer.project_id, now, "failed", (use.kind, use.owner), sentence)

    def _failed(self, tree: Tree, sight: Sight | None, error: Later | Broken) -> None:
        lease, now, broken = self.hands.lease, self.hands.clock.now(), isinstance(error, Broken)
        if sight is not None:
            tree = sight.tree
        sentence, help = str(error), error.help if isinstance(error, Broken) else ""
        failing = 0.0 if lease.failing_since is None else now - lease.failing_since
        limit = self.patience.pending_limit_s
        late = failing >= limit
        pause = work.pause(lease.attempts, self.patience.retry_longest_s, self.patience.chance(), broken=broken)
        with self.hands.store.write() as conn:
            if not late and not broken:
                pause = min(pause, limit - failing)  # PENDING is never longer than the limit says
            self.due_at = work.fail(conn, lease, tree.generation, now, pause)
            overtaken = self.due_at <= now
            given_up = late or (broken and not overtaken)
            verdict.failed(conn, tree, f"{sentence} {help}".strip(), now, given_up=given_up)
            if sight is not None:
                self._facts(conn, sight, now)
            ill = given_up or tree.load_balancer.provisioning_status == ProvisioningStatus.ERROR
            self._event(conn, tree, "failed" if ill else "waits", sentence, help)
        level = logging.WARNING if given_up else logging.INFO
        self._log(level, f"{sentence} Next try in {max(self.due_at - now, 0):.1f} s.")

    def _put_back(self, sight: Sight | None, sentence: str) -> None:
        with self.hands.store.write() as conn:
            self.due_at = now = self.hands.clock.now()
            work.postpone(conn, self.hands.lease, now, 0)
            if sight is not None:
                self._facts(conn, sight, now)
        self._log(logging.INFO, sentence)

    def _forget(self) -> None:
        with self.hands.store.write() as conn:
            work.forget(conn, self.hands.lease)
        self._log(logging.WARNING, "There is no such load balancer; its work is forgotten.")

    def _facts(self, conn: Connection, sight: Sight, now: float) -> None:
        for seen in sight.amphorae.values():
            amphorae.change(conn, seen.stored, seen.truthful(sight.vip, sight.balancer), now)

    def _story(self, tree: Tree) -> str:
        """What this turn did, as a sentence; empty when it did nothing and nobody waited for it."""
        waited = tree.load_balancer.provisioning_status != ProvisioningStatus.ACTIVE
        if not self.did and not waited:
            return ""
        story = "; ".join(self.did) or "nothing had to be done"
        end = "The load balancer is deleted." if tree.delete_wanted else "All is as wanted."
        return f"{story[0].upper()}{story[1:]}. {end}"

    def _event(self, conn: Connection, tree: Tree, kind: events.Kind, sentence: str, help: str = "") -> None:
        balancer, now = tree.load_balancer, self.hands.clock.now()
        what = ("loadbalancer", balancer.id)
        events.add_new(conn, balancer.id, balancer.project_id, now, kind, what, sentence, help)

    def _log(self, level: int, sentence: str, *, amphora: str = "", bundle: str = "", exc_info: bool = False) -> None:
        lease = self.hands.lease
        keys = {"lb": lease.subject, "amphora": amphora, "bundle": bundle, "turn": self.number, "epoch": lease.epoch}
        log.log(level, sentence, extra=keys, exc_info=exc_info)


def _worst(failures: Iterator[Later | Broken]) -> Later | Broken:
    """What to tell: that which needs a person rather than that which may pass."""
    all_of_them = list(failures)
    return next((e for e in all_of_them if isinstance(e, Broken)), all_of_them[0])
