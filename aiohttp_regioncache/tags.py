"""The entity tags of answers that show writes which the origin has not confirmed, and If-Match with them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from .effects import Representation
from .records import WriteRecord, from_wire, to_wire
from .semantics.conditional import listed_etags
from .semantics.fields import combined, remove

_TAG: Final = re.compile(r'"rc-([0-9a-f]{32})-([0-9a-f]{1,16})-[0-9a-f]{32}"')


class DirtyTag(msgspec.Struct, frozen=True):
    """The state that such a tag names: the one after the write `write`, the last that was folded.

    `write` is the random part of the write's id, the same in no two regions. `first` is the number of the first
    pending write that was folded, 0 when all had landed: should one from there on vanish, the state has vanished.
    """

    write: str
    first: int

    @classmethod
    def of(cls, write_id: str, first: int) -> DirtyTag:
        """Name the state after the write of this id."""
        return cls(write_id.rpartition("-")[2], first)

    def etag(self, representation: Representation) -> str:
        """The strong entity tag of a representation of this state (RFC 9110 section 8.8.3)."""
        described = hashlib.sha256(representation.content_type.encode("utf-8", "surrogateescape"))
        described.update(b"\n" + representation.body)
        return f'"rc-{self.write}-{self.first:x}-{described.hexdigest()[:32]}"'


def parse_dirty_tag(etag: str) -> DirtyTag | None:
    """Read one entity tag; None for the origin's, for weak ones and for anything else."""
    match = _TAG.fullmatch(etag)
    return DirtyTag(match[1], int(match[2], 16)) if match else None


def if_match_of(record: WriteRecord) -> list[str]:
    """The entity tags of a stored write's If-Match; empty without one, for `*`, and for what is no list of tags."""
    condition = combined(from_wire(record.headers), "if-match")
    return listed_etags(condition) if condition is not None else []


def with_if_match(record: WriteRecord, etags: Sequence[str], *, chained: bool) -> WriteRecord:
    """The write with these entity tags in its If-Match, or without one."""
    headers = remove(from_wire(record.headers), ("if-match",))
    if etags:
        headers.append(("If-Match", ", ".join(etags)))
    return msgspec.structs.replace(record, headers=to_wire(headers), chained=chained)
