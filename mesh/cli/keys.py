"""``mesh keys``"""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mesh.cli.options import HomeOption, ReadOptions, Whole
from mesh.cli.render import print_rows

if TYPE_CHECKING:
    from mesh.gateway.keys import Key

_DAY_S = 86_400.0
_MOST_DAYS = 36_500


def list_keys(*, options: ReadOptions = ReadOptions()) -> None:  # noqa: B008 - frozen
    """The API keys of the gateway; what they are is not kept."""
    from mesh.gateway.keys import load_keys

    keys = load_keys(options.node().gateway_keys)
    print_rows(
        [_row(key) for key in keys],
        columns=("name", "created_at", "expires_at", "requests_per_minute", "tokens_per_day"),
        as_json=options.json,
        empty="There are no keys: whoever reaches the gateway's port may ask.",
    )


def add(
    name: Annotated[str, Parameter(help="Who it is for: the journal names the caller key:NAME")],
    /,
    *,
    days: Annotated[float, Parameter(help="Valid for so many days; 0: until it is revoked")] = 0,
    requests_per_minute: Annotated[Whole, Parameter(help="0: no limit")] = 0,
    tokens_per_day: Annotated[Whole, Parameter(help="0: no limit")] = 0,
    options: HomeOption = HomeOption(),  # noqa: B008 - frozen
) -> None:
    """Make an API key. It is printed once and cannot be shown again. From the first key on every request needs one."""
    from pydantic import ValidationError

    from mesh.errors import ConfigError
    from mesh.gateway.keys import Key, hash_of, load_keys, new_secret, save_keys

    if not 0 <= days <= _MOST_DAYS:
        limits = f"the least is 0, the most {_MOST_DAYS:,}"
        raise ConfigError(f"--days {days:g}: {limits}", remedy="0 makes a key that is valid until it is revoked.")
    path = options.node().gateway_keys
    keys = load_keys(path)
    if any(key.name == name for key in keys):
        raise ConfigError(f"there is a key named {name!r} already", remedy=f"`mesh keys revoke {name}` takes it back.")
    secret, now = new_secret(), time.time()  # noqa: TID251 - the operator's clock, nothing is replayed from it
    try:
        key = Key(
            name=name,
            hash=hash_of(secret),
            created_at=now,
            expires_at=now + days * _DAY_S if days else 0.0,
            requests_per_minute=requests_per_minute,
            tokens_per_day=tokens_per_day,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{first['loc'][0]} = {first['input']!r}: {first['msg']}") from None
    save_keys(path, [*keys, key])
    print(secret)


def revoke(
    name: Annotated[str, Parameter(help="As `mesh keys` lists it")],
    /,
    *,
    options: HomeOption = HomeOption(),  # noqa: B008 - frozen
) -> None:
    """Take a key back; a running gateway refuses it from the next request on."""
    from mesh.errors import ConfigError
    from mesh.gateway.keys import load_keys, save_keys

    path = options.node().gateway_keys
    keys = load_keys(path)
    if all(key.name != name for key in keys):
        raise ConfigError(f"there is no key named {name!r}", remedy="`mesh keys` lists them.")
    save_keys(path, [key for key in keys if key.name != name])


def _row(key: "Key") -> dict[str, Any]:
    """Without the hash; 0 says no limit, and that is nothing to show."""
    kept = key.model_dump(exclude={"hash"})
    times = {name: _iso(kept[name]) for name in ("created_at", "expires_at")}
    return {name: value or None for name, value in {**kept, **times}.items()}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
