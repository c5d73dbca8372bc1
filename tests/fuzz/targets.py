"""What is fuzzed: each target feeds octets to parsers, and raises when one breaks its word.

What a client or an origin sends reaches a parser as aiohttp decodes it: octets that are no UTF-8 become surrogates.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict, CIMultiDictProxy

from aiohttp_regioncache import keys, pin, principal, purges, records, regions, replays, tags
from aiohttp_regioncache.cipher import Cipher
from aiohttp_regioncache.control.webhook import Verifier
from aiohttp_regioncache.effects import MERGE_PATCH, Effects, Representation, Unknown, Write, effect_for
from aiohttp_regioncache.errors import CorruptRecordError, UnreadableRecordError
from aiohttp_regioncache.exchange import described_body, idempotency_key
from aiohttp_regioncache.keying import MAX_VALUE, Keying, country_part
from aiohttp_regioncache.patterns import PathPattern
from aiohttp_regioncache.reads import parts
from aiohttp_regioncache.reads.snapshot import Snapshot
from aiohttp_regioncache.rules import BulkAnswer, BulkItem
from aiohttp_regioncache.semantics import (
    cache_status,
    conditional,
    dates,
    directives,
    fields,
    freshness,
    groups,
    methods,
    prefer,
    qualities,
    ranges,
    requests,
    storing,
    structured,
    vary,
)
from aiohttp_regioncache.settings import Webhook
from aiohttp_regioncache.store import entries, events, outbox
from aiohttp_regioncache.sync import bulk, outcome

NOW: Final = 1_800_000_000.0
Target = Callable[[bytes], None]
TARGETS: Final[dict[str, Target]] = {}
"""The targets by name."""

_SIGNER: Final = principal.Signer(["a secret of at least sixteen characters"])
_POLICY: Final = freshness.Policy(default_ttl=5.0, stale_if_error=5.0)
_PATTERNS: Final = [PathPattern(pattern) for pattern in ("/items/{id}", "/**", "/a/*/b/*.json", "/{x}/{rest:.*}")]
_CIPHER: Final = Cipher(["QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="])
_VERIFIER: Final = Verifier(Webhook(momento_secrets=["a secret of at least sixteen characters"]))


def _target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def received(data: bytes) -> str:
    """A field value as aiohttp gives it: without the octets that end a line."""
    return data.translate(None, b"\0\r\n").decode("utf-8", "surrogateescape").strip(" \t")


def lines(data: bytes, *names: str) -> list[tuple[str, str]]:
    """Field lines of these names in turn, one for each line of the octets."""
    return [(name, received(line)) for name, line in zip(itertools.cycle(names), data.split(b"\n"), strict=False)]


def _request(headers: list[tuple[str, str]]) -> web.Request:
    """A request with these fields; aiohttp's own helper makes none with surrogates."""
    request = make_mocked_request("PUT", "/")
    request._headers = CIMultiDictProxy(CIMultiDict(headers))
    return request


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


@_target
def directives_of(data: bytes) -> None:
    """Cache-Control, Pragma and the targeted fields."""
    for names in (("Cache-Control",), ("CDN-Cache-Control", "Cache-Control"), ("Pragma",)):
        headers = lines(data, *names)
        for found in (directives.response_directives(headers), directives.request_directives(headers)):
            for name in found:
                _expect(found.has(name), "a directive that is listed is there")
                _expect(
                    all(0 <= each <= directives.LIMIT for each in found.all_seconds(name)), "seconds in their bounds"
                )
                found.fields(name)


@_target
def structured_fields(data: bytes) -> None:
    """Dictionaries, and the items that are written."""
    text = received(data)
    structured.parse_dictionary(text)
    structured.parse_strings(text)
    written = structured.write_string(text)
    _expect(written.isascii() and written.isprintable(), "a string is printable")
    _expect(structured.parse_dictionary(f"a={written}") is not None, "a string that is written can be read")
    _expect(structured.parse_dictionary(f"a={structured.write_token_or_string(text)}") is not None, "an item too")
    cache_status.cache_status(text, fwd=text, key=text, detail=text)


@_target
def groups_of(data: bytes) -> None:
    """The fields that name groups: what is kept of them is bounded and can be stored."""
    headers = lines(data, "Cache-Groups", "Cache-Tag", "Surrogate-Key", "Cache-Group-Invalidation")
    for found in (groups.response_tags(headers), groups.invalidated_groups("POST", 200, headers)):
        _expect(len(found) <= groups.MAX_TAGS, "a bounded number")
        _expect(all(len(tag) <= groups.MAX_TAG for tag in found), "of bounded length")
        records.encode(records.CacheRecord(url="http://a.example/", tags=found))


