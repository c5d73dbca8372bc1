"""Two users at one URL: every scenario, made from what the users carry, what the origin says and when they ask."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, NamedTuple

from aiohttp_regioncache import Rule

Fields = tuple[tuple[str, str], ...]

FRESH_SECONDS: Final = 60
STALE_AGE: Final = 2_000
"""Seconds, longer than anything here stays fresh."""
GRACE: Final = "stale-while-revalidate=100000, stale-if-error=100000"

# --- who asks ---


class Carries(NamedTuple):
    """What a user's requests carry."""

    authorization: bool = False
    cookie: bool = False
    user: bool = False

    def __str__(self) -> str:
        return "+".join(name for name, value in self._asdict().items() if value) or "nothing"


class User(NamedTuple):
    """One of the two; every secret of theirs contains `mark`."""

    name: str
    mark: str
    carries: Carries
    language: str

    @property
    def fields(self) -> dict[str, str]:
        """The request fields that say who they are; `X-Asker`, which the cache knows nothing of, tells the origin."""
        told = {"X-Asker": self.name, "Accept-Language": self.language}
        if self.carries.authorization:
            told["Authorization"] = f"Bearer {self.mark}-authorization"
        if self.carries.cookie:
            told["Cookie"] = f"session={self.mark}-cookie; theme=dark"
        if self.carries.user:
            told["X-User"] = f"{self.mark}-user"
        return told


NOTHING: Final = Carries()
AUTHORIZATION: Final = Carries(authorization=True)
COOKIE: Final = Carries(cookie=True)
BOTH: Final = Carries(authorization=True, cookie=True)
USER: Final = Carries(user=True)
USER_TOO: Final = Carries(authorization=True, user=True)

Pair = tuple[Carries, Carries]
ALIKE: Final[tuple[Pair, ...]] = ((NOTHING, NOTHING), (AUTHORIZATION, AUTHORIZATION), (COOKIE, COOKIE))
MIXED: Final[tuple[Pair, ...]] = ((AUTHORIZATION, NOTHING), (NOTHING, AUTHORIZATION), (NOTHING, COOKIE))
PAIRS: Final[tuple[Pair, ...]] = (
    *ALIKE, *MIXED, (BOTH, BOTH), (COOKIE, NOTHING), (AUTHORIZATION, COOKIE),
)  # fmt: skip
NAMED_PAIRS: Final[tuple[Pair, ...]] = (
    (USER, USER), (USER, NOTHING), (NOTHING, USER), (USER_TOO, AUTHORIZATION), (COOKIE, USER), *ALIKE,
)  # fmt: skip

# --- what the origin says ---


class Says(NamedTuple):
    """How the origin lets answers be stored. `expires`: with an Expires a minute ahead, `modified`: long unchanged."""

    name: str
    fields: Fields = ()
    expires: bool = False
    modified: bool = False


def _says(value: str) -> Says:
    return Says(value, (("Cache-Control", value),))


def _targeted(targeted: str, otherwise: str) -> Says:
    fields = (("CDN-Cache-Control", targeted), ("Cache-Control", otherwise))
    return Says(f"CDN {targeted}; {otherwise}", fields)


HEURISTIC: Final = Says("nothing", modified=True)
MAX_AGE: Final = _says("max-age=60")
PUBLIC: Final = _says("public, max-age=60")
S_MAXAGE: Final = _says("s-maxage=60")
MUST_REVALIDATE: Final = _says("must-revalidate, max-age=60")
PRIVATE: Final = _says("private, max-age=60")
NO_STORE: Final = _says("no-store")
NO_CACHE: Final = _says("no-cache, max-age=60")
SAYINGS: Final = (
    HEURISTIC, MAX_AGE, PUBLIC, S_MAXAGE, MUST_REVALIDATE, PRIVATE, NO_STORE, NO_CACHE,
    _says("private"),
    _says("no-cache"),
    _says("Private, Max-Age=60"),
    _says('private="set-cookie", max-age=60'),
    _says('private="x-seen", max-age=60'),
    _says('no-cache="set-cookie", max-age=60'),
    _says("public, private, max-age=60"),
    _says("public, no-store, max-age=60"),
    _says("proxy-revalidate, max-age=60"),
    Says("Expires", expires=True),
    Says("Expires; public", (("Cache-Control", "public"),), expires=True),
    Says("Pragma; max-age", (("Pragma", "no-cache"), ("Cache-Control", "max-age=60"))),
    Says("two lines", (("Cache-Control", "public, max-age=60"), ("Cache-Control", "private"))),
    _targeted("private", "public, max-age=60"),
    _targeted("no-store", "public, max-age=60"),
    _targeted("max-age=60", "private"),
    _targeted("public, max-age=60", "no-store"),
    _targeted("=?!", "private, max-age=60"),
)  # fmt: skip

# --- what they ask ---


class Ask(NamedTuple):
    """A request; the fields named in `of_other` get the entity tag that the other user was given."""

    name: str
    method: str = "GET"
    fields: Fields = ()
    of_other: tuple[str, ...] = ()


