"""Rules: what happens to which path. Pure."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from .durability import Durability, parse_durability
from .effects import AUTO, NAMES, UNKNOWN_EFFECT, EffectFunction, function_name
from .errors import SettingsError
from .keying import COUNTRY, KINDS
from .keys import Groups, ascii_only
from .patterns import PathPattern
from .principal import COOKIE_PREFIX
from .semantics.methods import is_safe
from .validation import check_number, check_types, ttl_by_status

if TYPE_CHECKING:
    from aiohttp import web

    Authorize = Callable[[web.Request], Awaitable[bool]]
    """Whether the bearer of a request may make this write; asked before it is queued."""
    Identify = Callable[[web.Request], str | None]
    """The identity behind a request, or None when it has none."""
    Effect = str | EffectFunction
    Authorization = str | Authorize | None
    Identity = str | Identify | None
    BulkEncode = Callable[["Sequence[BulkItem]"], "BulkRequest"]
    """Writes -> the request for the bulk endpoint."""
    BulkDecode = Callable[["BulkAnswer", "Sequence[BulkItem]"], "Sequence[ItemAnswer] | None"]
    """The bulk endpoint's answer -> one per write in their order; None when it says nothing about single writes."""
    Encode = BulkEncode | str | None
    Decode = BulkDecode | str | None
    Texts = Sequence[str]
    Lifetime = float | Mapping[Any, float] | None
    """Seconds, or seconds by status: numbers, or text such as "404", "5xx" and "any"."""
    Affects = Sequence["str | Affect"]
else:  # msgspec reads these at run time, has no word for a function, and makes tuples of lists
    Effect = Authorization = Identity = Encode = Decode = Any
    Texts = tuple[str, ...]
    Lifetime = float | Mapping[int | str, float] | None
    Affects = tuple["str | Affect", ...]

_BEHIND_ONLY: Final = (
    "shared", "authorize", "affects", "group", "durability", "on_dead", "bulk", "coalesce", "max_tries", "max_age",
)  # fmt: skip
_BEHIND_CHOICES: Final = ("effect", "replay", "order", "when_region_down", "answer")
_READS_ONLY: Final = (
    "ttl", "force_ttl", "stale_while_revalidate", "stale_if_error", "early_refresh", "ignore_query", "sort_query",
    "key", "bypass_cookies", "bypass_headers",
)  # fmt: skip
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Affect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another resource that a write touches.

    `path` may use the parameters of the rule's path. `effect` says what the write does to that resource's
    representation; None means unknown: its readers get the origin's answer.
    """

    path: str
    effect: Effect | None = UNKNOWN_EFFECT


class BulkItem(msgspec.Struct, frozen=True):
    """One write of a bulk request: `target` is path and query, `headers` the end-to-end ones without the key."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    idempotency_key: str


class BulkRequest(msgspec.Struct, frozen=True):
    """The request that carries several writes to the bulk endpoint."""

    body: bytes
    content_type: str = "application/json"
    method: str = "POST"


class BulkAnswer(msgspec.Struct, frozen=True):
    """The bulk endpoint's answer as a whole."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class ItemAnswer(msgspec.Struct, frozen=True):
    """The origin's answer to one write of a bulk request."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


