"""What is kept of prompts and answers, and when it was forgotten."""

from alembic import op

from migrations.columns import text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_REQUESTS = ("kept", "sealed_content", "sealed_answer", "forgotten_at")
_SERVED = ("kept", "content", "answer", "sealed")


def upgrade() -> None:
    for table, names in (("requests", _REQUESTS), ("served", _SERVED)):
        with op.batch_alter_table(table) as columns:
            for name in names:
                columns.add_column(text(name, null=True))


def downgrade() -> None:
    for table, names in (("requests", _REQUESTS), ("served", _SERVED)):
        with op.batch_alter_table(table) as columns:
            for name in reversed(names):
                columns.drop_column(name)
