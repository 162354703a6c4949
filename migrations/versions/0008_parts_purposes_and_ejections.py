"""Parts of requests, what an attempt was for, what experts cost, and which of them are left alone for a while."""

from alembic import op

from migrations.columns import real, text, whole

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("requests") as requests:
        requests.add_column(text("parts", null=True))
    with op.batch_alter_table("attempts") as attempts:
        attempts.add_column(text("purpose", null=True))
        attempts.add_column(whole("part", null=True))
    with op.batch_alter_table("experts") as experts:
        experts.add_column(real("price", null=True))
        for name in ("ejected_until", "ejected_by", "ejected_for"):
            experts.add_column(text(name, null=True))
        experts.add_column(whole("ejections", null=True))


def downgrade() -> None:
    with op.batch_alter_table("experts") as experts:
        for name in ("ejections", "ejected_for", "ejected_by", "ejected_until", "price"):
            experts.drop_column(name)
    with op.batch_alter_table("attempts") as attempts:
        for name in ("part", "purpose"):
            attempts.drop_column(name)
    with op.batch_alter_table("requests") as requests:
        requests.drop_column("parts")
