import math

import pytest

from aiohttp_regioncache.semantics.requests import PLAIN_REQUEST, RequestTerms, request_terms


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("no-cache", RequestTerms(no_cache=True)),
        ("no-store", RequestTerms(no_store=True)),
        ("only-if-cached", RequestTerms(only_if_cached=True)),
        ("max-age=0", RequestTerms(max_age=0)),
        ("max-age=9, max-age=5", RequestTerms(max_age=5)),
        ("max-age=x", RequestTerms(max_age=0)),
        ("min-fresh=5, min-fresh=9", RequestTerms(min_fresh=9)),
        ("max-stale", RequestTerms(max_stale=math.inf)),
        ("max-stale=7", RequestTerms(max_stale=7)),
        ("max-stale, max-stale=7", RequestTerms(max_stale=7)),
        ("max-stale=9, max-stale=7, max-stale=8", RequestTerms(max_stale=7)),
        ("max-stale=x", RequestTerms(max_stale=0)),
        ("stale-if-error=60", RequestTerms(stale_if_error=60)),
    ],
)
def test_each_directive(line: str, asked: RequestTerms) -> None:
    assert request_terms([("Accept", "*/*"), ("cache-control", line)]) == asked


def test_pragma_asks_for_validation() -> None:
    assert request_terms([("Pragma", "no-cache")]) == RequestTerms(no_cache=True)


@pytest.mark.parametrize(
    "headers", [[], [("Accept", "*/*")], [("Pragma", "foo"), ("Cache-Control", "nothing-to-see-here")]]
)
def test_most_requests_share_one_object(headers: list[tuple[str, str]]) -> None:
    assert request_terms(headers) is PLAIN_REQUEST
