"""Misses that are passed on inside the protocol: no request, no task of aiohttp's, no router, no response.

What region and origin say is looked at as ever. Where it is not plain, the request goes the normal way: with the
origin's answer, if that is not to be stored, or else as if nobody had been asked.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import aiohttp
from aiohttp import HttpVersion11
from aiohttp.helpers import EMPTY_BODY_STATUS_CODES

from ..origins.letters import Answer, Letter
from ..reads.misses import Misses, MissPlan
from ..records import WirePairs
from ..responses import head_of, mark
from ..store.glances import Values
from .forward import Forwarder, fields_of, read_up_to, whole


class Passed(NamedTuple):
    """An answer as it goes out over HTTP/1.1 to a connection that stays."""

    status: int
    head: bytes
    body: bytes


Outcome = Passed | Answer | Exception | None
"""What passing on came to; `Answer` and `Exception` are for the normal way, None: nobody was asked for it."""
Told = Callable[[Outcome], None]


class Client(Protocol):
    """The connection that a request came over."""

    peer: str | None

    async def relay(self, status: int, reason: str, fields: WirePairs) -> None:
        """Pass on an interim response."""
        ...


class Passing:
    """Pass on the requests for which there are plans of misses."""

    def __init__(self, misses: Misses, forwarder: Forwarder) -> None:
        self._misses = misses
        self._forwarder = forwarder
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, plan: MissPlan, client: Client, told: Told) -> bool:
        """Ask region and origin for a request; `told` hears what comes of it. False: nobody was asked."""
        letter = self._letter(plan, client.peer)
        if letter is None or not self._misses.may_follow(plan):
            return False
        plan.store.glances.ask(plan.partition, plan.keys, functools.partial(self._glanced, plan, letter, client, told))
        return True

    def _letter(self, plan: MissPlan, peer: str | None) -> Letter | None:
        """What the request says to its origin, if that has been written out before."""
        if plan.letter is None or plan.letter[0] != peer:
            served, path = plan.inquiry.served, plan.path
            letter = self._forwarder.find_letter(plan.asked, path, plan.asker(peer), served, HttpVersion11)
            plan.letter = None if letter is None else (peer, letter)
        return None if plan.letter is None else plan.letter[1]

    def _glanced(self, plan: MissPlan, letter: Letter, client: Client, told: Told, values: Values | Exception) -> None:
        if isinstance(values, Exception):
            return told(None)
        if plan.remembered(values) is None:
            plan.is_void = True
            return told(None)
        passing = self._pass_on(plan, letter, client, told)
        task = asyncio.get_running_loop().create_task(passing, name="regioncache: pass")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _pass_on(self, plan: MissPlan, letter: Letter, client: Client, told: Told) -> None:
        outcome: Outcome = None
        try:
            outcome = await self._passed(plan, letter, client)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            outcome = error
        finally:  # whatever it is, nobody may wait for ever
            told(outcome)

    async def _passed(self, plan: MissPlan, letter: Letter, client: Client) -> Outcome:
        forwarder = self._forwarder
        answer = await letter.send(plan.path, forwarder.patience, client.relay)
        fields = fields_of(answer)
        if not self._misses.is_unstorable(plan, answer.status, tuple(fields.items())):
            plan.is_void = True
            answer.close()
            return None  # to be stored it has to be asked for after the state of its resource was remembered
        is_plain = answer.status >= 200 and answer.status not in EMPTY_BODY_STATUS_CODES
        if not is_plain or (length := forwarder.length_of(answer)) is None:
            return answer
        response = whole(answer, fields, b"")
        mark(response, plan.status)
        try:
            head = head_of(response, length)
        except ValueError:  # there is a field that the normal way cannot write either
            return answer
        async with answer:
            body = await read_up_to(answer.content, forwarder.max_body)
        return Passed(answer.status, head, body)
