"""Writes that are accepted: what Redis gets of each, those of one moment in one call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from ..durability import MEMORY, Durability
from ..effects import ABSOLUTE, DELETE, UNKNOWN_EFFECT
from ..errors import RegionUnavailableError
from ..keys import Resource, url_digest
from ..overlay import is_partial
from ..records import WriteRecord, around, before_octets, encoded
from ..settings import Queue
from .collector import Collector
from .keyspace import TAKEN, WAKE_CHANNEL, Partition
from .pipe import Answered, Chunk, chunk, joined, packed
from .region import RegionStore
from .scripts import script
from .sealed import seal_body, seal_record

BODY_SECONDS: Final = 60
"""How long a body stays whose accept never came."""
ACCEPTED_AT_ONCE: Final = 16
"""Writes that are accepted in one call, for whose time Redis serves nobody else: half a millisecond."""
_FIXED: Final = 6
"""Arguments of the script for each write, before its elements."""
_OWN: Final = ("id", "idempotency_key", "accepted")
"""The fields of a record that differ from one write of a kind to the next whether it has the body or not."""
_OF_BODY: Final = ("body_stored", "body")
"""Those behind them that differ as well where it has it."""
_STORED: Final = (encoded(False), encoded(True))
"""The field `body_stored`, encoded."""
_END: Final = b"\r\n"
"""What ends an argument on the wire."""


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

    `status` stands before the id in its first key, `keys` are those of the target and of what is affected. `before_id`
    and `behind_id` are around it in the arguments; `flags` are those behind the first two, with digest and principal;
    `told` is the JSON of `Told`.
    """

    status: bytes
    keys: Chunk
    before_id: bytes
    behind_id: bytes
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
        keys = [partition.state(digest), partition.pending(digest)]
        for resource, _ in acceptance.affected:
            keys += (partition.state(resource.digest), partition.affected(resource.digest))
        flags = b"%d%d%d" % (record.shared, record.chained, len(acceptance.resources))
        ending = len(record.id.encode()) + len(_END)
        return cls(
            packed(partition.status(record.id))[:-ending],
            chunk(*keys),
            packed(record.id)[:-ending],
            b"\r\n$%d\r\n" % (2 + len(flags)),
            flags + _END + chunk(digest, record.principal).wire,
            chunk(msgspec.json.encode(told)).wire,
        )


class Batch:
    """What one call of the script gets of its writes, whose `ids` these are: keys and arguments, in pieces.

    `bodies` are stored beside it, by their keys.
    """

    __slots__ = ("argument_count", "arguments", "bodies", "ids", "key_count", "keys")

    def __init__(self, keys: Chunk) -> None:
        self.keys = [*keys.pieces]
        self.key_count = keys.count
        self.arguments: list[bytes] = []
        self.argument_count = 0
        self.bodies: list[tuple[str, bytes]] = []
        self.ids: list[str] = []

    def append(self, join: Joins) -> None:
        """Take one more."""
        self.ids.append(join(self))


Joins = Callable[[Batch], str]
"""Puts a write into the batch that it is accepted with, once; gives its id."""


class Packed(msgspec.Struct, frozen=True, gc=False):
    """A write as it is accepted: the script's keys and arguments, and by its key a body that is stored beside it."""

    write_id: str
    keys: Chunk
    arguments: Chunk
    body: tuple[str, bytes] | None

    def join(self, batch: Batch) -> str:
        """Go into a batch."""
        batch.keys += self.keys.pieces
        batch.key_count += self.keys.count
        batch.arguments += self.arguments.pieces
        batch.argument_count += self.arguments.count
        if self.body is not None:
            batch.bodies.append(self.body)
        return self.write_id


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
        b"%b%b%b%d%d%b$%d\r\n%b\r\n%b"
        % (
            *(common.before_id, named, common.behind_id, has_body, has_key, common.flags),
            *(len(printed), printed, common.told),
        )
    ]
    if has_key:
        arguments.append(packed(fingerprint))
    for element in elements:
        arguments += (b"$%d\r\n" % len(element), element, _END)
    return Packed(
        write_id,
        Chunk(keys, 1 + has_body + has_key + common.keys.count),
        Chunk(arguments, _FIXED + has_key + len(elements)),
        None if body is None else (partition.body(write_id), seal_body(store.cipher, body, write_id)),
    )


