"""Principals: keyed, stable, never two people in one; and the hashes that the secrets make."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiohttp_regioncache.principal import ANONYMOUS, NOBODY, Signer, identity, principal_of

OLD, NEW = "the secret of last year", "the secret of this year"
SIGNER = Signer([OLD])


class Head:
    """The head of a request."""

    def __init__(self, *fields: tuple[str, str], cookies: dict[str, str] | None = None) -> None:
        self._headers = CIMultiDict(fields)
        self._cookies = cookies or {}

    @property
    def headers(self) -> CIMultiDict[str]:
        return self._headers

    @property
    def cookies(self) -> dict[str, str]:
        return self._cookies


def cookie(*lines: str) -> str | None:
    return identity(Head(*(("Cookie", line) for line in lines)))


def test_without_credentials_there_is_no_identity() -> None:
    assert identity(Head(("Accept", "*/*"))) is None
    assert cookie("") is None
    assert cookie(" ; ") is None
    assert principal_of(None, SIGNER) == NOBODY
    assert NOBODY.is_anonymous
    assert NOBODY.id == ANONYMOUS


def test_an_identity_is_keyed_and_stable() -> None:
    one = principal_of("alice", SIGNER)
    assert one == principal_of("alice", Signer([OLD]))
    assert re.fullmatch("[0-9a-f]{32}", one.id)
    assert "alice" not in one.id
    assert one.id != principal_of("bob", SIGNER).id
    assert one.id != principal_of("alice", Signer([NEW])).id
    assert not one.is_anonymous


def test_nobody_is_the_same_at_two_sites() -> None:
    principals = [principal_of(name, SIGNER, site) for name in ("alice", None) for site in ("", "shop", "blog")]
    assert len({principal.id for principal in principals}) == 6
    assert [principal.is_anonymous for principal in principals] == [False] * 3 + [True] * 3
    assert principals[1].ids == (principals[1].id,) == (principals[1].oldest,)


def test_without_secrets_nobody_is_told_apart_but_the_anonymous() -> None:
    assert principal_of("alice", None) == principal_of("bob", None)
    assert not principal_of("alice", None).is_anonymous
    assert principal_of(None, None) == NOBODY


def test_the_order_of_cookies_and_fields_does_not_count() -> None:
    assert cookie("a=1; b=2") == cookie("b=2;a=1") == cookie("b=2", "a=1")
    assert cookie("a=1; b=2") != cookie("a=2; b=1")


def test_our_own_cookies_are_ignored() -> None:
    assert cookie("regioncache-pin=x") is None
    assert cookie("regioncache-pin=x; a=1") == cookie("a=1; regioncache-pin=y") == cookie("a=1")


@pytest.mark.parametrize(
    "line", ["nonsense", "[session]=alice", "=alice", 'a="x; b', "a=1; [session]=alice", "\udcff=1"]
)
def test_cookies_that_no_parser_takes_are_credentials_all_the_same(line: str) -> None:
    alone, other = cookie(line), cookie(line.replace("alice", "bob").replace("nonsense", "other"))
    assert alone is not None
    assert cookie(f"regioncache-pin=x; {line}") == alone
    if "alice" in line or "nonsense" in line:
        assert alone != other


def test_authorization_and_cookies_together_are_an_identity() -> None:
    bearer, session = ("Authorization", "Bearer x"), ("Cookie", "a=1")
    identities = [identity(Head(*fields)) for fields in ([bearer], [session], [bearer, session])]
    assert len(set(identities)) == 3
    assert None not in identities


def test_named_sources() -> None:
    head = Head(("X-User", "alice"), ("Authorization", "Bearer x"), cookies={"sid": "alice"})
    assert identity(head, "header:x-user") == identity(head, "header:X-User")
    assert identity(head, "header:X-Other") is None
    assert identity(head, "cookie:other") is None
    assert identity(Head(("X-User", "")), "header:X-User") is None
    assert identity(Head(cookies={"sid": ""}), "cookie:sid") is None


def test_the_same_text_from_another_source_is_another_identity() -> None:
    head = Head(("X-User", "alice"), ("X-Key", "alice"), ("Authorization", "alice"), cookies={"sid": "alice"})
    found = {identity(head, source) for source in (None, "header:X-User", "header:X-Key", "cookie:sid")}
    assert len(found | {identity(Head(("Cookie", "alice"))), "alice"}) == 6


@given(st.lists(st.text(st.sampled_from("a1=;:\n0"), max_size=4), min_size=1, max_size=3))
def test_nothing_runs_into_the_next(values: list[str]) -> None:
    joined = identity(Head(("Authorization", "".join(values))))
    apart = identity(Head(("Authorization", values[0]), ("Cookie", ";".join(values[1:]))))
    pieces = [piece.strip() for value in values[1:] for piece in value.split(";") if piece.strip()]
    assert (joined == apart) == (not pieces and "".join(values) == values[0])


# --- hashes ---


@given(st.lists(st.text(max_size=3), max_size=3), st.lists(st.text(max_size=3), max_size=3))
def test_different_parts_have_different_hashes(one: list[str], other: list[str]) -> None:
    assert (SIGNER.sign("p", *one) == SIGNER.sign("p", *other)) == (one == other)


def test_a_hash_serves_one_purpose() -> None:
    assert SIGNER.sign("principal", "x") != SIGNER.sign("replay", "x")
    assert SIGNER.sign("a", "b", "c") != SIGNER.sign("ab", "c")
    assert not SIGNER.verify(SIGNER.sign("principal", "x"), "replay", "x")


def test_the_first_secret_signs_and_all_verify() -> None:
    old, both, new = Signer([OLD]), Signer([NEW, OLD]), Signer([NEW])
    assert both.sign("p", "x") == new.sign("p", "x")
    assert both.sign_all("p", "x") == (new.sign("p", "x"), old.sign("p", "x"))
    assert both.verify(old.sign("p", "x"), "p", "x")
    assert both.verify(new.sign("p", "x"), "p", "x")
    assert not new.verify(old.sign("p", "x"), "p", "x")


def test_a_principal_keeps_its_older_ids_while_secrets_rotate() -> None:
    rotated = principal_of("alice", Signer([NEW, OLD]))
    assert rotated.ids == (principal_of("alice", Signer([NEW])).id, principal_of("alice", Signer([OLD])).id)
    assert rotated.id == rotated.ids[0]


@pytest.mark.parametrize("signature", ["", "x", "0" * 32, "\udcff", "é", "0" * 10_000])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert not SIGNER.verify(signature, "p", "x")


def test_any_text_can_be_signed_and_be_a_secret() -> None:
    assert Signer(["\udcff" * 16]).sign("p", "\udce9") != Signer(["\udcfe" * 16]).sign("p", "\udce9")
    assert SIGNER.sign("p", "é") != SIGNER.sign("p", "\udcc3\udca9")
