"""For which request an answer was found, where it was another."""

from alembic import op

from migrations.columns import text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("requests") as requests:
        requests.add_column(text("cached_from", null=True))


def downgrade() -> None:
    with op.batch_alter_table("requests") as requests:
        requests.drop_column("cached_from")
