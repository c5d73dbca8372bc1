"""Whose request it is: keyed hashes of identities, and what else the secrets sign. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

ANONYMOUS: Final = "anonymous"
"""The principal of requests without credentials."""

COOKIE_PREFIX: Final = "regioncache-"
"""Cookies of our own begin with this; they are never part of an identity."""


_DIGEST_BYTES: Final = 16
# Nothing that any server may read as a second cookie.
_OWN_COOKIE: Final = re.compile(rf"{COOKIE_PREFIX}[a-z0-9-]+=[A-Za-z0-9:._~+/=%-]*")


def is_own_cookie(piece: str) -> bool:
    """Whether a piece of a `Cookie` field is a cookie of our own, and no other as well."""
    return _OWN_COOKIE.fullmatch(piece) is not None


class RequestHead(Protocol):
    """What an identity is read from; `aiohttp.web.Request` has it."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields, found in any case."""

    @property
    def cookies(self) -> Mapping[str, str]:
        """Cookies by name."""


class Signer:
    """Make and check keyed hashes. The first of `secrets` makes them, all of them check."""

    def __init__(self, secrets: Sequence[str]) -> None:
        octets = (secret.encode("utf-8", "surrogateescape") for secret in secrets)
        self._keys = [hashlib.blake2b(secret, digest_size=32).digest() for secret in octets]

    def sign(self, purpose: str, *parts: str) -> str:
        """Hash `parts` for one purpose: 32 hexadecimal digits."""
        return self._hash(self._keys[0], purpose, parts)

    def sign_oldest(self, purpose: str, *parts: str) -> str:
        """Hash `parts` under the oldest secret: the same on edges that have a newer one already as on the others."""
        return self._hash(self._keys[-1], purpose, parts)

    def sign_all(self, purpose: str, *parts: str) -> tuple[str, ...]:
        """Hash `parts` under every secret, the newest first."""
        return tuple(self._hash(key, purpose, parts) for key in self._keys)

    def verify(self, signature: str, purpose: str, *parts: str) -> bool:
        """Whether any of the secrets made `signature`, in constant time."""
        given = signature.encode("utf-8", "surrogateescape")
        return any(hmac.compare_digest(given, made.encode()) for made in self.sign_all(purpose, *parts))

    @staticmethod
    def _hash(key: bytes, purpose: str, parts: Sequence[str]) -> str:
        octets = _joined((purpose, *parts)).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(octets, digest_size=_DIGEST_BYTES, key=key).hexdigest()


class Principal(msgspec.Struct, frozen=True):
    """Whose request it is: `id`, and every id that the same identity has under the other secrets.

    `oldest` is the one under the oldest secret, which a rotation of secrets does not change while both are configured.
    """

    id: str = ANONYMOUS
    ids: tuple[str, ...] = (ANONYMOUS,)
    oldest: str = ANONYMOUS

    @property
    def is_anonymous(self) -> bool:
        """Whether the request carries no credentials."""
        return is_anonymous(self.id)


NOBODY: Final = Principal()
"""The principal of requests without credentials."""


def identity(request: RequestHead, source: str | None = None) -> str | None:
    """Read the identity of a request; None when it has none.

    `source` None: `Authorization` and all cookies but our own, whether they can be parsed or not; `header:NAME` or
    `cookie:NAME`: that one, unless it is empty; the lines of a repeated field together. Identities of different sources
    differ.
    """
    if source is not None:
        kind, _, name = source.partition(":")
        value = _lines(request.headers, name) if kind == "header" else request.cookies.get(name)
        return _joined((source.lower() if kind == "header" else source, value)) if value else None
    authorization = _lines(request.headers, "Authorization")
    cookies = foreign_cookies(request.headers) if "Cookie" in request.headers else []
    if authorization is None and not cookies:
        return None
    return _joined((authorization or "", *cookies))


def _lines(headers: Mapping[str, str], name: str) -> str | None:
    """A field with all its lines: who counts which of them for the identity, we cannot know."""
    if name not in headers:
        return None
    wanted = name.lower()
    return ", ".join(value for field, value in headers.items() if field.lower() == wanted)


def foreign_cookies(headers: Mapping[str, str]) -> list[str]:
    """The pieces of the `Cookie` fields as they came, sorted, without our own: the application may read them all."""
    lines = (value for name, value in headers.items() if name.lower() == "cookie")
    pieces = (piece.strip() for line in lines for piece in line.split(";"))
    return sorted(piece for piece in pieces if piece and not is_own_cookie(piece))


def _joined(parts: Iterable[str]) -> str:
    """Join texts so that ("ab", "c") and ("a", "bc") stay apart."""
    return "".join(map(_counted, parts))


def _counted(part: str) -> str:
    return f"{len(part)}:{part}"


def is_anonymous(principal: str) -> bool:
    """Whether a principal is that of requests without credentials, at any site."""
    return principal.partition("@")[0] == ANONYMOUS


def principal_of(identity: str | None, signer: Signer | None, site: str = "") -> Principal:
    """Make the principal of an identity at a site, empty for that of the settings: nobody is the same at two sites.

    Without secrets everybody with an identity is told apart by nothing.
    """
    if identity is None:
        return _alone(f"{ANONYMOUS}@{site}") if site else NOBODY
    if signer is None:
        return _alone("unkeyed")
    ids = signer.sign_all("principal", *((site,) if site else ()), identity)
    return Principal(ids[0], ids, ids[-1])


def _alone(name: str) -> Principal:
    return Principal(name, (name,), name)
