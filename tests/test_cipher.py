"""Queued requests at rest: nothing readable in any key of the server, keys rotate, and changed octets are noticed."""

from __future__ import annotations

import base64
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from aiohttp_regioncache.cipher import Cipher
from aiohttp_regioncache.effects import Effects
from aiohttp_regioncache.errors import CorruptRecordError, UnreadableRecordError
from aiohttp_regioncache.overlay import Outcome, fold, steps
from aiohttp_regioncache.store import entries, queue
from aiohttp_regioncache.store.accepting import Verdict
from tests.store.tools import accept, acceptance, claim_one, end_lease, look, opened, raw, resource, settle
from tests.support.origin import Origin
from tests.support.servers import ValkeyServer
from tests.sync.tools import drained, looping, state_of

ITEM = resource("/items/1")
OLD, NEW = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
PASSWORD, TEXT = b"Bearer hunter2hunter2", b'"nobody elses business"'
WITH_PASSWORD = ((b"authorization", PASSWORD), (b"cookie", b"session=" + PASSWORD))


@given(st.binary(max_size=100), st.binary(max_size=20))
def test_what_is_sealed_is_opened_again_for_its_purpose_alone(plain: bytes, about: bytes) -> None:
    cipher = Cipher([NEW])
    sealed = cipher.seal(plain, about)
    assert cipher.open(sealed, about) == plain
    assert cipher.seal(plain, about) != sealed
    with pytest.raises(CorruptRecordError):
        cipher.open(sealed, about + b"x")


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_octet_is_noticed(at: int, change: int) -> None:
    sealed = bytearray(Cipher([NEW]).seal(TEXT, b""))
    sealed[at % len(sealed)] ^= change
    if at % len(sealed) == 0:  # the mark: it counts as a request that was never sealed
        assert Cipher([NEW]).open(bytes(sealed), b"") == bytes(sealed)
        return
    with pytest.raises((CorruptRecordError, UnreadableRecordError)):
        Cipher([NEW]).open(bytes(sealed), b"")


@pytest.mark.parametrize("length", range(48))
def test_what_was_cut_off_is_noticed(length: int) -> None:
    sealed = Cipher([NEW]).seal(b"x" * 20, b"")
    if length:
        with pytest.raises((CorruptRecordError, UnreadableRecordError)):
            Cipher([NEW]).open(sealed[:length], b"")


def test_the_first_key_seals_and_every_key_opens() -> None:
    before, during, after = Cipher([OLD]), Cipher([NEW, OLD]), Cipher([NEW])
    assert during.open(before.seal(TEXT, b""), b"") == TEXT
    assert after.open(during.seal(TEXT, b""), b"") == TEXT
    with pytest.raises(UnreadableRecordError, match="encryption_keys"):
        after.open(before.seal(TEXT, b""), b"")
    with pytest.raises(UnreadableRecordError):
        Cipher().open(during.seal(TEXT, b""), b"")


def test_without_keys_octets_stay_and_with_keys_older_ones_are_read() -> None:
    assert Cipher().seal(TEXT, b"") == TEXT
    assert Cipher([NEW]).open(TEXT, b"") == TEXT


def test_a_key_may_be_written_in_the_alphabet_for_urls() -> None:
    key = b"\xfb\xff" * 16
    plain, for_urls = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()
    assert plain != for_urls
    assert Cipher([for_urls]).open(Cipher([plain]).seal(TEXT, b""), b"") == TEXT


@pytest.mark.parametrize("key", ["", "hunter2", "x" * 44, base64.b64encode(b"x" * 31).decode(), NEW + "=", "ü" * 44])
def test_what_is_no_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="32 octets") as refused:
        Cipher([NEW, key])
    assert not key or key not in str(refused.value)


# --- at rest ---


async def _everything(client: Redis) -> bytes:
    """Every key of a server with all that is in it."""
    reading: dict[bytes, tuple[str | int, ...]] = {
        b"string": ("GET",), b"hash": ("HGETALL",), b"zset": ("ZRANGE", 0, -1), b"stream": ("XRANGE", "-", "+"),
        b"list": ("LRANGE", 0, -1), b"set": ("SMEMBERS",),
    }  # fmt: skip
    found: list[Any] = []
    for name in await raw(client, "KEYS", "*"):
        command, *rest = reading[await raw(client, "TYPE", name)]
        found += (name, await raw(client, str(command), name, *rest))
    return repr(found).encode()


