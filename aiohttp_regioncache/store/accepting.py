"""Writes that are accepted: what Redis gets of each, those of one moment in one call."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from ..durability import MEMORY, Durability
from ..effects import ABSOLUTE
from ..errors import RegionUnavailableError
from ..keys import Resource, url_digest
from ..overlay import is_partial
from ..records import Mould, WriteRecord, before_octets, encoded
from ..settings import Queue
from .collector import Collector
from .entries import STATE_SECONDS
from .keyspace import TAKEN, WAKE_CHANNEL, Partition
from .pipe import Chunk, chunk, joined, packed
from .region import RegionStore
from .scripts import script
from .sealed import seal_body, seal_record

BODY_SECONDS: Final = 60
"""How long a body stays whose accept never came."""
ACCEPTED_AT_ONCE: Final = 16
"""Writes that are accepted in one call, for whose time Redis serves nobody else: a third of a millisecond."""
_FIXED: Final = 8
"""Arguments of the script for each write, before its elements."""
_OWN: Final = ("id", "idempotency_key", "accepted")
"""The fields of a record that differ from one write of a kind to the next whether it has the body or not."""
_OF_BODY: Final = ("body_stored", "body")
"""Those behind them that differ as well where it has it."""
_END: Final = b"\r\n"
"""What ends an argument on the wire."""
_EMPTY: Final = b"$0\r\n\r\n"
"""An argument of no octets."""


class Verdict(Enum):
    """What became of an accept call."""

    ACCEPTED = "accepted"
    KNOWN = "known"  # the same idempotency key and payload: the write of before
    MISMATCH = "mismatch"  # the same idempotency key, another payload
    FULL = "full"  # a cap is reached
    NO_BODY = "no-body"  # the body that was stored beside is gone
    UNCONFIRMED = "unconfirmed"  # it is queued, but not as safe as was asked


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The answer to an accept call: `detail` is the write's id, or with `FULL` the cap that is reached.

    `seq` is the write's number; with `FULL` how many writes of the resource are pending or hold others back.
    """

    verdict: Verdict
    detail: str
    seq: int


class Acceptance(msgspec.Struct, frozen=True):
    """A write to accept: its record, target, what it affects with the records that stand there.

    Without `idempotency` in the record nothing is kept by which a repeated request is known.
    """

    record: WriteRecord
    target: Resource
    affected: tuple[tuple[Resource, WriteRecord], ...]
    fingerprint: str
    size: int
    body: bytes = b""
    durability: Durability = MEMORY

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The target and what is affected, in the order of the script's keys."""
        return (self.target, *(resource for resource, _ in self.affected))

    @property
    def records(self) -> tuple[WriteRecord, ...]:
        """The write and its copies, in the same order."""
        return (self.record, *[copy for _, copy in self.affected])


class Told(msgspec.Struct, frozen=True):
    """What the status of a write says of it from the beginning: what no script needs to know, in one field."""

    method: str
    url: str
    site: str
    digest: str
    group: str
    idempotency: str = ""
    affected: str = ""


TOLD: Final = "about"
"""The field of a status that holds it, as JSON."""
_told_decoder = msgspec.json.Decoder(Told)


def read_told(raw: bytes | None) -> Mapping[str, str]:
    """Read what a status says of its write; nothing for what is missing or broken."""
    try:
        return msgspec.structs.asdict(_told_decoder.decode(raw or b""))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


class Common(msgspec.Struct, frozen=True):
    """What all writes of one kind have in common for the script, in its form on the wire; their ids have one length.

    `status` stands before the id in its first key, `keys` are those of the target and of what is affected. `begin`, how
    many resources these are, stands before the id in its arguments; `flags` whether they are shared and chained, with
    digest and principal; `told` the JSON of `Told`.
    """

    status: bytes
    keys: Chunk
    begin: bytes
    flags: bytes
    told: bytes

    @classmethod
    def of(cls, partition: Partition, acceptance: Acceptance) -> Common:
        """Find it in one of them."""
        record, digest = acceptance.record, acceptance.target.digest
        told = Told(
            record.method,
            record.url,
            record.site,
            digest,
            acceptance.target.group,
            record.idempotency,
            " ".join([resource.digest for resource, _ in acceptance.affected]),
        )
        ending = len(record.id.encode()) + len(_END)
        return cls(
            packed(partition.status(record.id))[:-ending],
            chunk(*partition.resources(acceptance.resources)),
            chunk(1 + len(acceptance.affected), record.id).wire[:-ending],
            b"%d%d\r\n%b" % (record.shared, record.chained, chunk(digest, record.principal).wire),
            chunk(msgspec.json.encode(told)).wire,
        )


