"""What an answer says, without its dress: when two texts are the same answer. Pure.

Two texts that count as one by mistake are worse than one that counts as two: the first lets a liar win, the second
costs a vote. So nothing is taken away that could be the answer.
"""

import json
import re
import textwrap
import unicodedata
from decimal import Decimal, InvalidOperation
from hashlib import sha256

_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?([eE][+-]?\d{1,4})?")
_LAST_MARKS = " \t\n.!。"
# Longer texts are compared as they are: no parser is let loose on them.
_MAX_PARSED = 100_000
_SIGNIFICANT_DIGITS = 12
_LEAD = re.compile(
    r"(?:the\s+|my\s+)?(?:final\s+|correct\s+)?(?:answer|result|option|choice)\s*(?:is\s*:?|[:=])\s*", re.IGNORECASE
)
_BOLD = re.compile(r"\*\*([^*]+)\*\*|\\boxed\{([^{}]+)\}|\$([^$]+)\$")
_CHOICE = re.compile(r"\(?([A-Za-z])\)?")
_FENCED = re.compile(r"```([\w+#.-]*)[^\n]*\n(.*?)```", re.DOTALL)


def exact_group(text: str) -> str:
    """The digest of an answer as it is, to the byte."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def group_of(text: str) -> str:
    """The digest of what an answer says: equal for answers that differ only in how they are written."""
    return exact_group(normalise(text))


def normalise(text: str) -> str:
    """A number as a number, JSON as a value, a choice as its letter, code as its lines, else words.

    Of an answer with one fenced block only the block counts. Words are compared without case, spacing and last marks.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    if len(plain) <= _MAX_PARSED:
        found = _fenced(text) or _value(plain)
        if found is not None:
            return found
    return "text:" + " ".join(plain.casefold().split()).rstrip(_LAST_MARKS)


def _fenced(text: str) -> str | None:
    blocks = _FENCED.findall(text)
    if len(blocks) != 1:
        return None
    language, source = blocks[0]
    value = _json(source.strip()) if language in ("", "json") else None
    return f"json:{value}" if value is not None else f"code:{_lines(source)}"


def _lines(source: str) -> str:
    """Source without common indentation, blank lines, and spaces at the ends of lines."""
    lines = (line.rstrip() for line in textwrap.dedent(source.expandtabs(4)).splitlines())
    return "\n".join(line for line in lines if line)


def _value(plain: str) -> str | None:
    bare = _bare(plain)
    number = _number(bare)
    if number is not None:
        return f"number:{number}"
    value = _json(plain)
    if value is not None:
        return f"json:{value}"
    choice = _CHOICE.fullmatch(bare.rstrip(_LAST_MARKS + ":"))
    return f"choice:{choice[1].upper()}" if choice else None


def _bare(plain: str) -> str:
    """Without "The answer is" before it and marks of emphasis around it; the whole where nothing is left."""
    rest = plain[found.end() :] if (found := _LEAD.match(plain)) else plain
    emphasised = _BOLD.fullmatch(rest.strip().rstrip(_LAST_MARKS))
    if emphasised:
        rest = next(part for part in emphasised.groups() if part is not None)
    return rest.strip() or plain


def _number(plain: str) -> str | None:
    bare = plain.rstrip(_LAST_MARKS)
    if not bare or not any(mark.isdigit() for mark in bare) or not _NUMBER.fullmatch(bare):
        return None
    return _canonical(bare.replace(",", ""))


def _canonical(number: str) -> str | None:
    try:
        value = Decimal(number)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    rounded = Decimal(f"{value:.{_SIGNIFICANT_DIGITS - 1}e}")
    return "0" if rounded == 0 else f"{rounded.normalize():e}"


def _json(plain: str) -> str | None:
    if plain[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(plain, parse_int=_canonical_or_text, parse_float=_canonical_or_text)
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


def _canonical_or_text(number: str) -> str:
    """A number inside JSON, kept apart from the string that looks the same."""
    return f"\0number:{_canonical(number) or number}"
