"""Roles of one's own, details of users, and the moment from which tokens count."""

import sqlalchemy as sa
from alembic import op

revision = "0002_access"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "local_role",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name=op.f("uq_local_role_name")),
    )
    with op.batch_alter_table("local_project", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tokens_from", sa.Integer(), nullable=True))

    with op.batch_alter_table("local_user", schema=None) as batch_op:
        batch_op.add_column(sa.Column("email", sa.String(length=255), nullable=True))
        batch_op.add_column(sa.Column("description", sa.String(length=255), nullable=True))
        batch_op.add_column(sa.Column("tokens_from", sa.Integer(), nullable=True))
