"""kill -9 of each program while load balancers are created, changed and deleted: all settles, nothing is left."""

import contextlib
import http.client
import itertools
import threading

import pytest
from standalone import PROGRAMS, Api, Standalone, bodies
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]


class _Users:
    """Create, change and delete load balancers until told to stop. A request that a dying API left is sent again."""

    def __init__(self, s: Standalone, name: str) -> None:
        self._s, self._name = s, name
        self._members = [{"address": m, "protocol_port": 80} for m in s.members]
        self._stop = threading.Event()
        self.turns = 0
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._go)

    def __enter__(self) -> "_Users":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _go(self) -> None:
        api = self._s.admin()
        for n in itertools.count():
            if self._stop.is_set():
                return
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._turn(api, f"{self._name}-{n}")
            self.turns += 1

    def _turn(self, api: Api, name: str) -> None:
        try:
            lb = api.create(name, self._members)
            for weight in (2, 3):
                api.put(f"lbaas/pools/{lb['pools'][0]['id']}/members",
                        {"members": [{**m, "weight": weight} for m in self._members]})  # fmt: skip
            if not name.endswith("0"):
                api.delete(f"lbaas/loadbalancers/{lb['id']}?cascade=true")
        except AssertionError as e:
            self.wrong.append(str(e))


@pytest.mark.parametrize("program", [*PROGRAMS, "up", "keeper"])
def test_a_killed_program_leaves_nothing_undone(standalone: Standalone, api: Api, program: str) -> None:
    old = standalone.pid(program)
    with _Users(standalone, program) as users:
        eventually(lambda: users.turns >= 2)
        standalone.kill(program)
        if program != "keeper":  # the supervisor goes on without it
            eventually(lambda: standalone.pid(program) != old)
        seen = users.turns
        eventually(lambda: users.turns >= seen + 2)
    assert users.wrong == []
    eventually(standalone.nothing_left_over, 90, every=0.5)
    for lb in api.get("lbaas/loadbalancers"):
        eventually(lambda lb=lb: None not in bodies(lb["vip_address"], 4))
    if program == "keeper":
        standalone.stop()
        standalone.start()
