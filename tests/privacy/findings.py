"""What the answers of a scenario show: what must not be there, and what must."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from tests.privacy.oracle import (
    Birth,
    forbidden,
    has_credentials,
    identity,
    is_explicit,
    needs_validation,
    validated_fields,
    withheld_fields,
)
from tests.privacy.origin import Stand, marks_in
from tests.privacy.scenarios import GET, HEAD, HEURISTIC, NO_STORE, NOTHING, RULES, Ask, Scenario, User, When
from tests.support.world import Reply

_ANSWERS: Final = frozenset({200, 206, 304})
_ONE_ANSWER: Final = (When.AT_ONCE, When.TOGETHER, When.SETTLED, When.MEMORY)


class Told(NamedTuple):
    """A request and its answer."""

    user: User
    ask: Ask
    fields: Mapping[str, str]
    reply: Reply

    @property
    def asked(self) -> dict[str, str]:
        """The request fields, by their names in lower case."""
        return {name.lower(): value for name, value in self.fields.items()}

    @property
    def places(self) -> list[tuple[str, str]]:
        """Where something of an answer can stand: its fields by their names in lower case, and its body as `""`."""
        fields = [(name.lower(), value) for name, value in self.reply.headers.items()]
        return [*fields, ("", self.reply.body.decode())]

    @property
    def text(self) -> str:
        """Everything that the user got to see."""
        return "\n".join(f"{name}: {value}" for name, value in self.places)

    @property
    def marks(self) -> frozenset[int]:
        """The serial numbers of the origin's answers that this one is from."""
        return marks_in(self.text)

    def __str__(self) -> str:
        request = {name: value for name, value in self.fields.items() if name != "Accept-Language"}
        reply = f"{self.reply.status} {dict(self.reply.headers)} {self.reply.body[:160]!r}"
        return f"{self.user.name}: {self.ask.method} {json.dumps(request)}\n      {reply}"


class Verdict(NamedTuple):
    """What is wrong with a scenario; `is_shared`: whether one answer served both, None where that is not certain."""

    wrong: list[str]
    is_shared: bool | None = None


def verdict(stand: Stand, told: Sequence[Told]) -> Verdict:
    """Say everything that is wrong with the answers of a scenario, each with the whole exchange."""
    is_shared = _is_shared(stand, told[-3])
    wrong = [*leaks(stand, told), *_blanks(stand, told), *stand.strange, *_unshared(stand, told, is_shared)]
    return Verdict(with_exchange(wrong, told), is_shared)


def with_exchange(wrong: Sequence[str], told: Sequence[Told]) -> list[str]:
    """Put the whole exchange under each sentence."""
    exchange = "\n".join(f"    {one}" for one in told)
    return [f"{sentence}\n{exchange}" for sentence in wrong]


# --- what must not be there ---


def leaks(stand: Stand, told: Sequence[Told]) -> Iterator[str]:
    """Say which answers show what was made for the other user, and must not."""
    births = {birth.serial: birth for birth in stand.births}
    for number, one in enumerate(told, start=1):
        yield from (f"answer {number}: from another URL (birth-{serial})" for serial in one.marks - births.keys())
        foreign = [birth for birth in births.values() if birth.serial in one.marks and birth.asker != one.user.name]
        for birth in foreign:
            yield from (f"answer {number}: {sentence}" for sentence in _foreign(stand, one, birth))
        yield from (f"answer {number}: {sentence}" for sentence in _secrets(stand, one, foreign))
        yield from (f"answer {number}: {sentence}" for sentence in _confirmed(stand, one))


def _foreign(stand: Stand, one: Told, birth: Birth) -> Iterator[str]:
    """What is wrong with an answer that is from one which was made for the other user."""
    what = f"{one.user.name} got what was made for {birth.asker} (birth-{birth.serial})"
    if one.ask.method not in ("GET", "HEAD"):
        yield f"{what} in the answer to {one.ask.method} (RFC 9110 9.2.3)"
    if reason := forbidden(birth, one.asked, RULES.get(stand.scenario.rule)):
        yield f"{what} despite {reason}"
    was_validated = any(own.serial in one.marks and own.asker == one.user.name for own in stand.births)
    withheld = withheld_fields(birth) | (frozenset() if was_validated else validated_fields(birth))
    for name, value in one.places:
        if name in withheld and birth.serial in marks_in(value):
            yield f"{what} in the field {name}, which is not for others"
    if needs_validation(birth) and not was_validated and stand.scenario.when not in (When.TOGETHER, When.AT_ONCE):
        yield f"{what} without validation despite no-cache"


