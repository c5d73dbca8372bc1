"""`compress`: br, zstd and gzip, once for each coding that clients accept."""

from __future__ import annotations

import functools
import importlib.util
import re
import zlib
from typing import Any, Final, NamedTuple

from ..errors import SettingsError
from ..features import Asked, Feature, Transformed
from ..semantics.fields import values
from ..semantics.qualities import qualities, weight_of
from .options import table, within

CODINGS: Final = ("br", "zstd", "gzip")
"""The codings in the order in which they are preferred."""
_PACKAGES: Final = {"br": ("brotli",), "zstd": ("compression.zstd", "backports.zstd"), "gzip": ("zlib",)}
_TYPES: Final = re.compile(
    r"text/.*|application/(?:.*\+)?(?:json|xml)|application/(?:x-)?(?:javascript|ecmascript)|application/wasm"
    r"|application/manifest\+json|application/vnd\.ms-fontobject|font/(?:ttf|otf)|image/(?:svg\+xml|bmp|x-icon)"
)
_LEVELS: Final = {"br": (0, 11), "zstd": (1, 22), "gzip": (1, 9)}
_LEVEL: Final = {"br": 5, "zstd": 6, "gzip": 6}


class _Options(NamedTuple):
    codings: tuple[str, ...]
    levels: dict[str, int]
    least: int


class Compress(Feature):
    """Compress what is text, is not coded yet and has a kibibyte.

    Options: `codings`, which of br, zstd and gzip in the order of preference; `levels` by coding; `least`: bytes of the
    smallest body.
    """

    name = "compress"
    order = 90
    varies_on = ("Accept-Encoding",)

    def validate(self, key: str, options: Any) -> _Options:
        """Check the options; a coding without its package is left out, one that is asked for by name is refused."""
        given = table(key, options, {"codings": CODINGS, "levels": {}, "least": 1024})
        named = isinstance(options, dict) and "codings" in options
        for coding in given["codings"]:
            if coding not in CODINGS:
                raise SettingsError(f"{key}.codings", f"{coding!r} is none of {', '.join(CODINGS)}")
            if named and not _is_there(coding):
                raise SettingsError(
                    f"{key}.codings", f"{coding!r} needs a package: pip install 'aiohttp-regioncache[compress]'"
                )
        for coding, level in given["levels"].items():
            if coding not in CODINGS or not isinstance(level, int):
                raise SettingsError(f"{key}.levels", f"{coding!r}: {level!r} is no level of {', '.join(CODINGS)}")
            within(f"{key}.levels.{coding}", level, *_LEVELS[coding])
        codings = tuple(coding for coding in given["codings"] if _is_there(coding))
        return _Options(codings, {**_LEVEL, **given["levels"]}, given["least"])

    def affects(self, content_type: str) -> bool:
        """Whether a media type is text or like it."""
        return _TYPES.fullmatch(content_type) is not None and content_type != "text/event-stream"

    def select(self, options: _Options, asked: Asked) -> str:
        """The coding for a request, of those that it accepts most the first of ours."""
        lines = values(asked.headers, "accept-encoding")
        return _best(options.codings, tuple(lines)) if lines else ""

    def apply(self, options: _Options, selected: str, body: bytes, _content_type: str) -> Transformed | None:
        """Compress; None when the body is small, or becomes no smaller."""
        if len(body) < options.least:
            return None
        coded = _compress(selected, body, options.levels[selected])
        return Transformed(coded, None, selected) if len(coded) < len(body) else None


@functools.lru_cache(maxsize=1024)  # browsers send the same few all the time
def _best(codings: tuple[str, ...], lines: tuple[str, ...]) -> str:
    weights = qualities(lines)
    found = [(weight_of(weights, coding), -place, coding) for place, coding in enumerate(codings)]
    weight, _, coding = max(found, default=(0.0, 0, ""))
    return coding if weight > 0 and weight >= weights.get("identity", 0.0) else ""


def _compress(coding: str, body: bytes, level: int) -> bytes:
    if coding == "gzip":
        compressor = zlib.compressobj(level, wbits=16 + zlib.MAX_WBITS)
        return compressor.compress(body) + compressor.flush()
    module = importlib.import_module(_module(coding))
    if coding == "br":
        coded: bytes = module.compress(body, quality=level)
    else:
        coded = module.compress(body, level=level)
    return coded


def _is_there(coding: str) -> bool:
    return bool(_module(coding))


def _module(coding: str) -> str:
    return next((name for name in _PACKAGES[coding] if _has(name)), "")


def _has(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
