"""`minify`: HTML, CSS and JavaScript without what nobody needs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, Final

from ..features import Asked, Feature, Transformed, bare_type
from ..semantics.fields import Headers, values
from .options import need, table

SECONDS: Final = 8.0
"""How long one body may take."""
_MEMORY: Final = 1024 * 1024 * 1024
_HTML: Final = "text/html"
_ELEMENTS: Final = {
    "text/css": "style",
    "text/javascript": "script",
    "application/javascript": "script",
    "application/x-javascript": "script",
}
_UTF8: Final = re.compile(r""";\s*charset\s*=\s*"?utf-?8"?\s*(?:;|$)""", re.IGNORECASE)
_META_UTF8: Final = re.compile(r"""<meta\s[^>]{0,200}?charset\s*=\s*["']?utf-?8\b""", re.IGNORECASE)
_POLICIES: Final = ("content-security-policy", "content-security-policy-report-only")
_HASH: Final = re.compile(r"'sha(?:256|384|512)-", re.IGNORECASE)
# Deep nesting overflows the library's stack, which ends the process that it runs in: one of its own. Never without
# closing tags and `type=text`, which style sheets and scripts of pages count on.
_PROGRAM: Final = """
import sys
css, js, comments, memory = map(int, sys.argv[1:])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
except (ImportError, ValueError, OSError):
    pass
import minify_html
made = minify_html.minify(
    sys.stdin.buffer.read().decode(), minify_css=bool(css), minify_js=bool(js), keep_comments=bool(comments),
    keep_closing_tags=True, keep_html_and_head_opening_tags=True, keep_input_type_text_attr=True,
    keep_ssi_comments=True, preserve_brace_template_syntax=True,
)
sys.stdout.buffer.write(made.encode())
"""


class Minify(Feature):
    """Minify HTML with the CSS in it, and style sheets; scripts only where that is asked for.

    Options: `css` and `comments`, which are kept, are true without being given, `js` is false.
    """

    name = "minify"
    order = 30

    def validate(self, key: str, options: Any) -> dict[str, Any]:
        """Check the options."""
        found = table(key, options, {"css": True, "js": False, "comments": True})
        need(key, "minify_html", "minify")
        return found

    def affects(self, content_type: str) -> bool:
        """Whether a media type is HTML, CSS or JavaScript."""
        return content_type == _HTML or content_type in _ELEMENTS

    def select(self, options: dict[str, Any], _asked: Asked) -> str:
        """What is minified and kept."""
        return " ".join(["html", *(name for name in ("css", "js", "comments") if options[name])])

    def suits(self, headers: Headers) -> bool:
        """Not where a policy names the hashes of scripts and styles in the page: they would be others."""
        return not any(_HASH.search(value) for name in _POLICIES for value in values(headers, name))

    def needs_plain(self, _options: dict[str, Any]) -> bool:
        """It reads text."""
        return True

    def apply(self, options: dict[str, Any], _selected: str, body: bytes, content_type: str) -> Transformed | None:
        """Minify; None for what is turned off, another charset than UTF-8, and what would become no shorter."""
        element = _ELEMENTS.get(bare_type(content_type))
        if (element == "style" and not options["css"]) or (element == "script" and not options["js"]):
            return None
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            return None
        is_utf8 = _is_utf8(text, content_type, is_html=element is None)
        has_policy = "content-security-policy" in text.lower() and _HASH.search(text)
        if is_utf8 is False or has_policy or text.startswith("\ufeff"):
            return None
        made = _minified(text, element, options)
        # References become characters, which are other ones where the page is not read as UTF-8.
        if made is None or not (is_utf8 or made.isascii()):
            return None
        shorter = made.encode()
        return Transformed(shorter) if 0 < len(shorter) < len(body) else None


def _is_utf8(text: str, content_type: str, *, is_html: bool) -> bool | None:
    """Whether a text is read as UTF-8; None when nothing says so and nothing in it depends on that."""
    if _UTF8.search(content_type):
        return True
    if "charset" in content_type.lower():
        return None if text.isascii() else False
    if is_html and _META_UTF8.search(text[:1024]):
        return True
    return None if text.isascii() else False


def _minified(text: str, element: str | None, options: dict[str, Any]) -> str | None:
    """A text written shorter; None where that cannot be done."""
    css, comments = options["css"], options["comments"]
    js = options["js"] and "use strict" not in text  # the library drops it
    if element is None:
        return _run(text, css=css, js=js, comments=comments)
    if (element == "script" and not js) or f"</{element}" in text.lower() or "<!--" in text:
        return None
    made = _run(f"<{element}>{text}</{element}>", css=css, js=js, comments=comments)
    is_whole = made.startswith(f"<{element}>") and made.endswith(f"</{element}>")
    return made[len(element) + 2 : -len(element) - 3] if is_whole else None


def _run(text: str, *, css: bool, js: bool, comments: bool) -> str:
    """Minify in a process of its own. Raises what `subprocess.run` raises for one that fails or takes too long."""
    arguments = [str(int(each)) for each in (css, js, comments)]
    command = [sys.executable, "-P", "-c", _PROGRAM, *arguments, str(_MEMORY)]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=SECONDS, check=True)  # noqa: S603
    return done.stdout.decode()