@_target
def purge_lines(data: bytes) -> None:
    """Lines of a list of purges: what cannot be read covers everything."""
    line = purges.Line("path", site="default", value=received(data).encode("ascii", "replace").decode())
    _expect(purges.read_line(line.octets) == line, "a line is read as it was written")
    for at in range(len(line.octets) if len(data) < 64 else 0):
        purges.read_line(line.octets[:at] + data[:4] + line.octets[at + 1 :])
    found = purges.Lines([(data, 2), (line.octets, 1)], 2).purged("default", "/", (), 0)
    _expect(found.hard or purges.read_line(data) != purges.EVERYTHING, "a list can be asked")


@_target
def http_dates(data: bytes) -> None:
    """Dates: what is read is written as it was."""
    when = dates.parse_date(received(data), now=NOW)
    if when is not None and when >= 0:
        _expect(dates.parse_date(dates.format_date(when)) == when, "a date is read as it was written")


@_target
def lists(data: bytes) -> None:
    """Lists, quoted strings, hop-by-hop fields."""
    text = received(data)
    for separator in ",;":
        pieces = fields.split_outside_quotes(text, separator)
        _expect(sum(map(len, pieces)) <= len(text) and all(pieces), "pieces are parts of the text, and not empty")
    fields.unquote(text)
    headers = lines(data, "Connection", "X-A", "Transfer-Encoding")
    _expect("connection" not in {name.lower() for name, _ in fields.end_to_end(headers)}, "Connection goes nowhere")
    described_body(lines(data, "Content-Encoding", "Content-Length"))


@_target
def conditions(data: bytes) -> None:
    """Entity tags, conditions, and what a 304 changes."""
    headers = lines(data, "If-None-Match", "ETag", "If-Modified-Since", "Last-Modified", "Date", "Content-Range")
    for status in (200, 404):
        conditional.not_modified("GET", headers, status, headers, response_time=NOW)
    text = received(data)
    conditional.etag_matches(text, text, weak=False)
    _expect(conditional.etag_matches("*", text), "* matches whatever there is")
    for tag in conditional.listed_etags(text)[-3:]:
        _expect(conditional.etag_matches(text, tag), "a listed tag is matched by its list")
    conditional.is_strong_etag(text)
    conditional.validators(headers)
    conditional.headers_for_304(headers)
    conditional.update_stored(headers, headers)
    conditional.is_strong_date(headers)
    tags.parse_dirty_tag(text)


@_target
def freshness_of(data: bytes) -> None:
    """Age, lifetimes and judgements, of a response and of a request with the same lines."""
    headers = lines(data, "Cache-Control", "Age", "Expires", "Date", "Last-Modified", "Vary", "Set-Cookie", "ETag")
    asked = requests.request_terms(headers)
    for status in (200, 206, 404, 599):
        found = freshness.terms(status, headers, _POLICY, response_time=NOW)
        age = freshness.initial_age(headers, request_time=NOW, response_time=NOW)
        judgement = freshness.judge(asked, found, initial_age=age, response_time=NOW, now=NOW + 1)
        _expect(found.lifetime >= 0 and judgement.age >= 0, "no time is negative")
        storing.may_store("GET", headers, status, headers, _POLICY, credentials=False)
        storing.may_store("GET", headers, status, headers, _POLICY, shared=False, credentials=True)
    storing.storable(headers)


@_target
def selecting_fields(data: bytes) -> None:
    """Vary, the values it selects by, and the key with them."""
    headers = lines(data, "Vary", "Accept-Language", "Accept-Encoding", "X-A", "Content-Language", "Content-Encoding")
    names = vary.selecting_names(headers) or ("accept-language", "accept-encoding", "x-a")
    known = vary.learn(vary.NOTHING_KNOWN, names, headers, headers)
    _expect(max(map(len, known)) <= 16, "what is learnt is bounded")
    for selected in (vary.selecting(headers, names), vary.selecting(headers, names, known)):
        keys.record_key(keys.SiteKey(), keys.Target.of("http", "a.example", "/", ""), "GET", selected)


_RANGE: Final = re.compile(r"[a-z0-9*-]+")