class Bulk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how the writes of a rule go to the origin together.

    `endpoint`: path of the origin. `max_writes`, `max_bytes` (of bodies): what one request carries. `keeps_order`: the
    origin applies the items in their order and none of a resource after one that failed; then a request may carry
    several writes of one resource. `encode`, `decode`: functions, or their import paths; None for the JSON form that
    docs/bulk.md describes.
    """

    endpoint: str
    max_writes: int = 100
    max_bytes: int = 1024 * 1024
    keeps_order: bool = False
    encode: Encode = None
    decode: Decode = None


class _Named(msgspec.Struct, frozen=True):
    path: str


class Rule(_Named, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to the requests of one path.

    `path`: a pattern (`/items/{id}`, `/static/**`); the first rule that covers path and method counts.
    `methods`: the methods it covers, all when empty.
    `read`: `cache`, or `pass` to leave reads to the handler.
    `write`: `through` to the origin, or `behind`: acknowledged from the region, replayed later.
    `effect`: what a write does to the representation: `auto` (by method), `replace`, `merge-patch`, `delete`,
    `unknown`, a function, or in a file its import path `module:name`.
    `affects`: what else a write touches, paths or `Affect`s; None: the parent path, when it lies in the group.
    `group`: the path prefix whose resources the rule's writes may touch; None: the first segment.
    `per_user`: store responses to requests with credentials, each for its own principal.
    `shared`: there is one representation for all; a pending write shows to everybody in the region. It needs
    `authorize`, or `authorized=True` when an outer middleware has already authorised every write that arrives.
    `principal`: where the identity is: `header:NAME`, `cookie:NAME`, a function; None: `Authorization` and cookies.
    `ttl`: seconds of freshness for responses that do not say; `force_ttl`: seconds whatever they say. Either may be a
    mapping of statuses to seconds, of which the most specific counts: `{"200": 60, "4xx": 5, "any": 1}`. A status that
    it names, alone or as a class, may be stored though it is not cacheable by default. No lifetime lifts `no-store`,
    `private`, `no-cache` or what goes for requests with credentials.
    `stale_while_revalidate`, `stale_if_error`, `early_refresh`, `ignore_query`, `sort_query`: as in `Cache`, for these
    paths; None as in the settings.
    `key`: what else is in the keys of these paths: `header:NAME`, `cookie:NAME`, `country` (as a trusted proxy tells
    it) or `query:NAME`, a parameter that counts although `ignore_query` covers it.
    `bypass_cookies`, `bypass_headers`: names; reads that carry one are left to the handler, and not stored.
    `dirty_wait`: seconds that a read waits for a write of unknown effect, None as in the settings.
    `answer`: `accepted` (202), or `optimistic`: 200 or 204 with the expected representation.
    `durability`: `memory`, `replicated=N` or `fsync`: what a write has survived when it is acknowledged; None as in
    the settings. `when_region_down`: `refuse` a write with 503, or let it go `through`, past what may be pending there.
    `replay`: `safe`, or `never` for requests that must not be repeated when the outcome of an attempt is unknown.
    `order`: `resource`, or `principal` for paths like `/me` that are another resource for everyone: with `per_user`.
    This goes for every request of those paths, whatever its method, and for what other rules say that their writes
    affect there: queue, dirtiness and invalidation are each principal's own, so nobody waits for another's writes, and
    a write, behind or through, lets go of what is stored for its own principal alone. All anonymous requests share one.
    `on_dead`: whether a write that was given up `block`s those behind it until an operator decides, or they `skip` it;
    None: only one that may have been applied blocks.
    `bulk`: send the writes of different resources together. `coalesce`: of consecutive replacements by one principal
    that nobody has tried to send yet, send the last.
    `max_tries`, `max_age` (seconds): when to give a write up; None as in the settings.
    """

    methods: Texts = ()
    read: Literal["cache", "pass"] = "cache"
    write: Literal["through", "behind"] = "through"
    effect: Effect = AUTO
    affects: Affects | None = None
    group: str | None = None
    per_user: bool = False
    shared: bool = False
    authorize: Authorization = None
    authorized: bool = False
    principal: Identity = None
    ttl: Lifetime = None
    force_ttl: Lifetime = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    early_refresh: float | None = None
    ignore_query: Texts | None = None
    sort_query: bool | None = None
    key: Texts = ()
    bypass_cookies: Texts = ()
    bypass_headers: Texts = ()
    dirty_wait: float | None = None
    answer: Literal["accepted", "optimistic"] = "accepted"
    durability: str | None = None
    when_region_down: Literal["refuse", "through"] = "refuse"
    replay: Literal["safe", "never"] = "safe"
    order: Literal["resource", "principal"] = "resource"
    on_dead: Literal["block", "skip"] | None = None
    bulk: Bulk | None = None
    coalesce: bool = False
    max_tries: int | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        key = f"rules[{self.path}]"
        check_types(key, self)
        _pattern(f"{key}.path", self.path)
        put = msgspec.structs.force_setattr
        put(self, "methods", tuple(_method(f"{key}.methods", method) for method in self.methods))
        _put_reading(key, self)
        put(self, "effect", _effect(f"{key}.effect", self.effect))
        put(self, "authorize", _imported(f"{key}.authorize", self.authorize))
        put(self, "principal", _identity(f"{key}.principal", self.principal))
        if self.affects is not None:
            put(self, "affects", tuple(_affect(key, item) for item in self.affects))
        if self.bulk is not None:
            put(self, "bulk", _bulk(f"{key}.bulk", self.bulk))
        if self.durability is not None:
            _durability(f"{key}.durability", self.durability)
        _check_numbers(key, self)
        _check_contradictions(key, self)

    @property
    def behind(self) -> bool:
        """Whether writes are taken behind."""
        return self.write == "behind"


