"""Queued requests as they lie in Redis: encoded, and encrypted when there are keys."""

from __future__ import annotations

from typing import Final

from ..cipher import Cipher
from ..errors import CorruptRecordError
from ..records import WriteRecord, decode_write_record, encode

_ABOUT_RECORD: Final = b"write record"
_ABOUT_BODY: Final = b"write body "


def seal_record(cipher: Cipher, record: WriteRecord) -> bytes:
    """Write a record for a list of writes."""
    return cipher.seal(encode(record), _ABOUT_RECORD)


def open_record(cipher: Cipher, data: bytes) -> WriteRecord:
    """Read a record of a list of writes.

    Raises `UnreadableRecordError` for what another edge can read, `CorruptRecordError` for what none can.
    """
    return decode_write_record(cipher.open(data, _ABOUT_RECORD))


def seal_body(cipher: Cipher, body: bytes, write_id: str) -> bytes:
    """Write the body of a large write, which lies in a key of its own."""
    return cipher.seal(body, _ABOUT_BODY + write_id.encode())


def open_body(cipher: Cipher, body: bytes | None, write_id: str) -> bytes | None:
    """Read the body of a large write; None for one that is missing or has been changed.

    Raises `UnreadableRecordError` for one that another edge can decrypt.
    """
    try:
        return None if body is None else cipher.open(body, _ABOUT_BODY + write_id.encode())
    except CorruptRecordError:
        return None
