"""Run by Alembic: `mesh.projections.migrate` hands it a connection, its command line asks for one here."""

from pathlib import Path

from alembic import context
from sqlalchemy import Connection

from mesh.config import default_home, load_config
from mesh.home import Home
from mesh.projections.database import database_url, writer_engine
from mesh.projections.tables import METADATA


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    arguments = context.get_x_argument(as_dictionary=True)
    root = Path(arguments.get("home", default_home()))
    url = arguments.get("url") or database_url(Home(root), load_config(root).storage)
    engine = writer_engine(url)
    try:
        with engine.begin() as connection:
            run(connection)
    finally:
        engine.dispose()


main()
