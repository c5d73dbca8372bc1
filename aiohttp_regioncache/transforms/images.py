"""`polish` and `resize`: images in the form that a client takes, and of the size that it asks for."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from ..errors import SettingsError
from ..features import Asked, Feature, Transformed, bare_type
from ..keys import QueryForm, Target
from ..patterns import PathPattern
from ..semantics.fields import values
from ..semantics.qualities import qualities
from .options import need, table, within

READ: Final = ("image/jpeg", "image/png", "image/webp")
"""The media types that are worked on."""
MADE: Final = ("image/avif", "image/webp")
"""Those that are made of them, the preferred first."""
MOST_PIXELS: Final = 25_000_000
"""Pixels of the largest image that is decoded."""
_LARGE: Final = 2_000_000
_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_USUAL_GAMMA: Final = 0.45455
_PNG_DEPTH: Final = 24
"""Where a PNG says how many bits a sample has."""
_FORMATS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/avif": "AVIF"}
_IMAGES: Final = ("**.jpg", "**.jpeg", "**.png", "**.webp")


class Polish(Feature):
    """Send images as WebP or AVIF to who accepts them, where that is smaller.

    The option is `"lossless"` or `"lossy"`, or a table: `mode`, `quality` (1 to 100, of lossy), `formats`.
    """

    name = "polish"
    order = 20
    varies_on = ("Accept",)

    def validate(self, key: str, options: Any) -> dict[str, Any]:
        """Check the options."""
        given = {"mode": options} if isinstance(options, str) else options
        found = table(key, given, {"mode": "lossy", "quality": 75, "formats": ("webp",)})
        if found["mode"] not in ("lossless", "lossy"):
            raise SettingsError(f"{key}.mode", f"{found['mode']!r} is neither 'lossless' nor 'lossy'")
        within(f"{key}.quality", found["quality"], 1, 100)
        for name in found["formats"]:
            if f"image/{name}" not in MADE:
                raise SettingsError(f"{key}.formats", f"{name!r} is none of avif, webp")
        need(key, "PIL", "images")
        if found["mode"] == "lossless" and "avif" in found["formats"]:
            raise SettingsError(f"{key}.formats", "names avif, which is never lossless here; 'webp' is")
        return found

    def affects(self, content_type: str) -> bool:
        """Whether a media type is an image that is read or made."""
        return content_type in READ or content_type in MADE

    def select(self, options: dict[str, Any], asked: Asked) -> str:
        """The mode, and the form that a request accepts; what cannot be made smaller in it stays."""
        form = _accepted(tuple(options["formats"]), tuple(values(asked.headers, "accept")))
        quality = f" {options['quality']}" if options["mode"] == "lossy" else ""
        return f"{options['mode']}{quality} {form}" if form else ""

    def apply(self, options: dict[str, Any], selected: str, body: bytes, content_type: str) -> Transformed | None:
        """Write the image in another form; None for what must stay, and when it becomes no smaller."""
        source = bare_type(content_type)
        is_lossless = options["mode"] == "lossless"
        if source not in READ or (is_lossless and source == "image/jpeg"):  # that one has lost something already
            return None
        kind = f"image/{selected.rpartition(' ')[2]}"
        written = _rewritten(body, source, kind, None, quality=None if is_lossless else options["quality"])
        return Transformed(written, kind) if written is not None and len(written) < len(body) else None


class _Resize(NamedTuple):
    widths: tuple[int, ...]
    parameter: str
    paths: tuple[PathPattern, ...]
    quality: int


class Resize(Feature):
    """Make images as wide as a parameter of the query asks for: `/a.jpg?w=320`.

    Options: `widths`, the only ones that there are; `parameter`; `paths`, patterns of what it goes for; `quality`. The
    parameter is never part of a key or sent to the origin, and another width is as good as none: nobody fills the cache
    with it.
    """

    name = "resize"
    order = 10

    def validate(self, key: str, options: Any) -> _Resize:
        """Check the options."""
        found = table(key, options, {"widths": (), "parameter": "w", "paths": _IMAGES, "quality": 80})
        if not found["widths"]:
            raise SettingsError(f"{key}.widths", "is empty; name the widths that there are")
        for width in found["widths"]:
            if not isinstance(width, int) or isinstance(width, bool):
                raise SettingsError(f"{key}.widths", f"{width!r} is no number of pixels")
            within(f"{key}.widths", width, 1, 10_000)
        within(f"{key}.quality", found["quality"], 1, 100)
        need(key, "PIL", "images")
        try:
            paths = tuple(PathPattern(path) for path in found["paths"])
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{key}.paths", str(error)) from None
        return _Resize(tuple(found["widths"]), found["parameter"], paths, found["quality"])

    def affects(self, content_type: str) -> bool:
        """Whether a media type is an image that is read or made."""
        return content_type in READ or content_type in MADE

    def select(self, options: _Resize, asked: Asked) -> str:
        """The width that is asked for, if it is one of those that there are, with the quality."""
        if not asked.query or not _is_covered(options.paths, asked.path):
            return ""
        pairs = (piece.partition("=") for piece in asked.query.split("&"))
        found = next((unquote(value) for name, _, value in pairs if unquote(name) == options.parameter), "")
        is_width = found.isascii() and found.isdecimal() and len(found) < 6 and int(found) in options.widths
        return f"{int(found)} {options.quality}" if is_width else ""

    def target(self, options: _Resize, target: Target) -> Target:
        """The target without the parameter."""
        if not target.query or not _is_covered(options.paths, target.path):
            return target
        query = QueryForm([options.parameter]).of(target.query)
        return Target(target.scheme, target.host, target.path, query)

    def apply(self, options: _Resize, selected: str, body: bytes, content_type: str) -> Transformed | None:
        """Make the image narrower; None when it is not wider than that already."""
        source = bare_type(content_type)
        if source not in READ:
            return None
        width = int(selected.partition(" ")[0])
        written = _rewritten(body, source, source, width, quality=options.quality)
        return None if written is None else Transformed(written)


def _is_covered(paths: Sequence[PathPattern], path: str) -> bool:
    return any(pattern.match(path) is not None for pattern in paths)


@functools.lru_cache(maxsize=1024)  # browsers send the same few all the time
def _accepted(formats: tuple[str, ...], lines: tuple[str, ...]) -> str:
    """The first of the forms that a request names as acceptable; a wildcard says nothing of what a client can show."""
    if not lines:
        return ""
    weights = qualities(lines)
    return next((name for name in formats if weights.get(f"image/{name}", 0.0) > 0), "")


def _rewritten(body: bytes, source: str, kind: str, width: int | None, *, quality: int | None) -> bytes | None:
    """Decode an image and write it anew, upright, with its colour profile and nothing else of what came with it.

    Without a quality no pixel becomes another one. None for what is animated, of colours that would not stay, or
    already as narrow as it is to be. Raises for what is no image, or too large.
    """
    from PIL import Image, ImageOps  # an extra

    with Image.open(io.BytesIO(body), formats=(_FORMATS[source],)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {MOST_PIXELS}")
        profile = image.info.get("icc_profile")
        if not _is_still(image) or not _keeps_colours(image, profile, body):
            return None
        upright = ImageOps.exif_transpose(image)
    is_clear = "transparency" in upright.info or "A" in upright.mode
    plain = upright.convert("RGBA" if is_clear else "L" if upright.mode in ("1", "L") and not profile else "RGB")
    plain.info = {}  # some of it would be written again
    if width is not None:
        if plain.width <= width:
            return None
        height = max(1, round(plain.height * width / plain.width))
        plain = plain.resize((width, height), Image.Resampling.LANCZOS)
    if kind == "image/jpeg" and plain.mode == "RGBA":
        plain = plain.convert("RGB")
    options = _options(kind, quality, is_large=plain.width * plain.height > _LARGE)
    written = io.BytesIO()
    plain.save(written, _FORMATS[kind], **({"icc_profile": profile} if profile else {}), **options)
    return written.getvalue()


def _is_still(image: Any) -> bool:
    # A photograph with others behind it is none that moves.
    return image.format == "MPO" or getattr(image, "n_frames", 1) == 1


def _keeps_colours(image: Any, profile: bytes | None, body: bytes) -> bool:
    """Whether nothing is lost when an image becomes one of 8 bits of red, green and blue."""
    if image.mode not in _MODES or (profile and profile[16:20] != b"RGB "):
        return False
    is_deep = image.format == "PNG" and body[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10"
    gamma = image.info.get("gamma", _USUAL_GAMMA)
    return not is_deep and (bool(profile) or abs(gamma - _USUAL_GAMMA) < 0.001)


def _options(kind: str, quality: int | None, *, is_large: bool) -> dict[str, Any]:
    """What an image is saved with; large ones with less effort."""
    if kind == "image/jpeg":
        return {"quality": quality or 95, "progressive": True, "optimize": True}
    if kind == "image/png":
        return {"optimize": not is_large}
    if kind == "image/avif":
        return {"quality": quality or 90, "speed": 8 if is_large else 6, "max_threads": 1}
    effort = 2 if is_large else 4
    if quality is not None:
        return {"quality": quality, "method": effort}
    return {"lossless": True, "exact": True, "quality": 50 if is_large else 80, "method": effort}