@pytest.mark.parametrize("keys", [(NEW,), ()])
async def test_no_key_of_the_server_shows_a_request(
    server: ValkeyServer,
    client: Redis,
    keys: tuple[str, ...],
) -> None:
    """Neither pending nor landed, rejected or dead; the scan finds it when nothing is encrypted."""
    async with opened(server.url, encryption_keys=keys) as store:
        partition = store.partitions[0]
        for number, outcome in enumerate(("synced", "rejected", "dead", "pending")):
            for stored in (False, True):
                write = acceptance(
                    f"/items/{number}{int(stored)}", body=TEXT * 9, stored=stored, affects=("/items",),
                    headers=WITH_PASSWORD,
                )  # fmt: skip
                seq = (await accept(store, write)).seq
                if outcome != "pending":
                    claimed = await claim_one(store, partition)
                    await settle(store, partition, claimed, write, seq, outcome, blocks=outcome == "dead")
        kept = await _everything(client)
        for secret in (TEXT, PASSWORD):
            assert (secret in kept) == (not keys)


async def test_a_write_under_an_older_key_is_replayed_whole_after_the_rotation(server: ValkeyServer) -> None:
    large = b'"' + b"x" * 50_000 + b'"'
    writes = [acceptance(), acceptance(body=large, stored=True)]
    async with opened(server.url, encryption_keys=(OLD,)) as store:
        for write in writes:
            assert (await accept(store, write)).verdict is Verdict.ACCEPTED
    async with opened(server.url, encryption_keys=(NEW, OLD)) as store, Origin() as origin:
        looked = await look(store, ITEM, "p1")
        assert [item.record for item in looked.pending] == [writes[1].record]
        assert await entries.body_of(store, store.partitions[0], writes[1].record.id) == large
        async with looping(store, origin.url):
            await drained(store)
        assert [effect.body for effect in origin.effects] == [b"{}", large]


async def test_a_write_whose_key_is_missing_is_left_to_another_edge_and_unknown_to_readers(
    server: ValkeyServer,
    client: Redis,
) -> None:
    async with (
        opened(server.url, encryption_keys=(OLD,)) as knowing,
        opened(server.url, encryption_keys=(NEW,)) as other,
    ):
        small, large = acceptance(), acceptance("/items/2", body=TEXT, stored=True)
        for write in (small, large):
            await accept(knowing, write)
        partition = other.partitions[0]
        with pytest.raises(UnreadableRecordError):
            await queue.read_queue(other, partition, ITEM.digest)
        with pytest.raises(UnreadableRecordError):
            await queue.read_body(other, partition, large.record.id)
        assert await entries.body_of(other, partition, large.record.id) is None
        looked = await look(other, ITEM, "p1")
        chosen = steps(None, looked.landed, looked.pending, ("p1",))
        url = small.record.url
        assert fold(None, chosen, url=url, principals=("p1",), effects=Effects()).outcome is Outcome.UNKNOWN_PENDING
        async with Origin() as origin:
            async with looping(other, origin.url, start=False) as loop:
                await loop.turn()
            assert origin.effects == []
            assert await state_of(other, small) == "pending"
            for write in (small, large):
                await end_lease(client, partition, write.target.digest)
            async with looping(knowing, origin.url):
                await drained(knowing)
            assert len(origin.effects) == 2


async def test_a_tampered_request_is_corrupt_and_never_sent(server: ValkeyServer, client: Redis) -> None:
    async with opened(server.url, encryption_keys=(NEW,)) as store, Origin() as origin:
        partition = store.partitions[0]
        changed, moved, lost = (acceptance(f"/items/{n}", body=TEXT, stored=n == 3) for n in (1, 2, 3))
        for write in (changed, moved, lost):
            await accept(store, write)
        pending = partition.pending(changed.target.digest)
        ((element, seq),) = await raw(client, "ZRANGE", pending, 0, 0, "WITHSCORES")
        await raw(client, "ZREM", pending, element)
        await raw(client, "ZADD", pending, int(seq), element[:-1] + bytes([element[-1] ^ 1]))
        # The body of another write, sealed with the same key.
        foreign = store.cipher.seal(TEXT, b"write body of another")
        await raw(client, "SET", partition.body(lost.record.id), foreign)
        async with looping(store, origin.url):
            await drained(store)
        assert await state_of(store, changed) == "dead: corrupt"
        assert await state_of(store, lost) == "dead: body-lost"
        assert [effect.path for effect in origin.effects] == ["/items/2"]
        kept = await raw(client, "HGET", partition.status(changed.record.id), "record")
        assert kept.partition(b"\n")[2] == element.partition(b"\n")[2][:-1] + bytes([element[-1] ^ 1])
