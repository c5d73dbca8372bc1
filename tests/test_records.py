"""Records: what is written is read again, and nothing that is read can do harm."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.errors import CorruptRecordError, RecordError, UnreadableRecordError
from aiohttp_regioncache.records import (
    VERSION,
    CacheRecord,
    Form,
    WriteRecord,
    around,
    before_octets,
    decode_cache_record,
    decode_write_record,
    encode,
    encoded,
    form_of,
    from_lines,
    from_wire,
    to_lines,
    to_wire,
)
from aiohttp_regioncache.semantics.freshness import Terms

CACHED = CacheRecord(
    url="https://a.example/x",
    sent_lines=b"Link: <a>\r\nSet-Cookie: a=\xff\r\nLink: <b>\r\n",
    status=200,
    reason=b"OK",
    body=b"\x00\xff",
    terms=Terms(lifetime=60.0, no_cache=False, must_revalidate=False, swr=1.0, sie=2.0),
    token="run.token",
    asof=7,
)
WRITE = WriteRecord(
    id="eu-0-1",
    site="default",
    url="https://a.example/x",
    endpoint="/x?y",
    method="PUT",
    principal="p",
    path="/x",
    group="default:/x",
)

wires = st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=20)), max_size=5).map(tuple)


def _fields(record: CacheRecord | WriteRecord) -> list[object]:
    fields = msgspec.msgpack.decode(encode(record))
    assert isinstance(fields, list)
    return fields


def _packed(*fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


@given(
    lines=st.binary(max_size=80), body=st.binary(max_size=40), status=st.integers(0, 999), asof=st.integers(0, 2**53)
)
def test_a_cache_record_is_read_as_it_was_written(lines: bytes, body: bytes, status: int, asof: int) -> None:
    record = msgspec.structs.replace(CACHED, sent_lines=lines, body=body, status=status, asof=asof)
    assert decode_cache_record(encode(record)) == record


@given(headers=wires, body=st.binary(max_size=40), affected=st.lists(st.text(max_size=5), max_size=3).map(tuple))
def test_a_write_record_is_read_as_it_was_written(
    headers: tuple[tuple[bytes, bytes], ...], body: bytes, affected: tuple[str, ...]
) -> None:
    record = msgspec.structs.replace(WRITE, headers=headers, body=body, affected=affected)
    assert decode_write_record(encode(record)) == record


@given(wires)
def test_headers_keep_their_octets_order_and_duplicates(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert to_wire(from_wire(headers)) == headers


TYPED = b"content-type: a/b\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"


@pytest.mark.parametrize(
    ("status", "reason", "lines", "form"),
    [
        (200, "OK", TYPED, Form.PLAIN),
        (404, "Not Found", TYPED + b"SERVER: a\r\n", Form.PLAIN | Form.NAMES_SERVER),
        (200, "OK", b"Server: a\r\n", Form.NAMES_SERVER),  # aiohttp adds a date and a media type
        (200, "OK", b"Date: a\r\nX: content-type: b\r\n", 0),
        (200, "OK", TYPED + b"X: \xff\r\n", 0),  # aiohttp writes other octets
        (200, "", TYPED, 0),
        (200, "\xe9", TYPED, 0),
        (204, "No Content", TYPED, 0),
        (206, "Partial Content", TYPED, 0),
        (304, "Not Modified", TYPED, 0),
    ],
)
def test_the_form_says_what_can_go_out_as_it_is(status: int, reason: str, lines: bytes, form: int) -> None:
    assert form_of(status, reason, lines) == form


values = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)
fields = st.lists(st.tuples(st.sampled_from(["Link", "x-a", "Set-Cookie", "ETag"]), values), max_size=5)


@given(fields)
def test_lines_keep_fields_their_order_and_duplicates(headers: list[tuple[str, str]]) -> None:
    lines = to_lines(headers)
    assert from_lines(lines.sent) == headers
    assert lines.sent.count(b"\r\n") == len(headers)


def test_lines_that_are_not_sent_as_they_are_stand_apart() -> None:
    lines = to_lines([("Age", "3"), ("ETag", '"a"'), ("Content-Length", "9"), ("Regioncache-Vary", "accept")])
    assert lines == (b'ETag: "a"\r\n', b"Age: 3\r\nContent-Length: 9\r\nRegioncache-Vary: accept\r\n")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "\0", "\x7f"])
def test_a_field_that_is_more_than_its_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="control"):
        to_lines([("X", value)])


@given(st.binary(max_size=60))
def test_any_octets_can_be_read_as_lines(octets: bytes) -> None:
    assert len(from_lines(octets)) <= octets.count(b": ")


def test_headers_of_aiohttp_become_the_octets_they_stand_for() -> None:
    assert to_wire([("X", "é\udce9")]) == ((b"X", b"\xc3\xa9\xe9"),)


@given(st.one_of(st.binary(max_size=60), st.lists(st.integers(0, 3) | st.text(max_size=3)).map(msgspec.msgpack.encode)))
def test_any_bytes_are_a_record_a_miss_or_a_record_error(data: bytes) -> None:
    decode_cache_record(data)
    with contextlib.suppress(RecordError):
        decode_write_record(data)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_damaged_records_do_no_harm(at: int, damage: bytes) -> None:
    for record in (CACHED, WRITE):
        data = encode(record)
        damaged = data[: at % len(data)] + damage + data[at % len(data) + len(damage) :]
        decode_cache_record(damaged)
        with contextlib.suppress(RecordError):
            decode_write_record(damaged)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x92\x01\xa2\xff\xfe", id="text-that-is-no-utf-8"),
        pytest.param(b"\x91" * 200_000, id="nested-without-end"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="array-longer-than-memory"),
        pytest.param(encode(WRITE) + b"\x01", id="something-after-it"),
        pytest.param(encode(WRITE)[:-1], id="cut"),
        pytest.param(_packed(0, *_fields(WRITE)[1:]), id="version-zero"),
        pytest.param(_packed(True, *_fields(WRITE)[1:]), id="version-that-is-no-number"),
    ],
)
def test_corrupt(data: bytes) -> None:
    assert decode_cache_record(data) is None
    with pytest.raises(CorruptRecordError):
        decode_write_record(data)


def test_a_newer_version_is_a_miss_and_an_unreadable_write() -> None:
    assert decode_cache_record(_packed(VERSION + 1, *_fields(CACHED)[1:])) is None
    for newer in (
        _packed(VERSION + 1, *_fields(WRITE)[1:]),
        _packed(VERSION + 1, {"another": "layout"}),
        _packed(VERSION + 1),
        _packed(VERSION + 1, *_fields(WRITE)[1:], "appended"),
    ):
        with pytest.raises(UnreadableRecordError, match=str(VERSION + 1)):
            decode_write_record(newer)


def test_fields_appended_by_an_edge_of_the_same_version_are_passed_over() -> None:
    assert decode_cache_record(_packed(*_fields(CACHED), "appended", [1])) == CACHED
    assert decode_write_record(_packed(*_fields(WRITE), {"appended": 1})) == WRITE


def test_fields_that_an_older_edge_did_not_write_have_their_defaults() -> None:
    assert decode_cache_record(_packed(*_fields(CACHED)[:-1])) == msgspec.structs.replace(CACHED, owner="")
    newest = msgspec.structs.replace(
        WRITE, max_age=5.0, repeatable=False, bulk="/bulk", coalesce=True, on_dead="block", chained=True,
        durability="fsync",
    )  # fmt: skip
    fields, names = _fields(newest), newest.__struct_fields__
    first = names.index("repeatable")
    for count in range(first, len(names)):
        older = msgspec.structs.replace(newest, **{name: getattr(WRITE, name) for name in names[count:]})
        assert decode_write_record(_packed(*fields[:count])) == older


def test_a_marker_names_the_varying_fields_only() -> None:
    marker = CacheRecord(url="https://a.example/x", vary=("accept",))
    assert marker.is_marker
    assert not CACHED.is_marker
    assert decode_cache_record(encode(marker)) == marker


@given(st.text(max_size=70), st.binary(max_size=300), st.booleans(), st.text(max_size=40), st.integers(0, 1 << 60))
def test_what_is_around_some_fields_is_the_rest_of_the_whole_record(
    write_id: str, body: bytes, body_stored: bool, key: str, accepted: int
) -> None:
    names = ("id", "idempotency_key", "accepted", "body_stored", "body")
    values = (write_id, key, accepted, body_stored, body)
    for count in range(1, len(names) + 1):
        some = dict(zip(names[:count], values, strict=False))
        whole = msgspec.structs.replace(WRITE, **some)
        assert encoded(*some.values()).join(around(WRITE, names[:count])) == encode(whole)
        assert encoded(*(getattr(WRITE, name) for name in some)).join(around(whole, names[:count])) == encode(WRITE)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 65_535, 65_536, 1 << 20])
def test_what_stands_before_octets_is_what_encoding_them_gives(length: int) -> None:
    octets = bytes(length)
    assert before_octets(length) + octets == msgspec.msgpack.encode(octets)


def test_what_is_around_fields_is_around_all_of_them() -> None:
    with pytest.raises(ValueError, match="id, accepted do not follow one another"):
        around(WRITE, ("id", "accepted"))


def test_records_are_frozen() -> None:
    for record in (CACHED, WRITE):
        with pytest.raises(AttributeError):
            record.version = 2  # type: ignore[misc]
