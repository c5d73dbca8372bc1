"""The Lua scripts: read from the package once, named by their SHA-1."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

import msgspec


class Script(msgspec.Struct, frozen=True):
    """One script: its text with the prelude before it, and the SHA-1 that Redis knows it by."""

    name: str
    text: str
    sha: str


@functools.cache
def script(name: str) -> Script:
    """Read the script `scripts/<name>.lua`."""
    folder = resources.files(__package__) / "scripts"
    text = (folder / "_prelude.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8")
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