class Packed(msgspec.Struct, frozen=True, gc=False):
    """A write as it is accepted: the script's keys and arguments, and a body that is stored beside it."""

    write_id: str
    keys: Chunk
    arguments: Chunk
    body: bytes | None


def pack(
    store: RegionStore,
    partition: Partition,
    common: Common,
    write_id: str,
    size: int,
    elements: Sequence[bytes],
    *,
    body: bytes | None = None,
    fingerprint: str = "",
    idempotency: str = "",
) -> Packed:
    """Make what the script gets of a write. `elements` stand in the lists of its target and of what it affects.

    `size` is octets; `body` one that is stored beside it; `idempotency` the hash of the client's key, or empty.
    """
    has_body, has_key = body is not None, bool(idempotency)
    named = write_id.encode()
    keys = [common.status, named, _END, *common.keys.pieces]
    if has_key:
        keys.insert(3, packed(partition.idempotency(idempotency)))
    if has_body:
        keys.insert(3, packed(partition.body(write_id)))
    printed = b"%d" % size
    arguments = [
        b"%b%b\r\n$4\r\n%d%d%b$%d\r\n%b\r\n%b"
        % (common.begin, named, has_body, has_key, common.flags, len(printed), printed, common.told),
        packed(fingerprint) if fingerprint else _EMPTY,
    ]
    for element in elements:
        arguments += (b"$%d\r\n" % len(element), element, _END)
    return Packed(
        write_id,
        Chunk(keys, 1 + has_body + has_key + common.keys.count),
        Chunk(arguments, _FIXED + len(elements)),
        None if body is None else seal_body(store.cipher, body, write_id),
    )


class Particulars(msgspec.Struct, frozen=True, gc=False):
    """What differs from one write of a kind to the next, encoded: what it has of its own, and the body behind that."""

    own: bytes
    before_body: bytes
    body: bytes

    @classmethod
    def of(cls, write_id: str, key: str, accepted: int, body: bytes, *, is_stored: bool) -> Particulars:
        """Write it; `accepted` in milliseconds, and a body that `is_stored` beside it is left out."""
        kept = b"" if is_stored else body
        return cls(encoded(write_id, key, accepted), encoded(is_stored) + before_octets(len(kept)), kept)


class Listing(msgspec.Struct, frozen=True):
    """What stands of the writes of one kind in the list of one resource: `line` and a record."""

    line: bytes
    mould: Mould
    has_body: bool

    @classmethod
    def of(cls, record: WriteRecord, *, has_body: bool) -> Listing:
        """Find it in one of them; without the body it is the same for every body."""
        return cls(tags_of(record), Mould(record, _OWN + _OF_BODY if has_body else _OWN), has_body)

    @property
    def size(self) -> int:
        """The octets of what is the same for all."""
        return len(self.line) + self.mould.size

    def record(self, particulars: Particulars) -> bytes:
        """The record of one of them, encoded."""
        if self.has_body:
            return self.mould.cast(particulars.own, particulars.before_body, particulars.body)
        return self.mould.cast(particulars.own)


class Blank:
    """What `pack` makes of the writes of one kind, with blanks for what differs; their records are not encrypted."""

    __slots__ = ("_behind_flag", "_behind_size", "_common", "_lists", "_partition")

    def __init__(self, partition: Partition, common: Common, lists: Sequence[Listing]) -> None:
        self._partition = partition
        self._common = common
        self._behind_flag = b"0" + common.flags
        self._behind_size = common.told + _EMPTY
        self._lists = [
            (each.size, each.has_body, each.line + each.mould.before, each.mould.behind + _END) for each in lists
        ]

    def fill(self, write_id: str, size: int, particulars: Particulars, body: bytes | None) -> Packed:
        """Fill in a write of `size` octets; `body` is stored beside it."""
        common, named, printed, own = self._common, write_id.encode(), b"%d" % size, particulars.own
        keys = [common.status, named, _END, *common.keys.pieces]
        if body is not None:
            keys.insert(3, packed(self._partition.body(write_id)))
        flag = b"0" if body is None else b"1"
        measured = b"$%d\r\n%b\r\n" % (len(printed), printed)
        arguments = [common.begin, named, b"\r\n$4\r\n", flag, self._behind_flag, measured, self._behind_size]
        whole = len(own) + len(particulars.before_body) + len(particulars.body)
        for others, has_body, before, behind in self._lists:
            if has_body:
                length = b"$%d\r\n" % (others + whole)
                arguments += (length, before, own, particulars.before_body, particulars.body, behind)
            else:
                arguments += (b"$%d\r\n" % (others + len(own)), before, own, behind)
        return Packed(
            write_id,
            Chunk(keys, 1 + (body is not None) + common.keys.count),
            Chunk(arguments, _FIXED + len(self._lists)),
            body,
        )