GET: Final = Ask("GET")
HEAD: Final = Ask("HEAD", "HEAD")
POST: Final = Ask("POST", "POST")
PUT: Final = Ask("PUT", "PUT")
PART: Final = Ask("range", fields=(("Range", "bytes=0-99"),))
LAST_PART: Final = Ask("last-range", fields=(("Range", "bytes=100-"),))
IF_NONE_MATCH: Final = Ask("if-none-match", of_other=("If-None-Match",))
IF_ANY: Final = Ask("if-none-match-any", fields=(("If-None-Match", "*"),))
IF_RANGE: Final = Ask("if-range", fields=(("Range", "bytes=0-99"),), of_other=("If-Range",))
NOT_TO_BE_STORED: Final = Ask("no-store", fields=(("Cache-Control", "no-store"),))
ONLY_IF_CACHED: Final = Ask("only-if-cached", fields=(("Cache-Control", "only-if-cached, max-stale"),))
RELOAD: Final = Ask("reload", fields=(("Cache-Control", "no-cache"),))

Way = tuple[Ask, Ask]
PLAIN_WAY: Final[Way] = (GET, GET)
WAYS: Final[tuple[Way, ...]] = (
    (GET, HEAD), (HEAD, GET), (HEAD, HEAD), (GET, PART), (PART, GET), (PART, PART), (GET, IF_NONE_MATCH), (GET, IF_ANY),
    (PART, LAST_PART), (GET, IF_RANGE), (IF_ANY, GET), (POST, GET), (GET, POST), (POST, POST), (PUT, GET),
    (NOT_TO_BE_STORED, GET), (GET, ONLY_IF_CACHED), (GET, RELOAD),
)  # fmt: skip

HARD_WAYS: Final[tuple[Way, ...]] = (
    (GET, HEAD), (HEAD, GET), (GET, PART), (PART, GET), (PART, LAST_PART), (GET, IF_NONE_MATCH),
)  # fmt: skip
"""Those in which what is stored may be made of several answers."""

# --- when, and under which rule ---


class When(Enum):
    """How the second user's request stands in time to the first one's."""

    SETTLED = "settled"  # the first answer has been stored, if it ever is
    AT_ONCE = "at-once"  # the first answer is out and may be on its way into the store
    TOGETHER = "together"  # the origin has not answered the first
    STALE = "stale"  # what is stored has to be validated
    GRACE = "grace"  # what is stored is stale, and may be served while it is renewed
    DOWN = "down"  # what is stored is stale, and the origin fails
    MEMORY = "memory"  # the process has the first answer in its own memory, if it ever is there


IS_STALE: Final = (When.STALE, When.GRACE, When.DOWN)

PLAIN: Final = "plain"
READ_RULES: Final = {
    "mine": Rule("/mine/{id}", per_user=True),
    "mine-by-header": Rule("/mine-by-header/{id}", per_user=True, principal="header:X-User"),
    "mine-by-cookie": Rule("/mine-by-cookie/{id}", per_user=True, principal="cookie:session"),
    "by-header": Rule("/by-header/{id}", principal="header:X-User"),
    "by-cookie": Rule("/by-cookie/{id}", principal="cookie:session"),
}
BEHIND_RULES: Final = {
    "behind": Rule("/behind/{id}", write="behind"),
    "behind-by-header": Rule("/behind-by-header/{id}", write="behind", principal="header:X-User"),
    "behind-by-cookie": Rule("/behind-by-cookie/{id}", write="behind", principal="cookie:session"),
    "behind-mine": Rule("/behind-mine/{id}", write="behind", per_user=True),
    "behind-order": Rule("/behind-order/{id}", write="behind", per_user=True, order="principal"),
    "behind-shared": Rule("/behind-shared/{id}", write="behind", shared=True, authorized=True),
}
RULES: Final = READ_RULES | BEHIND_RULES


class Scenario(NamedTuple):
    """Two users, one URL. `second_edge`: the second user asks another process of the region."""

    number: int
    kind: str
    pair: Pair
    says: Says = MAX_AGE
    way: Way = PLAIN_WAY
    when: When = When.SETTLED
    rule: str = PLAIN
    sets_cookie: bool = False
    vary: str = ""
    one_language: bool = True
    common_tag: bool = False
    second_edge: bool = False
    write: str = ""

    @property
    def path(self) -> str:
        """The path that nobody else asks for."""
        return f"/{self.rule}/{self.number}"

    @property
    def users(self) -> tuple[User, User]:
        """Who asks first, who asks second."""
        languages = ("en", "en" if self.one_language else "ja")
        first, second = (
            User(name, f"{name}-{self.number}", carries, language)
            for name, carries, language in zip(("ann", "bob"), self.pair, languages, strict=True)
        )
        return first, second

    def __str__(self) -> str:
        first, second = self.pair
        way = "/".join(ask.name for ask in self.way)
        words = [self.rule, self.when.value, f"{first}/{second}", way, f"[{self.says.name}]", self.write]
        words += ["set-cookie" if self.sets_cookie else "", f"vary:{self.vary}" if self.vary else ""]
        words += ["one-tag" if self.common_tag else "", "two-edges" if self.second_edge else ""]
        words += [] if self.one_language else ["two-languages"]
        return " ".join([str(self.number), *filter(None, words)])