@_target
def weighted_lists(data: bytes) -> None:
    """Accept-Encoding and the like: what is written means what was read."""
    weights = qualities.qualities([received(data)])
    _expect(all(0 <= weight <= 1 for weight in weights.values()), "weights in their bounds")
    again = qualities.qualities([qualities.ranked(weights)])
    if all(map(_RANGE.fullmatch, weights)):
        _expect(qualities.preferred(again) == qualities.preferred(weights), "the same range is preferred")
    _expect(0 <= qualities.weight_of(weights, received(data)) <= 1, "a coding's weight in its bounds")


_TEN: Final = Snapshot(200, "OK", (("ETag", '"v1"'), ("Content-Type", "text/plain")), b"0123456789")


@_target
def pieces(data: bytes) -> None:
    """Range and If-Range: a piece is what its Content-Range says, and no answer outgrows what was asked for."""
    piece = parts.cut("GET", lines(data, "Range", "If-Range"), _TEN)
    part = ranges.content_range(piece.headers)
    _expect(part is None or piece.body == _TEN.body[part.first : part.last + 1], "a piece is where it says")
    _expect(len(piece.body) <= 4096, "an answer is bounded")
    answer = Snapshot(206, "", (("Content-Range", received(data)), ("ETag", '"v1"')), b"0123")
    if parts.is_sound(answer) and (whole := parts.combined(piece, answer)) is not None:
        found = ranges.content_range(whole.headers)
        _expect(found is None or found.last - found.first + 1 == len(whole.body), "parts are as long as they say")


@_target
def targets(data: bytes) -> None:
    """Hosts, paths, queries, and the patterns that they are matched with."""
    host, path, query = (*data.split(b"\n", 2), b"", b"")[:3]
    target = keys.Target.of("http", received(host), "/" + received(path), received(query))
    _expect(target.url.isascii(), "a target is ASCII")
    _expect(keys.normalize_path(target.path) == target.path, "the normal form of a normal form is itself")
    _expect("/../" not in target.path, "no dot segments are left")
    _expect(not target.has_host or "/" not in target.host, "a host is no path")
    keys.resource_digest("site", target.path)
    keys.Groups(["/a/b"]).group(target.path)
    for pattern in _PATTERNS:
        pattern.match(target.path)


_QUERIES: Final = [keys.QueryForm(sort=True), keys.QueryForm(("utm_*", "*a*b*", "fbclid"), ("utm_x",), sort=True)]
_KEYING: Final = Keying(
    ("header:X-A", "cookie:session", "query:q", "country"), ignore_query=("utm_*",), sort_query=True
)


@_target
def keyed_requests(data: bytes) -> None:
    """Forms of queries, cookies and countries, as they are parts of keys."""
    query = keys.ascii_only(received(data))
    for form in _QUERIES:
        _expect(form.of(form.of(query)) == form.of(query), "the form of a form is itself")
    headers = lines(data, "Cookie", "X-A", "CF-IPCountry")
    country = country_part(regions.UNKNOWN, headers, ("CF-IPCountry",))
    found = _KEYING.parts(headers, lambda: country)
    _expect(all(len(value) <= MAX_VALUE for _, value in found), "parts are bounded")
    target = _KEYING.target(keys.Target.of("http", "a.example", "/", query))
    keys.record_key(keys.SiteKey(), target, "GET", (), parts=found)


@_target
def patterns(data: bytes) -> None:
    """Patterns of paths, which say what is wrong with them."""
    with contextlib.suppress(ValueError):
        pattern = PathPattern("/" + received(data))
        _expect(pattern.plain.isascii() or not pattern.pattern.isascii(), "a pattern is in normal form")


@_target
def references(data: bytes) -> None:
    """Location and Content-Location, which invalidate within one origin only."""
    found = methods.invalidated_targets("https://a.example/x/y", lines(data, "Location", "Content-Location"))
    _expect(found[0] == "https://a.example/x/y", "the target itself comes first")
    for uri in found:
        _expect(uri.startswith("https://a.example"), "nothing of another origin")


@_target
def preferences(data: bytes) -> None:
    """Prefer."""
    wished = prefer.parse_prefer(lines(data, "Prefer"))
    _expect(wished.wait is None or 0 <= wished.wait <= directives.LIMIT, "a wait in its bounds")


