"""What a request is about: its target, resource, group, and the key of its record. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import uuid
import zlib
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

Pairs = Sequence[tuple[str, str]]

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NOT_PLAIN: Final = re.compile(r"%([0-9A-Fa-f]{2})?|[^A-Za-z0-9._~!$&'()*+,/:;=@-]")
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|[a-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_UUID_URL: Final = uuid.NAMESPACE_URL.bytes
_canonical = msgspec.json.Encoder(order="deterministic")


def _normalize_octet(match: re.Match[str]) -> str:
    if match[1] is None:
        return f"%{ord(match[0]):02X}"
    octet = int(match[1], 16)
    return chr(octet) if octet in _UNRESERVED else match[0].upper()


def normalize_path(path: str) -> str:
    """Write a raw request path in its one normal form, in ASCII.

    Percent-encoded unreserved characters are decoded, the hex digits of others upper-cased and dot segments
    removed (RFC 3986 section 6.2.2). What no path may hold is encoded, a percent sign that encodes nothing too:
    the normal form of a normal form is itself.
    """
    path = normalize_octets(path)
    return _remove_dot_segments(path) if "/." in path else path or "/"


def normalize_octets(text: str) -> str:
    """Write a piece of a raw path in its one normal form, in ASCII; dot segments stay."""
    return _NOT_PLAIN.sub(_normalize_octet, ascii_only(text))


def ascii_only(text: str) -> str:
    """Percent-encode the octets of `text` that are no ASCII."""
    if text.isascii():
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(octet) if octet < 0x80 else f"%{octet:02X}" for octet in octets)


def _remove_dot_segments(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


class Target(msgspec.Struct, frozen=True):
    """The target URI of a request, taken apart once.

    `path` is the normal form, `query` the raw query string without the question mark.
    """

    scheme: str
    host: str
    path: str
    query: str

    @classmethod
    def of(cls, scheme: str, host: str, raw_path: str, query: str) -> Target:
        """Make a target from the parts of a request line; the host's case does not count."""
        return cls(scheme, ascii_only(host).lower(), normalize_path(raw_path), ascii_only(query))

    @property
    def has_host(self) -> bool:
        """Whether the host is one, with a port or without (RFC 9110 section 7.2), and nothing of a path."""
        match = _HOST.fullmatch(self.host)
        return match is not None and (match[1] is None or _is_ipv6(match[1]))

    @property
    def url(self) -> str:
        """The target URI."""
        return f"{self.scheme}://{self.host}{self.endpoint}"

    @property
    def endpoint(self) -> str:
        """The path with the query, as a request line has it."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def sibling(self, path: str) -> Target:
        """The target at another path of the same host, without a query."""
        return Target(self.scheme, self.host, path, "")


class QueryForm:
    """Write query strings in the form that keys have.

    `ignored` are names of parameters that do not count, `*` in them being any characters; `kept` are names that count
    all the same. `sort` orders the parameters by name, those of one name as they came. What counts keeps its octets;
    names are compared decoded, so that `%66bclid` is `fbclid`. Takes a time that grows with the query's length only.
    """

    def __init__(self, ignored: Iterable[str] = (), kept: Iterable[str] = (), *, sort: bool = False) -> None:
        names = [name.encode() for name in ignored]
        self._ignored = frozenset(name for name in names if b"*" not in name)
        self._globs = [name.split(b"*") for name in names if b"*" in name]
        self._kept = frozenset(name.encode() for name in kept)
        self._sort = sort
        self._is_plain = not names and not sort

    def of(self, query: str) -> str:
        """The form of a raw query string in ASCII; empty pieces, which no reader of parameters sees, are left out."""
        if self._is_plain or not query:
            return query
        named = [(_parameter_name(piece), piece) for piece in query.split("&") if piece]
        counting = [pair for pair in named if not self._ignores(*pair)]
        if self._sort:
            counting.sort(key=lambda pair: pair[0])
        return "&".join(piece for _, piece in counting)

    def counts_out(self, query: str) -> bool:
        """Whether any parameter of a raw query string is one of the ignored, also for servers that divide at `;`."""
        if not query or not (self._ignored or self._globs):
            return False
        return any(self._is_named(_parameter_name(piece)) for piece in re.split("[&;]", query))

    def _ignores(self, name: bytes, piece: str) -> bool:
        # Some servers divide at semicolons too: there another parameter could hide in an ignored one.
        if name in self._kept or ";" in piece:
            return False
        return self._is_named(name)

    def _is_named(self, name: bytes) -> bool:
        return name in self._ignored or any(_matches(name, parts) for parts in self._globs)


def _parameter_name(piece: str) -> bytes:
    return unquote_to_bytes(piece.partition("=")[0])


def _matches(name: bytes, parts: Sequence[bytes]) -> bool:
    """Whether a name is these parts with anything between them; each part is looked for once, from left to right."""
    first, *middle, last = parts
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class SiteKey(msgspec.Struct, frozen=True):
    """The part of a site that is in every key: its id and its epoch."""

    id: str = "default"
    epoch: int = 0


class Resource(msgspec.Struct, frozen=True):
    """The unit of order, dirtiness and invalidation: a site's path, with its group and its hash.

    Under a rule with `order="principal"` the hash, and so all that is kept of a resource, is one principal's own.
    """

    site: str
    path: str
    group: str
    digest: str


class Groups:
    """Find the group of a path: the longest of the given prefixes that it lies under, else its first segment.

    `prefixes` are paths such as `/api/v1/items`. What lies in one group shares a partition.
    """

    def __init__(self, prefixes: Iterable[str] = ()) -> None:
        self._prefixes = sorted({normalize_path(prefix).rstrip("/") for prefix in prefixes}, key=len, reverse=True)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes in their normal form, the longest first."""
        return tuple(self._prefixes)

    def group(self, path: str) -> str:
        """Name the group that `path` (in its normal form) belongs to."""
        for prefix in self._prefixes:
            if path == prefix or path.startswith(prefix + "/"):
                return prefix
        return "/" + path.removeprefix("/").partition("/")[0]

    def resource(self, site: str, path: str, owner: str = "") -> Resource:
        """Make the resource of a site's path; `owner` is the principal, where it is another resource for each."""
        return Resource(site, path, f"{site}:{self.group(path)}", resource_digest(site, path, owner))


