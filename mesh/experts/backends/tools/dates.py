"""Calendar arithmetic with dateutil. It does not know what day it is: the same request has the same answer for ever."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from dateutil import parser
from dateutil.relativedelta import relativedelta

_UNITS = "days?|weeks?|months?|years?|hours?|minutes?|seconds?"
_AMOUNT = rf"(?P<amount>\d{{1,9}})\s*(?P<unit>{_UNITS})"
_BETWEEN = re.compile(
    rf"(?:how many\s+|(?:the )?number of\s+)?(?P<unit>{_UNITS})\s+(?:are\s+)?(?:there\s+)?(?:between|from)\s+"
    r"(?P<first>.+?)\s+(?:and|to|until|till)\s+(?P<last>.+)",
    re.IGNORECASE,
)
_WEEKDAY = re.compile(
    r"(?:(?:on )?(?:what|which)\s+)?(?:weekday|day of (?:the )?week|day)\s+(?:is|was|of|falls on|will be)\s+"
    r"(?P<date>.+)",
    re.IGNORECASE,
)
_SHIFTS = (
    re.compile(rf"(?P<sign>add|subtract)\s+{_AMOUNT}\s+(?:to|from)\s+(?P<date>.+)", re.IGNORECASE),
    re.compile(
        rf"(?:what (?:date )?is\s+)?{_AMOUNT}\s+(?P<sign>after|before|from)\s+(?P<date>.+)",
        re.IGNORECASE,
    ),
)
_LEAP = re.compile(r"is\s+(?P<year>\d{1,4})\s+a\s+leap\s*year", re.IGNORECASE)
_AMBIGUOUS = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-]\d{2,4}")
_SECONDS = {"week": 604_800, "day": 86_400, "hour": 3600, "minute": 60, "second": 1}
# Two defaults that share nothing: a date that depends on them was not written in full.
_DEFAULTS = (datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 2, 2, tzinfo=UTC))


def answer(content: str, options: dict[str, Any]) -> str | None:
    """Options: ``operation`` (between, weekday, add, leap_year), ``start``, ``end``, ``date``, ``amount``, ``unit``."""
    if options:
        return _structured(options)
    text = " ".join(content.split()).rstrip("?. ")
    if match := _BETWEEN.fullmatch(text):
        return _between(match["first"], match["last"], match["unit"])
    if match := _WEEKDAY.fullmatch(text):
        return _weekday(match["date"])
    for shift in _SHIFTS:
        if match := shift.fullmatch(text):
            sign = -1 if match["sign"].lower() in ("subtract", "before") else 1
            return _add(match["date"], sign * int(match["amount"]), match["unit"])
    if match := _LEAP.fullmatch(text):
        return _leap_year(int(match["year"]))
    return None


def _structured(options: dict[str, Any]) -> str:
    text = {name: str(options.get(name, "")) for name in ("operation", "start", "end", "date", "unit")}
    match text["operation"]:
        case "between":
            return _between(text["start"], text["end"], text["unit"] or "days")
        case "weekday":
            return _weekday(text["date"])
        case "add":
            return _add(text["date"], int(options.get("amount", 0)), text["unit"] or "days")
        case "leap_year":
            return _leap_year(int(options.get("year", 0)))
    raise ValueError(f"operation {text['operation']!r} is not one of between, weekday, add, leap_year")


def _between(first: str, last: str, unit: str) -> str:
    start, end = moment(first), moment(last)
    unit = _singular(unit)
    if unit in ("month", "year"):
        apart = relativedelta(end, start)
        count = apart.years * 12 + apart.months if unit == "month" else apart.years
        rest = end - (start + _delta(count, unit))
        return _counted(count, unit) + (f" and {_counted(rest.days, 'day')}" if rest.days else "")
    seconds = (end - start).total_seconds()
    return _counted(seconds / _SECONDS[unit], unit)


def _weekday(date: str) -> str:
    return f"{moment(date):%A}"


def _add(date: str, amount: int, unit: str) -> str:
    start = moment(date)
    try:
        result = start + _delta(amount, _singular(unit))
    except (OverflowError, ValueError):
        raise ValueError(f"{amount} {unit} from {_written(start)} is outside the years 1 to 9999") from None
    return _written(result)


def _delta(amount: int, unit: str) -> relativedelta:
    match unit:
        case "month":
            return relativedelta(months=amount)
        case "year":
            return relativedelta(years=amount)
    return relativedelta(seconds=amount * _SECONDS[unit])


def _leap_year(year: int) -> str:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return f"{'yes' if leap else 'no'}, {year} is {'' if leap else 'not '}a leap year"


def moment(text: str) -> datetime:
    """A date, or date and time, in full; without an offset it is taken for UTC. Raises ValueError."""
    text = text.strip()
    if len(text) > 60:
        raise ValueError(f"{text[:60]!r}… is too long for a date")
    if (match := _AMBIGUOUS.fullmatch(text)) and int(match[1]) <= 12 and int(match[2]) <= 12 and match[1] != match[2]:
        raise ValueError(f"{text!r} could be two dates; write it as YYYY-MM-DD")
    try:
        first, second = (parser.parse(text, default=default) for default in _DEFAULTS)
    except (ValueError, OverflowError, TypeError):
        raise ValueError(f"{text!r} is not a date; write it as YYYY-MM-DD") from None
    if first != second:
        raise ValueError(f"{text!r} does not say year, month and day; write it as YYYY-MM-DD")
    return first


def _written(value: datetime) -> str:
    at_midnight = value - value.replace(hour=0, minute=0, second=0, microsecond=0) == timedelta()
    return f"{value:%Y-%m-%d}" if at_midnight else value.isoformat()


def _singular(unit: str) -> str:
    name = unit.lower().rstrip("s")
    if name not in (*_SECONDS, "month", "year"):
        raise ValueError(f"{unit!r} is not a unit of time ({', '.join(_SECONDS)}, month, year)")
    return name


def _counted(count: float, unit: str) -> str:
    return f"{count:.10g} {unit}{'' if abs(count) == 1 else 's'}"
