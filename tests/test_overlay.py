"""Folding against a naive model: what each principal sees of landed and pending writes over any base."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiohttp_regioncache.effects import Effects, Representation, Write, merge_patch
from aiohttp_regioncache.overlay import MEMO_FROM, Base, Fold, Folder, Listed, Memo, Outcome, Step, fold, own, steps
from aiohttp_regioncache.principal import ANONYMOUS
from aiohttp_regioncache.records import WriteRecord

URL = "https://a.example/x"
JSON = "application/json"
EFFECTS = Effects()
ANN, BEN = "ann", "ben"
ANN_IDS = (ANN, "ann-under-the-old-secret")


def record(
    effect: str,
    document: object = None,
    *,
    principal: str = ANN,
    shared: bool = False,
    url: str = URL,
    headers: tuple[tuple[bytes, bytes], ...] = ((b"Content-Type", JSON.encode()),),
) -> WriteRecord:
    return WriteRecord(
        id="id",
        site="default",
        url=url,
        endpoint="/x",
        method="PUT",
        headers=headers,
        body=b"" if document is None else json.dumps(document).encode(),
        principal=principal,
        shared=shared,
        effect=effect,
        path="/x",
        group="default:/x",
    )


def listed(*records: WriteRecord | None) -> tuple[Listed, ...]:
    return tuple(Listed(number, each) for number, each in enumerate(records, start=1))


def base(document: object, asof: int = 0, *, private: bool = False) -> Base:
    return Base(asof, Representation(json.dumps(document).encode(), JSON), private)


def folded(
    over: Base | None, landed: Sequence[Listed], pending: Sequence[Listed], ids: Sequence[str] = ANN_IDS
) -> Fold:
    return fold(over, steps(over, landed, pending, ids), url=URL, principals=ids, effects=EFFECTS)


def seen(result: Fold) -> object:
    assert result.outcome is Outcome.FOLDED
    assert result.representation is not None
    return json.loads(result.representation.body)


# --- by example ---


def test_nothing_to_fold() -> None:
    assert folded(base({}), (), ()) == Fold(Outcome.CLEAN)
    assert folded(None, (), ()) == Fold(Outcome.CLEAN)
    assert folded(base({}, asof=1), listed(record("unknown")), ()) == Fold(Outcome.CLEAN)


def test_a_replacement_or_deletion_of_ones_own_needs_no_base() -> None:
    for over in (None, base({"n": 0}), Base(0, None)):
        result = folded(over, (), listed(record("merge-patch", {"a": 1}), record("replace", {"n": 1})))
        assert seen(result) == {"n": 1}
        assert result.absolute
        assert folded(over, (), listed(record("delete"))) == Fold(Outcome.GONE, None, True, "id", 1)


def test_a_merge_needs_a_base() -> None:
    patch = listed(record("merge-patch", {"a": 1}))
    assert folded(None, (), patch).outcome is Outcome.NEEDS_BASE
    assert folded(Base(0, None), (), patch).outcome is Outcome.NEEDS_BASE
    assert seen(folded(base({"n": 0}), (), patch)) == {"n": 0, "a": 1}


def test_landed_writes_alone_are_left_to_the_origin_when_there_is_no_base() -> None:
    assert folded(None, listed(record("replace", {"n": 1})), ()).outcome is Outcome.NEEDS_BASE


def test_a_landed_write_that_the_base_contains_is_not_folded_again() -> None:
    landed = listed(record("replace", {"n": 1}), record("merge-patch", {"m": 2}))
    assert seen(folded(base({"n": 1, "k": 1}, asof=1), landed, ())) == {"n": 1, "k": 1, "m": 2}


@pytest.mark.parametrize(
    "blind",
    [
        pytest.param(None, id="unreadable"),
        pytest.param(record("unknown"), id="unknown"),
        pytest.param(record("elsewhere:function"), id="function-of-another-edge"),
        pytest.param(record("replace", {}, url=f"{URL}?q"), id="another-query"),
        pytest.param(record("replace", {}, headers=()), id="no-media-type"),
        pytest.param(
            record("replace", {}, headers=((b"content-type", b"text/plain"), (b"Content-Encoding", b"gzip"))),
            id="coded",
        ),
        pytest.param(
            record("replace", {}, headers=((b"content-type", b"text/plain"), (b"content-range", b"bytes 0-1/2"))),
            id="partial",
        ),
    ],
)
def test_a_write_that_cannot_be_folded_is_unknown_until_an_absolute_one_covers_it(blind: WriteRecord | None) -> None:
    cover = record("replace", {"n": 1})
    for over in (base({"n": 0}), Base(0, None)):
        assert folded(over, (), listed(blind)).outcome is Outcome.UNKNOWN_PENDING
        assert folded(over, listed(blind), ()).outcome is Outcome.UNKNOWN_LANDED
        assert seen(folded(over, (), listed(blind, cover))) == {"n": 1}
        assert folded(over, (), listed(cover, blind)).outcome is Outcome.UNKNOWN_PENDING


def test_an_identity_coding_is_none() -> None:
    headers = ((b"content-type", JSON.encode()), (b"content-encoding", b"Identity"))
    assert seen(folded(base({}), (), listed(record("replace", [1], headers=headers)))) == [1]


def test_what_is_pending_is_waited_for_before_the_origin_is_asked_for_what_has_landed() -> None:
    landed, pending = listed(record("unknown", principal=BEN)), listed(record("unknown"))
    assert folded(base({}), landed, pending).outcome is Outcome.UNKNOWN_PENDING
    covered = listed(record("unknown"), record("replace", [1]))
    assert seen(folded(base({}), landed, covered)) == [1]


def test_a_pending_write_shows_to_every_id_of_its_principal() -> None:
    old = listed(record("replace", [1], principal=ANN_IDS[1]))
    assert seen(folded(base([]), (), old)) == [1]
    assert own(record("replace", shared=True), ("anybody",))
    assert not own(record("replace"), (BEN,))


def test_a_merge_after_a_deletion_is_unknown() -> None:
    result = folded(base({"n": 0}), (), listed(record("delete"), record("merge-patch", {"a": 1})))
    assert result.outcome is Outcome.UNKNOWN_PENDING


@pytest.mark.parametrize(("who", "outcome"), [(BEN, Outcome.UNKNOWN_LANDED), (ANONYMOUS, Outcome.FOLDED)])
def test_what_somebody_with_a_name_has_written_is_for_the_origin_to_show(who: str, outcome: Outcome) -> None:
    landed = record("replace", {"note": "secret"}, principal=who)
    assert folded(base({"n": 0}), listed(landed), ()).outcome is outcome
    shared = msgspec.structs.replace(landed, shared=True)
    assert folded(base({"n": 0}), listed(shared), ()).outcome is Outcome.FOLDED


def test_a_fold_knows_its_last_write_and_the_first_pending_one() -> None:
    one, two, three = (msgspec.structs.replace(record("merge-patch", {}), id=name) for name in ("1", "2", "3"))
    foreign = msgspec.structs.replace(record("replace", {}, principal=BEN), id="4")
    landed, pending = listed(one), (Listed(7, two), Listed(8, three), Listed(9, foreign))
    assert [(each.last, each.first) for each in (folded(base({}), landed, ()), folded(base({}), landed, pending))] == [
        ("1", 0),
        ("3", 7),
    ]
    cover = msgspec.structs.replace(record("replace", {}), id="5")
    from_cover = folded(base({}), landed, (*pending, Listed(10, cover), Listed(11, two)))
    assert (from_cover.last, from_cover.first) == ("2", 10)


# --- against a model ---

_documents = st.dictionaries(
    st.sampled_from("ab"), st.integers(0, 2) | st.dictionaries(st.sampled_from("cd"), st.integers(0, 2)), max_size=2
)
_patches = st.dictionaries(
    st.sampled_from("ab"),
    st.none() | st.integers(0, 2) | st.dictionaries(st.sampled_from("cd"), st.none() | st.integers(0, 2)),
    max_size=2,
)
_owners = st.sampled_from([ANN, ANN_IDS[1], BEN, ANONYMOUS])
_known = st.one_of(
    st.builds(lambda document, who: record("replace", document, principal=who), _documents, _owners),
    st.builds(lambda patch, who: record("merge-patch", patch, principal=who), _patches, _owners),
    st.builds(lambda patch, who: record("merge-patch", patch, principal=who, shared=True), _patches, _owners),
    st.builds(lambda who: record("delete", principal=who), _owners),
)
_any = st.one_of(
    _known,
    _known,
    st.builds(lambda who: record("unknown", principal=who), _owners),
    st.builds(lambda who: record("replace", {}, principal=who, url=f"{URL}?other"), _owners),
    st.none(),
)


def _applied(document: object, write: WriteRecord) -> object:
    """What a write makes of a document at the origin; None is no document."""
    if write.effect == "merge-patch":
        return merge_patch(document, json.loads(write.body))
    return json.loads(write.body) if write.effect == "replace" else None


def _all_applied(document: object, writes: Sequence[WriteRecord]) -> object:
    for write in writes:
        document = _applied(document, write)
    return document


@given(
    initial=_documents,
    landed=st.lists(_known.filter(lambda write: write.shared or write.principal != BEN), max_size=5),
    pending=st.lists(_known, max_size=4),
    asof=st.integers(0, 5),
    ahead=st.integers(0, 5),
)
@settings(max_examples=300)
def test_everybody_sees_what_landed_and_their_own_pending_writes_in_order(
    initial: object, landed: list[WriteRecord], pending: list[WriteRecord], asof: int, ahead: int
) -> None:
    """The base holds what landed up to `asof` and, unknown to it, some of what landed later."""
    asof = min(asof, len(landed))
    contained = _all_applied(initial, landed[: asof + ahead])
    over = base(contained, asof) if contained is not None else Base(asof, None)
    result = folded(over, listed(*landed), listed(*pending))
    mine = [write for write in pending if write.principal in ANN_IDS or write.shared]
    truth = _all_applied(_all_applied(initial, landed), mine)
    if result.outcome is Outcome.FOLDED:
        assert seen(result) == truth
    elif result.outcome is Outcome.GONE:
        assert truth is None
    elif result.outcome is Outcome.CLEAN:
        assert asof == len(landed)
        assert contained == truth
        assert not mine
    else:  # only a patch of what is deleted cannot be told
        deleted = [initial, *(write.effect == "delete" for write in (*landed, *mine))]
        assert True in deleted
        assert "merge-patch" in [write.effect for write in (*landed, *mine)]


@dataclass
class Model:
    """The view of one principal, a step at a time: a document, or why there is none."""

    document: object
    has_base: bool
    blind: Outcome | None = None
    failed: Outcome | None = None

    def take(self, step: Step, *, foreign_is_known: bool) -> None:
        write, unknown = step.record, Outcome.UNKNOWN_LANDED if step.landed else Outcome.UNKNOWN_PENDING
        known = write is not None and write.url == URL and write.effect != "unknown"
        theirs = write is not None and write.principal not in ANN_IDS and not write.shared
        is_secret = write is not None and (write.principal == BEN or not foreign_is_known)
        if write is None or not known or (theirs and is_secret):
            self.blind = unknown
        elif write.effect == "merge-patch":
            if self.document is None and self.has_base and not self.failed:
                self.failed = unknown
            if self.document is not None:
                self.document = _applied(self.document, write)
        else:
            self.document, self.has_base, self.blind, self.failed = _applied(None, write), True, None, None

    @property
    def outcome(self) -> Outcome:
        if self.blind:
            return self.blind
        if not self.has_base:
            return Outcome.NEEDS_BASE
        return self.failed or (Outcome.GONE if self.document is None else Outcome.FOLDED)


_bases = st.one_of(
    st.none(),
    st.builds(lambda asof, private: Base(asof, None, private), st.integers(0, 4), st.booleans()),
    st.builds(
        lambda doc, asof, private: base(doc, asof, private=private), _documents, st.integers(0, 4), st.booleans()
    ),
)


def _expected(over: Base | None, chosen: Sequence[Step]) -> tuple[Outcome, object]:
    if not chosen:
        return Outcome.CLEAN, None
    if over is None and all(step.landed for step in chosen):
        return Outcome.NEEDS_BASE, None
    start = over.representation if over else None
    model = Model(json.loads(start.body) if start else None, start is not None)
    for step in chosen:
        model.take(step, foreign_is_known=over is not None and not over.private)
    return model.outcome, model.document if model.outcome is Outcome.FOLDED else None


@given(_bases, st.lists(_any, max_size=4), st.lists(_any, max_size=4))
@settings(max_examples=500)
def test_every_fold_is_that_of_the_model(
    over: Base | None, landed: list[WriteRecord | None], pending: list[WriteRecord | None]
) -> None:
    chosen = steps(over, listed(*landed), listed(*pending), ANN_IDS)
    asof = over.asof if over else 0
    visible = [Step(each, True) for each in landed[asof:]]
    visible += [
        Step(each, False, number)
        for number, each in enumerate(pending, start=1)
        if each is None or each.shared or each.principal in ANN_IDS
    ]  # fmt: skip
    assert chosen == visible
    result = folded(over, listed(*landed), listed(*pending))
    outcome, document = _expected(over, visible)
    assert result.outcome is outcome
    if outcome is Outcome.FOLDED:
        assert seen(result) == document


@given(_bases, st.lists(_any, max_size=4), st.lists(_any, max_size=4))
def test_pending_writes_of_others_change_nothing(
    over: Base | None, landed: list[WriteRecord | None], pending: list[WriteRecord | None]
) -> None:
    without = [each for each in listed(*pending) if each.record is None or own(each.record, ANN_IDS)]
    assert folded(over, listed(*landed), listed(*pending)) == folded(over, listed(*landed), without)


@given(_bases, st.lists(_any, max_size=4), st.lists(_any, max_size=4))
def test_what_others_wrote_is_never_shown_over_a_private_base_or_none(
    over: Base | None, landed: list[WriteRecord | None], pending: list[WriteRecord | None]
) -> None:
    if over is not None:
        over = msgspec.structs.replace(over, private=True)

    def disguised(write: WriteRecord | None) -> WriteRecord | None:
        secret = write is not None and write.principal == BEN and not write.shared
        return msgspec.structs.replace(write, body=b'{"secret":1}') if write is not None and secret else write

    results = [
        folded(over, listed(*map(change, landed)), listed(*map(change, pending))) for change in (lambda w: w, disguised)
    ]
    assert results[0] == results[1]


# --- with a memory of earlier folds ---

_numbers = st.sampled_from(["1", "1.0", "1e2", "12345678901234567890123", "0.1234567890123456789"])
_merges = st.one_of(
    st.builds(lambda patch: record("merge-patch", patch), _patches),
    st.builds(lambda text: msgspec.structs.replace(record("merge-patch"), body=b'{"e":%s}' % text.encode()), _numbers),
)
_rows = st.lists(_merges, min_size=2 * MEMO_FROM, max_size=3 * MEMO_FROM)


@given(st.lists(_bases, min_size=1, max_size=2), _rows, st.lists(_any, max_size=2), st.data())
@settings(max_examples=300)
def test_a_fold_that_goes_on_from_an_earlier_one_comes_to_the_same(
    overs: list[Base | None], row: list[WriteRecord], others: list[WriteRecord | None], data: st.DataObject
) -> None:
    """Writes come at the end, land or vanish at the front, and become unreadable, over changing bases."""
    overs += [base({"z": 1}), base({"z": 2})]
    history: list[WriteRecord | None] = [*row]
    for other in others:
        history.insert(data.draw(st.integers(0, len(history))), other)
    writes = [
        Listed(n, w and msgspec.structs.replace(w, id=f"r-0-{n}")) for n, w in enumerate(history, start=1)
    ]  # fmt: skip
    folder = Folder(EFFECTS)
    for _ in range(6):
        over = data.draw(st.sampled_from(overs))
        start = data.draw(st.integers(0, 3))
        end = data.draw(st.integers(start, len(writes)))
        seen_now, landed = writes[start:end], data.draw(st.integers(0, 2))
        lost = data.draw(st.integers(-4 * len(seen_now) - 1, len(seen_now) - 1))
        if lost >= 0:
            each = seen_now[lost].record
            effect = each and msgspec.structs.replace(each, effect="unknown")
            seen_now = [*seen_now[:lost], Listed(seen_now[lost].number, effect), *seen_now[lost + 1 :]]
        chosen = steps(over, seen_now[:landed], seen_now[landed:], ANN_IDS)
        for url in (URL, f"{URL}?other"):
            remembered = folder.fold(over, chosen, url=url, principals=ANN_IDS)
            assert remembered == fold(over, chosen, url=url, principals=ANN_IDS, effects=EFFECTS)


def test_what_was_folded_is_not_folded_again() -> None:
    calls: list[str] = []

    def effect(over: Representation | None, write: Write) -> Representation:
        calls.append(write.body.decode())
        return Representation((over.body if over else b"") + write.body, JSON)

    folder = Folder(Effects({"m:effect": effect}))
    writes = [msgspec.structs.replace(record("m:effect", n), id=str(n)) for n in range(MEMO_FROM + 2)]
    for count in (MEMO_FROM, MEMO_FROM, MEMO_FROM + 2):
        result = folder.fold(base(""), steps(None, (), listed(*writes[:count]), ANN_IDS), url=URL, principals=ANN_IDS)
    assert result.representation == Representation(b'""' + b"".join(write.body for write in writes), JSON)
    assert calls == [str(n) for n in range(MEMO_FROM + 2)]


def test_a_memory_of_folds_is_bounded_and_loses_what_was_not_asked_for() -> None:
    memo, result = Memo(max_bytes=10_000), Representation(b"x" * 1000, JSON)
    names = tuple((str(n), "replace") for n in range(MEMO_FROM))
    for key in range(3):
        memo.keep(key, names, 0, result)
    assert memo.recall(0, names) == (MEMO_FROM, result)
    memo.keep(3, names, 0, result)
    assert [memo.recall(key, names)[0] for key in range(4)] == [MEMO_FROM, 0, MEMO_FROM, MEMO_FROM]
    memo.keep(3, names, 20_000, result)
    memo.keep(4, names[1:], 0, result)
    assert len(memo) == 2
    assert memo.recall(0, names[:-1]) == (0, None)