def resource_digest(site: str, path: str, owner: str = "") -> str:
    """Hash a resource for use in a key: 32 hexadecimal digits."""
    described = f"{site}:{path}\n{owner}" if owner else f"{site}:{path}"
    return hashlib.blake2b(described.encode(), digest_size=16).hexdigest()


def url_digest(url: str) -> str:
    """Hash a target URI to tell it from others of its resource: 16 hexadecimal digits."""
    return hashlib.blake2b(url.encode(), digest_size=8).hexdigest()


def partition_of(group: str, partitions: int) -> int:
    """Say which of a region's partitions holds a group; the same on every machine."""
    return zlib.crc32(group.encode()) % partitions if partitions > 1 else 0


def record_key(
    site: SiteKey,
    target: Target,
    method: str,
    headers: Pairs,
    *,
    body: bytes = b"",
    principal: str = "",
    parts: Pairs = (),
) -> str:
    """Make the key of a record: a UUID version 5 in the URL namespace.

    It covers the canonical JSON of `{site, url, method, headers, body}` (RFC 9562 section 5.5). `headers` are those
    that the response varies on, for writes the idempotency key; `principal` only where an entry is one user's own;
    `parts` what the rule of the path adds.
    """
    described: dict[str, object] = {
        "site": [site.id, site.epoch],
        "url": target.url,
        "method": method,
        "headers": [[name.lower(), _wire(value)] for name, value in headers],
        "body": hashlib.sha256(body).hexdigest() if body else "",
    }
    if principal:
        described["principal"] = principal
    if parts:
        described["parts"] = [[name, _wire(value)] for name, value in parts]
    return uuid5(_canonical.encode(described))


def _wire(text: str) -> str:
    """Spell `text` by its octets on the wire, one character each: injective, and JSON can hold it."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def uuid5(name: bytes) -> str:
    """Format the version 5 UUID of `name` in the URL namespace.

    The same text as `str(uuid.uuid5(uuid.NAMESPACE_URL, name))` for a tenth of its cost.
    """
    digest = bytearray(hashlib.sha1(_UUID_URL + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
