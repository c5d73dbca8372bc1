"""Purges: what is to be served no more, and which stored responses that covers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from .errors import PurgeError
from .keys import normalize_path
from .semantics.groups import MAX_TAG, MORE_TAGS

MAX_PATH: Final = 8_192
"""Characters of the longest path or prefix of a path that can be purged."""
_MAX_SITE: Final = 255
_WAYS: Final = ("url", "prefix", "tag", "everything")

Kind = Literal["all", "site", "prefix", "path", "tag"]


class Purge(msgspec.Struct, frozen=True, kw_only=True):
    """Describe what is to be purged: give one of `url`, `prefix`, `tag` and `everything`.

    `url`: an absolute URL, of which the path counts, or a path; all that is stored under it goes, whatever the query,
    the varying fields, the host or the user. `prefix`: what the path begins with, character by character: `/items/1`
    also covers `/items/10`. `tag`: a group that answers name in `Cache-Groups` (RFC 9875), `Cache-Tag` or
    `Surrogate-Key`, case-sensitive, at most 128 characters. `everything`: all of the site.

    What is purged hard is not served any more. What is purged softly (`soft`) is stale: it may be served while it is
    revalidated, where the answer allows that at all. `site` is the site's id. Raises `PurgeError`, a `ValueError`.
    """

    url: str | None = None
    prefix: str | None = None
    tag: str | None = None
    everything: bool = False
    soft: bool = False
    site: str = "default"

    def __post_init__(self) -> None:
        given = [way for way in _WAYS if getattr(self, way) not in (None, False)]
        if len(given) != 1:
            raise PurgeError(f"give one of {', '.join(_WAYS)}; there is {', '.join(given) or 'none'}")
        _check_text("site", self.site, _MAX_SITE)
        _ = self.line

    @property
    def path(self) -> str | None:
        """The path of `url` in its normal form, without the query; None when something else is to be purged."""
        return None if self.url is None else path_of(self.url)

    @property
    def line(self) -> Line:
        """What stands in the regions' lists."""
        if self.url is not None:
            return Line("path", self.soft, self.site, path_of(self.url))
        if self.prefix is not None:
            return Line("prefix", self.soft, self.site, _prefix(self.prefix))
        if self.tag is not None:
            return Line("tag", self.soft, self.site, _check_text("tag", self.tag, MAX_TAG))
        return Line("site", self.soft, self.site)


def path_of(url: str) -> str:
    """Find the path of an absolute URL or of a path with or without a query, in its normal form.

    Raises `PurgeError` for what is neither.
    """
    _check_text("url", url, MAX_PATH)
    try:
        raw = url.partition("#")[0].partition("?")[0] if url.startswith("/") else _absolute_path(url)
        return normalize_path(raw)
    except ValueError:
        raise PurgeError(f"url: {url!r} is no URL like https://app.example/items/1 and no path like /items/1") from None


def _absolute_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(url)
    return parts.path or "/"


def _prefix(prefix: str) -> str:
    _check_text("prefix", prefix, MAX_PATH)
    if not prefix.startswith("/") or "?" in prefix or "#" in prefix:
        raise PurgeError(f"prefix: {prefix!r} is no beginning of a path, such as /items/")
    try:
        return normalize_path(prefix)
    except ValueError:
        raise PurgeError(f"prefix: {prefix!r} is no text that a path can hold") from None


def _check_text(name: str, value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise PurgeError(f"{name}: {value!r} is no text")
    if not 0 < len(value) <= limit:
        raise PurgeError(f"{name}: has {len(value)} characters; 1 to {limit}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PurgeError(f"{name}: {value!r} is no text that can be stored") from None
    return value


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One purge as it stands in a partition's list: `value` is a path, the beginning of one, or a tag."""

    kind: Kind
    soft: bool = False
    site: str = ""
    value: str = ""

    @property
    def octets(self) -> bytes:
        """The line in MessagePack: equal lines have equal octets."""
        return _encode(self)


EVERYTHING: Final = Line("all")
"""A hard purge of everything in a region, whatever the site."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Line).decode


def read_line(octets: bytes) -> Line:
    """Read a line. One that cannot be read covers everything: nobody knows what it is about."""
    try:
        return _decode(octets)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return EVERYTHING


class Purged(msgspec.Struct, frozen=True):
    """How far a stored response is purged: `hard`, or stale `since` a time (seconds of its region's clock), or not."""

    hard: bool = False
    since: float | None = None


UNPURGED: Final = Purged()
"""No purge covers it."""
HARD: Final = Purged(hard=True)
"""It is only good as a validator."""


class Lines:
    """The purges of a partition, taken apart once so that asking costs little.

    `lines` are octets with the numbers of their purges: milliseconds of the server's clock, growing. `number` is that
    of the newest; when no line has it, some were lost, and everything older counts as purged.
    """

    def __init__(self, lines: Iterable[tuple[bytes, int]], number: int) -> None:
        self.number = number
        self._hard = _Index()
        self._soft = _Index()
        newest = 0
        for octets, at in lines:
            newest = max(newest, at)
            line = read_line(octets)
            (self._soft if line.soft else self._hard).add(line, at)
        if newest < number:
            self._hard.add(EVERYTHING, number)

    def purged(self, site: str, path: str, tags: Iterable[str], known: int) -> Purged:
        """Say how a response is purged that was asked for when `known` was the number of the newest purge."""
        if any(at > known for at in self._hard.matching(site, path, tags)):
            return HARD
        since = min((at for at in self._soft.matching(site, path, tags) if at > known), default=None)
        return UNPURGED if since is None else Purged(since=since / 1000)


class _Index:
    """The newest number of each line, found by what the line is about."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Kind, str, str], int] = {}
        self._lengths: dict[str, set[int]] = {}

    def add(self, line: Line, number: int) -> None:
        self._note((line.kind, line.site, line.value), number)
        if line.kind == "tag":
            self._note(("tag", line.site, MORE_TAGS), number)
        elif line.kind == "prefix":
            self._lengths.setdefault(line.site, set()).add(len(line.value))

    def _note(self, key: tuple[Kind, str, str], number: int) -> None:
        self._numbers[key] = max(number, self._numbers.get(key, 0))

    def matching(self, site: str, path: str, tags: Iterable[str]) -> Iterator[int]:
        """The numbers of the lines that cover a response."""
        if not self._numbers:
            return
        numbers = self._numbers
        keys = self._keys(site, path, tags)
        yield from (number for key in keys if (number := numbers.get(key)) is not None)

    def _keys(self, site: str, path: str, tags: Iterable[str]) -> Iterator[tuple[Kind, str, str]]:
        yield ("all", "", "")
        yield ("site", site, "")
        yield ("path", site, path)
        for tag in tags:
            yield ("tag", site, tag)
        for length in self._lengths.get(site, ()):
            if length <= len(path):
                yield ("prefix", site, path[:length])