def _secrets(stand: Stand, one: Told, foreign: Sequence[Birth]) -> Iterator[str]:
    """A secret of the other user's that comes in none of the origin's answers that this one is from."""
    other = next(user for user in stand.scenario.users if user != one.user)
    if f"{other.mark}-" in one.text and not foreign:
        yield f"{one.user.name} got a secret of {other.name}'s"


def _confirmed(stand: Stand, one: Told) -> Iterator[str]:
    """A 304 or 206 says that what the user named by its tag exists: it must be something that may reach them."""
    tag = one.fields.get("If-None-Match") or one.fields.get("If-Range")
    if tag is None or tag.startswith('"rc-') or one.reply.status not in (206, 304):
        return
    rule = RULES.get(stand.scenario.rule)
    theirs = [birth for birth in stand.births if tag == "*" or birth.first("etag") == tag]
    if not any(birth.asker == one.user.name or not forbidden(birth, one.asked, rule) for birth in theirs):
        yield f"{one.user.name} got {one.reply.status} for {tag}, which was made for somebody else"


def _blanks(stand: Stand, told: Sequence[Told]) -> Iterator[str]:
    """An answer in which nothing could be seen proves nothing."""
    for number, one in enumerate(told, start=1):
        status = one.reply.status
        is_expected = (status == 503 and stand.scenario.when is When.DOWN) or (
            status == 504 and "only-if-cached" in one.fields.get("Cache-Control", "")
        )
        if not is_expected and (status not in _ANSWERS or not one.marks):
            yield f"answer {number}: unexpected"


# --- what must ---


def _unshared(stand: Stand, told: Sequence[Told], is_shared: bool | None) -> Iterator[str]:
    """A cache that shares nothing leaks nothing: what is certainly for both has to reach both, one's own its owner."""
    scenario = stand.scenario
    second, again = told[-3], told[-2]
    # Who asks while the first answer is being stored may come too late for it and too early for what is stored.
    if is_shared is False and scenario.when is not When.TOGETHER:
        yield f"{second.user.name} did not get what is for both"
    if is_shared and scenario.when is When.MEMORY and "detail=memory" not in second.reply.cache_status:
        yield "the edge did not answer from its memory, which is what this is about"
    made = _first_birth(stand)
    if made and _is_plain(scenario) and _is_own(scenario, made) and again.marks != {made.serial}:
        yield f"{made.asker} did not get their own answer again"


def _is_shared(stand: Stand, second: Told) -> bool | None:
    made = _first_birth(stand)
    if made is None or not _is_plain(stand.scenario) or not _is_for_both(stand.scenario, made, second):
        return None
    return made.serial in second.marks


def _first_birth(stand: Stand) -> Birth | None:
    return next((birth for birth in stand.births if birth.asker == "ann"), None)


def _is_plain(scenario: Scenario) -> bool:
    is_stored = scenario.when in (When.SETTLED, When.MEMORY)
    return scenario.way in ((GET, GET), *([(GET, HEAD)] if is_stored else [])) and not scenario.sets_cookie


def _is_for_both(scenario: Scenario, made: Birth, second: Told) -> bool:
    rule = RULES.get(scenario.rule)
    if forbidden(made, second.asked, rule) or withheld_fields(made) or validated_fields(made):
        return False
    own_entries = rule is not None and rule.per_user
    if own_entries and identity(made.asked, rule) != identity(second.asked, rule):
        return False
    return _is_reusable(scenario, made, second)


def _is_reusable(scenario: Scenario, made: Birth, second: Told) -> bool:
    """Whether the first answer certainly is there for the second request, and good enough."""
    rule = RULES.get(scenario.rule)
    if scenario.when is When.AT_ONCE:
        return False
    if scenario.when is When.TOGETHER and any(has_credentials(asked, rule) for asked in (made.asked, second.asked)):
        return False  # who has credentials waits for nobody else's answer
    if scenario.when is When.STALE:
        return (scenario.common_tag or scenario.pair == (NOTHING, NOTHING)) and scenario.says != NO_STORE
    if scenario.when in (When.GRACE, When.DOWN):
        return not needs_validation(made) and scenario.says.name in ("max-age=60", "public, max-age=60")
    return _is_fresh(scenario, made)


def _is_fresh(scenario: Scenario, made: Birth) -> bool:
    return (is_explicit(made) or scenario.says == HEURISTIC) and not needs_validation(made)


def _is_own(scenario: Scenario, made: Birth) -> bool:
    rule = RULES.get(scenario.rule)
    if rule is None or not rule.per_user or identity(made.asked, rule) is None:
        return False
    return scenario.when in _ONE_ANSWER and scenario.says.name != "no-store" and _is_fresh(scenario, made)
