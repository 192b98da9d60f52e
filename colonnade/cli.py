"""The ``colonnade`` command: arguments, and the wiring of each program.

Imports stay inside the subcommands: a supervisor must not pay for SQLAlchemy, nor an agent for pydantic.
"""

import argparse
import os
import sys
import typing
from collections.abc import Callable
from typing import Any

if typing.TYPE_CHECKING:
    import threading

    from colonnade.settings import Settings

CONFIG = "COLONNADE_CONFIG"  # environment: configuration files, colon-separated, where --config-file is not given
Run = Callable[[argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; answers its exit code. 2 stands for wrong arguments and wrong settings."""
    args = _parser().parse_args(argv)
    run: Run = args.run
    if "config_file" in args and not args.config_file:
        args.config_file = [f for f in os.environ.get(CONFIG, "").split(":") if f]
    try:
        return run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as e:
        kind = type(e).__name__  # named, not imported: most subcommands that fail never load settings or SQLAlchemy
        if kind == "OperationalError" and run in (_db, _events, _prepare):
            return _no_database(args.command, e)
        if kind != "WrongSetting":
            raise
        sys.stderr.write(f"colonnade {args.command}: {e}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="colonnade", description="Load balancing as a service.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Run, help: str | None) -> argparse.ArgumentParser:
        # Without help= the command is left out of the list: it is not for people.
        command = (
            commands.add_parser(name, description=help, help=help, allow_abbrev=False)
            if help
            else commands.add_parser(name, allow_abbrev=False)
        )
        command.set_defaults(run=run)
        command.add_argument(
            "--config-file", action="append", default=[], metavar="FILE", help="may be repeated; later files win"
        )
        return command

    add("api", _api, "answer the API")
    add("worker", _worker, "bring load balancers to what is wished for them")
    add("health-manager", _health_manager, "take heartbeats; derive operating statuses and statistics")
    add("housekeeping", _housekeeping, "purge, and sweep for what nobody owns")
    add("driver-agent", _driver_agent, "take what third parties' providers report, and run their agents")
    agent = add("agent", _agent, "make and configure the amphorae of this host (root)")
    for option in ("state", "tag", "slot", "group", "haproxy"):
        agent.add_argument(f"--{option}", help="instead of the setting")
    up = add("up", _up, "run all of the above on this machine (root)")
    up.add_argument("--demo", action="store_true", help="also run two small servers as members")
    add("down", _down, "remove all that a stopped installation left in the kernel (root)")
    db = add("db", _db, "the tables: upgrade them, print their version, or check them")
    db.add_argument("action", choices=["upgrade", "current", "check"])
    add("status", _status, "programs, work due, load balancers and amphorae by status")
    events = add("events", _events, "what happened to a load balancer, newest first")
    events.add_argument("loadbalancer", help="name or id")
    config = add("config", _config, "print every option with its value, default and help")
    config.add_argument("--markdown", action="store_true", help="the reference page, from the defaults")
    policy = add("policy", _policy, "who may do what: the rules in force, a file to begin with, the reference page")
    policy.add_argument("action", choices=["list", "sample", "markdown"])
    add("facts", _facts, None)  # what the supervisor needs of the settings, as JSON
    add("prepare", _prepare, None)  # before the programs: tables, secrets, the small cloud's first contents
    add("demo", _demo, None)  # two servers in namespaces of their own, until stopped (root)
    return parser


# --- the programs ----------------------------------------------------------------------------------------------------


def _api(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade import serve
    from colonnade.api.app import make_wsgi
    from colonnade.clock import SystemClock
    from colonnade.store.store import Store
    from colonnade.wiring import Wiring

    clock, store = SystemClock(), Store(settings.database_url)
    drivers = Wiring(settings, store, clock)
    app = make_wsgi(
        settings=settings, store=store, clock=clock, network=drivers.network(), supplies=drivers.supplies(),
        doorbell=drivers.doorbell(listen=False),
    )  # fmt: skip
    serve.serve(app, settings)
    return 0


def _worker(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade.clock import SystemClock
    from colonnade.store.store import Store
    from colonnade.wiring import Wiring
    from colonnade.worker.loop import Worker

    clock, store = SystemClock(), Store(settings.database_url)
    drivers = Wiring(settings, store, clock)
    worker = Worker(
        settings=settings, store=store, clock=clock, network=drivers.network(), compute=drivers.compute(),
        link=drivers.link(), doorbell=drivers.doorbell(listen=True), fabric=drivers.fabric(),
        secrets=drivers.secrets(),
    )  # fmt: skip
    worker.run(_stop_signal())
    return 0


def _health_manager(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade.clock import SystemClock
    from colonnade.health_manager.receive import HealthManager
    from colonnade.store.store import Store
    from colonnade.wiring import Wiring

    clock, store = SystemClock(), Store(settings.database_url)
    doorbell = Wiring(settings, store, clock).doorbell(listen=False)
    HealthManager(settings=settings, store=store, doorbell=doorbell, clock=clock).run(_stop_signal())
    return 0


def _housekeeping(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade.clock import SystemClock
    from colonnade.housekeeping.keep import HouseKeeper
    from colonnade.store.store import Store
    from colonnade.wiring import Wiring

    clock, store = SystemClock(), Store(settings.database_url)
    drivers = Wiring(settings, store, clock)
    keeper = HouseKeeper(
        settings=settings, store=store, clock=clock, network=drivers.network(), compute=drivers.compute(),
        doorbell=drivers.doorbell(listen=False), secrets=drivers.secrets(),
    )  # fmt: skip
    keeper.run(_stop_signal())
    return 0


def _driver_agent(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade.clock import SystemClock
    from colonnade.driver_agent.run import DriverAgent
    from colonnade.store.store import Store
    from colonnade.wiring import Wiring

    clock, store = SystemClock(), Store(settings.database_url)
    drivers = Wiring(settings, store, clock)
    agent = DriverAgent(
        settings=settings, store=store, network=drivers.network(), clock=clock, secrets=drivers.secrets()
    )  # fmt: skip
    agent.run(_stop_signal())
    return 0


def _agent(args: argparse.Namespace) -> int:
    from pathlib import Path

    from colonnade import logs
    from colonnade.agent import app

    if None in (args.state, args.tag, args.slot, args.group, args.haproxy):
        settings = _settings(args)
        args.state, args.tag, args.slot = settings.default.state_path, settings.agent.tag, settings.agent.slot
        args.group, args.haproxy = settings.agent.control_group, settings.haproxy_amphora.haproxy_cmd
    logs.begin(debug=False)
    app.run(
        state=Path(args.state), tag=args.tag, slot=int(args.slot), group=args.group, haproxy=args.haproxy,
        stop=_stop_signal(),
    )  # fmt: skip
    return 0


def _up(args: argparse.Namespace) -> int:
    from colonnade import supervisor

    return supervisor.run(args.config_file, args.demo)


def _demo(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade import demo

    return demo.run(settings, _stop_signal())


# --- what operators and the supervisor need --------------------------------------------------------------------------


def _down(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade import demo
    from colonnade.agent import teardown

    demo.remove(settings.agent.tag)
    teardown.teardown(state=settings.state, tag=settings.agent.tag, slot=settings.agent.slot)
    return 0


def _db(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade.store import schema

    if args.action == "upgrade":
        schema.upgrade(settings.database_url)
        return 0
    here, wanted = schema.current(settings.database_url), schema.head()
    if args.action == "current":
        print(here or "no tables yet")
        return 0
    if here != wanted:
        print(f"the tables are at {here or 'nothing'}, this program wants {wanted}: run `colonnade db upgrade`")
        return 1
    difference = schema.check(settings.database_url)
    print(difference or "the tables are as this program wants them")
    return int(difference is not None)


def _prepare(args: argparse.Namespace) -> int:
    settings = _begin(args)
    from colonnade.clock import SystemClock
    from colonnade.local import setup
    from colonnade.store import schema
    from colonnade.store.store import Store

    schema.upgrade(settings.database_url)
    setup.ensure(settings, Store(settings.database_url), SystemClock())
    return 0


def _facts(args: argparse.Namespace) -> int:
    from colonnade import supervisor, wiring
    from colonnade.configuration import ignored
    from colonnade.drivers.provider import missing

    s = _settings(args)
    facts = supervisor.Facts(
        state=s.default.state_path, host=s.api_settings.bind_host, port=s.api_settings.bind_port, tag=s.agent.tag,
        slot=s.agent.slot, group=s.agent.control_group, haproxy=s.haproxy_amphora.haproxy_cmd,
        agent=wiring.uses_agent(s), apis=s.api_settings.processes, providers=s.reports,
    )  # fmt: skip
    for sentence in (*ignored(args.config_file), *missing(s)):
        sys.stderr.write(f"colonnade: {sentence}\n")
    print(supervisor.facts_json(facts))
    return 0


def _status(args: argparse.Namespace) -> int:
    from colonnade import report

    return report.status(_settings(args))


def _events(args: argparse.Namespace) -> int:
    from colonnade import report

    return report.events(_settings(args), args.loadbalancer)


def _config(args: argparse.Namespace) -> int:
    from colonnade import report
    from colonnade.settings import Settings

    print(report.markdown(Settings()) if args.markdown else report.configuration(_settings(args)), end="")
    return 0


def _policy(args: argparse.Namespace) -> int:
    from colonnade import report

    print(report.policy(_settings(args), args.action), end="")
    return 0


def _no_database(command: str, e: Any) -> int:  # noqa: ANN401 - SQLAlchemy is not imported here
    from colonnade import report

    sys.stderr.write(
        f"colonnade {command}: the database does not do what is asked of it, see [database]: {report.reason(e)}\n"
    )
    return 1


# --- shared ----------------------------------------------------------------------------------------------------------


def _settings(args: argparse.Namespace) -> "Settings":
    from colonnade.configuration import load

    return load(args.config_file)


def _begin(args: argparse.Namespace) -> "Settings":
    """Settings read and logging started: what every program does first."""
    from colonnade import logs

    settings = _settings(args)
    logs.begin(settings.default.debug)
    return settings


def _stop_signal() -> "threading.Event":
    """Set by SIGTERM and SIGINT."""
    import signal
    import threading

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
