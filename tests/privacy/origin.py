"""An origin that writes into every answer for whom it was made, so that a leak shows in the bytes."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from aiohttp_regioncache.semantics.dates import format_date
from tests.privacy.oracle import Birth
from tests.privacy.scenarios import FRESH_SECONDS, GRACE, IS_STALE, STALE_AGE, Scenario, When
from tests.support.origin import Origin

TELLING: Final = ("authorization", "cookie", "x-user", "accept-language", "cache-control")
_CREDENTIALS: Final = ("authorization", "cookie", "x-user")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_LENGTH: Final = 400
_SECRET: Final = re.compile(r"[a-z]+-\d+-[a-z]+")
_MARK: Final = re.compile(r"birth-(\d+)\.")


def marks_in(text: str) -> frozenset[int]:
    """The serial numbers of the origin's answers that a text is from."""
    return frozenset(int(serial) for serial in _MARK.findall(text))


class Stand:
    """What the origin does at a scenario's path, and what it has done there.

    `gate`, when cleared, holds answers back; `is_aged`: they come stale; `is_down`: it fails. `arrived` counts
    requests; `strange` lists those that carried the credentials of somebody else.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_down = False
        self.is_aged = scenario.when in IS_STALE
        self.arrived = 0
        self.births: list[Birth] = []
        self.strange: list[str] = []

    def said(self) -> list[tuple[str, str]]:
        """The fields that every answer here has, whoever asks."""
        scenario, says = self.scenario, self.scenario.says
        fields = [(name, self._graced(value)) for name, value in says.fields]
        if not fields and self._has_grace:
            fields = [("Cache-Control", GRACE)]
        if says.expires:
            fields.append(("Expires", format_date(time.time() + FRESH_SECONDS)))
        if says.modified:
            fields.append(("Last-Modified", format_date(time.time() - 5 * STALE_AGE)))
        if scenario.vary:
            fields.append(("Vary", scenario.vary))
        if self.is_aged:
            fields.append(("Age", str(STALE_AGE)))
        return fields

    @property
    def _has_grace(self) -> bool:
        return self.scenario.when in (When.GRACE, When.DOWN)

    def _graced(self, value: str) -> str:
        return f"{value}, {GRACE}" if self._has_grace else value


class TellingOrigin(Origin):
    """An origin with a `Stand` per path."""

    def __init__(self) -> None:
        super().__init__()
        self.stands: dict[str, Stand] = {}
        self._serials = itertools.count(1)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        stand = self.stands[request.path]
        asker = request.headers["X-Asker"]
        lines = {name: request.headers.getall(name, []) for name in TELLING}
        asked = {name: ", ".join(values) for name, values in lines.items() if values}
        self._look(stand, asker, asked)
        stand.arrived += 1
        await request.read()
        await stand.gate.wait()
        serial = next(self._serials)
        status, fields, body = self._answer(stand, request, asked, serial)
        named = tuple((name.lower(), value) for name, value in fields)
        stand.births.append(Birth(serial, asker, request.method, asked, status, named))
        return web.Response(status=status, headers=CIMultiDict(fields), body=body)

    @staticmethod
    def _look(stand: Stand, asker: str, asked: dict[str, str]) -> None:
        others = [user.mark for user in stand.scenario.users if user.name != asker]
        shown = {name: asked[name] for name in _CREDENTIALS if name in asked}
        if any(f"{mark}-" in value for mark in others for value in shown.values()):
            stand.strange.append(f"a request of {asker}'s came to the origin with {shown}")

    def _answer(
        self, stand: Stand, request: web.Request, asked: dict[str, str], serial: int
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        if stand.is_down:
            return 503, [("X-Seen", f"birth-{serial}.")], b""
        who = "+".join(_SECRET.findall(" ".join(asked.get(name, "") for name in _CREDENTIALS))) or "nobody"
        tag = '"of-everybody"' if stand.scenario.common_tag else f'"{who}"'
        fields = [*stand.said(), ("X-Seen", f"birth-{serial}. {who}"), ("ETag", tag)]
        if stand.scenario.sets_cookie:
            fields.append(("Set-Cookie", f"visit={who}.birth-{serial}.; Path=/"))
        body = self._document(serial, who, request)
        if request.method in ("POST", "PUT"):
            return 200, [*fields, ("Content-Location", request.path), ("Content-Type", "application/json")], body
        if tag in request.headers.get("If-None-Match", ""):
            return 304, fields, b""
        return self._part(request, [*fields, ("Content-Type", "application/json")], tag, body)

    @staticmethod
    def _document(serial: int, who: str, request: web.Request) -> bytes:
        """A representation of one length for all, so that pieces of two would fit; each end says whose it is."""
        mark = f"birth-{serial}."
        document = {"birth": mark, "who": who, "asker": request.headers["X-Asker"], "method": request.method}
        whole = json.dumps(document | {"rest": "", "end": mark})
        return whole.replace('"rest": ""', f'"rest": "{"." * (_LENGTH - len(whole))}"').encode()

    @staticmethod
    def _part(
        request: web.Request, fields: list[tuple[str, str]], tag: str, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        found = _RANGE.fullmatch(request.headers.get("Range", ""))
        if found is None or request.headers.get("If-Range", tag) != tag:
            return 200, fields, body
        start, end = int(found[1]), min(int(found[2] or len(body)), len(body) - 1)
        fields = [*fields, ("Content-Range", f"bytes {start}-{end}/{len(body)}")]
        return 206, fields, body[start : end + 1]