class Kind(msgspec.Struct, frozen=True):
    """What the writes of one kind have in common: what the script gets of all, and the records that stand of each.

    `records` are those of one of them without its body; a copy that nothing can be folded from `has_body` for none.
    `overhead` are the octets that a write counts for beside its body, of which more than `inline` are stored beside it.
    """

    common: Common
    records: tuple[WriteRecord, ...]
    has_body: tuple[bool, ...]
    overhead: int
    inline: int

    @classmethod
    def of(cls, partition: Partition, acceptance: Acceptance, inline: int) -> Kind:
        """Find it in one of them."""
        record = acceptance.record
        return cls(
            Common.of(partition, acceptance),
            tuple([msgspec.structs.replace(each, body=b"") for each in acceptance.records]),
            tuple([each is record or each.effect not in (UNKNOWN_EFFECT, DELETE) for each in acceptance.records]),
            acceptance.size - len(acceptance.body or record.body),
            inline,
        )

    def pack(self, store: RegionStore, partition: Partition, body: bytes) -> Packed:
        """Make the next one."""
        write_id, key, accepted = new_write_id(store, partition), store.nonces.new(), int(store.now() * 1000)
        is_stored = len(body) > self.inline
        elements = []
        for record, has_body in zip(self.records, self.has_body, strict=True):
            own = msgspec.structs.replace(record, id=write_id, idempotency_key=key, accepted=accepted)
            if has_body:
                own = msgspec.structs.replace(own, body_stored=is_stored, body=b"" if is_stored else body)
            elements.append(tags_of(own) + seal_record(store.cipher, own))
        beside = body if is_stored else None
        return pack(store, partition, self.common, write_id, len(body) + self.overhead, elements, body=beside)


class Blank:
    """What `Kind.pack` makes, with blanks for what differs, filled in as the writes come; none of it is encrypted."""

    __slots__ = ("_behind_id", "_keys", "_kind", "_lists", "_nonces", "_now", "_partition", "_prefix")

    def __init__(self, store: RegionStore, partition: Partition, kind: Kind) -> None:
        common = kind.common
        self._nonces = store.nonces
        self._now = store.now
        self._partition = partition
        self._kind = kind
        self._prefix = _id_prefix(store, partition)
        self._behind_id = tuple([common.behind_id + b"%d0" % is_stored + common.flags for is_stored in (False, True)])
        self._keys = _END + common.keys.wire
        self._lists = []
        for record, has_body in zip(kind.records, kind.has_body, strict=True):
            before, behind = around(record, _OWN + _OF_BODY if has_body else _OWN)
            before = tags_of(record) + before
            self._lists.append((len(before) + len(behind), has_body, before, behind + _END))

    def fill(self, body: bytes, batch: Batch) -> str:
        """Put one more into a batch, which is changed at the very end; gives its id."""
        kind, common = self._kind, self._kind.common
        number, key = self._nonces.two()
        write_id = self._prefix + number
        named, size = write_id.encode(), b"%d" % (len(body) + kind.overhead)
        is_stored = len(body) > kind.inline
        kept = b"" if is_stored else body
        own = encoded(write_id, key, int(self._now() * 1000))
        before_body = _STORED[is_stored] + before_octets(len(kept))
        measured = b"$%d\r\n%b\r\n" % (len(size), size)
        arguments = [common.before_id, named, self._behind_id[is_stored], measured, common.told]
        whole = len(own) + len(before_body) + len(kept)
        for others, has_body, before, behind in self._lists:
            if has_body:
                arguments += (b"$%d\r\n" % (others + whole), before, own, before_body, kept, behind)
            else:
                arguments += (b"$%d\r\n" % (others + len(own)), before, own, behind)
        if is_stored:
            beside = self._partition.body(write_id)
            batch.keys += (common.status, named, _END, packed(beside)[: -len(_END)], self._keys)
            batch.bodies.append((beside, body))
        else:
            batch.keys += (common.status, named, self._keys)
        batch.key_count += 1 + is_stored + common.keys.count
        batch.arguments += arguments
        batch.argument_count += _FIXED + len(self._lists)
        return write_id