def tags_of(record: WriteRecord) -> bytes:
    """The line that the script `look` chooses by, for a write or a copy of it."""
    kind = "A" if record.effect in ABSOLUTE and not is_partial(record) else "R"
    return f"{int(record.shared)} {record.principal} {kind} {url_digest(record.url)}\n".encode()


async def accept(store: RegionStore, partition: Partition, acceptance: Acceptance, caps: Queue) -> Accepted:
    """Accept a write: all or nothing, harmless to repeat. Raises `RegionUnavailableError`."""
    record = acceptance.record
    write = pack(
        store,
        partition,
        Common.of(partition, acceptance),
        record.id,
        acceptance.size,
        [tags_of(each) + seal_record(store.cipher, each) for each in acceptance.records],
        body=acceptance.body if record.body_stored else None,
        fingerprint=acceptance.fingerprint,
        idempotency=record.idempotency,
    )
    queue = taking(store, partition, acceptance.durability, caps)
    for _ in range(2):
        accepted = await queue.ask(write)
        if accepted.verdict is not Verdict.NO_BODY:
            return accepted
    raise RegionUnavailableError(store.name, "the body of a write could not be stored beside it")


def taking(
    store: RegionStore, partition: Partition, durability: Durability, caps: Queue
) -> Collector[Packed, Accepted]:
    """Where writes are accepted: all or nothing, harmless to repeat, those of one moment in one call.

    Asking raises `RegionUnavailableError`.
    """
    kind = (partition.number, durability, caps)
    queue = store.accepts.get(kind)
    if queue is None:
        call = functools.partial(_accept_all, store, partition, durability, *_of_every_call(partition, caps))
        read = functools.partial(_read_all, store)
        queue = store.accepts[kind] = Collector(store.name, call, read, ACCEPTED_AT_ONCE)
    return queue


def _of_every_call(partition: Partition, caps: Queue) -> tuple[Chunk, Chunk]:
    """The script's keys that are not of one write, and its arguments behind token and message."""
    keys = chunk(
        partition.seq, partition.queue, partition.due, partition.bytes, partition.principals, partition.blocked,
    )  # fmt: skip
    arguments = chunk(
        STATE_SECONDS * 1000, WAKE_CHANNEL, caps.max_writes, caps.max_bytes, caps.max_writes_per_resource,
        caps.max_bytes_per_resource, caps.max_writes_per_principal,
    )  # fmt: skip
    return keys, arguments


def _accept_all(
    store: RegionStore,
    partition: Partition,
    durability: Durability,
    keys: Chunk,
    arguments: Chunk,
    writes: Sequence[Packed],
) -> asyncio.Future[Any]:
    executor = store.queue if durability == MEMORY else store.durable
    work = f"{store.name}:{partition.number}{TAKEN if store.events.has_worker else ''}"
    for write in writes:
        if write.body is not None:  # the same pipeline: it is there when the script runs
            # One that is there stays as it is: pending, and so without a lifetime, when the accept is a repeated one.
            body_key = partition.body(write.write_id)
            stored = executor.submit("SET", body_key, write.body, "EX", BODY_SECONDS, "NX")
            stored.add_done_callback(_swallow)
    return executor.submit_written(
        script("accept"),
        joined(keys, *[write.keys for write in writes]),
        joined(chunk(store.new_token(), work), arguments, *[write.arguments for write in writes]),
        store.confirmation(durability),
    )


def _read_all(store: RegionStore, writes: Sequence[Packed], answer: Any) -> list[Accepted | Exception]:
    answers, confirmed = answer
    store.events.work_here()
    return [
        answer if isinstance(answer, Exception) else _accepted(write, answer, confirmed)
        for write, answer in zip(writes, answers, strict=True)
    ]


def _accepted(write: Packed, answer: Any, confirmed: bool) -> Accepted:
    if isinstance(answer, int):
        return Accepted(Verdict.ACCEPTED if confirmed else Verdict.UNCONFIRMED, write.write_id, answer)
    verdict, detail, seq = Verdict(answer[0].decode()), answer[1].decode(), answer[2]
    return Accepted(Verdict.UNCONFIRMED if verdict is Verdict.KNOWN and not confirmed else verdict, detail, seq)


def _swallow(answer: Any) -> None:
    """Take note of a failure that the script's own answer reports as well."""
    if not answer.cancelled():
        answer.exception()
