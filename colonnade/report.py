"""What operators read: the state of an installation, a load balancer's history, the reference of all options."""

import dataclasses
import os
import time
from collections.abc import Iterator
from typing import Any, Literal

from sqlalchemy import func, or_, select
from sqlalchemy.exc import OperationalError

from colonnade import supervisor, wiring
from colonnade.clock import SystemClock
from colonnade.drivers import provider
from colonnade.settings import Settings, sections
from colonnade.store import tables
from colonnade.store.store import Store

_PROGRAMS = ("worker", "health-manager", "housekeeping")


def status(settings: Settings) -> int:
    """Print programs, work and objects by status; answers 1 when a program is not running."""
    lines, missing = _programs(settings)
    lines += [f"provider          {sentence}" for sentence in provider.missing(settings)]
    try:
        lines += _work(settings)
    except OperationalError as e:
        lines.append(f"database          cannot be read: {reason(e)}")
        missing = True
    print("\n".join(lines))
    return int(missing)


def reason(e: OperationalError) -> str:
    """Why the database does not answer, for who asked on a command line."""
    sudo = " (run it with sudo)" if os.geteuid() and "unable to open database file" in str(e.orig) else ""
    return f"{e.orig}{sudo}"


def _programs(settings: Settings) -> tuple[list[str], bool]:
    run_dir = settings.state / "run"
    apis = ("api", *(f"api-{n}" for n in range(2, settings.api_settings.processes + 1)))
    agent = ("agent",) if wiring.uses_agent(settings) else ()
    reports = ("driver-agent",) if settings.reports else ()
    names = ("keeper", "up", *agent, *apis, *_PROGRAMS, *reports)
    running = {name: supervisor.running(run_dir / f"{name}.pid") for name in names}
    lines = [f"{name:<17} {f'running, process {pid}' if pid else 'NOT RUNNING'}" for name, pid in running.items()]
    return lines, not all(running.values())


def _work(settings: Settings) -> list[str]:
    now = time.time()
    work = tables.work.c
    with Store(settings.database_url).read() as conn:
        due = conn.execute(select(func.count()).where(work.due_at <= now)).scalar_one()
        waiting = conn.execute(select(func.count()).where(work.due_at > now)).scalar_one()
        held = conn.execute(select(func.count()).where(work.expires_at > now)).scalar_one()
        oldest = conn.execute(
            select(work.subject, work.due_at, work.failing_since, work.attempts)
            .where(or_(work.due_at <= now, work.failing_since.is_not(None)))
            .order_by(func.coalesce(work.failing_since, work.due_at))
            .limit(1)
        ).first()
        balancers = conn.execute(_by_status(tables.load_balancer.c.provisioning_status)).all()
        operating = conn.execute(_by_status(tables.load_balancer.c.operating_status)).all()
        amphorae = conn.execute(_by_status(tables.amphora.c.status)).all()
    oldest_said = "none"
    if oldest:
        since = oldest.failing_since or oldest.due_at
        oldest_said = f"{oldest.subject}, for {now - since:.0f} s, {oldest.attempts} tries"
    return [
        f"work              {due} due, {waiting} to be tried again later, {held} being worked on",
        f"oldest dirty      {oldest_said}",
        f"load balancers    {_counts(balancers)}",
        f"  operating       {_counts(operating)}",
        f"amphorae          {_counts(amphorae)}",
    ]


def _by_status(column: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's own generics say less than they cost
    return select(column, func.count()).group_by(column).order_by(column)


def _counts(rows: Any) -> str:  # noqa: ANN401
    return ", ".join(f"{n} {name}" for name, n in rows) or "none"


def events(settings: Settings, name: str) -> int:
    """Print a load balancer's events, newest first; answers 1 when there is none of that name or id."""
    lb, event = tables.load_balancer.c, tables.event.c
    with Store(settings.database_url).read() as conn:
        ids = conn.execute(select(lb.id).where(or_(lb.id == name, lb.name == name))).scalars().all()
        ids = (
            ids
            or conn.execute(select(event.loadbalancer_id).where(event.loadbalancer_id == name).limit(1)).scalars().all()
        )
        if len(ids) != 1:
            print(
                f"{len(ids)} load balancers are called {name}: give an id."
                if ids
                else f"No load balancer has the name or id {name}. The history of a deleted one is found by its id."
            )
            return 1
        rows = conn.execute(select(tables.event).where(event.loadbalancer_id == ids[0]).order_by(event.id.desc())).all()
    for row in rows:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.at))
        print(
            f"{at}  {row.kind:<7} {row.object_type} {row.object_id}  {row.sentence}"
            + (f"  {row.help}" if row.help else "")
        )
    return 0


def configuration(settings: Settings) -> str:
    """All options with the values in force, as a configuration file."""
    parts = []
    for section, options in _options(settings):
        lines = [f"[{section}]"]
        for f, value in options:
            lines += [
                f"# {f.metadata['help']} Default: {_said(f.default) or 'empty'}",
                f"{f.name} = {_said(value)}",
                "",
            ]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def markdown(settings: Settings) -> str:
    """docs/configuration.md."""
    out = [
        "# Settings\n\n"
        "Made from the code by `colonnade config --markdown`. Settings stand in a file that `--config-file` names\n"
        "(with `./try`: `--config`); all have defaults. A wrong value stops a program at its start, with the option's\n"
        "name; an option that there is not is ignored, and the start says so. `colonnade config` prints the values in\n"
        "force.\n"
    ]
    for section, options in _options(settings):
        out.append(f"\n## [{section}]\n\n| option | default | what |\n|---|---|---|\n")
        for f, value in options:
            said = f"`{_said(value)}`" if _said(value) else ""
            out.append(f"| `{f.name}` | {said} | {_limits(f)} |\n")
    return "".join(out)


def policy(settings: Settings, what: Literal["list", "sample", "markdown"]) -> str:
    """The rules in force as a policy file; one in which all defaults stand as comments; docs/policies.md."""
    from colonnade.api import access, policies  # oslo.policy is not for the other reports to pay for

    match what:
        case "sample":
            return policies.sample()
        case "markdown":
            return policies.markdown()
    rules = access.Policy(settings, SystemClock()).effective()
    return "".join(f'"{name}": "{rule}"\n' for name, rule in sorted(rules.items()))


def _options(settings: Settings) -> Iterator[tuple[str, list[tuple["dataclasses.Field[Any]", Any]]]]:
    for section in sections():
        values = getattr(settings, section.name)
        name = "DEFAULT" if section.name == "default" else section.name
        yield name, [(f, getattr(values, f.name)) for f in dataclasses.fields(values)]


def _limits(f: "dataclasses.Field[Any]") -> str:
    meta = f.metadata
    limits = [f"at least {meta['min']}"] if "min" in meta else []
    limits += [f"at most {meta['max']}"] if "max" in meta else []
    limits += ["one of " + ", ".join(meta["choices"])] if "choices" in meta else []
    return str(meta["help"]) + (f" ({', '.join(limits)})" if limits else "")


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
