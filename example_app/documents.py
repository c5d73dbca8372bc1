"""What a write does to an item: pure decisions, without HTTP and without the database."""

import hashlib
import json
from dataclasses import dataclass
from typing import NoReturn

JsonObject = dict[str, object]


class RefusedError(Exception):
    """Say why a request cannot be answered: an HTTP status, a title and what to change."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One unsafe request for the item `item_id`.

    `if_match` and `if_none_match` hold entity tags without quotes; None means that the field was absent.
    """

    method: str
    item_id: str
    body: bytes = b""
    key: str | None = None
    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None

    @property
    def path(self) -> str:
        """Return the path of the resource: the collection for a POST, which names no item yet."""
        return "/items" if self.method == "POST" else item_path(self.item_id)

    @property
    def fingerprint(self) -> str:
        """Return what must be the same when an idempotency key comes again."""
        return hashlib.sha256(f"{self.method} {self.path}\n".encode() + self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an applied write answers.

    `body` is the representation afterwards, None when it is gone; `replayed` marks the stored answer of a
    known key.
    """

    status: int
    body: bytes | None
    location: str | None = None
    replayed: bool = False


def item_path(item_id: str) -> str:
    """Return the path of an item."""
    return f"/items/{item_id}"


def entity_tag(body: bytes) -> str:
    """Return the strong entity tag of a representation, without quotes (RFC 9110 section 8.8.3)."""
    return hashlib.sha256(body).hexdigest()[:16]


def decide(write: Write, current: bytes | None) -> Answer:
    """Return what `write` makes of the current representation. Raises RefusedError."""
    _check_preconditions(write, current)
    match write.method:
        case "PUT":
            parse_object(write.body)
            return Answer(201 if current is None else 200, write.body)
        case "POST":
            parse_object(write.body)
            return Answer(201, write.body, location=item_path(write.item_id))
        case "PATCH":
            return Answer(200, _patched(_existing(write, current), write.body))
        case "DELETE":
            _existing(write, current)
            return Answer(204, None)
    raise RefusedError(405, "Method not allowed", f"{write.method} is not supported")


def parse_object(body: bytes) -> JsonObject:
    """Parse a JSON object. Raises RefusedError: 400 for what is no JSON, 422 for another type."""
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "Malformed JSON", f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RefusedError(422, "Not an object", "an item is a JSON object")
    return value


def merge_patch(target: object, patch: object) -> object:
    """Return `target` with a JSON merge patch applied (RFC 7396 section 2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _patched(current: bytes, patch: bytes) -> bytes:
    document, change = parse_object(current), parse_object(patch)
    try:
        merged = merge_patch(document, change)
        return json.dumps(merged, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise RefusedError(422, "Not representable", f"the patched item is no JSON: {error}") from None


def _existing(write: Write, current: bytes | None) -> bytes:
    if current is None:
        raise RefusedError(404, "Not found", f"there is no {write.path}")
    return current


def _check_preconditions(write: Write, current: bytes | None) -> None:
    tag = None if current is None else entity_tag(current)
    if write.if_match is not None and not _names(write.if_match, tag):
        raise RefusedError(412, "Precondition failed", "If-Match names another state of the item")
    if write.if_none_match is not None and _names(write.if_none_match, tag):
        raise RefusedError(412, "Precondition failed", "If-None-Match names the state of the item")


def _names(tags: tuple[str, ...], tag: str | None) -> bool:
    return tag is not None and ("*" in tags or tag in tags)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")
