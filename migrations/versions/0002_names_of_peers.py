"""What peers call themselves."""

from alembic import op
from sqlalchemy import DefaultClause

from migrations.columns import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("peers") as peers:
        for name in ("name", "role"):
            column = text(name)
            column.server_default = DefaultClause("")
            peers.add_column(column)


def downgrade() -> None:
    with op.batch_alter_table("peers") as peers:
        for name in ("role", "name"):
            peers.drop_column(name)
