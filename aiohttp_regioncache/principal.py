"""Whose request it is: keyed hashes of identities, and what else the secrets sign. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

ANONYMOUS: Final = "anonymous"
"""The principal of requests without credentials."""

COOKIE_PREFIX: Final = "regioncache-"
"""Cookies of our own begin with this; they are never part of an identity."""


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
        self._keys = [hashlib.blake2b(secret.encode(), digest_size=32).digest() for secret in secrets]

    def sign(self, purpose: str, *parts: str) -> str:
        """Hash `parts` for one purpose: 32 hexadecimal digits."""
        return self._hash(self._keys[0], purpose, parts)

    def sign_all(self, purpose: str, *parts: str) -> tuple[str, ...]:
        """Hash `parts` under every secret, the newest first."""
        return tuple(self._hash(key, purpose, parts) for key in self._keys)

    def verify(self, signature: str, purpose: str, *parts: str) -> bool:
        """Whether any of the secrets made `signature`, in constant time."""
        given = signature.encode("utf-8", "surrogateescape")
        return any(hmac.compare_digest(given, made.encode()) for made in self.sign_all(purpose, *parts))

    @staticmethod
    def _hash(key: bytes, purpose: str, parts: Sequence[str]) -> str:
        # Lengths keep ("ab", "c") and ("a", "bc") apart.
        message = "".join(f"{len(part)}:{part}" for part in (purpose, *parts))
        octets = message.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(octets, digest_size=16, key=key).hexdigest()


class Principal(msgspec.Struct, frozen=True):
    """Whose request it is: `id`, and every id that the same identity has under the other secrets."""

    id: str = ANONYMOUS
    ids: tuple[str, ...] = (ANONYMOUS,)

    @property
    def is_anonymous(self) -> bool:
        """Whether the request carries no credentials."""
        return self.id == ANONYMOUS


NOBODY: Final = Principal()
"""The principal of requests without credentials."""


def identity(request: RequestHead, source: str | None = None) -> str | None:
    """Read the identity of a request; None when it has none.

    `source` None: `Authorization` and all cookies but our own; `header:NAME` or `cookie:NAME`: that one.
    """
    if source is not None:
        kind, _, name = source.partition(":")
        return (request.headers if kind == "header" else request.cookies).get(name)
    authorization = request.headers.get("Authorization")
    if authorization is None and "Cookie" not in request.headers:
        return None
    cookies = sorted(f"{name}={value}" for name, value in request.cookies.items() if not name.startswith(COOKIE_PREFIX))
    if not cookies and not request.cookies:
        cookies = [request.headers.get("Cookie", "")]  # nothing that parses: the application may read it all the same
    if authorization is None and not any(cookies):
        return None
    return "\n".join((authorization or "", *cookies))


def principal_of(identity: str | None, signer: Signer | None) -> Principal:
    """Make the principal of an identity; without secrets everybody with an identity is told apart by nothing."""
    if identity is None:
        return NOBODY
    if signer is None:
        return Principal("unkeyed", ("unkeyed",))
    ids = signer.sign_all("principal", identity)
    return Principal(ids[0], ids)
