"""What a write does to the representation of a resource: replace, merge patch, delete, unknown, or a function. Pure.

An effect is idempotent: applied to a representation that already contains the write it changes nothing. What is
not idempotent is declared unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import takewhile
from typing import Final

import msgspec

logger = logging.getLogger(__name__)


class Representation(msgspec.Struct, frozen=True):
    """The body of a resource and its media type, as the `Content-Type` field gives it."""

    body: bytes
    content_type: str = "application/octet-stream"

    @property
    def media_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.content_type.partition(";")[0].strip().lower()


class Write(msgspec.Struct, frozen=True):
    """The request of a write, as an effect function sees it."""

    method: str
    url: str
    body: bytes
    content_type: str = ""


class Unknown:
    """The answer of an effect that cannot say what the write does here."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()
"""What an effect function returns when it cannot say what the write does."""

EffectFunction = Callable[[Representation | None, Write], Representation | Unknown | None]
"""`(base, write)` -> the representation afterwards, None for none, or `UNKNOWN`. `base` None: there is none."""

REPLACE: Final = "replace"
MERGE_PATCH: Final = "merge-patch"
DELETE: Final = "delete"
UNKNOWN_EFFECT: Final = "unknown"
AUTO: Final = "auto"

NAMES: Final = (AUTO, REPLACE, MERGE_PATCH, DELETE, UNKNOWN_EFFECT)
"""The effects that a rule may name; `auto` goes by the method and the media type of each write."""

ABSOLUTE: Final = frozenset({REPLACE, DELETE})
"""Effects that do not look at what was there before."""

# Numbers pass through as they are written: a float would lose digits.
_json_decoder: Final = msgspec.json.Decoder(float_hook=Decimal)
_json_encoder: Final = msgspec.json.Encoder(decimal_format="number")

_NO_REPRESENTATION: Final = ("", "application/merge-patch+json", "application/json-patch+json")


def effect_for(name: str, method: str, content_type: str) -> str:
    """Settle the effect of one write from the rule's effect name.

    `auto` means: PUT replaces (RFC 9110 section 9.3.4), DELETE deletes (9.3.5), PATCH with
    `application/merge-patch+json` merges (RFC 7396), anything else is unknown.
    """
    if name != AUTO:
        return name
    media_type = content_type.partition(";")[0].strip().lower()
    if method == "PUT" and media_type not in _NO_REPRESENTATION:
        return REPLACE
    if method == "DELETE":
        return DELETE
    if method == "PATCH" and media_type == "application/merge-patch+json":
        return MERGE_PATCH
    return UNKNOWN_EFFECT


def merge_patch(target: object, patch: object) -> object:
    """Apply a JSON merge patch (RFC 7396 section 2) to decoded JSON; neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _replace(_base: Representation | None, write: Write) -> Representation | Unknown:
    return Representation(write.body, write.content_type) if write.content_type else UNKNOWN


def _merge(base: Representation | None, write: Write) -> Representation | Unknown:
    return _merge_all(base, (write,))[0]


def _merge_all(base: Representation | None, writes: Sequence[Write]) -> tuple[Representation | Unknown, int]:
    """Apply merge patches in a row, as `apply_all` does: the document is read and written once."""
    if base is None or not _is_json(base.media_type):
        return UNKNOWN, 0
    done = 0
    try:
        merged = _json_decoder.decode(base.body)
        for done, write in enumerate(writes):  # noqa: B007 - which one failed is told
            merged = merge_patch(merged, _json_decoder.decode(write.body))
        return Representation(_json_encoder.encode(merged), base.content_type), len(writes)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError):  # also numbers beyond a Decimal
        return UNKNOWN, done


def _delete(_base: Representation | None, _write: Write) -> None:
    return None


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


_BUILT_IN: Final[Mapping[str, EffectFunction]] = {REPLACE: _replace, MERGE_PATCH: _merge, DELETE: _delete}


_RESULTS: Final = (Representation, Unknown, type(None))


def function_name(function: EffectFunction) -> str:
    """Name an effect function as records do: `module:qualified.name`."""
    return f"{function.__module__}:{function.__qualname__}"


class Effects:
    """The effects that this edge can apply: the built-in ones and the functions of its rules, by name."""

    def __init__(self, functions: Mapping[str, EffectFunction] | None = None) -> None:
        self._functions = {**_BUILT_IN, **(functions or {})}

    def knows(self, name: str) -> bool:
        """Whether this edge can apply the effect of this name."""
        return name in self._functions

    def apply(self, name: str, base: Representation | None, write: Write) -> Representation | Unknown | None:
        """Apply one effect; what this edge does not know, or what raises, is `UNKNOWN`."""
        function = self._functions.get(name)
        if function is None:
            return UNKNOWN
        try:
            result: object = function(base, write)
        except Exception:
            logger.exception("effect %s failed on %s %s", name, write.method, write.url)
            return UNKNOWN
        if not isinstance(result, _RESULTS):
            logger.error("effect %s gave a %s on %s %s", name, type(result).__name__, write.method, write.url)
            return UNKNOWN
        return result

    def apply_all(
        self, base: Representation | None, changes: Sequence[tuple[str, Write]]
    ) -> tuple[Representation | Unknown | None, int]:
        """Apply effects, each with its name, in order; returns the result and how many were applied.

        With `UNKNOWN` the number is the index of the one that could not be told.
        """
        current, done = base, 0
        while done < len(changes):
            run = list(takewhile(lambda change: change[0] == MERGE_PATCH, changes[done:]))
            if run:
                result: Representation | Unknown | None
                result, count = _merge_all(current, [write for _, write in run])
            else:
                result, count = self.apply(changes[done][0], current, changes[done][1]), 1
            if isinstance(result, Unknown):
                return UNKNOWN, done + (count if run else 0)
            current, done = result, done + count
        return current, done