_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(Rule)}


def _pattern(key: str, pattern: str) -> PathPattern:
    try:
        return PathPattern(pattern)
    except ValueError as error:
        raise SettingsError(key, str(error)) from None


def _put_reading(key: str, rule: Rule) -> None:
    """Check what is said of reads, and bring it into its one form."""
    put = msgspec.structs.force_setattr
    for name in ("ttl", "force_ttl"):
        put(rule, name, ttl_by_status(f"{key}.{name}", getattr(rule, name)))
    check_parameters(f"{key}.ignore_query", rule.ignore_query or ())
    put(rule, "key", tuple(sorted({_key_part(f"{key}.key", part) for part in rule.key})))
    for name, kind in (("bypass_cookies", "cookie"), ("bypass_headers", "header")):
        for each in getattr(rule, name):
            _check_name(f"{key}.{name}", kind, each, repr(each))


def check_parameters(key: str, names: Iterable[str]) -> None:
    """Refuse what is no name of a parameter of the query."""
    for name in names:
        if not name or "&" in name or "=" in name:
            raise SettingsError(key, f"{name!r} is no name of a parameter, nor a pattern of names such as 'utm_*'")


def _key_part(key: str, part: str) -> str:
    kind, _, name = part.partition(":")
    if part == COUNTRY:
        return part
    if kind not in KINDS:
        raise SettingsError(key, f"{part!r} is none of {', '.join(f'{each}:NAME' for each in KINDS)}, {COUNTRY}")
    if kind == "query":
        check_parameters(key, (name,))
        return part
    _check_name(key, kind, name, repr(part))
    return part.lower() if kind == "header" else part


def _check_name(key: str, kind: str, name: str, shown: str) -> None:
    """Refuse what is no name of a header field or a cookie, or one of our own marks."""
    if not _TOKEN.fullmatch(name):
        raise SettingsError(key, f"{shown} names no {kind}")
    if name.lower().startswith(COOKIE_PREFIX):
        raise SettingsError(key, f"{shown} is a mark of our own; it says nothing of what is answered")


def _method(key: str, method: str) -> str:
    if not _TOKEN.fullmatch(method):
        raise SettingsError(key, f"{method!r} is no method")
    return method.upper()


def _imported(key: str, value: Any) -> Any:
    """Find the function behind an import path `module:name`; a function stays."""
    found = _import(key, value) if isinstance(value, str) else value
    if found is not None and not callable(found):
        raise SettingsError(key, f"{value!r} is neither a function nor the import path 'module:name' of one")
    return found


def _import(key: str, value: str) -> Any:
    module, _, name = value.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise SettingsError(key, f"{value!r} cannot be imported: {error}") from None
    return found


def _effect(key: str, value: Any) -> Any:
    allowed = f"{', '.join(NAMES)}, a function, 'module:name'"
    if isinstance(value, str) and value in NAMES:
        return value
    if value is None or (isinstance(value, str) and ":" not in value):
        raise SettingsError(key, f"{value!r} is no effect; allowed: {allowed}")
    found = _imported(key, value)
    if inspect.iscoroutinefunction(found):
        raise SettingsError(key, f"{value!r} is async; an effect is a plain function of its arguments")
    if getattr(found, "__qualname__", "<lambda>").endswith("<lambda>"):
        raise SettingsError(key, f"{value!r} has no name, under which every edge must find it; write it with def")
    return found


