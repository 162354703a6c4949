"""``mesh`` and ``python -m mesh``."""

import sys


def main() -> None:
    """Run the command line; errors that a person can act on end it with their text and exit code."""
    from mesh.cli import app
    from mesh.errors import MeshError

    try:
        app(result_action="return_value")
    except MeshError as error:
        print(f"mesh: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
