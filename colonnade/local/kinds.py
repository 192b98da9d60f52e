"""What networks, subnets, ports and floating IPs have in common: an interface for the API, and shared columns."""

import uuid
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Table, or_, update

from colonnade.errors import NotFound
from colonnade.local.attributes import Attribute
from colonnade.local.faults import PolicyNotAuthorized
from colonnade.local.listing import Collection
from colonnade.model import Caller
from colonnade.store.local_tables import local_network
from colonnade.types import Json


class Kind(ABC):
    """One kind of network object. All verbs run inside the caller's transaction."""

    singular: ClassVar[str]
    path: ClassVar[str] = ""  # of its collection; empty: the plural
    title: ClassVar[str]  # its name in sentences
    table: ClassVar[Table]
    not_found: ClassVar[type[NotFound]]
    attributes: ClassVar[dict[str, Attribute]]
    collection: ClassVar[Collection]

    @abstractmethod
    def items(self, conn: Connection, caller: Caller, where: list[ColumnElement[bool]]) -> list[Json]:
        """Those that the caller may see, as replies show them, oldest first. Keys with an underscore are not shown."""

    @abstractmethod
    def create(self, conn: Connection, caller: Caller, given: Json, now: float) -> str:
        """Make one; answers its id."""

    @abstractmethod
    def update(self, conn: Connection, caller: Caller, item: Json, given: Json, now: float) -> None:
        """Change one that the caller may see and change."""

    @abstractmethod
    def delete(self, conn: Connection, caller: Caller, item: Json, now: float) -> None:
        """Remove one that the caller may see and change."""

    def concerned(self, conn: Connection, item: Json) -> list[str]:
        """Whom a change of this item gives work, besides what the verbs have made due: for the doorbell."""
        return ["fabric"]


def find(conn: Connection, kind: Kind, caller: Caller, item_id: object) -> Json:
    """One item that the caller may see. Raises the kind's own NotFound; a name is not an id."""
    items = kind.items(conn, caller, [kind.table.c.id == item_id]) if isinstance(item_id, str) else []
    if not items:
        raise kind.not_found(f"{kind.title} {item_id} could not be found.")
    return items[0]


def may_change(kind: Kind, caller: Caller, item: Json) -> None:
    """Raise PolicyNotAuthorized unless the item is the caller's or the caller an admin."""
    if not caller.is_admin and item["project_id"] != caller.project_id:
        raise PolicyNotAuthorized(f"{kind.title} {item['id']} belongs to another project.")


def new_row(given: Json, now: float) -> dict[str, Any]:
    """The shared columns of a new row."""
    return {
        "id": str(uuid.uuid4()),
        "project_id": given["project_id"],
        "name": given.get("name", ""),
        "description": given.get("description", ""),
        "tags": given.get("tags", []),
        "created_at": moment(now),
        "updated_at": moment(now),
    }


def change(conn: Connection, table: Table, item_id: str, now: float, **values: Any) -> None:  # noqa: ANN401 - columns
    """Write columns of one row, with its time and revision."""
    revision = table.c.revision_number + 1
    conn.execute(
        update(table).where(table.c.id == item_id).values(**values, updated_at=moment(now), revision_number=revision)
    )


def shared_fields(row: Any) -> Json:  # noqa: ANN401 - a row of any of the four tables
    """The fields that replies of all kinds have."""
    return {
        "id": row.id,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "description": row.description,
        "tags": list(row.tags),
        "created_at": _time(row.created_at),
        "updated_at": _time(row.updated_at),
        "revision_number": row.revision_number,
    }


def moment(now: float) -> datetime:
    """Naive UTC with fractions, so that what was made within one second still has an order."""
    return datetime.fromtimestamp(now, UTC).replace(tzinfo=None)


def _time(at: datetime) -> str:
    return f"{at.replace(microsecond=0).isoformat()}Z"


def visible_networks(caller: Caller) -> list[ColumnElement[bool]]:
    """Conditions on ``local_network``: the caller's own, shared and external ones; all for admins."""
    table = local_network.c
    if caller.is_admin:
        return []
    return [or_(table.project_id == caller.project_id, table.shared, table.external)]
