"""The Prefer request field (RFC 7240)."""

from dataclasses import dataclass

from .directives import delta_seconds
from .fields import OWS, Headers, split_list, split_outside_quotes, unquote, values

_RETURNS = frozenset({"minimal", "representation"})


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a client would like: `wait` in seconds, `return_` "minimal" or "representation"; None: no wish."""

    wait: int | None = None
    respond_async: bool = False
    return_: str | None = None


NO_PREFERENCES = Preferences()
"""The preferences of a request without Prefer."""


def parse_prefer(headers: Headers) -> Preferences:
    """Read the preferences of a request (RFC 7240 2).

    Of a repeated preference the first counts, unknown ones are ignored. A negative `wait` is 0, one that is
    no number is ignored.
    """
    lines = values(headers, "prefer")
    if not lines:
        return NO_PREFERENCES
    wishes = _wishes(lines)
    wanted_return = wishes.get("return", "").lower()
    return Preferences(
        wait=_wait(wishes.get("wait", "")),
        respond_async="respond-async" in wishes,
        return_=wanted_return if wanted_return in _RETURNS else None,
    )


def _wishes(lines: list[str]) -> dict[str, str]:
    wishes: dict[str, str] = {}
    for line in lines:
        for element in split_list(line):
            name, value = _preference(element)
            wishes.setdefault(name, value)
    return wishes


def _preference(element: str) -> tuple[str, str]:
    # RFC 7240 2: parameters after ";" refine a preference; none that is read here has any.
    words = split_outside_quotes(element, ";")
    name, _, value = words[0].partition("=") if words else ("", "", "")
    return name.strip(OWS).lower(), unquote(value.strip(OWS))


def _wait(value: str) -> int | None:
    if value.startswith("-") and delta_seconds(value[1:]) is not None:
        return 0
    return delta_seconds(value)
