"""Who may be connected to."""

from alembic import op

from migrations.columns import key, text, whole

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_rules",
        text("node"),
        text("list"),
        text("party"),
        text("kind"),
        text("state"),
        text("actor", null=True),
        text("reason", null=True),
        text("since_at", null=True),
        text("lifted_at", null=True),
        text("lifted_by", null=True),
        text("lift_reason", null=True),
        whole("last_position"),
        key("access_rules", "party", "list", "node"),
    )


def downgrade() -> None:
    op.drop_table("access_rules")
