"""Marks on the requests that go to an origin: the signed replay, and the loop detection of RFC 8586. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from .principal import Signer
from .semantics.fields import Headers, values

REPLAY_HEADER: Final = "Regioncache-Replay"
"""Carries `id;seq;fence;time;signature` of a replayed write."""
CDN_LOOP: Final = "CDN-Loop"
_VALID_SECONDS: Final = 300.0


class Replay(msgspec.Struct, frozen=True):
    """The mark of a replayed write: its id, its number, the sender's fence, and when it was sent (epoch seconds)."""

    id: str
    seq: int
    fence: str
    sent: int


def sign_replay(signer: Signer, replay: Replay, method: str, endpoint: str, site: str = "") -> str:
    """Write the `Regioncache-Replay` field for a request to the origin of `site`; empty for that of the settings."""
    parts = (replay.id, str(replay.seq), replay.fence, str(replay.sent))
    return ";".join((*parts, signer.sign(*_scope(site, method, endpoint), *parts)))


def verify_replay(
    signer: Signer | None, value: str | None, method: str, endpoint: str, site: str = "", *, now: float
) -> Replay | None:
    """Read the mark of a replay that one of our own edges signed within five minutes; None for any other value."""
    if signer is None or value is None:
        return None
    *parts, signature = value.split(";")
    if len(parts) != 4 or not signer.verify(signature, *_scope(site, method, endpoint), *parts):
        return None
    replay = Replay(parts[0], int(parts[1]), parts[2], int(parts[3]))
    return replay if abs(now - replay.sent) <= _VALID_SECONDS else None


def _scope(site: str, method: str, endpoint: str) -> tuple[str, ...]:
    # The origin of one site sees its marks, and may not use them elsewhere.
    return ("replay", site, method, endpoint) if site else ("replay", method, endpoint)


def cdn_id(regions: Iterable[str], origin: str | None) -> str:
    """Name this deployment in `CDN-Loop`: the same on all its edges, another one elsewhere (RFC 8586 section 2)."""
    described = "\n".join((*sorted(regions), origin or ""))
    return f"regioncache-{hashlib.blake2b(described.encode(), digest_size=4).hexdigest()}"


def is_looping(headers: Headers, name: str) -> bool:
    """Whether a request has already passed the deployment `name` (RFC 8586 section 2)."""
    return any(
        member.partition(";")[0].strip() == name for value in values(headers, CDN_LOOP) for member in value.split(",")
    )


def with_loop_mark(headers: Iterable[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    """Add this deployment to the `CDN-Loop` field of a request."""
    return [*headers, (CDN_LOOP, name)]
