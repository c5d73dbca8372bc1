import pytest

from aiohttp_regioncache.semantics.fields import Headers
from aiohttp_regioncache.semantics.freshness import Policy
from aiohttp_regioncache.semantics.storing import answers_get, may_store, storable, unstorable_fields

FRESH = ("Cache-Control", "max-age=60")
ETAG = ("ETag", '"a"')
PAST = ("Expires", "Mon, 26 Jul 1997 05:00:00 GMT")
DATE = ("Date", "Fri, 15 Jan 2027 08:00:00 GMT")


def cache_control(line: str) -> tuple[str, str]:
    return ("Cache-Control", line)


def reason(
    headers: Headers,
    *,
    method: str = "GET",
    request: Headers = (),
    status: int = 200,
    policy: Policy | None = None,
    shared: bool = True,
    credentials: bool = False,
    store_set_cookie: bool = True,
) -> str:
    found = may_store(
        method,
        request,
        status,
        headers,
        policy or Policy(),
        shared=shared,
        credentials=credentials,
        store_set_cookie=store_set_cookie,
    )
    assert found.allowed is (found.reason == "")
    return found.reason


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([FRESH], "", id="3-max-age"),
        pytest.param([cache_control("s-maxage=60")], "", id="3-s-maxage"),
        pytest.param([("Expires", "Sat, 15 Jan 2028 08:00:00 GMT"), DATE], "", id="3-expires"),
        pytest.param([ETAG], "", id="4.3-validator"),
        pytest.param([("Last-Modified", DATE[1])], "", id="4.3-validator-date"),
        pytest.param([], "no freshness", id="nothing"),
        pytest.param([cache_control("public")], "no freshness", id="public-alone"),
        pytest.param([cache_control("max-age=0")], "no freshness", id="stale-without-validator"),
        pytest.param([PAST, DATE], "no freshness", id="expired-without-validator"),
        pytest.param([cache_control("max-age=0"), ETAG], "", id="stale-with-validator"),
        pytest.param([cache_control("max-age=0, stale-while-revalidate=9")], "", id="5861-3-grace"),
        pytest.param([cache_control("max-age=60, no-cache")], "no freshness", id="5.2.2.4-no-validator"),
        pytest.param([cache_control("no-cache"), ETAG], "", id="5.2.2.4-validator"),
        pytest.param([cache_control("max-age=60, no-store")], "no-store", id="5.2.2.5"),
        pytest.param([cache_control("No-StOrE, max-age=60")], "no-store", id="5.2.2.5-any-case"),
        pytest.param([cache_control("max-age=60, private")], "private", id="5.2.2.7"),
        pytest.param([cache_control('max-age=60, private="a"')], "", id="5.2.2.7-qualified"),
        pytest.param([cache_control('max-age=60, private="a", private')], "private", id="5.2.2.7-both"),
        pytest.param([cache_control('max-age=60, x="private'), FRESH], "", id="other-argument"),
        pytest.param([cache_control('max-age=60, x=", private')], "private", id="open-quote-hides-nothing"),
        pytest.param([FRESH, ("Vary", "*")], "vary", id="4.1-star"),
        pytest.param([FRESH, ("Vary", "A"), ("Vary", ", *")], "vary", id="4.1-star-among-others"),
        pytest.param([FRESH, ("Vary", "A")], "", id="4.1-names"),
        pytest.param([FRESH, ("Content-Range", "bytes 0-1/2")], "partial", id="3.3-content-range"),
        pytest.param([FRESH, ("Set-Cookie", "a=b")], "", id="7.3-set-cookie"),
        pytest.param([ETAG, ("Set-Cookie", "a=b")], "set-cookie", id="7.3-set-cookie-without-lifetime"),
        pytest.param(
            [cache_control('no-cache="Set-Cookie"'), ETAG, ("Set-Cookie", "a=b")], "", id="5.2.2.4-set-cookie"
        ),
        pytest.param([cache_control("no-store"), ("CDN-Cache-Control", "max-age=60")], "", id="9213-2.2-fresh"),
        pytest.param([FRESH, ("CDN-Cache-Control", "no-store")], "no-store", id="9213-2.2-no-store"),
        pytest.param([FRESH, ("CDN-Cache-Control", "private")], "private", id="9213-2.2-private"),
        pytest.param([cache_control("no-store"), ("CDN-Cache-Control", 'max-age="9"')], "no-store", id="9213-2.1-type"),
    ],
)
def test_response(headers: Headers, expected: str) -> None:
    assert reason(headers) == expected


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "get", "M-SEARCH"])
def test_only_get(method: str) -> None:
    assert reason([FRESH], method=method) == "method"


