"""The cookies of a request (RFC 6265 4.2)."""

import functools
import re

from .fields import OWS, Headers, values

_TCHAR = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# A quoted value may hold semicolons. Possessive quantifiers: hostile input costs one pass.
_VALUE = r'[ \t]*+(?:=[ \t]*+((?:"(?:[^"\\]++|\\.)*+")?+[^;]*+))?+'


def cookie_values(headers: Headers, name: str) -> list[str]:
    """Return the values of the cookies called `name`, in the order received, as they came; "" for a name alone.

    Servers divide malformed lines in different ways: whatever any of them may take for that cookie is one here.
    """
    pattern = _pattern(name)
    return [(found[1] or "").rstrip(OWS) for line in values(headers, "cookie") for found in pattern.finditer(line)]


@functools.lru_cache(maxsize=256)
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(f"(?<!{_TCHAR}){re.escape(name)}(?!{_TCHAR}){_VALUE}")
