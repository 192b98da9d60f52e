"""Databases for tests: SQLite files, or private servers of Debian's packages that an unprivileged user runs.

``fresh`` gives empty databases of the kind that ``pytest --database`` names, quickly: tables are made once.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import NullPool, create_engine, exc, text
from support import free_port

from colonnade.store import schema
from colonnade.store.local_tables import metadata

KINDS = ("sqlite", "mariadb", "postgresql")
_SCRATCH = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
_QUICK = {  # for tests: nothing has to survive a power cut
    "mariadb": ("--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--innodb-buffer-pool-size=64M"),
    "postgresql": ("fsync=off", "synchronous_commit=off"),
}
_USER = "nobody"
_PATIENCE_S = 120
_PACKAGES = {
    "mariadb": "mariadbd mariadb-server-core",
    "postgresql": "/usr/lib/postgresql/15/bin/postgres postgresql-15",
}


class Databases:
    """Those of one test session. ``server`` runs from the first use on."""

    kind = "sqlite"

    def __init__(self) -> None:
        self._until_the_end = ExitStack()
        self._template: Path | None = None
        self._server: Server | None = None
        self._number = 0
        self._free: list[str] = []

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of a database with all tables and nothing in them, for as long as it is needed."""
        with self._copy() if self.kind == "sqlite" else self._emptied() as url:
            yield url

    @property
    def server(self) -> "Server":
        """The running server."""
        if self._server is None:
            self._server = self._until_the_end.enter_context(server(self.kind, *_QUICK[self.kind]))
        return self._server

    def close(self) -> None:
        """Leave nothing."""
        self._until_the_end.close()

    @contextmanager
    def _copy(self) -> Iterator[str]:
        if self._template is None:
            place = Path(self._until_the_end.enter_context(tempfile.TemporaryDirectory(dir=_SCRATCH)))
            schema.upgrade(f"sqlite:///{place / 'x.sqlite'}")
            self._template = place / "x.sqlite"
        with tempfile.TemporaryDirectory(dir=_SCRATCH) as scratch:
            path = Path(scratch) / "x.sqlite"
            shutil.copy(self._template, path)
            yield f"sqlite:///{path}"

    @contextmanager
    def _emptied(self) -> Iterator[str]:
        if not self._free:
            self._number += 1
            self._free.append(self.server.create(f"colonnade{self._number}"))
            schema.upgrade(self._free[-1])
        url = self._free.pop()
        yield url
        _empty(url)
        self._free.append(url)


def _empty(url: str) -> None:
    """One look finds the few tables that have rows: to delete from each of them all costs more than many a test."""
    engine = create_engine(url, poolclass=NullPool)
    names = [engine.dialect.identifier_preparer.quote(name) for name in metadata.tables]
    with engine.begin() as conn:
        looks = ", ".join(f"EXISTS (SELECT 1 FROM {name})" for name in names)  # noqa: S608 - our own tables
        for name, filled in zip(names, conn.execute(text(f"SELECT {looks}")).one(), strict=True):
            if filled:
                conn.execute(text(f"DELETE FROM {name}"))  # noqa: S608


DATABASES = Databases()


@dataclass
class Server:
    """A running server. ``options`` are for the next start."""

    kind: str
    place: Path
    port: int
    options: Sequence[str] = ()
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database."""
        if self.kind == "mariadb":
            return f"mysql+pymysql://root@127.0.0.1:{self.port}/{database}"
        return f"postgresql+psycopg://{_USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), user=_USER, group=_group(), stdout=log, stderr=log)
        until = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self.kind} does not start: {(self.place / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop; SIGKILL loses nothing that was committed."""
        if self.process:
            self.process.send_signal(signal.SIGINT if how == signal.SIGTERM and self.kind != "mariadb" else how)
            self.process.wait(_PATIENCE_S)
            self.process = None

    def create(self, database: str) -> str:
        """Make an empty database; answers its URL."""
        root = {"mariadb": "mysql", "postgresql": "postgres"}[self.kind]
        engine = create_engine(self.url(root), isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            conn.exec_driver_sql(f"DROP DATABASE IF EXISTS {database}")
            conn.exec_driver_sql(f"CREATE DATABASE {database}")
        engine.dispose()
        return self.url(database)

    def _command(self) -> list[str]:
        data = str(self.place / "data")
        if self.kind == "mariadb":
            return [
                "/usr/sbin/mariadbd", "--no-defaults", f"--datadir={data}", f"--port={self.port}",
                "--bind-address=127.0.0.1", f"--socket={self.place}/socket", f"--pid-file={self.place}/pid",
                *self.options,
            ]  # fmt: skip
        options = [word for o in self.options for word in ("-c", o)]
        return [
            "/usr/lib/postgresql/15/bin/postgres", "-D", data, "-p", str(self.port), "-k", str(self.place),
            "-c", "listen_addresses=127.0.0.1", *options,
        ]  # fmt: skip

    def _answers(self) -> bool:
        engine = create_engine(self.url({"mariadb": "mysql", "postgresql": "postgres"}[self.kind]))
        try:
            engine.connect().close()
        except exc.OperationalError:
            return False
        finally:
            engine.dispose()
        return True


@contextmanager
def server(kind: str, *options: str) -> Iterator[Server]:
    """A new server, gone afterwards. Its package is installed if it is not there."""
    _install(kind)
    place = Path(tempfile.mkdtemp(prefix=f"colonnade-{kind}-"))
    try:
        shutil.chown(place, _USER)
        _initialize(kind, place)
        made = Server(kind, place, free_port(), options)
        made.start()
        try:
            yield made
        finally:
            made.stop(signal.SIGKILL)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _initialize(kind: str, place: Path) -> None:
    data = str(place / "data")
    if kind == "mariadb":
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db",
                   "--auth-root-authentication-method=normal"]  # fmt: skip
    else:
        command = ["/usr/lib/postgresql/15/bin/initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--no-sync"]
    done = subprocess.run(command, user=_USER, group=_group(), cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _install(kind: str) -> None:
    """As ./try installs what it needs; the package's own service stays off."""
    program, package = _PACKAGES[kind].split()
    if shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
        return
    script = f". deploy/machine.sh; install_debian {package}"
    subprocess.run(["bash", "-c", script], cwd=Path(__file__).parents[1], check=True)


def _group() -> int:
    return pwd.getpwnam(_USER).pw_gid
