"""Run features on bodies, in threads, within limits."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple

from ..features import Step, bare_type
from ..semantics.fields import Headers, first, remove

logger = logging.getLogger(__name__)

SECONDS: Final = 10.0
"""How long all features of one response may take."""
THREADS: Final = 2
"""Responses that are worked on at once."""
_CODED: Final = ("content-encoding",)
"""What can say no more than `identity` of a body that is worked on."""
_MARKED: Final = re.compile(r'~[0-9a-f]{6}"\Z')
_DIGESTS: Final = ("content-md5", "digest", "content-digest", "repr-digest", "content-length", "accept-ranges")


class Worked(NamedTuple):
    """What became of a response; `problem` is the word for what went wrong, or empty."""

    headers: Headers
    body: bytes
    problem: str = ""
    is_to_be_tried_again: bool = False


class _Outcome(NamedTuple):
    body: bytes
    content_type: str | None
    coding: str | None
    failed: tuple[tuple[str, Exception], ...]


class Transformer:
    """Transform responses. One that fails or takes too long stays as it came, and says so."""

    def __init__(self) -> None:
        self._seconds = SECONDS
        self._pool = ThreadPoolExecutor(THREADS, "regioncache-features")
        self._slots = asyncio.Semaphore(THREADS)

    def close(self) -> None:
        """Do nothing more; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, steps: Sequence[Step], url: str, headers: Headers, body: bytes) -> Worked:
        """Do the steps one after the other; `url` is for the log."""
        content_type = first(headers, "content-type") or ""
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._in_thread(steps, content_type, body)
        except TimeoutError:
            name = steps[0].enabled.feature.name
            logger.warning("%s: %s takes more than %g s; it stays as it is", url, name, self._seconds)
            return Worked(headers, body, f"{name}-slow", is_to_be_tried_again=True)
        for name, error in found.failed:
            logger.warning("%s: %s failed; it stays as it is: %s", url, name, str(error) or type(error).__name__)
        problem = f"{found.failed[0][0]}-failed" if found.failed else ""
        if found.body is body:
            return Worked(headers, body, problem)
        return Worked(_described(headers, found, _mark(steps)), found.body, problem)

    async def _in_thread(self, steps: Sequence[Step], content_type: str, body: bytes) -> _Outcome:
        """Run in a thread once one is free. The pool queues nothing: what it holds, no timeout takes out again."""
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        running = self._pool.submit(_apply_all, steps, content_type, body)

        def ended(_: Future[_Outcome]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._slots.release)

        running.add_done_callback(ended)
        return await asyncio.wrap_future(running)


def _apply_all(steps: Sequence[Step], content_type: str, body: bytes) -> _Outcome:
    """Run in a thread. A step that fails leaves the body to those behind it."""
    kind: str | None = None
    coding: str | None = None
    failed: list[tuple[str, Exception]] = []
    for (feature, options, _), selected in steps:
        if not feature.affects(bare_type(kind or content_type)):
            continue
        try:
            made = feature.apply(options, selected, body, kind or content_type)
        except Exception as error:  # anything may be wrong with what is in a body
            failed.append((feature.name, error))
            continue
        if made is not None:
            body, kind, coding = made.body, made.content_type or kind, made.coding or coding
    return _Outcome(body, kind, coding, tuple(failed))


def _mark(steps: Sequence[Step]) -> str:
    """What tells variants apart that were made of the same bytes."""
    said = "\n".join(f"{step.enabled.feature.name} {step.enabled.mark} {step.selected}" for step in steps)
    return hashlib.blake2b(said.encode(), digest_size=3).hexdigest()


def _described(headers: Headers, made: _Outcome, mark: str) -> Headers:
    """The fields of a response as they are true of its new body (RFC 9110 section 8.8.3.3: its tag becomes weak)."""
    replaced = ("etag", *(("content-type",) if made.content_type else ()), *_CODED, *_DIGESTS)
    fields = remove(headers, replaced)
    tag = first(headers, "etag")
    if tag is not None:
        fields.append(("ETag", f'{weak(tag)[:-1]}~{mark}"'))
    if made.content_type:
        fields.append(("Content-Type", made.content_type))
    if made.coding:
        fields.append(("Content-Encoding", made.coding))
    return fields


def without_mark(tag: str) -> str:
    """The weak form of the origin's tag in that of a variant, or of any other tag."""
    return _MARKED.sub('"', weak(tag))


def mark_of(tag: str) -> str:
    """What a tag of a variant has more than the origin's, or nothing."""
    found = _MARKED.search(tag)
    return found[0][:-1] if found else ""


def weak(tag: str) -> str:
    """The weak form of an entity tag."""
    return tag if tag.startswith("W/") else f"W/{tag}"
