"""What a region said last: the same again is what would be read of it anew, and all else is read anew."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache import Cache
from aiohttp_regioncache.reads import plans
from aiohttp_regioncache.reads.ready import Ready
from aiohttp_regioncache.reads.seen import Seen, Variant
from aiohttp_regioncache.records import CacheRecord, Form, around_body, decode_cache_record, encode
from aiohttp_regioncache.semantics.freshness import Terms
from aiohttp_regioncache.store.glances import Values
from tests.reads.apps import serving, until_hit
from tests.reads.test_plans import FRESH, Page
from tests.support.world import World

RECORD = CacheRecord(
    url="https://a.example/x",
    vary=("accept",),
    token="run.token",
    asof=7,
    status=200,
    reason=b"OK",
    sent_lines=b"Content-Type: text/plain\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
    body=b"aaaa",
    terms=Terms(lifetime=60.0, no_cache=False, must_revalidate=False, swr=1.0, sie=2.0),
    response_time=1000.0,
    tags=("a",),
    form=int(Form.PLAIN),
)
VARIANT: Variant = (("accept",), RECORD.known, "key")
MARKER, STATE, PURGE, RUN, NOW = b"marker", b"run.token|0|7|0|0", b"3", "run", 1010.0


def _values(record: CacheRecord = RECORD, *, marked: bool = False) -> list[bytes | None]:
    return [*([MARKER] if marked else []), encode(record), STATE, PURGE]


def _ready(record: CacheRecord = RECORD) -> Ready:
    ready = Ready.of(record, "eu", None)
    assert ready is not None
    return ready


def _variant(values: Values) -> Variant | None:
    return VARIANT if values[0] == MARKER else None


def _seen(values: Values, record: CacheRecord = RECORD) -> Seen:
    seen = Seen.of(_variant(values), values, RUN, _ready(record))
    assert seen is not None
    return seen


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("body", [b"", b"a", b"aaaa", b"\x00" * 300, b"a" * 70_000])
def test_the_same_again_is_what_would_be_read_of_it(body: bytes, marked: bool) -> None:
    record = msgspec.structs.replace(RECORD, body=body)
    seen = _seen(_values(record, marked=marked), record)
    for now_it_is in (body, bytes(255 - octet for octet in body)):
        other = msgspec.structs.replace(record, body=now_it_is)
        values = _values(other, marked=marked)
        again, anew = seen.again(_variant(values), values, RUN), _ready(other)
        assert again is not None
        for now in (NOW, NOW + 0.5, NOW + 20):
            assert again.octets(now) == anew.octets(now)
            assert (again.head(now), again.ttl(now)) == (anew.head(now), anew.ttl(now))
            assert vars(again.ordinary(now)).keys() == vars(anew.ordinary(now)).keys()
            assert again.ordinary(now).headers == anew.ordinary(now).headers
            assert again.ordinary(now).body == anew.ordinary(now).body
        assert not again.record.body  # which would be kept with the head


def test_anything_else_is_read_anew() -> None:
    values = _values(marked=True)
    seen = _seen(values)
    assert seen.again(VARIANT, values, RUN) is not None
    assert seen.again(VARIANT, values, "other") is None
    assert seen.again((("accept",), RECORD.known, "other key"), values, RUN) is None
    assert seen.again(None, values[1:], RUN) is None
    for place, value in enumerate(values):
        assert value is not None
        longer = [value[:cut] + b"a" + value[cut:] for cut in range(len(value) + 1)]
        shorter = [value[:cut] + value[cut + 1 :] for cut in range(len(value))]
        for other in (None, *longer, *shorter, value[:-1] + b"\xff", b"\xff" + value[1:]):
            changed = [*values]
            changed[place] = other
            assert seen.again(VARIANT, changed, RUN) is None, (place, other)


@given(st.data())
def test_a_changed_field_is_always_seen(data: st.DataObject) -> None:
    seen = _seen(_values())
    name = data.draw(st.sampled_from([name for name in RECORD.__struct_fields__ if name != "body"]))
    was = getattr(RECORD, name)
    changes = {
        "terms": st.builds(Terms, st.floats(0, 99), st.booleans(), st.booleans(), st.floats(0, 9), st.floats(0, 9)),
        "known": st.just(RECORD.known),
    }
    kinds = {str: st.text(), int: st.integers(0, 2**60), float: st.floats(0, 2e9), bytes: st.binary()}
    value = data.draw(changes[name] if name in changes else kinds.get(type(was), st.tuples(st.text())))
    again = seen.again(None, _values(msgspec.structs.replace(RECORD, **{name: value})), RUN)
    assert (again is not None) == (value == was)


@given(st.integers(0, 400))
def test_one_changed_octet_is_seen_unless_it_is_the_bodys(place: int) -> None:
    raw = encode(RECORD)
    place %= len(raw)
    around = around_body(raw, RECORD)
    assert around is not None
    before, after = around
    assert before + RECORD.body + after == raw
    changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
    again = _seen(_values()).again(None, [changed, STATE, PURGE], RUN)
    is_in_body = len(before) <= place < len(before) + len(RECORD.body)
    assert (again is not None) == is_in_body


def test_what_was_written_in_another_way_is_not_kept() -> None:
    appended = msgspec.msgpack.encode([*msgspec.msgpack.decode(encode(RECORD)), "of a later version"])
    assert Seen.of(None, [appended, STATE, PURGE], RUN, _ready()) is None
    assert Seen.of(None, [None, STATE, PURGE], RUN, _ready()) is None


@pytest.mark.parametrize(("sample", "remembered"), [(1, 1), (10**12, 0)])
async def test_a_part_of_the_hits_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int, remembered: int
) -> None:
    monkeypatch.setattr(plans, "SAMPLE", sample)
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=Page().handle), cache=Cache(memory_seconds=0), rules=())
        for _ in range(4):
            await until_hit(edge, "/page")
        seen = edge.cache.edge.plans._seen
        assert len(seen) == remembered
        (plan,) = edge.cache.edge.plans._alike._values.values()
        assert seen.size >= remembered * plan[0].size


async def test_a_hit_that_was_seen_is_not_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def counting(data: bytes) -> CacheRecord | None:
        decoded.append(data)
        return decode_cache_record(data)

    monkeypatch.setattr(plans, "SAMPLE", 1)
    monkeypatch.setattr(plans, "decode_cache_record", counting)
    page = Page(Vary="Accept-Language")
    async with World(tmp_path) as world:
        edge = await world.edge(serving(page=page.handle), cache=Cache(memory_seconds=0), rules=())
        for _ in range(3):
            await until_hit(edge, "/page", headers={"Accept-Language": "de"})
        before = len(decoded)
        reply = await edge.get("/page", headers={"Accept-Language": "de"})
        assert (reply.status, "; hit" in reply.cache_status, len(decoded) - before) == (200, True, 0)
        assert reply.headers["Cache-Control"] == FRESH["Cache-Control"]
