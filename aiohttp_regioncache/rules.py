"""Rules: what happens to which path. Pure."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from .effects import AUTO, NAMES, UNKNOWN_EFFECT, EffectFunction, function_name
from .errors import SettingsError
from .keys import Groups, normalize_octets
from .semantics.methods import is_safe
from .validation import check_types

if TYPE_CHECKING:
    from aiohttp import web

    Authorize = Callable[[web.Request], Awaitable[bool]]
    """Whether the bearer of a request may make this write; asked before it is queued."""
    Identify = Callable[[web.Request], str | None]
    """The identity behind a request, or None when it has none."""
    Effect = str | EffectFunction
    Authorization = str | Authorize | None
    Identity = str | Identify | None
    Texts = Sequence[str]
    Affects = Sequence["str | Affect"]
else:  # msgspec reads these at run time, has no word for a function, and makes tuples of lists
    Effect = Authorization = Identity = Any
    Texts = tuple[str, ...]
    Affects = tuple["str | Affect", ...]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAMETER: Final = re.compile(r"\{([A-Za-z_]\w*)(?::((?:[^{}]|\{\d*,?\d*\})*))?\}|\*\*|\*")


class PathPattern:
    """A pattern of paths: `{name}` or `*` is one segment (or part of one), `**` and `{name:.*}` anything.

    What is literal in it may be written as it reads or percent-encoded; paths are matched in their normal form.
    `head` is what every path begins with that the pattern covers. Raises `ValueError` for a pattern that does not
    begin with a slash or cannot be read.
    """

    def __init__(self, pattern: str) -> None:
        if not pattern.startswith("/") and not pattern.startswith("**"):
            raise ValueError(f"{pattern!r} does not begin with a slash")
        if not {".", ".."}.isdisjoint(pattern.split("/")):
            raise ValueError(f"{pattern!r} has a dot segment, which no path keeps")
        self.pattern = pattern = _normal(pattern)
        self.head = _PARAMETER.split(pattern, maxsplit=1)[0]
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
        return "".join((*parts, re.escape(pattern[end:])))

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parameters of a path that the pattern covers; None for one that it does not."""
        found = self._regex.fullmatch(path)
        return found.groupdict() if found else None

    def lies_under(self, prefix: str) -> bool:
        """Whether every path that the pattern covers is `prefix` or lies under it."""
        start = f"{self.head}/" if self.head == self.pattern else self.head
        return start.startswith(prefix + "/")

    def fill(self, parameters: Mapping[str, str]) -> str:
        """Make the path of these parameters."""
        return _PARAMETER.sub(lambda match: parameters[match[1]], self.pattern)


def _normal(pattern: str) -> str:
    """A pattern with the normal form of what is literal in it."""
    parts: list[str] = []
    end = 0
    for match in _PARAMETER.finditer(pattern):
        parts += (_literal(pattern, end, match.start()), match[0])
        end = match.end()
    return "".join((*parts, _literal(pattern, end, len(pattern))))


def _literal(pattern: str, start: int, end: int) -> str:
    text = pattern[start:end]
    if "{" in text or "}" in text:
        raise ValueError(f"{pattern!r} has a brace that is no parameter")
    return normalize_octets(text)


class Affect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another resource that a write touches.

    `path` may use the parameters of the rule's path. `effect` says what the write does to that resource's
    representation; None means unknown: its readers get the origin's answer.
    """

    path: str
    effect: Effect | None = UNKNOWN_EFFECT


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
    ttl: float | None = None
    dirty_wait: float | None = None
    answer: Literal["accepted", "optimistic"] = "accepted"
    repeatable: bool = True
    max_tries: int | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        key = f"rules[{self.path}]"
        check_types(key, self)
        _pattern(f"{key}.path", self.path)
        put = msgspec.structs.force_setattr
        put(self, "methods", tuple(_method(f"{key}.methods", method) for method in self.methods))
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


def _check_numbers(key: str, rule: Rule) -> None:
    for name in ("ttl", "dirty_wait", "max_tries", "max_age"):
        value = getattr(rule, name)
        if value is not None and not 0 <= value < float("inf"):
            raise SettingsError(f"{key}.{name}", f"{value!r} is not a number >= 0")
        if value == 0 and name.startswith("max_"):
            raise SettingsError(f"{key}.{name}", "is 0: no write would ever be sent; None is as in the settings")


def _check_through(key: str, rule: Rule) -> None:
    """Refuse what only writes behind have."""
    needless = [name for name in ("shared", "authorize", "affects", "group") if getattr(rule, name)]
    needless += ["effect"] if rule.effect != AUTO else []
    if needless:
        raise SettingsError(f"{key}.{needless[0]}", "only makes sense with write='behind'")


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
    if not rule.behind:
        _check_through(key, rule)
    if rule.answer == "optimistic" and rule.effect == UNKNOWN_EFFECT:
        raise SettingsError(f"{key}.answer", "is 'optimistic', yet nobody knows what a write of unknown effect does")
    if rule.behind and rule.methods and all(is_safe(method) for method in rule.methods):
        raise SettingsError(f"{key}.methods", "names no method that writes, yet write='behind'")
    parameters = PathPattern(rule.path).names
    for affect in rule.affects or ():
        assert isinstance(affect, Affect)  # noqa: S101 - made so by __post_init__
        pattern = PathPattern(affect.path)
        if "*" in affect.path or not pattern.names <= parameters:
            raise SettingsError(
                f"{key}.affects",
                f"{affect.path!r} may use only the parameters of the rule's path: {sorted(parameters)}",
            )


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
        for compiled in self._rules:
            _check_groups(compiled, self.groups)
        self._functions = _functions(self._rules)

    def find(self, method: str, path: str) -> CompiledRule | None:
        """The first rule that covers a request."""
        return next((rule for rule in self._rules if rule.covers(method, path)), None)

    def touching(self, path: str) -> tuple[CompiledRule, ...]:
        """The rules whose writes behind can change what `path` shows."""
        return tuple(compiled for compiled in self._behind if compiled.touches(path))

    def functions(self) -> dict[str, EffectFunction]:
        """The effect functions of all rules, by the name that records keep."""
        return self._functions

    def __iter__(self) -> Iterator[CompiledRule]:
        return iter(self._rules)


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
    home, pattern = _plain(compiled.pattern.pattern), compiled.pattern
    for other in compiled.affected_patterns:
        away = _plain(other.pattern)
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
    ours, theirs = (_plain(each.pattern).split("/")[:depth] for each in (pattern, other))
    if ours == theirs and len(ours) == depth:
        return False
    under = [each.lies_under(prefix) for each in (pattern, other)]
    near = [(prefix + "/").startswith(each.head) for each in (pattern, other)]
    return under[0] != under[1] or (not all(under) and any(near))


def _plain(pattern: str) -> str:
    """A pattern with its parameters by name alone: two that read the same here are the same path segment."""
    return _PARAMETER.sub(lambda match: "{" + match[1] + "}" if match[1] else match[0], pattern)
