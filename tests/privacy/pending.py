"""Play the scenarios of writes that wait: nobody sees another's (W6), everybody their own (W4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

from tests.privacy.findings import Told, leaks, with_exchange
from tests.privacy.oracle import identity
from tests.privacy.origin import Stand
from tests.privacy.scenarios import GET, RULES, Ask, Scenario, User

_TYPES: Final = {"PATCH": "application/merge-patch+json", "PUT": "application/json", "POST": "application/json"}
_SHOWN: Final = ("PUT", "PATCH")
_PATCH: Final = Ask("PATCH", "PATCH", (("Content-Type", _TYPES["PATCH"]),))


class Asking(Protocol):
    """What asks: the stage."""

    async def ask(self, stand: Stand, user: User, ask: Ask, others_tag: str = "", **options: Any) -> Told:
        """Send one request of a user's."""

    async def settle(self) -> None:
        """Wait until nothing goes on behind the answers."""


class Course(NamedTuple):
    """What was asked and answered: the first user writes, both look, the second one writes too, both look again."""

    accepted: Told
    own: Told
    seen: Told
    pages: tuple[Told, Told]
    again: Told
    later: tuple[Told, Told]


async def play_pending(stage: Asking, stand: Stand) -> list[str]:
    """Play a scenario and say what is wrong in it."""
    told: list[Told] = []
    course = await _course(stage, stand, told)
    wrong = [*leaks(stand, told), *_wrong(stand.scenario, course), *_failures(told), *stand.strange]
    return with_exchange(wrong, told)


async def _course(stage: Asking, stand: Stand, told: list[Told]) -> Course:
    async def asked(user: User, ask: Ask, tag: str = "", **options: Any) -> Told:
        if ask.method not in ("GET", "HEAD", "DELETE"):
            options["data"] = json.dumps({_secret(user): True})
        told.append(await stage.ask(stand, user, ask, tag, **options))
        await stage.settle()
        return told[-1]

    first, second = stand.scenario.users
    for user in (first, second):
        await asked(user, GET)
    write = _write(stand.scenario.write)
    accepted = await asked(first, write)
    own = await asked(first, GET)
    seen = await asked(second, stand.scenario.way[1], own.reply.headers.get("ETag", ""))
    page = accepted.reply.headers["Location"]
    pages = await asked(first, GET, path=page), await asked(second, GET, path=page)
    again = await asked(second, write)
    await asked(second, _PATCH)
    return Course(accepted, own, seen, pages, again, (await asked(first, GET), await asked(second, GET)))


def _write(method: str) -> Ask:
    fields = (("Idempotency-Key", "both have this one"),)
    return Ask(method, method, (*fields, ("Content-Type", _TYPES[method])) if method in _TYPES else fields)


def _secret(user: User) -> str:
    return f"pending of {user.mark}!"


def _wrong(scenario: Scenario, course: Course) -> Iterator[str]:
    """Compare what everybody saw with what they may see."""
    rule = RULES[scenario.rule]
    whose = [identity(told.asked, rule) for told in (course.own, course.seen)]
    yield from _first_look(scenario, course, is_shown=rule.shared or whose[0] == whose[1])
    if course.pages[0].reply.status != 200:
        yield "the writer does not see the page of the write"
    if whose[0] != whose[1]:
        yield from _apart(course, is_anonymous=whose[0] is None)
        if not rule.shared:
            yield from _second_look(scenario, course)


def _first_look(scenario: Scenario, course: Course, *, is_shown: bool) -> Iterator[str]:
    own, seen = course.own, course.seen
    if not _shows_write(scenario.write, own):
        yield f"{own.user.name} does not see their own write (W4)"
    if is_shown and seen.ask == GET and not _shows_write(scenario.write, seen):
        yield f"{seen.user.name} does not see what is for all"
    if not is_shown:
        yield from _sees_nothing(own.user, seen)


def _shows_write(method: str, told: Told) -> bool:
    if method in _SHOWN:
        return _secret_of_first(told) in told.text
    return told.reply.status == 404 if method == "DELETE" else "detail=dirty" in told.reply.cache_status


def _secret_of_first(told: Told) -> str:
    return _secret(told.user._replace(mark=f"ann-{told.user.mark.partition('-')[2]}"))


def _sees_nothing(writer: User, told: Told) -> Iterator[str]:
    """Say how an answer shows that somebody else has written."""
    what = f"{told.user.name} sees that {writer.name} has written (W6)"
    if _secret(writer) in told.text:
        yield f"{what}: the write itself"
    if '"rc-' in told.reply.headers.get("ETag", "") or "detail=dirty" in told.reply.cache_status:
        yield f"{what}: a dirty answer"
    if told.reply.status == 404 or (told.reply.status == 304 and '"rc-' in told.fields["If-None-Match"]):
        yield f"{what}: {told.reply.status}"


def _apart(course: Course, *, is_anonymous: bool) -> Iterator[str]:
    """Say what two principals share that each must have alone: the page of a write, the idempotency key."""
    if not is_anonymous and course.pages[1].reply.status != 404:
        yield "the second user sees the page of the first one's write"
    if course.again.reply.status != 202:
        yield "the first user's idempotency key keeps the second one from writing"
    if course.again.reply.headers.get("Location") == course.accepted.reply.headers["Location"]:
        yield "the second user was answered with the first one's write"


def _second_look(scenario: Scenario, course: Course) -> Iterator[str]:
    """Say what is wrong once both have written."""
    for told, other in (course.later, course.later[::-1]):
        if _secret(other.user) in told.text:
            yield f"{told.user.name} sees what {other.user.name} has written (W6)"
        if scenario.write in _SHOWN and _secret(told.user) not in told.text:
            yield f"{told.user.name} does not see their own write any more (W4)"


def _failures(told: list[Told]) -> Iterator[str]:
    for number, one in enumerate(told, start=1):
        if one.reply.status >= 500 and one.reply.status != 504:
            yield f"answer {number}: unexpected"
