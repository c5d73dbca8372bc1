"""Structured fields: read dictionaries and lists of strings, write bare items (RFC 8941; types of RFC 9651)."""

import math
import re
from dataclasses import dataclass
from enum import Enum

from .fields import OWS


class Kind(Enum):
    """The type of a bare item (RFC 8941 3.3)."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    DECIMAL = "decimal"
    STRING = "string"
    TOKEN = "token"  # noqa: S105
    BINARY = "binary"
    DATE = "date"
    DISPLAY = "display"


@dataclass(frozen=True, slots=True)
class Item:
    """A bare item: its type and its text, strings without their quotes."""

    kind: Kind
    text: str


TRUE = Item(Kind.BOOLEAN, "?1")
Member = Item | tuple[Item, ...]
"""The value of a dictionary member without parameters: an item, or the items of an inner list."""

_LIMIT = 999_999_999_999_999
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*+")
_TOKEN = r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*+"  # noqa: S105
_BARE_ITEM = re.compile(
    r"(?P<decimal>-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.]))"
    r"|(?P<integer>-?[0-9]{1,15}(?![0-9.]))"
    r'|"(?P<string>(?:[ !#-\[\]-~]++|\\["\\])*+)"'
    rf"|(?P<token>{_TOKEN})"
    r"|:(?P<binary>[A-Za-z0-9+/=]*+):"
    r"|(?P<boolean>\?[01])"
    r"|@(?P<date>-?[0-9]{1,15})(?![0-9.])"
    r'|%"(?P<display>(?:[ !#$&-~]++|%[0-9a-f]{2})*+)"'
)
_SPACES = re.compile(r" *+")
_BLANKS = re.compile(r"[ \t]*+")
_ESCAPED = re.compile(r"\\(.)")
_WHOLE_TOKEN = re.compile(_TOKEN)
_NOT_PRINTABLE = re.compile(r"[^ -~]")


class _MalformedError(ValueError):
    """The text is not a structured field."""


class _Reader:
    """A position in the text of a structured field; each method reads one production of RFC 8941 4.2."""

    __slots__ = ("position", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def at_end(self) -> bool:
        return self.position == len(self.text)

    def take(self, literal: str) -> bool:
        if not self.text.startswith(literal, self.position):
            return False
        self.position += len(literal)
        return True

    def match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.position)
        if found is None:
            raise _MalformedError
        self.position = found.end()
        return found

    def bare_item(self) -> Item:
        found = self.match(_BARE_ITEM)
        kind = Kind(found.lastgroup)
        text = found[kind.value]
        return Item(kind, _ESCAPED.sub(r"\1", text) if kind is Kind.STRING else text)

    def skip_parameters(self) -> None:
        while self.take(";"):
            self.match(_SPACES)
            self.match(_KEY)
            if self.take("="):
                self.bare_item()

    def inner_list(self) -> tuple[Item, ...]:
        items: list[Item] = []
        self.match(_SPACES)
        while not self.take(")"):
            items.append(self.bare_item())
            self.skip_parameters()
            if not self.match(_SPACES)[0] and not self.text.startswith(")", self.position):
                raise _MalformedError
        return tuple(items)

    def member(self) -> Member:
        value: Member = TRUE
        if self.take("="):
            value = self.inner_list() if self.take("(") else self.bare_item()
        self.skip_parameters()
        return value

    def dictionary(self) -> dict[str, Member]:
        members: dict[str, Member] = {}
        while not self.at_end():
            key = self.match(_KEY)[0]
            members[key] = self.member()
            self.match(_BLANKS)
            if self.at_end():
                break
            self.comma()
        return members

    def strings(self) -> list[str]:
        texts: list[str] = []
        while not self.at_end():
            item = self.bare_item()
            if item.kind is not Kind.STRING:
                raise _MalformedError
            texts.append(item.text)
            self.skip_parameters()
            self.match(_BLANKS)
            if self.at_end():
                break
            self.comma()
        return texts

    def comma(self) -> None:
        if not self.take(","):
            raise _MalformedError
        self.match(_BLANKS)
        if self.at_end():
            raise _MalformedError


def parse_dictionary(value: str) -> dict[str, Member] | None:
    """Read a dictionary (RFC 8941 4.2.2), parameters dropped; the last of equal keys counts.

    None when the text is no dictionary.
    """
    try:
        return _Reader(value.strip(OWS)).dictionary()
    except _MalformedError:
        return None


def parse_strings(value: str) -> list[str] | None:
    """Read a list of strings (RFC 8941 3.1 and 4.2.1), parameters dropped.

    None when the text is no list, or when a member is anything else: the field counts as absent then.
    """
    try:
        return _Reader(value.strip(OWS)).strings()
    except _MalformedError:
        return None


def write_integer(number: float) -> str:
    """Write a number as an integer, rounded down, clamped to the 15 digits of RFC 8941 3.3.1."""
    return str(math.floor(min(max(number, -_LIMIT), _LIMIT)))


def write_string(text: str) -> str:
    """Write a string (RFC 8941 4.1.6); characters that it cannot hold become "?"."""
    printable = _NOT_PRINTABLE.sub("?", text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_token_or_string(text: str) -> str:
    """Write a token where `text` is one (RFC 8941 3.3.4), else a string."""
    return text if _WHOLE_TOKEN.fullmatch(text) else write_string(text)