def _identity(key: str, value: Any) -> Any:
    if isinstance(value, str):
        kind, _, name = value.partition(":")
        if kind in ("header", "cookie"):
            if not _TOKEN.fullmatch(name):
                raise SettingsError(key, f"{value!r} names no {kind}; write '{kind}:NAME'")
            if name.lower().startswith(COOKIE_PREFIX):
                raise SettingsError(key, f"{value!r} is a mark of our own; it says nothing of whose request it is")
            return value
        if ":" not in value:
            raise SettingsError(key, f"{value!r} is none of 'header:NAME', 'cookie:NAME', 'module:name', a function")
    return _imported(key, value)


def _affect(key: str, item: str | Affect) -> Affect:
    affect = Affect(item) if isinstance(item, str) else item
    check_types(f"{key}.affects", affect)
    _pattern(f"{key}.affects", affect.path)
    effect = UNKNOWN_EFFECT if affect.effect is None else affect.effect
    return Affect(affect.path, _effect(f"{key}.affects[{affect.path}].effect", effect))


def _bulk(key: str, bulk: Bulk) -> Bulk:
    check_types(key, bulk)
    if not bulk.endpoint.startswith("/") or bulk.endpoint.startswith("//") or not bulk.endpoint.isprintable():
        raise SettingsError(f"{key}.endpoint", f"{bulk.endpoint!r} is no path of the origin; it begins with a slash")
    for name in ("max_writes", "max_bytes"):
        if getattr(bulk, name) < 1:
            raise SettingsError(f"{key}.{name}", f"{getattr(bulk, name)!r} is not a number >= 1")
    functions = {name: _imported(f"{key}.{name}", getattr(bulk, name)) for name in ("encode", "decode")}
    return msgspec.structs.replace(bulk, endpoint=ascii_only(bulk.endpoint), **functions)


def _durability(key: str, text: str) -> None:
    try:
        parse_durability(text)
    except ValueError as error:
        raise SettingsError(key, str(error)) from None


def _check_numbers(key: str, rule: Rule) -> None:
    for name in (
        "stale_while_revalidate", "stale_if_error", "early_refresh", "dirty_wait", "max_tries", "max_age",
    ):  # fmt: skip
        value = getattr(rule, name)
        if value is not None:
            check_number(f"{key}.{name}", value)
        if value == 0 and name.startswith("max_"):
            raise SettingsError(f"{key}.{name}", "is 0: no write would ever be sent; None is as in the settings")


def _check_through(key: str, rule: Rule) -> None:
    """Refuse what only writes behind have."""
    needless = [name for name in _BEHIND_ONLY if getattr(rule, name)]
    needless += [name for name in _BEHIND_CHOICES if getattr(rule, name) != _DEFAULTS[name]]
    if needless:
        raise SettingsError(f"{key}.{needless[0]}", "only makes sense with write='behind'")


def _check_behind(key: str, rule: Rule) -> None:
    if rule.bulk is not None and rule.replay == "never":
        raise SettingsError(f"{key}.bulk", "contradicts replay='never': a bulk request that is refused goes in parts")
    if rule.when_region_down == "through" and rule.replay == "never":
        raise SettingsError(
            f"{key}.when_region_down",
            "contradicts replay='never': a write that goes through may be queued all the same",
        )
    if rule.order == "principal" and not rule.per_user:
        raise SettingsError(f"{key}.order", "is 'principal': another resource for everyone; set per_user=True too")
    if rule.coalesce and rule.effect not in (AUTO, "replace"):
        raise SettingsError(f"{key}.coalesce", f"drops what a later write replaces; an effect {rule.effect!r} does not")
    if rule.answer == "optimistic" and rule.effect == UNKNOWN_EFFECT:
        raise SettingsError(f"{key}.answer", "is 'optimistic', yet nobody knows what a write of unknown effect does")
    if rule.methods and all(is_safe(method) for method in rule.methods):
        raise SettingsError(f"{key}.methods", "names no method that writes, yet write='behind'")


