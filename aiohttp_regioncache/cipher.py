"""Encryption of queued requests at rest: AES-256-GCM with several keys, the first of which encrypts. Pure.

It needs the package `cryptography` (extra `encryption`) as soon as there are keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
import secrets
from collections.abc import Sequence
from typing import Any, Final

from .errors import CorruptRecordError, UnreadableRecordError

KEY_BYTES: Final = 32
_MARK: Final = b"\xc1"  # the one octet that MessagePack never uses
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEAD: Final = len(_MARK) + _ID_BYTES + _NONCE_BYTES


class Cipher:
    """Seal and open octets. Without keys they stay as they are.

    `keys` are 32 octets each in base64 (also the URL-safe alphabet). Raises `ValueError` for other keys, and when
    there are any without the package `cryptography`.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        decoded = [_decoded(key) for key in keys]
        if decoded and importlib.util.find_spec("cryptography") is None:
            raise ValueError("needs the package cryptography: install aiohttp-regioncache[encryption]")
        self._ciphers: dict[bytes, Any] = {_key_id(key): _aead(key) for key in decoded}

    @property
    def encrypts(self) -> bool:
        """Whether there is a key."""
        return bool(self._ciphers)

    def seal(self, plain: bytes, about: bytes) -> bytes:
        """Encrypt with the first key; `about` must be given again to open it, so that it fits nowhere else."""
        if not self.encrypts:
            return plain
        key_id, cipher = next(iter(self._ciphers.items()))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed: bytes = cipher.encrypt(nonce, plain, about)
        return _MARK + key_id + nonce + sealed

    def open(self, data: bytes, about: bytes) -> bytes:
        """Decrypt; what is not sealed stays as it is.

        Raises `UnreadableRecordError` for a key that is not among ours, `CorruptRecordError` for what was changed.
        """
        if not data.startswith(_MARK):
            return data
        cipher = self._ciphers.get(data[len(_MARK) : len(_MARK) + _ID_BYTES])
        if cipher is None:
            raise UnreadableRecordError("a write that is encrypted with a key that is not among queue.encryption_keys")
        from cryptography.exceptions import InvalidTag

        try:
            plain: bytes = cipher.decrypt(data[_HEAD - _NONCE_BYTES : _HEAD], data[_HEAD:], about)
        except (InvalidTag, ValueError):
            raise CorruptRecordError("an encrypted write that has been changed") from None
        return plain


def _decoded(key: str) -> bytes:
    try:
        octets = base64.b64decode(key.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if len(octets) != KEY_BYTES:
        raise ValueError(f"a key is not {KEY_BYTES} octets in base64")
    return octets


def _key_id(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_ID_BYTES, person=b"regioncache key").digest()


def _aead(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
