"""What operators see of queued writes: filters, pages of a list, and one write in full without its secrets. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from ..keys import normalize_path
from ..records import WriteRecord, from_wire
from ..store.queue import answer_headers

Order = Literal["newest", "oldest"]
PREVIEW_CHARACTERS: Final = 2_000
"""Characters of a body that are shown."""
_SECRET_WORDS: Final = ("auth", "cookie", "token", "secret", "password", "api-key", "apikey", "session", "signature")
_REPLACED: Final = "(%d characters, not shown)"


class WriteFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which writes are meant; what is empty does not count.

    `resource` is a path or the hash of one; `url_prefix` the beginning of a target URI or of its path; `principal` a
    principal's id; `reason` why a write is dead or rejected.
    """

    resource: str = ""
    url_prefix: str = ""
    principal: str = ""
    reason: str = ""

    def matches(self, write: WriteSummary) -> bool:
        """Whether a write is meant."""
        path = urlsplit(write.url).path
        return (
            self.resource in ("", write.resource, path)
            and (write.url.startswith(self.url_prefix) or path.startswith(self.url_prefix))
            and self.principal in ("", write.principal)
            and self.reason in ("", write.reason)
        )

    def normalized(self) -> WriteFilter:
        """The same with the path of the resource in its one normal form."""
        if not self.resource.startswith("/"):
            return self
        return msgspec.structs.replace(self, resource=normalize_path(self.resource))


EVERY: Final = WriteFilter()


class WriteSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One write in a list.

    `resource` is the hash of what it writes, `number` its place in its partition's order, `size` bytes; `blocks` says
    that the later writes of its resource wait for an operator. Times are seconds since the epoch by the region's clock.
    """

    id: str
    region: str
    state: str
    method: str
    url: str
    principal: str
    resource: str
    number: int
    size: int
    tries: int
    accepted: float
    revived: float | None = None
    settled: float | None = None
    reason: str = ""
    problem: str = ""
    blocks: bool = False
    dropped: bool = False


class WritePage(msgspec.Struct, frozen=True):
    """Some writes of a list, and the `cursor` for those that follow; it is empty at the end."""

    writes: tuple[WriteSummary, ...]
    cursor: str


class Preview(msgspec.Struct, frozen=True):
    """A body: its size in bytes, and its beginning when it is text."""

    size: int
    text: str | None


class OriginAnswer(msgspec.Struct, frozen=True):
    """What the origin said to a write at last."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: Preview


class WriteDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One write in full. Values of header fields that are secrets are not shown.

    `body` is None when it is gone or cannot be read here, then `unreadable` says why, if there is more to say than
    that it has ended. `waiting` counts the other pending writes of its resource; `blocked_by` is the dead write that
    these wait behind, or empty.
    """

    summary: WriteSummary
    headers: tuple[tuple[str, str], ...] = ()
    body: Preview | None = None
    unreadable: str = ""
    effect: str = ""
    answer: OriginAnswer | None = None
    superseded_by: str = ""
    affected: tuple[str, ...] = ()
    waiting: int = 0
    blocked_by: str = ""


def summary_of(write_id: str, region: str, known: Mapping[str, str]) -> WriteSummary:
    """Make the summary of a write from the fields of its status."""
    return WriteSummary(
        id=write_id,
        region=region,
        state=known["state"],
        method=known.get("method", ""),
        url=known.get("url", ""),
        principal=known.get("principal", ""),
        resource=known.get("digest", ""),
        number=int(known.get("seq", 0)),
        size=int(known.get("size", 0)),
        tries=int(known.get("tries", 0)),
        accepted=_seconds(known.get("accepted")) or 0.0,
        revived=_seconds(known.get("revived")),
        settled=_seconds(known.get("settled")),
        reason=known.get("reason", ""),
        problem=known.get("problem", ""),
        blocks=is_blocking(known),
        dropped="dropped" in known,
    )


def is_blocking(known: Mapping[str, str]) -> bool:
    """Whether a write whose status this is keeps those behind it waiting."""
    return known["state"] == "dead" and known.get("blocks") == "1" and "dropped" not in known


def answer_of(known: Mapping[str, str]) -> OriginAnswer | None:
    """Read the origin's answer from the fields of a write's status; None without one."""
    if "answer" not in known:
        return None
    body = known.get("answer_body", "").encode("latin-1", "replace")
    return OriginAnswer(int(known["answer"]), shown_headers(answer_headers(known)), preview(body))


def request_headers(record: WriteRecord) -> tuple[tuple[str, str], ...]:
    """The header fields of a stored request, as they may be shown."""
    return shown_headers(from_wire(record.headers))


def shown_headers(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Hide the values of the header fields that hold credentials."""
    return tuple((name, _REPLACED % len(value) if _is_secret(name) else value) for name, value in headers)


def preview(body: bytes) -> Preview:
    """Show the beginning of a body, if it is text."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return Preview(len(body), None)
    return Preview(len(body), text[:PREVIEW_CHARACTERS])


def make_cursor(positions: Mapping[int, tuple[int, str]]) -> str:
    """Write how far each partition's list has been read."""
    if not positions:
        return ""
    return base64.urlsafe_b64encode(msgspec.json.encode(positions)).decode()


def read_cursor(cursor: str) -> dict[int, tuple[int, str]]:
    """Read how far each partition's list has been read. Raises `ValueError` for what is no cursor of ours."""
    if not cursor:
        return {}
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=dict[int, tuple[int, str]])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise ValueError("cursor: not one of a list of writes") from None


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def _seconds(milliseconds: str | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000