def every_scenario() -> list[Scenario]:
    """Make all of them, numbered; what matters less goes round among what matters more."""
    kinds = (_answers(), _varying(), _ways(), _timings(), _memory(), _owned(), _pending())
    return [
        scenario._replace(number=number, common_tag=scenario.common_tag or number % 3 == 0)
        for number, scenario in enumerate(itertools.chain.from_iterable(kinds), start=1)
    ]


def _answers() -> Iterator[Scenario]:
    for number, (pair, says, sets_cookie) in enumerate(itertools.product(PAIRS, SAYINGS, (False, True))):
        yield Scenario(0, "answers", pair, says, sets_cookie=sets_cookie, second_edge=number % 4 > 1)


def _varying() -> Iterator[Scenario]:
    pairs = (*ALIKE, (USER, USER), (NOTHING, USER), (AUTHORIZATION, NOTHING), (NOTHING, COOKIE))
    names = ("Cookie", "Authorization", "X-User", "*", "Accept-Language", "Cookie, Authorization")
    whens = (When.SETTLED, When.TOGETHER)
    for number, (pair, vary, says, when) in enumerate(itertools.product(pairs, names, (MAX_AGE, PUBLIC), whens)):
        yield Scenario(0, "vary", pair, says, when=when, vary=vary, one_language=number % 3 == 0)


def _ways() -> Iterator[Scenario]:
    pairs = ((NOTHING, NOTHING), (AUTHORIZATION, AUTHORIZATION), (COOKIE, NOTHING), (NOTHING, AUTHORIZATION))
    for pair, says, way in itertools.product(pairs, (MAX_AGE, PUBLIC, PRIVATE), WAYS):
        yield Scenario(0, "ways", pair, says, way)
        if says == MAX_AGE and POST in way:
            yield Scenario(0, "ways", pair, HEURISTIC, way)
    whens = (When.STALE, When.AT_ONCE, When.TOGETHER)
    for pair, says, way, when in itertools.product(pairs, (MAX_AGE, PUBLIC), HARD_WAYS, whens):
        yield Scenario(0, "ways", pair, says, way, when, common_tag=True)


def _timings() -> Iterator[Scenario]:
    whens = (When.AT_ONCE, When.TOGETHER, When.STALE, When.GRACE, When.DOWN)
    sayings = (HEURISTIC, MAX_AGE, PUBLIC, MUST_REVALIDATE, PRIVATE, NO_STORE)
    for pair, says, when in itertools.product((*ALIKE, *MIXED), sayings, whens):
        yield Scenario(0, "timing", pair, says, when=when)
        if says in (HEURISTIC, MAX_AGE, PUBLIC):
            yield Scenario(0, "timing", pair, says, when=when, sets_cookie=True, common_tag=True)


def _memory() -> Iterator[Scenario]:
    seconds = (GET, HEAD, PART, IF_NONE_MATCH)
    pairs = ((NOTHING, NOTHING), (AUTHORIZATION, NOTHING), (NOTHING, COOKIE), (COOKIE, COOKIE))
    for pair, says, second in itertools.product(pairs, (MAX_AGE, PUBLIC), seconds):
        yield Scenario(0, "memory", pair, says, (GET, second), When.MEMORY)
        yield Scenario(0, "memory", pair, says, (GET, second), When.MEMORY, "mine")


def _owned() -> Iterator[Scenario]:
    sayings = (MAX_AGE, PUBLIC, PRIVATE, NO_STORE, HEURISTIC)
    for rule, pair, says in itertools.product(READ_RULES, NAMED_PAIRS, sayings):
        yield Scenario(0, "owned", pair, says, rule=rule)
    for rule, pair, when in itertools.product(READ_RULES, NAMED_PAIRS, (When.TOGETHER, When.STALE, When.DOWN)):
        yield Scenario(0, "owned", pair, MAX_AGE, when=when, rule=rule)
    for pair, way in itertools.product(ALIKE, WAYS):
        yield Scenario(0, "owned", pair, PRIVATE, way, rule="mine")


def _pending() -> Iterator[Scenario]:
    pairs = (*ALIKE, (USER, USER), (USER, NOTHING), (AUTHORIZATION, NOTHING), (NOTHING, AUTHORIZATION))
    looks = itertools.cycle((GET, HEAD, IF_NONE_MATCH, PART, ONLY_IF_CACHED))
    bases = itertools.cycle((NO_STORE, PUBLIC, MAX_AGE))
    for rule, pair, write in itertools.product(BEHIND_RULES, pairs, ("PUT", "PATCH", "DELETE", "POST")):
        yield Scenario(0, "pending", pair, next(bases), (GET, next(looks)), rule=rule, write=write)


def of_kind(scenarios: Iterable[Scenario], *kinds: str) -> list[Scenario]:
    """Choose by kind."""
    return [scenario for scenario in scenarios if scenario.kind in kinds]
