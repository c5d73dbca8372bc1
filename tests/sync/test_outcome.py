"""What an attempt means for its write, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.semantics.dates import format_date
from aiohttp_regioncache.sync.outcome import (
    Attempt,
    Failure,
    History,
    Outcome,
    Patience,
    Verdict,
    before_sending,
    blocks,
    judge,
    retry_after,
    retry_delay,
)

NOW = 1_700_000_000.0
FIRST = History(tries=0, unknown=False, age=0.0)
AFTER_UNKNOWN = History(tries=1, unknown=True, age=1.0)
PATIENT = Patience(max_tries=100, max_age=3_600.0, repeatable=True)
ONCE = Patience(max_tries=100, max_age=3_600.0, repeatable=False)
IN_FLIGHT = (("Retry-After", "3"),)


def judged(attempt: Attempt, *, method: str = "PUT", history: History = FIRST, patience: Patience = PATIENT) -> Outcome:
    return judge(method, attempt, history, patience, now=NOW)


def verdict(status: int, *, method: str = "PUT", history: History = FIRST, patience: Patience = PATIENT) -> str:
    outcome = judged(Attempt(status), method=method, history=history, patience=patience)
    return f"{outcome.verdict.value}({outcome.reason})"


@pytest.mark.parametrize("status", [*range(200, 300), 303])
def test_success_and_see_other_are_synced(status: int) -> None:
    for patience in (PATIENT, ONCE):
        for history in (FIRST, AFTER_UNKNOWN, History(10**9, True, 10.0**9)):
            assert verdict(status, history=history, patience=patience) == f"synced(status {status})"


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_gone_is_deleted(status: int) -> None:
    assert verdict(status, method="DELETE") == f"synced(status {status})"
    assert verdict(status, method="PUT") == f"rejected(status {status})"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 508, 511, 599])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert verdict(status) == f"retry(status {status})"
    assert verdict(status, history=AFTER_UNKNOWN) == f"retry(status {status})"


@pytest.mark.parametrize(
    "status", [400, 402, 404, 405, 406, 409, 410, 411, 412, 413, 415, 422, 428, 451, 499, 501, 505]
)
def test_what_will_not_change_is_rejected(status: int) -> None:
    assert verdict(status) == f"rejected(status {status})"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_writer_is_rejected(status: int) -> None:
    assert verdict(status) == "rejected(auth)"
    assert verdict(status, history=AFTER_UNKNOWN) == "rejected(auth)"


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 399])
def test_a_redirect_is_never_followed(status: int) -> None:
    assert verdict(status) == "dead(redirect)"


@pytest.mark.parametrize("failure", list(Failure))
def test_no_answer_is_tried_again(failure: Failure) -> None:
    outcome = judged(Attempt(failure=failure, problem="reset"))
    assert (outcome.verdict, outcome.reason) == (Verdict.RETRY, "reset")


def test_our_own_key_in_flight_is_waited_for() -> None:
    for history in (FIRST, AFTER_UNKNOWN):
        outcome = judged(Attempt(409, IN_FLIGHT), history=history)
        assert (outcome.verdict, outcome.retry_after) == (Verdict.RETRY, 3.0)


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_after_an_unknown_outcome_is_ambiguous(status: int) -> None:
    assert verdict(status, history=AFTER_UNKNOWN) == "dead(ambiguous)"
    assert verdict(status) == f"rejected(status {status})"


def test_what_may_be_sent_once_is_ambiguous_when_nobody_knows() -> None:
    assert judged(Attempt(failure=Failure.NO_ANSWER), patience=ONCE) == Outcome(Verdict.DEAD, "ambiguous")
    assert verdict(502, patience=ONCE) == verdict(504, patience=ONCE) == "dead(ambiguous)"
    assert judged(Attempt(failure=Failure.NOT_SENT), patience=ONCE).verdict is Verdict.RETRY
    assert verdict(503, patience=ONCE) == "retry(status 503)"


def test_a_sender_that_vanished_leaves_what_may_be_sent_once_ambiguous() -> None:
    assert before_sending(1, 0, ONCE) == before_sending(1, 99, ONCE) == Outcome(Verdict.DEAD, "ambiguous")
    assert before_sending(0, 1, ONCE) is None
    assert before_sending(1, 1, PATIENT) is None


def test_a_write_that_ends_its_senders_is_given_up() -> None:
    for patience in (PATIENT, ONCE):
        assert before_sending(0, 20, patience) is None
        assert before_sending(0, 21, patience) == Outcome(Verdict.DEAD, "too-many-stalls")


@pytest.mark.parametrize("reason", ["ambiguous", "too-old", "redirect"])
def test_only_what_may_have_been_applied_blocks_unless_the_rule_says_so(reason: str) -> None:
    dead = Outcome(Verdict.DEAD, reason)
    assert blocks(dead, "block")
    assert not blocks(dead, "skip")
    assert blocks(dead, "") == (reason == "ambiguous")
    for verdict in (Verdict.SYNCED, Verdict.REJECTED, Verdict.SUPERSEDED):
        assert not blocks(Outcome(verdict, reason), "block")


def test_too_many_tries_and_too_old() -> None:
    assert verdict(503, history=History(98, False, 0.0)) == "retry(status 503)"
    assert verdict(503, history=History(99, False, 0.0)) == "dead(too-many-tries)"
    assert verdict(503, history=History(0, False, 3_600.0)) == "retry(status 503)"
    assert verdict(503, history=History(0, False, 3_601.0)) == "dead(too-old)"
    assert verdict(400, history=History(99, False, 3_601.0)) == "rejected(status 400)"


@given(
    st.sampled_from(["PUT", "POST", "DELETE", "PATCH", "X"]),
    st.integers(0, 999),
    st.sampled_from([None, *Failure]),
    st.booleans(),
    st.booleans(),
)
def test_every_attempt_has_an_outcome(
    method: str, status: int, failure: Failure | None, unknown: bool, repeatable: bool
) -> None:
    attempt = Attempt(0 if failure else status, failure=failure, problem="p")
    outcome = judge(method, attempt, History(0, unknown, 0.0), Patience(5, 5.0, repeatable), now=NOW)
    assert outcome.reason
    if failure is not None:
        assert outcome.verdict in (Verdict.RETRY, Verdict.DEAD)
    if attempt.is_unknown and not repeatable:
        assert outcome.verdict is Verdict.DEAD


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 999_999_999.0),
        (format_date(NOW + 30), 30.0),
        (format_date(NOW - 30), 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("٣", None),
        ("²", None),
        ("12 34", None),
        ("tomorrow", None),
        ("\udcff", None),
        ("Mon, 99 Foo 2020 00:00:00 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after([("retry-after", value)], NOW) == seconds
    assert retry_after([], NOW) is None


@given(
    st.integers(0, 10**6),
    st.none() | st.floats(0, 1e9),
    st.floats(0.001, 10),
    st.floats(0.001, 1000),
    st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_bounded(tries: int, asked: float | None, base: float, cap: float, spread: float) -> None:
    delay = retry_delay(tries, asked, base=base, cap=cap, spread=lambda: spread)
    assert 0 <= delay <= cap
    assert delay >= min(asked or 0.0, cap)


def test_a_delay_grows_with_the_tries_and_is_spread_over_all_of_it() -> None:
    full = [retry_delay(tries, None, base=0.5, cap=60.0, spread=lambda: 1.0) for tries in range(9)]
    assert full == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert retry_delay(5, None, base=0.5, cap=60.0, spread=lambda: 0.0) == 0.0
    assert len({retry_delay(5, None, base=0.5, cap=60.0) for _ in range(20)}) > 1