@pytest.mark.parametrize(
    ("status", "with_freshness", "without"),
    [
        (100, "status", "status"),
        (199, "status", "status"),
        (200, "", ""),
        (206, "partial", "partial"),
        (299, "", "status"),
        (302, "", "status"),
        (304, "partial", "partial"),
        (404, "", ""),
        (500, "", "status"),
        (599, "", "status"),
        (600, "status", "status"),
    ],
)
def test_statuses(status: int, with_freshness: str, without: str) -> None:
    assert reason([FRESH], status=status) == with_freshness
    assert reason([ETAG], status=status) == without


UNDERSTOOD = (200, 205, 300, 303, 305, 307, 308, 400, 417, 421, 422, 426, 500, 505)
NOT_UNDERSTOOD = (207, 226, 299, 306, 309, 399, 418, 423, 425, 428, 429, 499, 506, 599)


@pytest.mark.parametrize("status", [*UNDERSTOOD, *NOT_UNDERSTOOD])
def test_must_understand(status: int) -> None:
    expected = "" if status in UNDERSTOOD else "status"
    assert reason([cache_control("must-understand, no-store, max-age=60")], status=status) == expected


def test_a_shared_store_without_cookies_is_the_default() -> None:
    for headers, expected in (
        ([cache_control("private")], "private"),
        ([("Set-Cookie", "a=b")], "set-cookie"),  # nothing said of caching
    ):
        found = may_store("GET", [], 200, [*headers, ETAG], Policy(), credentials=False)
        assert found.reason == expected


def test_request_no_store() -> None:
    assert reason([FRESH], request=[("Cache-Control", "no-store")]) == "request no-store"


@pytest.mark.parametrize("identified", [{"credentials": True}, {"request": [("authorization", "x")]}])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("max-age=60", "credentials", id="3.5-none"),
        pytest.param("max-age=60, proxy-revalidate", "credentials", id="3.5-proxy-revalidate-is-not-enough"),
        pytest.param("max-age=60, public", "", id="3.5-public"),
        pytest.param("max-age=60, must-revalidate", "", id="3.5-must-revalidate"),
        pytest.param("s-maxage=60", "", id="3.5-s-maxage"),
    ],
)
def test_credentials(identified: dict[str, object], line: str, expected: str) -> None:
    credentials = bool(identified.get("credentials", False))
    request: Headers = [("authorization", "x")] if "request" in identified else []
    assert reason([cache_control(line)], credentials=credentials, request=request) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([cache_control("private, max-age=60")], ""),
        ([cache_control("private"), ETAG], ""),
        ([FRESH], ""),
        ([cache_control("no-store, max-age=60")], "no-store"),
        ([cache_control("s-maxage=60")], "no freshness"),
        ([ETAG, ("Set-Cookie", "a=b")], "set-cookie"),
    ],
)
def test_the_store_of_one_user(headers: Headers, expected: str) -> None:
    assert reason(headers, shared=False, credentials=True) == expected


def test_no_cookies_at_all_on_request_of_the_operator() -> None:
    assert reason([FRESH, ("Set-Cookie", "a=b")], store_set_cookie=False) == "set-cookie"


PART = ("Content-Range", "bytes 0-1/5")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([FRESH, PART], "", id="3.3"),
        pytest.param([ETAG, PART], "", id="15.1-heuristic"),
        pytest.param([FRESH, ("Content-Range", "bytes 0-1/*")], "partial", id="unknown-length"),
        pytest.param([FRESH, PART, PART], "partial", id="two"),
        pytest.param([FRESH, ("Content-Range", "lines 0-1/5")], "partial", id="another-unit"),
        pytest.param([FRESH, ("Content-Type", "multipart/byteranges; boundary=x")], "partial", id="several"),
    ],
)
def test_parts(headers: Headers, expected: str) -> None:
    assert reason(headers, status=206) == expected


