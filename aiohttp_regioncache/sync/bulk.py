"""Bulk requests: their JSON form, and what their answers mean for the writes in them."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ..rules import Bulk, BulkAnswer, BulkItem, BulkRequest, ItemAnswer
from .outcome import Attempt, Failure, is_failing, is_temporary
from .sender import ANSWER_BYTES

logger = logging.getLogger(__name__)

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]+")
_UNSAID: Final = "the answer to the bulk request does not say what became of it"

# --- the JSON form ---


def encode_json(items: Sequence[BulkItem]) -> BulkRequest:
    """Write the JSON form: an array of `method`, `path`, `headers`, `body`, `idempotency_key`."""
    return BulkRequest(msgspec.json.encode([_described(item) for item in items]))


def _described(item: BulkItem) -> dict[str, Any]:
    return {
        "method": item.method,
        "path": item.target,
        "headers": [[name, _text(value)] for name, value in item.headers],
        "body": _body(item.body),
        "idempotency_key": item.idempotency_key,
    }


def _text(value: str) -> str:
    """A field value in which octets that are no UTF-8 stand as the characters of the same number."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def _body(body: bytes) -> str | dict[str, str]:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


def decode_json(answer: BulkAnswer, items: Sequence[BulkItem]) -> list[ItemAnswer] | None:
    """Read the JSON form: of a 2xx an array, or an object with the array `responses`.

    One object per write in their order, or each with the write's `idempotency_key`: `status`, `headers`, `body`. A
    write of which nothing usable is said gets the status 0. None when nothing is said of single writes.
    """
    if not 200 <= answer.status < 300:
        return None
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    found = document.get("responses") if isinstance(document, dict) else document
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        return None
    if any("idempotency_key" in each for each in found):
        named = {str(each.get("idempotency_key")): each for each in found}
        ordered = [named.get(item.idempotency_key, {}) for item in items]
    elif len(found) == len(items):
        ordered = found
    else:
        return None
    answers = [_item_answer(each) for each in ordered]
    return answers if any(each.status for each in answers) else None


def _item_answer(described: Mapping[str, Any]) -> ItemAnswer:
    status = described.get("status")
    if not isinstance(status, int) or not _is_status(status):
        return ItemAnswer(0)
    return ItemAnswer(status, tuple(_pairs(described.get("headers"))), _octets(described.get("body")))


def _pairs(headers: Any) -> list[tuple[str, str]]:
    """Field lines from an array of pairs or from an object; what is neither is left out."""
    lines = list(headers.items()) if isinstance(headers, dict) else headers if isinstance(headers, list) else []
    pairs = [tuple(line) for line in lines if isinstance(line, (list, tuple)) and len(line) == 2]
    return [(name, value) for name, value in pairs if isinstance(name, str) and isinstance(value, str)]


def _octets(body: Any) -> bytes:
    """The octets of a body: text, `{"base64": ...}`, or any other JSON as its text."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8", "replace")
    packed = body.get("base64") if isinstance(body, dict) and len(body) == 1 else None
    if isinstance(packed, str):
        try:
            return base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            return b""
    return json.dumps(body).encode()


def _is_status(status: int) -> bool:
    return 200 <= status <= 599


# --- any form ---


class Form:
    """The form of one bulk endpoint: the rule's functions, whatever they do, or the JSON form."""

    def __init__(self, bulk: Bulk) -> None:
        self._endpoint = bulk.endpoint
        self._encode: Callable[[Sequence[BulkItem]], Any] = bulk.encode if callable(bulk.encode) else encode_json
        self._decode: Callable[[BulkAnswer, Sequence[BulkItem]], Any] = (
            bulk.decode if callable(bulk.decode) else decode_json
        )
        self._told: set[str] = set()

    def encode(self, items: Sequence[BulkItem]) -> BulkRequest | None:
        """Write the request for some writes; None when the rule's function cannot."""
        try:
            request = _checked_request(self._encode(items))
        except Exception as error:
            self._tell("encode", error)
            return None
        return request

    def decode(self, attempt: Attempt, items: Sequence[BulkItem]) -> list[Attempt] | None:
        """Read what an answer says of each write; None when it says nothing of single writes."""
        if attempt.failure is not None or is_temporary(attempt):
            return None
        answer = BulkAnswer(attempt.status, attempt.headers, attempt.body)
        try:
            answers = self._decode(answer, items)
            return None if answers is None else [_attempt(each) for each in _checked_answers(answers, len(items))]
        except Exception as error:
            self._tell("decode", error)
            return None

    def _tell(self, function: str, error: Exception) -> None:
        """Say once of a function that it does not do what it should."""
        if function not in self._told:
            self._told.add(function)
            logger.error("%s of bulk endpoint %s failed; the writes go otherwise: %r", function, self._endpoint, error)


def _checked_request(request: Any) -> BulkRequest:
    """Refuse with a `TypeError` or `ValueError` what no request can be made of."""
    if not isinstance(request, BulkRequest) or not isinstance(request.body, bytes):
        raise TypeError("not a BulkRequest with a body of bytes")
    if not _TOKEN.fullmatch(request.method) or not _FIELD_VALUE.fullmatch(request.content_type):
        raise ValueError(f"no method or no media type: {request.method!r}, {request.content_type!r}")
    return request


def _checked_answers(answers: Any, count: int) -> list[ItemAnswer]:
    """Refuse with a `ValueError` what is not an answer for each write."""
    found: list[ItemAnswer] = list(answers)
    if len(found) != count or not all(isinstance(each, ItemAnswer) for each in found):
        raise ValueError(f"not {count} answers of type ItemAnswer")
    return found


def _attempt(answer: ItemAnswer) -> Attempt:
    if not _is_status(answer.status):
        return Attempt(failure=Failure.NO_ANSWER, problem=_UNSAID)
    body = bytes(answer.body)
    headers = tuple((str(name), str(value)) for name, value in answer.headers)
    return Attempt(answer.status, headers, body if len(body) <= ANSWER_BYTES else b"")


# --- decisions ---


def is_whole(attempt: Attempt) -> bool:
    """Decide whether an answer without a word on single writes is that of each of them: they are sent again later."""
    return attempt.failure is not None or is_temporary(attempt)


def may_be_partly_applied(attempt: Attempt, count: int) -> bool:
    """Decide whether an answer to `count` writes without a word on single ones leaves open what became of each.

    A server that fails over one write may have applied those before it.
    """
    status = attempt.status
    return 200 <= status < 300 or (count > 1 and status >= 500 and status not in (501, 503, 505))


def telling(attempt: Attempt, attempts: Sequence[Attempt] | None) -> Attempt:
    """Choose the attempt that tells how the origin does: it fails when it fails for every single write."""
    well = (each for each in attempts or () if not is_failing(each))
    return next(well, attempts[0] if attempts else attempt)


def is_overtaxing(attempt: Attempt) -> bool:
    """Decide whether an answer suggests smaller requests: one write spoils them, or they are too much work."""
    if attempt.failure is not None:
        return attempt.failure is Failure.NO_ANSWER
    return not 200 <= attempt.status < 300 and attempt.status not in (409, 425, 429, 503)
