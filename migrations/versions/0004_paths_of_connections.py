"""Whether a connection is direct or goes through a relay."""

from alembic import op

from migrations.columns import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("connections") as connections:
        for name in ("path", "path_changed_at"):
            connections.add_column(text(name, null=True))


def downgrade() -> None:
    with op.batch_alter_table("connections") as connections:
        for name in ("path_changed_at", "path"):
            connections.drop_column(name)
