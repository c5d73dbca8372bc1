"""HTML and style sheets written shorter."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from aiohttp_regioncache import SettingsError
from aiohttp_regioncache.features import CATALOGUE, Asked
from aiohttp_regioncache.transforms.minify import Minify

UTF8 = "text/html; charset=utf-8"
SCRIPT = b"<p>a</p>\n\n\n<script>  var  a  =  1 ; function long ( word ) { return word * 2 ; }  </script>"


def _made(body: str | bytes, content_type: str = UTF8, options: Any = True) -> bytes:
    octets = body.encode() if isinstance(body, str) else body
    feature = Minify()
    checked = feature.validate("minify", options)
    made = feature.apply(checked, feature.select(checked, Asked([], "/", "")), octets, content_type)
    return octets if made is None else made.body


def test_what_pages_count_on_stays() -> None:
    page = "<!doctype html><html><head></head><body>\n\n<input type=text>  <pre>  a\n b</pre>"
    page += "<!-- ko -->\n<!--#include x--></body>"
    made = _made(page).decode()
    for part in ("<html>", "<head>", "</head>", "</body>", "type=text", "<pre>  a\n b</pre>", "<!-- ko -->", "<!--#"):
        assert part in made
    assert "<!-- ko -->" not in _made(page, options={"comments": False}).decode()


def test_scripts_stay_unless_that_is_asked_for() -> None:
    assert b"var  a  =  1 ; function long ( word )" in _made(SCRIPT)
    assert b"var a=1;function long(word)" in _made(SCRIPT, options={"js": True})
    script = b"var  a  =  1 ;  // words\n"
    assert _made(script, "text/javascript") == script
    assert _made(script, "text/javascript", {"js": True}) == b"var a=1;"
    strict = b"'use strict' ;  var  a  =  1 ;"
    assert _made(strict, "application/javascript", {"js": True}) == strict


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<p>   é</p>".encode("latin-1"), UTF8),
        ("<p>   é</p>".encode(), "text/html; charset=iso-8859-1"),
        ("<p>   é</p>".encode(), "text/html"),
        (b"<p>   &eacute;</p>", "text/html; charset=iso-8859-1"),
        (b"<p>   &eacute;</p>", "text/html"),
        (b"\xef\xbb\xbf<p>   a</p>", UTF8),
        (b"<p>a", UTF8),
        (b"<meta http-equiv=Content-Security-Policy content=\"script-src 'sha256-x'\">  <p>  a</p>", UTF8),
        (b"a {  b : c }} </style><p>", "text/css"),
        (b"/* <!-- */ a  {  b : c }", "text/css"),
    ],
)
def test_what_stays_as_it_came(body: bytes, content_type: str) -> None:
    assert _made(body, content_type) == body


def test_what_is_utf8_is_minified() -> None:
    assert _made("<p>   é</p>  ") == "<p>é</p>".encode()
    assert _made('<meta charset="utf-8"><p>   &eacute;</p>  ', "text/html").endswith("<p>é</p>".encode())
    assert _made(b"<p>   a  </p>", "text/html") == b"<p>a</p>"
    assert _made(b"a  {  color : red ;  }\n" * 3, "text/css").startswith(b"a{color:red}")


def test_what_fails_is_told() -> None:
    with pytest.raises(subprocess.SubprocessError):
        _made("<div>" * 100_000)


def test_a_policy_of_hashes_forbids_it() -> None:
    policy = "script-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    assert not Minify().suits([("Content-Security-Policy", policy)])
    assert Minify().suits([("Content-Security-Policy", "script-src 'nonce-abc'")])


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"minify": "yes"}, "features.minify: "),
        ({"minify": {"html": True}}, "features.minify.html: is unknown"),
        ({"minify": {"js": 1}}, "features.minify.js: "),
        ({"polish": "better"}, "features.polish.mode: "),
        ({"polish": {"quality": 0}}, "features.polish.quality: "),
        ({"polish": {"mode": "lossless", "formats": ["avif"]}}, "never lossless"),
        ({"polish": {"formats": ["gif"]}}, "features.polish.formats: "),
        ({"resize": True}, "features.resize.widths: is empty"),
        ({"resize": {"widths": [0]}}, "features.resize.widths: "),
        ({"resize": {"widths": ["a"]}}, "is no number of pixels"),
        ({"resize": {"widths": [1], "paths": ["x"]}}, "features.resize.paths: "),
        ({"compress": {"codings": ["lzma"]}}, "is none of br, zstd, gzip"),
        ({"compress": {"levels": {"br": 99}}}, "features.compress.levels.br: "),
        ({"compres": True}, "is no feature; there are"),
    ],
)
def test_options_that_are_wrong_are_told(wanted: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as told:
        CATALOGUE.make("features", wanted)
    assert problem in str(told.value)


def test_a_missing_package_is_told_and_a_feature_that_is_off_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, extra in (("minify", "minify"), ("polish", "images")):
        with pytest.raises(SettingsError, match=rf"aiohttp-regioncache\[{extra}\]"):
            CATALOGUE.make("features", {name: True})
    assert not CATALOGUE.make("features", {"minify": False})
