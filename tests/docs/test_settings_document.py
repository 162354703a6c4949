"""docs/settings.md says what the settings really are."""

from pathlib import Path

from pydantic import BaseModel

from mesh.config import Config, Section
from mesh.config_document import BEGIN, END, described
from tests.kit.documents import check_made_part

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_reference_is_that_of_the_code(refresh_golden: bool) -> None:
    check_made_part(DOCUMENT, BEGIN, END, described(), refresh=refresh_golden)


def test_every_setting_is_there_and_says_what_it_is() -> None:
    text = DOCUMENT.read_text()
    for section in Section.__subclasses__():
        for name, field in section.model_fields.items():
            if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
                assert f"| `{name}` |" in text, f"{section.__name__}.{name}"
                assert field.description, f"{section.__name__}.{name}"
    assert all(f"`[{name}]`" in text or f"[{name}" in text for name in Config.model_fields)
