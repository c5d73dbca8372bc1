"""`minify`: HTML, CSS and JavaScript without what nobody needs."""

from __future__ import annotations

import importlib
from typing import Any, Final

from ..features import Asked, Feature, Transformed
from .options import need, table

_KINDS: Final = {
    "text/html": "html",
    "text/css": "css",
    "text/javascript": "js",
    "application/javascript": "js",
    "application/x-javascript": "js",
}
_TAGS: Final = {"css": ("<style>", "</style>"), "js": ("<script>", "</script>")}


class Minify(Feature):
    """Minify HTML with what is inline in it, and files of CSS and JavaScript.

    Options: `html`, `css`, `js`, each true unless it is turned off.
    """

    name = "minify"
    order = 30

    def validate(self, key: str, options: Any) -> dict[str, Any]:
        """Check the options."""
        found = table(key, options, {"html": True, "css": True, "js": True})
        need(key, "minify_html", "minify")
        return found

    def affects(self, content_type: str) -> bool:
        """Whether a media type is HTML, CSS or JavaScript."""
        return content_type in _KINDS

    def select(self, options: dict[str, Any], _asked: Asked) -> str:
        """Which of them are minified."""
        return " ".join(name for name in ("html", "css", "js") if options[name])

    def needs_plain(self, _options: dict[str, Any]) -> bool:
        """It reads text."""
        return True

    def apply(self, options: dict[str, Any], _selected: str, body: bytes, content_type: str) -> Transformed | None:
        """Minify; None when the body is turned off, in another charset or becomes no smaller."""
        kind = _KINDS.get(content_type, "")
        if not kind or not options[kind]:
            return None
        text = body.decode("utf-8")  # of another charset: as good as a failure
        found = _minified(text, kind, options).encode()
        return Transformed(found) if 0 < len(found) < len(body) else None


def _minified(text: str, kind: str, options: dict[str, Any]) -> str:
    minify = importlib.import_module("minify_html").minify
    if kind == "html":
        found: str = minify(
            text,
            keep_closing_tags=True,
            keep_html_and_head_opening_tags=True,
            keep_ssi_comments=True,
            minify_css=options["css"],
            minify_js=options["js"],
        )
        return found
    begin, end = _TAGS[kind]
    if "</" in text or "<!--" in text:  # it would end the element that it is put into
        return text
    inside: str = minify(begin + text + end, keep_closing_tags=True, minify_css=True, minify_js=True)
    if not (inside.startswith(begin) and inside.endswith(end)):
        return text
    return inside.removeprefix(begin).removesuffix(end)