def new_write_id(store: RegionStore, partition: Partition) -> str:
    """Make the id of a write, which says where it is queued."""
    return _id_prefix(store, partition) + store.nonces.new()


def _id_prefix(store: RegionStore, partition: Partition) -> str:
    return f"{store.name}-{partition.number}-"


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
        accepted = await queue.ask(write.join)
        if accepted.verdict is not Verdict.NO_BODY:
            return accepted
    raise RegionUnavailableError(store.name, "the body of a write could not be stored beside it")


def taking(
    store: RegionStore, partition: Partition, durability: Durability, caps: Queue
) -> Collector[Joins, Batch, Accepted]:
    """Where writes are accepted: all or nothing, harmless to repeat, those of one moment in one call.

    Asking raises `RegionUnavailableError`.
    """
    kind = (partition.number, durability, caps)
    queue = store.accepts.get(kind)
    if queue is None:
        keys, arguments = _of_every_call(partition, caps)
        begin = functools.partial(Batch, keys)
        call = functools.partial(_accept_all, store, partition, durability, arguments)
        read = functools.partial(_read_all, store)
        queue = store.accepts[kind] = Collector(store.name, begin, call, read, ACCEPTED_AT_ONCE)
    return queue


def _of_every_call(partition: Partition, caps: Queue) -> tuple[Chunk, Chunk]:
    """The script's keys that are not of one write, and its arguments behind token and message."""
    keys = chunk(
        partition.seq, partition.queue, partition.due, partition.bytes, partition.principals, partition.blocked,
    )  # fmt: skip
    arguments = chunk(
        WAKE_CHANNEL, caps.max_writes, caps.max_bytes, caps.max_writes_per_resource,
        caps.max_bytes_per_resource, caps.max_writes_per_principal,
    )  # fmt: skip
    return keys, arguments


def _accept_all(
    store: RegionStore, partition: Partition, durability: Durability, arguments: Chunk, batch: Batch, answered: Answered
) -> None:
    executor = store.queue if durability == MEMORY else store.durable
    work = f"{store.name}:{partition.number}{TAKEN if store.events.has_worker else ''}"
    for key, body in batch.bodies:  # the same pipeline: they are there when the script runs
        # One that is there stays as it is: pending, and so without a lifetime, when the accept is a repeated one.
        stored = executor.submit("SET", key, body, "EX", BODY_SECONDS, "NX")
        stored.add_done_callback(_swallow)
    executor.call_written(
        script("accept"),
        Chunk(batch.keys, batch.key_count),
        joined(chunk(store.new_token(), work), arguments, Chunk(batch.arguments, batch.argument_count)),
        store.confirmation(durability),
        answered,
    )


def _read_all(store: RegionStore, batch: Batch, answer: Any) -> list[Accepted | Exception]:
    answers, confirmed = answer
    store.events.work_here()
    accepted = Verdict.ACCEPTED if confirmed else Verdict.UNCONFIRMED
    return [
        Accepted(accepted, write_id, answer) if isinstance(answer, int) else _otherwise(answer, confirmed)
        for write_id, answer in zip(batch.ids, answers, strict=True)
    ]


def _otherwise(answer: Any, confirmed: bool) -> Accepted | Exception:
    if isinstance(answer, Exception):
        return answer
    verdict, detail, seq = Verdict(answer[0].decode()), answer[1].decode(), answer[2]
    return Accepted(Verdict.UNCONFIRMED if verdict is Verdict.KNOWN and not confirmed else verdict, detail, seq)


def _swallow(answer: Any) -> None:
    """Take note of a failure that the script's own answer reports as well."""
    if not answer.cancelled():
        answer.exception()
