"""Answers of origins that are there before aiohttp has made a request of what came."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web
from aiohttp.http import RawRequestMessage

from ..exchange import SERVED_SITE
from ..origins.letters import Answer
from ..served import ServedSite


class Early(NamedTuple):
    """What asking for a request came to already: an answer, or what that failed with."""

    message: RawRequestMessage
    served: ServedSite
    outcome: Answer | Exception

    def drop(self) -> None:
        """Have no use for it."""
        if isinstance(self.outcome, Answer):
            self.outcome.close()


class KeepsEarly:
    """A connection that may have an early answer to its next request."""

    __slots__ = ()
    early: Early | None


def take_early(request: web.Request) -> Answer | Exception | None:
    """The early answer to a request, for whoever asks first."""
    connection = request.protocol
    if not isinstance(connection, KeepsEarly) or (early := connection.early) is None:
        return None
    # Another request's, this one with other fields, or of a site that has changed since the origin was asked.
    if early.message is not request._message or early.served is not request.get(SERVED_SITE):
        return None
    connection.early = None
    return early.outcome
