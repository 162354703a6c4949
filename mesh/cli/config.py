"""``mesh config``"""

from mesh.cli.options import ReadOptions
from mesh.cli.render import print_json


def config(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """The settings in force, from the file, the environment and the defaults."""
    _, settings = options.load()
    values = settings.model_dump(mode="json")
    if options.json:
        print_json(values)
        return
    for section, content in values.items():
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            print(f"{section}.{key} = {value!r}")
