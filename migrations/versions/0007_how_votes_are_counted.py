"""How the votes of a consensus were counted, and what each domain was worth for a question."""

from alembic import op

from migrations.columns import text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("requests") as requests:
        for name in ("consensus", "domain_scores"):
            requests.add_column(text(name, null=True))


def downgrade() -> None:
    with op.batch_alter_table("requests") as requests:
        for name in ("domain_scores", "consensus"):
            requests.drop_column(name)