def _check_contradictions(key: str, rule: Rule) -> None:
    if rule.shared and not (rule.authorize or rule.authorized):
        raise SettingsError(
            f"{key}.shared",
            "shows pending writes to everybody: give authorize=, or authorized=True when an outer middleware "
            "authorises every write before it gets here",
        )
    if rule.shared and rule.per_user:
        raise SettingsError(f"{key}.shared", "contradicts per_user: a representation is one for all or one for each")
    if rule.group is not None:
        _check_group(key, rule)
    _check_reading(key, rule)
    if rule.behind:
        _check_behind(key, rule)
    else:
        _check_through(key, rule)
    parameters = PathPattern(rule.path).names
    for affect in rule.affects or ():
        assert isinstance(affect, Affect)  # noqa: S101 - made so by __post_init__
        pattern = PathPattern(affect.path)
        if "*" in affect.path or not pattern.names <= parameters:
            raise SettingsError(
                f"{key}.affects",
                f"{affect.path!r} may use only the parameters of the rule's path: {sorted(parameters)}",
            )


def _check_reading(key: str, rule: Rule) -> None:
    needless = [name for name in _READS_ONLY if getattr(rule, name) != _DEFAULTS[name]]
    if rule.read == "pass" and needless:
        raise SettingsError(f"{key}.{needless[0]}", "is about what is cached, yet read='pass'")
    forced = rule.force_ttl
    if rule.ttl is not None and forced is not None and (not isinstance(forced, Mapping) or "any" in forced):
        raise SettingsError(f"{key}.ttl", "never counts: force_ttl goes for every status")


def _check_group(key: str, rule: Rule) -> None:
    group = rule.group or ""
    if not group.startswith("/"):
        raise SettingsError(f"{key}.group", f"{group!r} is no path prefix; it begins with a slash")
    if not PathPattern(rule.path).lies_under(Groups((group,)).prefixes[0]):
        raise SettingsError(f"{key}.group", f"{group!r} is no prefix of the rule's path {rule.path!r}")


class AffectedPath(msgspec.Struct, frozen=True):
    """A concrete path that one write affects, and the name of its effect there."""

    path: str
    effect: str


class CompiledRule:
    """A rule made ready for requests."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.pattern = PathPattern(rule.path)
        self._affects = [
            (PathPattern(affect.path), effect_name(affect.effect))
            for affect in rule.affects or ()
            if isinstance(affect, Affect)
        ]
        self._touched = [self.pattern, *self.affected_patterns]
        self._is_parent = _default_parents(rule, self.pattern)

    @property
    def affected_patterns(self) -> tuple[PathPattern, ...]:
        """The patterns of what the rule says that its writes affect."""
        return tuple(pattern for pattern, _ in self._affects)

    def touches(self, path: str) -> bool:
        """Whether a write behind under this rule can change what `path` shows; where that is hard to tell, yes."""
        return any(pattern.match(path) is not None for pattern in self._touched) or self._is_parent(path)

    def covers(self, method: str, path: str) -> bool:
        """Whether the rule is about this request; HEAD goes with GET."""
        methods = self.rule.methods
        asked = "GET" if method == "HEAD" and "HEAD" not in methods else method
        return (not methods or asked in methods) and self.pattern.match(path) is not None

    def affected(self, path: str, groups: Groups) -> tuple[AffectedPath, ...]:
        """The other paths that a write to `path` touches, all of its group."""
        if self.rule.affects is None:
            parent = path.rstrip("/").rpartition("/")[0]
            inside = parent and parent != path and groups.group(parent) == groups.group(path)
            return (AffectedPath(parent, UNKNOWN_EFFECT),) if inside else ()
        parameters = self.pattern.match(path) or {}
        paths = ((pattern.fill(parameters), effect) for pattern, effect in self._affects)
        return tuple(AffectedPath(other, effect) for other, effect in paths if other != path)


def effect_name(effect: Any) -> str:
    """The name under which records keep an effect."""
    return effect if isinstance(effect, str) else function_name(effect)


class Rules:
    """All rules in their order, and what follows from them together."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [CompiledRule(rule) for rule in rules]
        self.groups = Groups(rule.group for rule in rules if rule.group)
        self._behind = [compiled for compiled in self._rules if compiled.rule.behind]
        self._ordering = [compiled for compiled in self._behind if compiled.rule.order == "principal"]
        for compiled in self._rules:
            _check_groups(compiled, self.groups)
        self._functions = _functions(self._rules)
        _check_bulks(self._behind)

    def find(self, method: str, path: str) -> CompiledRule | None:
        """The first rule that covers a request."""
        return next((rule for rule in self._rules if rule.covers(method, path)), None)

    def touching(self, path: str) -> tuple[CompiledRule, ...]:
        """The rules whose writes behind can change what `path` shows."""
        return tuple(compiled for compiled in self._behind if compiled.touches(path))

    def ordering(self, path: str) -> CompiledRule | None:
        """The rule that makes `path` another resource for every principal, and says who that is."""
        return next((rule for rule in self._ordering if rule.pattern.match(path) is not None), None)

    def functions(self) -> dict[str, EffectFunction]:
        """The effect functions of all rules, by the name that records keep."""
        return self._functions

    def durabilities(self, default: str) -> frozenset[Durability]:
        """What the rules ask of every region."""
        return frozenset(parse_durability(compiled.rule.durability or default) for compiled in self._behind)

    def bulks(self) -> dict[str, Bulk]:
        """The bulk forms of the rules, by endpoint."""
        return {compiled.rule.bulk.endpoint: compiled.rule.bulk for compiled in self._behind if compiled.rule.bulk}

    def __iter__(self) -> Iterator[CompiledRule]:
        return iter(self._rules)