def test_fields_that_a_qualified_directive_names_are_not_storable() -> None:
    headers = [cache_control('private="X-A", no-cache="x-b, X-C", max-age=9'), ("x-a", "1"), ("X-B", "2"), ("D", "3")]
    assert unstorable_fields(headers) == {"x-a", "x-b", "x-c"}
    assert storable(headers) == [headers[0], headers[3]]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([FRESH, ("Content-Location", "/x?q")], True, id="path"),
        pytest.param([FRESH, ("Content-Location", "")], True, id="empty"),
        pytest.param([FRESH, ("Content-Location", "https://a.example/x?q#f")], True, id="absolute"),
        pytest.param([FRESH, ("Content-Location", "https://b.example/x?q")], False, id="another-host"),
        pytest.param([FRESH, ("Content-Location", "/x")], False, id="another-query"),
        pytest.param([FRESH, ("Content-Location", "/x?q"), ("Content-Location", "/y")], False, id="two"),
        pytest.param([FRESH, ("Content-Location", "http://[")], False, id="no-reference"),
        pytest.param([FRESH], False, id="none"),
        pytest.param([ETAG, ("Content-Location", "/x?q")], False, id="no-explicit-lifetime"),
        pytest.param([cache_control("max-age=0"), ("Content-Location", "/x?q")], False, id="no-lifetime"),
    ],
)
def test_answers_to_post(headers: Headers, expected: bool) -> None:
    assert answers_get("https://a.example/x?q", headers, response_time=0.0) is expected


@pytest.mark.parametrize(
    ("policy", "headers", "status", "expected"),
    [
        pytest.param(Policy(default_ttl=9), [], 200, "", id="default-ttl"),
        pytest.param(Policy(default_ttl=0.5), [], 200, "", id="default-ttl-below-a-second"),
        pytest.param(Policy(default_ttl=0), [], 200, "no freshness", id="default-ttl-0"),
        pytest.param(Policy(default_ttl=9), [], 500, "status", id="default-ttl-cacheable-statuses-only"),
        pytest.param(Policy(forced_ttl=9), [cache_control("max-age=0")], 200, "", id="forced-ttl"),
        pytest.param(
            Policy(forced_ttl=9),
            [cache_control("no-store")],
            200,
            "no-store",
            id="forced-ttl-lifts-no-store-never",
        ),
        pytest.param(Policy(default_ttl={"502": 1}), [], 502, "", id="named-status"),
        pytest.param(Policy(default_ttl={"5xx": 1}), [], 502, "", id="named-class"),
        pytest.param(Policy(forced_ttl={"502": 1}), [], 502, "", id="named-forced-status"),
        pytest.param(Policy(default_ttl={"any": 1}), [], 502, "status", id="any-names-none"),
        pytest.param(Policy(default_ttl={"502": 1}), [], 500, "status", id="another-status"),
        pytest.param(Policy(default_ttl={"502": 0}), [], 502, "no freshness", id="named-status-0"),
        pytest.param(Policy(default_ttl={"502": 1}), [cache_control("private")], 502, "private", id="named-private"),
        pytest.param(Policy(default_ttl={"206": 1}), [], 206, "partial", id="named-partial"),
        pytest.param(
            Policy(forced_ttl={"any": 9}), [cache_control("no-cache")], 200, "no freshness", id="forced-no-cache"
        ),
        pytest.param(Policy(stale_if_error=9), [], 200, "no freshness", id="grace-alone"),
        pytest.param(Policy(stale_if_error=9), [cache_control("max-age=0")], 200, "", id="grace-and-max-age"),
    ],
)
def test_policy(policy: Policy, headers: Headers, status: int, expected: str) -> None:
    assert reason(headers, policy=policy, status=status) == expected


def test_the_time_of_arrival_stands_in_for_a_missing_date() -> None:
    found = may_store("GET", [], 200, [PAST], Policy(), credentials=False, response_time=1_800_000_000.0)
    assert found.reason == "no freshness"