@_target
def credentials(data: bytes) -> None:
    """Identities, pins, marks of replays: nothing that was not signed counts."""
    headers = lines(data, "Cookie", "Authorization", pin.PIN_HEADER, replays.CDN_LOOP)
    request = _request(headers)
    for source in (None, "header:Authorization", "cookie:session"):
        principal.principal_of(principal.identity(request, source), _SIGNER)
    _expect(pin.pinned_region(_SIGNER, headers, NOW) is None, "a pin that nobody signed")
    pin.without_pins(headers)
    _expect(replays.verify_replay(_SIGNER, received(data), "PUT", "/", now=NOW) is None, "a replay that nobody signed")
    replays.is_looping(headers, "regioncache-0")
    _expect(_VERIFIER.refusal({"momento-signature": received(data)}, data, NOW) is not None, "a call nobody signed")


@_target
def idempotency_keys(data: bytes) -> None:
    """Idempotency-Key: one of a bounded length, or a refusal."""
    with contextlib.suppress(ValueError):
        key = idempotency_key(_request(lines(data, "Idempotency-Key")))
        _expect(key is None or 0 < len(key) <= 255, "a key in its bounds")


@_target
def positions(data: bytes) -> None:
    """Countries and positions of trusted proxies."""
    names = (*regions.COUNTRY_HEADERS, *itertools.chain.from_iterable(regions.POSITION_HEADERS))
    headers = CIMultiDict(lines(data, *names))
    regions.locate(headers)
    text = received(data)
    regions.parse_country(text)
    found = regions.parse_position(text, text)
    _expect(found is None or (abs(found.latitude) <= 90 and abs(found.longitude) <= 180), "a position on the globe")
    regions.TrustedProxies(["10.0.0.0/8"]).trusts(text)


@_target
def stored_records(data: bytes) -> None:
    """Records, states and announcements, as they may lie in Redis."""
    for octets in (data, _spoilt(data)):
        records.decode_cache_record(octets)
        with contextlib.suppress(CorruptRecordError, UnreadableRecordError):
            records.decode_write_record(octets)
        with contextlib.suppress(CorruptRecordError, UnreadableRecordError):
            _CIPHER.open(b"\xc1" + octets, b"about")
    entries.parse_state(data)


@_target
def announcements(data: bytes) -> None:
    """Messages on the events channel."""
    for octets in (data, data + b" -"):
        found = events.parse_announcement(octets)
        _expect(found is None or found.partition >= 0, "no partition is negative")


_ANNOUNCED: Final = outbox.announce("group", ("digest", "another"))


@_target
def outbox_items(data: bytes) -> None:
    """Items of the outbox, also spoilt ones: `read_items` passes over what raises these."""
    for at in range(len(_ANNOUNCED)):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            outbox._decode(_ANNOUNCED[:at] + data[:4] + _ANNOUNCED[at + 1 :])


_CACHED: Final = records.encode(records.CacheRecord(url="http://a.example/", sent_lines=b"A: b\r\n", body=b"c"))
_WRITTEN: Final = records.encode(
    records.WriteRecord(id="1", site="s", url="u", endpoint="/", method="PUT", principal="p", path="/", group="g")
)


def _spoilt(data: bytes) -> bytes:
    """A record of which a part is overwritten."""
    whole, at = (_CACHED if len(data) % 2 else _WRITTEN), (data[0] if data else 0)
    return whole[:at] + data[1:] + whole[at + len(data) :]


@_target
def origin_answers(data: bytes) -> None:
    """Retry-After, and what an origin says of each write of a bulk request."""
    delay = outcome.retry_after(lines(data, "Retry-After"), NOW)
    _expect(delay is None or delay >= 0, "no delay is negative")
    item = BulkItem(method="PUT", target="/", headers=(), body=b"", idempotency_key="k")
    bulk.decode_json(BulkAnswer(200, (), data), [item])
    bulk.encode_json([msgspec.structs.replace(item, body=data)])


@_target
def effects(data: bytes) -> None:
    """Merge patches: a representation, or unknown."""
    base, _, patch = data.partition(b"\n")
    write = Write("PATCH", "http://a.example/", patch, "application/merge-patch+json")
    result, _ = Effects().apply_all(Representation(base, "application/json"), [(MERGE_PATCH, write)])
    if isinstance(result, Representation):
        again, _ = Effects().apply_all(result, [(MERGE_PATCH, write)])
        _expect(again == result or isinstance(again, Unknown), "a merge patch is idempotent")
    effect_for("auto", "PUT", received(data))