def _check_bulks(rules: Iterable[CompiledRule]) -> None:
    """Refuse two forms for one endpoint: queued writes name theirs by it."""
    found: dict[str, Bulk] = {}
    for compiled in rules:
        bulk = compiled.rule.bulk
        if bulk is not None and found.setdefault(bulk.endpoint, bulk) != bulk:
            raise SettingsError(
                f"rules[{compiled.rule.path}].bulk", f"another rule has another form of {bulk.endpoint!r}"
            )


def _functions(rules: Iterable[CompiledRule]) -> dict[str, EffectFunction]:
    found: dict[str, EffectFunction] = {}
    for compiled in rules:
        rule = compiled.rule
        effects: list[Any] = [rule.effect, *(a.effect for a in rule.affects or () if isinstance(a, Affect))]
        for effect in effects:
            if not callable(effect):
                continue
            name = function_name(effect)
            if found.setdefault(name, effect) is not effect:
                raise SettingsError(f"rules[{rule.path}].effect", f"two functions have the name {name!r}")
    return found


def _default_parents(rule: Rule, pattern: PathPattern) -> Callable[[str], bool]:
    """Make the test whether a path may be the parent of one that the rule covers; where that is hard to tell, yes."""
    if not rule.behind or rule.affects is not None:
        return lambda path: False
    if "*" in pattern.pattern or ":" in pattern.pattern:  # segments that may be empty, or several
        return lambda path: path.startswith(pattern.head) or pattern.head.startswith(path + "/")
    above = pattern.pattern.rstrip("/").rpartition("/")[0]
    parent = PathPattern(above) if above else None
    return lambda path: parent is not None and parent.match(path) is not None


def _check_groups(compiled: CompiledRule, groups: Groups) -> None:
    """Refuse a rule that affects what may lie in another group, where no script could reach it."""
    home, pattern = compiled.pattern.plain, compiled.pattern
    for other in compiled.affected_patterns:
        away = other.plain
        apart = next((prefix for prefix in groups.prefixes if _may_part(prefix, pattern, other)), None)
        if apart is not None or groups.group(home) != groups.group(away):
            raise SettingsError(
                f"rules[{compiled.rule.path}].affects",
                f"{other.pattern!r} may lie outside the rule's group {apart or groups.group(home)!r}; "
                "give group= a prefix of both",
            )


def _may_part(prefix: str, pattern: PathPattern, other: PathPattern) -> bool:
    """Whether of two paths of the same parameters one may lie under `prefix` and the other not."""
    depth = prefix.count("/") + 1
    ours, theirs = (each.plain.split("/")[:depth] for each in (pattern, other))
    if ours == theirs and len(ours) == depth:
        return False
    under = [each.lies_under(prefix) for each in (pattern, other)]
    near = [(prefix + "/").startswith(each.head) for each in (pattern, other)]
    return under[0] != under[1] or (not all(under) and any(near))
