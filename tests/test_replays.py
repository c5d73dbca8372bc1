"""Marks on requests to an origin: signed replays, loops."""

import pytest

from aiohttp_regioncache.principal import Signer
from aiohttp_regioncache.replays import (
    Replay,
    cdn_id,
    is_looping,
    sign_replay,
    verify_replay,
    with_loop_mark,
)

SIGNER = Signer(["the secret of this year"])
REPLAY = Replay("eu-west-1-0-ab", 7, "fence", 1_000)
MARK = sign_replay(SIGNER, REPLAY, "PUT", "/x?y")


def verify(
    value: str | None = MARK, method: str = "PUT", endpoint: str = "/x?y", now: float = 1_000.0, signer: Signer = SIGNER
) -> Replay | None:
    return verify_replay(signer, value, method, endpoint, now=now)


def test_a_mark_is_read_by_every_edge_that_has_the_secret() -> None:
    assert verify() == REPLAY
    assert verify(signer=Signer(["a newer secret of all", "the secret of this year"])) == REPLAY
    assert verify(signer=Signer(["another secret of others"])) is None
    assert verify_replay(None, MARK, "PUT", "/x?y", now=1_000.0) is None


def test_a_mark_is_good_for_its_request_and_for_five_minutes() -> None:
    assert verify(method="POST") is None
    assert verify(endpoint="/x?z") is None
    assert verify(now=1_300.0) == REPLAY
    assert verify(now=1_301.0) is None
    assert verify(now=700.0) == REPLAY
    assert verify(now=699.0) is None


def test_a_mark_is_good_for_its_site_alone() -> None:
    theirs = sign_replay(SIGNER, REPLAY, "PUT", "/x?y", "shop")

    def read(value: str, site: str) -> Replay | None:
        return verify_replay(SIGNER, value, "PUT", "/x?y", site, now=1_000.0)

    assert read(theirs, "shop") == REPLAY
    assert read(theirs, "other") is read(theirs, "") is read(MARK, "shop") is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        ";",
        ";;;;",
        "a;1;f;1000;" + "0" * 32,
        MARK + ";",
        MARK[:-1],
        MARK.replace(";7;", ";8;"),
        MARK.replace(";7;", ";x;"),
        MARK.replace("fence", "fence\udcff"),
        MARK.replace(";1000;", ";9999999999;"),
        "é;" * 5,
        ";" * 100_000,
    ],
)
def test_other_values_are_no_mark(value: str | None) -> None:
    assert verify(value) is None


def test_a_deployment_is_the_same_on_all_its_edges() -> None:
    name = cdn_id(["b", "a"], "https://origin.example")
    assert name == cdn_id(["a", "b"], "https://origin.example")
    assert name != cdn_id(["a"], "https://origin.example")
    assert name != cdn_id(["a", "b"], None)
    assert name.isascii()
    assert " " not in name


def test_a_loop() -> None:
    name = cdn_id(["a"], None)
    marked = with_loop_mark([("CDN-Loop", "other; v=1"), ("Accept", "*/*")], name)
    assert marked[:2] == [("CDN-Loop", "other; v=1"), ("Accept", "*/*")]
    assert is_looping(marked, name)
    assert not is_looping(marked[:2], name)
    assert is_looping([("cdn-loop", f"other, {name}; v=1, third")], name)
    assert not is_looping([("CDN-Loop", f"{name}x, x{name}")], name)
    assert not is_looping([("Other", name)], name)
