"""Where things are: an installation's names in the kernel, and its paths on disk and in /run."""

import json
import os
import shutil
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from colonnade.agent.netlink import Interface

RUN = Path("/run/colonnade")


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """One Colonnade on this machine. ``tag`` and ``slot`` tell it from others."""

    state: Path
    tag: str
    slot: int

    @property
    def prefix(self) -> str:
        """What the names of all its namespaces start with."""
        return f"cln-{self.tag}-"

    @property
    def fabric(self) -> str:
        """The namespace that holds the bridges."""
        return f"{self.prefix}fabric"

    @property
    def uplink(self) -> str:
        """The host's interface to the fabric; the fabric's own is called uplink."""
        return f"cln{self.slot}up"

    @property
    def table(self) -> str:
        """The host's nftables table."""
        return f"colonnade_{self.tag}"

    @property
    def host_addresses(self) -> tuple[Interface, Interface]:
        """The host's addresses on the uplink, IPv4 and IPv6."""
        return ip_interface(f"198.18.{self.slot}.1/30"), ip_interface(f"fd63:6f6c:{self.slot}::1/64")

    @property
    def fabric_addresses(self) -> tuple[Interface, Interface]:
        """The fabric's addresses on the uplink."""
        return ip_interface(f"198.18.{self.slot}.2/30"), ip_interface(f"fd63:6f6c:{self.slot}::2/64")

    @property
    def socket(self) -> Path:
        """Where the agent answers."""
        return self.state / "run" / "agent.sock"

    @property
    def disk(self) -> Path:
        """What must outlive a reboot; for root only."""
        return self.state / "agent"

    @property
    def amphorae(self) -> Path:
        """A directory for each amphora."""
        return self.disk / "amphorae"

    @property
    def run(self) -> Path:
        """What a reboot may take: sockets, and which processes run."""
        return RUN / self.tag

    def namespace(self, amphora_id: str) -> str:
        """The amphora's namespace."""
        return f"{self.prefix}{amphora_id[:13]}"

    @property
    def uids(self) -> range:
        """Users of all HAProxy processes."""
        return range(self.uid(0), self.uid(10000))

    def uid(self, number: int) -> int:
        """User and group of the HAProxy processes of the amphora with this number."""
        return 1000000 + self.slot * 10000 + number


def keep(path: Path, data: Any, *, durable: bool = True) -> None:  # noqa: ANN401 - JSON
    """Write ``data`` as JSON: all of it or nothing, readable by root only; ``durable``: it survives a power cut."""
    fresh = path.with_name(f".{path.name}.new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as f:  # noqa: PTH123
        json.dump(data, f)
        if durable:
            f.flush()
            os.fsync(f.fileno())
    fresh.replace(path)
    if not durable:
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def kept(path: Path) -> Any:  # noqa: ANN401 - JSON
    """What ``keep`` wrote; None when there is nothing."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_files(directory: Path, files: dict[str, str], gid: int) -> None:
    """Make ``directory`` anew with exactly these files, readable by root and the group."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o750)
    os.chown(directory, 0, gid)
    for name, text in files.items():
        write_file(directory / name, text, gid)


def write_file(path: Path, text: str, gid: int) -> None:
    """Write one file, at once for whoever reads it. Bytes are kept: surrogates stand for what was not UTF-8."""
    fresh = path.with_name(f".{path.name}.new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640), "w", newline="") as f:  # noqa: PTH123
        f.write(text)
    os.chown(fresh, 0, gid)
    fresh.replace(path)
