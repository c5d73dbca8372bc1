import pytest

from aiohttp_regioncache.semantics import methods

TARGET = "https://a.example/x/y?q=1"


@pytest.mark.parametrize(
    ("method", "safe", "read"),
    [
        ("GET", True, True),
        ("HEAD", True, True),
        ("OPTIONS", True, False),
        ("TRACE", True, False),
        ("POST", False, False),
        ("DELETE", False, False),
        ("M-SEARCH", False, False),
        ("get", False, False),
    ],
)
def test_kinds(method: str, safe: bool, read: bool) -> None:
    assert (methods.is_safe(method), methods.is_read(method)) == (safe, read)


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("POST", 200, True),
        ("PUT", 204, True),
        ("DELETE", 303, True),
        ("M-SEARCH", 200, True),
        ("POST", 399, True),
        ("POST", 400, False),
        ("POST", 404, False),
        ("POST", 500, False),
        ("POST", 103, False),
        ("GET", 200, False),
        ("OPTIONS", 200, False),
    ],
)
def test_invalidates(method: str, status: int, expected: bool) -> None:
    assert methods.invalidates(method, status) is expected


@pytest.mark.parametrize(
    ("reference", "resolved"),
    [
        pytest.param("/z", "https://a.example/z", id="absolute-path"),
        pytest.param("z?r=2#f", "https://a.example/x/z?r=2", id="relative"),
        pytest.param("", TARGET, id="empty"),
        pytest.param("https://a.example/z", "https://a.example/z", id="absolute"),
        pytest.param("HTTPS://A.EXAMPLE:443/z", "https://a.example/z", id="same-origin-otherwise-written"),
        pytest.param("https://u@a.example/z", "https://a.example/z", id="user-information"),
        pytest.param("https://a.example", "https://a.example/", id="no-path"),
        pytest.param("//b.example/z", None, id="other-host"),
        pytest.param("http://a.example/z", None, id="other-scheme"),
        pytest.param("https://a.example:8443/z", None, id="other-port"),
        pytest.param("javascript:alert(1)", None, id="no-http"),
        pytest.param("https://[::1/z", None, id="malformed-host"),
        pytest.param("https://a.example:99999999/z", None, id="malformed-port"),
    ],
)
def test_targets(reference: str, resolved: str | None) -> None:
    expected = (TARGET,) if resolved in (None, TARGET) else (TARGET, resolved)
    assert methods.invalidated_targets(TARGET, [("location", reference)]) == expected
    assert methods.invalidated_targets(TARGET, [("Content-Location", reference)]) == expected


def test_default_port_of_http() -> None:
    found = methods.invalidated_targets("http://a.example/x", [("Location", "http://a.example:80/z")])
    assert found == ("http://a.example/x", "http://a.example/z")


def test_targets_are_unique() -> None:
    headers = [("Location", "/z"), ("Content-Location", "/w"), ("Location", "/z")]
    expected = (TARGET, "https://a.example/z", "https://a.example/w")
    assert methods.invalidated_targets(TARGET, headers) == expected
