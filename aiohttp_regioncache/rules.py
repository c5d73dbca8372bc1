"""Rules: what happens to which path. Pure."""

from __future__ import annotations

import importlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from .effects import AUTO, NAMES, UNKNOWN_EFFECT, EffectFunction, function_name
from .errors import SettingsError
from .keys import Groups

if TYPE_CHECKING:
    from aiohttp import web

    Authorize = Callable[[web.Request], Awaitable[bool]]
    """Whether the bearer of a request may make this write; asked before it is queued."""
    Identify = Callable[[web.Request], str | None]
    """The identity behind a request, or None when it has none."""
    Effect = str | EffectFunction
    Authorization = str | Authorize | None
    Identity = str | Identify | None
else:  # msgspec reads these at run time and has no word for a function
    Effect = Authorization = Identity = Any

READ_METHODS: Final = ("GET", "HEAD")
_PARAMETER: Final = re.compile(r"\{([A-Za-z_]\w*)(?::((?:[^{}]|\{\d*,?\d*\})*))?\}|\*\*|\*")


class PathPattern:
    """A pattern of paths: `{name}` or `*` is one segment (or part of one), `**` and `{name:.*}` anything.

    Raises `ValueError` for a pattern that does not begin with a slash or cannot be read.
    """

    def __init__(self, pattern: str) -> None:
        if not pattern.startswith("/") and not pattern.startswith("**"):
            raise ValueError(f"{pattern!r} does not begin with a slash")
        self.pattern = pattern
        self.names = frozenset(match[1] for match in _PARAMETER.finditer(pattern) if match[1])
        try:
            self._regex = re.compile(self._translate(pattern))
        except re.error as error:
            raise ValueError(f"{pattern!r} cannot be read: {error}") from None

    @staticmethod
    def _translate(pattern: str) -> str:
        parts: list[str] = []
        end = 0
        for match in _PARAMETER.finditer(pattern):
            parts.append(re.escape(pattern[end : match.start()]))
            if match[0] == "**":
                parts.append(".*")
            elif match[0] == "*":
                parts.append("[^/]*")
            else:
                parts.append(f"(?P<{match[1]}>{match[2] or '[^/]+'})")
            end = match.end()
        rest = pattern[end:]
        if "{" in rest or "}" in rest:
            raise ValueError(f"{pattern!r} has a brace that is no parameter")
        return "".join((*parts, re.escape(rest)))

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parameters of a path that the pattern covers; None for one that it does not."""
        found = self._regex.fullmatch(path)
        return found.groupdict() if found else None

    def fill(self, parameters: Mapping[str, str]) -> str:
        """Make the path of these parameters."""
        return _PARAMETER.sub(lambda match: parameters[match[1]], self.pattern)


class Affect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another resource that a write touches.

    `path` may use the parameters of the rule's path. `effect` says what the write does to that resource's
    representation; None means unknown: its readers get the origin's answer.
    """

    path: str
    effect: Effect = UNKNOWN_EFFECT


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
    `ttl`: seconds of freshness for responses that do not say; `dirty_wait`: seconds that a read waits for a write
    of unknown effect, None as in the settings.
    `answer`: `accepted` (202), or `optimistic`: 200 or 204 with the expected representation.
    `repeatable`: whether the origin may see a write twice when the outcome of an attempt is unknown.
    `max_tries`, `max_age` (seconds): when to give a write up; None as in the settings.
    """

    methods: tuple[str, ...] = ()
    read: Literal["cache", "pass"] = "cache"
    write: Literal["through", "behind"] = "through"
    effect: Effect = AUTO
    affects: tuple[str | Affect, ...] | None = None
    group: str | None = None
    per_user: bool = False
    shared: bool = False
    authorize: Authorization = None
    authorized: bool = False
    principal: Identity = None
    ttl: float | None = None
    dirty_wait: float | None = None
    answer: Literal["accepted", "optimistic"] = "accepted"
    repeatable: bool = True
    max_tries: int | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        key = f"rules[{self.path}]"
        _pattern(f"{key}.path", self.path)
        put = msgspec.structs.force_setattr
        put(self, "methods", tuple(method.upper() for method in self.methods))
        put(self, "effect", _effect(f"{key}.effect", self.effect))
        put(self, "authorize", _imported(f"{key}.authorize", self.authorize))
        put(self, "principal", _identity(f"{key}.principal", self.principal))
        if self.affects is not None:
            put(self, "affects", tuple(_affect(key, item) for item in self.affects))
        _check_numbers(key, self)
        _check_contradictions(key, self)

    @property
    def behind(self) -> bool:
        """Whether writes are taken behind."""
        return self.write == "behind"


def _pattern(key: str, pattern: str) -> PathPattern:
    try:
        return PathPattern(pattern)
    except ValueError as error:
        raise SettingsError(key, str(error)) from None


def _imported(key: str, value: Any) -> Any:
    """Find the function behind an import path `module:name`; anything else stays."""
    if not isinstance(value, str):
        if value is not None and not callable(value):
            raise SettingsError(key, f"{value!r} is neither a function nor an import path 'module:name'")
        return value
    module, _, name = value.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(key, f"{value!r} cannot be imported: {error}") from None
    return found


def _effect(key: str, value: Any) -> Any:
    if isinstance(value, str):
        if value in NAMES:
            return value
        if ":" not in value:
            raise SettingsError(key, f"{value!r} is no effect; allowed: {', '.join(NAMES)}, a function, 'module:name'")
    return _imported(key, value)


def _identity(key: str, value: Any) -> Any:
    if isinstance(value, str):
        kind, _, name = value.partition(":")
        if kind in ("header", "cookie"):
            if not name:
                raise SettingsError(key, f"{value!r} names no {kind}; write '{kind}:NAME'")
            return value
    return _imported(key, value)


def _affect(key: str, item: str | Affect) -> Affect:
    affect = Affect(item) if isinstance(item, str) else item
    _pattern(f"{key}.affects", affect.path)
    return Affect(affect.path, _effect(f"{key}.affects[{affect.path}].effect", affect.effect))


def _check_numbers(key: str, rule: Rule) -> None:
    for name in ("ttl", "dirty_wait", "max_tries", "max_age"):
        value = getattr(rule, name)
        if value is not None and not 0 <= value < float("inf"):
            raise SettingsError(f"{key}.{name}", f"{value!r} is not a number >= 0")


def _check_contradictions(key: str, rule: Rule) -> None:
    if rule.shared and not (rule.authorize or rule.authorized):
        raise SettingsError(
            f"{key}.shared",
            "shows pending writes to everybody: give authorize=, or authorized=True when an outer middleware "
            "authorises every write before it gets here",
        )
    if rule.shared and rule.per_user:
        raise SettingsError(f"{key}.shared", "contradicts per_user: a representation is one for all or one for each")
    if rule.group is not None and not rule.group.startswith("/"):
        raise SettingsError(f"{key}.group", f"{rule.group!r} is no path prefix; it begins with a slash")
    if not rule.behind:
        for name in ("shared", "authorize", "affects", "group"):
            if getattr(rule, name):
                raise SettingsError(f"{key}.{name}", "only makes sense with write='behind'")
    if rule.behind and rule.methods and not set(rule.methods) - set(READ_METHODS):
        raise SettingsError(f"{key}.methods", "names only methods that read, yet write='behind'")
    parameters = PathPattern(rule.path).names
    for affect in rule.affects or ():
        assert isinstance(affect, Affect)  # noqa: S101 - made so by __post_init__
        pattern = PathPattern(affect.path)
        if "*" in affect.path or not pattern.names <= parameters:
            raise SettingsError(
                f"{key}.affects",
                f"{affect.path!r} may use only the parameters of the rule's path: {sorted(parameters)}",
            )


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
        self._touched = [compiled.pattern for compiled in self._rules if compiled.rule.behind] + [
            PathPattern(affect.path)
            for rule in rules
            if rule.behind
            for affect in rule.affects or ()
            if isinstance(affect, Affect)
        ]
        for compiled in self._rules:
            _check_groups(compiled, self.groups)

    def find(self, method: str, path: str) -> CompiledRule | None:
        """The first rule that covers a request."""
        return next((rule for rule in self._rules if rule.covers(method, path)), None)

    def touched_behind(self, path: str) -> bool:
        """Whether a write behind can change what `path` shows."""
        if any(pattern.match(path) is not None for pattern in self._touched):
            return True
        return any(_is_default_parent(compiled, path) for compiled in self._rules)

    def functions(self) -> dict[str, EffectFunction]:
        """The effect functions of all rules, by the name that records keep."""
        effects: Iterable[Any] = (
            effect
            for compiled in self._rules
            for effect in (
                compiled.rule.effect,
                *(a.effect for a in compiled.rule.affects or () if isinstance(a, Affect)),
            )
        )
        return {function_name(effect): effect for effect in effects if callable(effect)}

    def __iter__(self) -> Any:
        return iter(self._rules)


def _is_default_parent(compiled: CompiledRule, path: str) -> bool:
    rule = compiled.rule
    if not rule.behind or rule.affects is not None:
        return False
    parent = rule.path.rstrip("/").rpartition("/")[0]
    if "**" in rule.path or ":" in rule.path:
        return True  # the parent of a path that may have any depth
    return bool(parent) and PathPattern(parent).match(path) is not None


def _check_groups(compiled: CompiledRule, groups: Groups) -> None:
    """Refuse a rule that affects what may lie in another group, where no script could reach it."""
    rule = compiled.rule
    home = groups.group(_plain(rule.path))
    for affect in rule.affects or ():
        if isinstance(affect, Affect) and groups.group(_plain(affect.path)) != home:
            raise SettingsError(
                f"rules[{rule.path}].affects",
                f"{affect.path!r} lies outside the rule's group {home!r}; give group= a prefix of both",
            )


def _plain(pattern: str) -> str:
    """A pattern with its parameters by name alone: two that read the same here are the same path segment."""
    return _PARAMETER.sub(lambda match: "{" + match[1] + "}" if match[1] else match[0], pattern)
