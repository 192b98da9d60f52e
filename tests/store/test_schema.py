"""The migrations make what the tables describe."""

import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotated_types import MaxLen
from sqlalchemy import String, inspect

from colonnade.store import schema, tables
from colonnade.store.store import Store


def test_migrations_make_what_the_tables_describe(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    schema.upgrade(url)
    assert schema.check(url) is None
    assert schema.current(url) == schema.head()


@pytest.mark.parametrize("cls", tables.OF, ids=lambda c: c.__name__)
def test_columns_hold_what_the_model_allows(cls: type[Any]) -> None:
    """SQLite would not tell: it stores any text anywhere."""
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        column = tables.OF[cls].c[name].type
        if isinstance(column, String) and column.length is not None:
            assert column.length >= max(_limits(hint), default=0), name


def _limits(hint: Any) -> Iterator[int]:
    yield from (n.max_length for n in getattr(hint, "__metadata__", ()) if isinstance(n, MaxLen))
    for part in typing.get_args(hint):
        yield from _limits(part)


def test_an_upgrade_is_one_line_of_the_log(tmp_path: Path) -> None:
    own = tmp_path / "own.conf"
    own.write_text(f"[database]\nconnection = sqlite:///{tmp_path / 'x.sqlite'}\n")
    for action, said in (("upgrade", 1), ("upgrade", 0), ("check", 0)):
        command = [sys.executable, "-m", "colonnade", "db", action, "--config-file", str(own)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert len(done.stderr.splitlines()) == said, done.stderr


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    schema.upgrade(url)
    schema.upgrade(url)
    assert schema.current(url) == schema.head()


def test_a_new_database_has_no_revision(tmp_path: Path) -> None:
    assert schema.current(f"sqlite:///{tmp_path / 'x.sqlite'}") is None


def test_a_table_that_lacks_a_column_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    schema.upgrade(url)
    store = Store(url)
    with store.write() as conn:
        conn.exec_driver_sql("ALTER TABLE amphora DROP COLUMN digest")
    store.close()
    assert "digest" in (schema.check(url) or "")


def test_an_installed_copy_carries_its_migrations(tmp_path: Path) -> None:
    package = Path(schema.__file__).parents[2]
    build = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "build", "--build-lib"]
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "colonnade"):
        (copy / name).symlink_to(package / name)
    (copy / "README.md").write_text("A copy for a test.")
    subprocess.run([*build, str(tmp_path / "lib")], cwd=copy, check=True, capture_output=True)
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    code = f"from colonnade.store import schema; schema.upgrade({url!r}); print(schema.__file__)"
    run = [sys.executable, "-c", code]
    made = subprocess.run(run, cwd=tmp_path / "lib", check=True, capture_output=True, text=True)
    assert made.stdout.startswith(str(tmp_path / "lib"))
    store = Store(url)
    assert "load_balancer" in inspect(store.engine).get_table_names()
    store.close()
