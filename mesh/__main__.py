"""``mesh`` and ``python -m mesh``."""

import sys


def main() -> None:
    """Run the command line; errors that a person can act on end it with their text and exit code."""
    from mesh.cli import app, streams
    from mesh.errors import MeshError

    streams.prepare()
    try:
        try:
            app(result_action="return_value")
        finally:
            sys.stdout.flush()
    except streams.ReaderGone as gone:
        sys.exit(gone.exit_code)
    except MeshError as error:
        print(f"mesh: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
