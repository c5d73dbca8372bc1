"""The pin: who can make one, what is taken for one, what of ours the origin never sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_regioncache.pin import PIN_COOKIE, PIN_HEADER, make_pin, pinned_region, without_pins
from aiohttp_regioncache.principal import Signer

SIGNER = Signer(["a secret of at least sixteen characters"])
Carry = Callable[[str], list[tuple[str, str]]]
NOW = 1_000_000.0
VALID = make_pin(SIGNER, "sa-east-1", int(NOW) + 60)


def cookie(value: str) -> list[tuple[str, str]]:
    return [("Cookie", f"a=1; {PIN_COOKIE}={value}; b=2")]


def header(value: str) -> list[tuple[str, str]]:
    return [(PIN_HEADER.lower(), value)]


@pytest.mark.parametrize("carry", [cookie, header])
def test_a_pin_leads_to_its_region_until_it_expires(carry: Carry) -> None:
    assert pinned_region(SIGNER, carry(VALID), NOW) == "sa-east-1"
    assert pinned_region(SIGNER, carry(VALID), NOW + 59.9) == "sa-east-1"
    assert pinned_region(SIGNER, carry(VALID), NOW + 60) is None


@pytest.mark.parametrize(
    "value",
    [
        "", ":", "::", ":::", "sa-east-1", VALID + "0", VALID[:-1], VALID.replace("sa-", "ap-"),
        VALID.replace("1000060", "9000060"), make_pin(Signer(["another secret of some length"]), "sa-east-1", 9**9),
        "sa-east-1:" + "9" * 5000 + ":" + "0" * 32, "\udcff:\udcff:\udcff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("carry", [cookie, header])
def test_what_no_edge_of_ours_wrote_is_no_pin(carry: Carry, value: str) -> None:
    assert pinned_region(SIGNER, carry(value), NOW) is None


def test_an_older_secret_still_verifies() -> None:
    rotated = Signer(["the new secret of some length", "a secret of at least sixteen characters"])
    assert pinned_region(rotated, header(VALID), NOW) == "sa-east-1"


def test_the_newest_of_several_counts() -> None:
    newer = make_pin(SIGNER, "ap-northeast-1", int(NOW) + 90)
    assert pinned_region(SIGNER, [*cookie(VALID), *header(newer)], NOW) == "ap-northeast-1"
    assert pinned_region(SIGNER, [*cookie(newer), *cookie(VALID), *header("garbage")], NOW) == "ap-northeast-1"


def test_the_origin_never_sees_what_is_ours() -> None:
    fields = [("Accept", "*/*"), *cookie(VALID), *header(VALID), ("COOKIE", f"{PIN_COOKIE}={VALID}")]
    assert without_pins(fields) == [("Accept", "*/*"), ("Cookie", "a=1; b=2")]


@pytest.mark.parametrize("line", ["a=1;b=2", "", ";", "a=1; ;", 'a="regioncache-pin"', "x-regioncache-pin=1"])
def test_cookies_of_others_stay_as_they_came(line: str) -> None:
    assert without_pins([("Cookie", line), ("A", "b")]) == [("Cookie", line), ("A", "b")]


@given(st.lists(st.tuples(st.sampled_from(["Cookie", "A", PIN_HEADER]), st.text()), max_size=4))
def test_no_request_breaks_it(fields: list[tuple[str, str]]) -> None:
    assert pinned_region(SIGNER, fields, NOW) is None
    assert without_pins(without_pins(fields)) == without_pins(fields)
