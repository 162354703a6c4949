"""What `mesh why`, `mesh show` and `mesh alerts ack` take for an id."""

import pytest

from mesh.cli.whole_ids import whole_id
from mesh.errors import MeshError

ONE = "0199aaaa-1111-7000-8000-000000000001"
TWO = "0199aaaa-2222-7000-8000-000000000002"


async def there(prefix: str) -> list[str]:
    return [request for request in (ONE, TWO) if request.startswith(prefix)]


@pytest.mark.parametrize(
    "given",
    [ONE, f"chatcmpl-{ONE}", f"cmpl-{ONE}", f"resp_{ONE}", f"msg_{ONE}", f"fc_{ONE}_1", ONE.upper(), f" {ONE}\n"],
)
async def test_an_id_as_it_was_given_out_is_taken_as_it_stands(given):
    assert await whole_id(given, there) == ONE


async def test_a_beginning_finds_the_one_that_has_it():
    assert await whole_id("0199aaaa-2", there) == TWO
    assert await whole_id("chatcmpl-0199aaaa-1", there) == ONE


@pytest.mark.parametrize(
    ("given", "says"),
    [("0199aaa", "short"), ("", "short"), ("chatcmpl-", "short"), ("0199bbbb", "no request"), ("0199aaaa", TWO)],
)
async def test_what_is_not_clear_is_said(given, says):
    with pytest.raises(MeshError, match=says):
        await whole_id(given, there)
