"""Sites: one tenant each, its hosts, origin, features and rules. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from yarl import URL

from .effects import AUTO, NAMES
from .errors import SettingsError
from .keys import SiteKey, normalize_path
from .patterns import PathPattern
from .rules import Lifetime, Rule, Rules, check_parameters
from .upstream import OriginAddress, Upstream
from .validation import check_number, check_types, explained, is_address, ttl_by_status

if TYPE_CHECKING:
    Texts = Sequence[str]
    Origin = str | Sequence["OriginAddress"]
    RuleList = Sequence[Rule]
    Features = Mapping[str, Any]
else:  # msgspec makes tuples of the lists that are given; rules are read by hand, so that none imports anything
    Texts = tuple[str, ...]
    Origin = str | tuple["OriginAddress", ...]
    RuleList = tuple[Any, ...]
    Features = dict[str, str | bool | int | dict[str, Any]]

MAX_HOSTS: Final = 1_000
"""Hosts of one site."""
MAX_ID: Final = 64
"""Characters of a site's id."""
CONTROL_SEGMENT: Final = "_regioncache"
"""The path segment under which an edge keeps its own pages."""
_MAX_HOST: Final = 253
_MAX_WEIGHT: Final = 1_000_000
_MAX_INTEGER: Final = 2**63
_MAX_DEPTH: Final = 8
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT: Final = re.compile(r":[0-9]*\Z")
_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID}}}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEALTH_PATH: Final = re.compile(r"/(?!/)[\x21-\x22\x24-\x7e]*")
_BOOKKEEPING: Final = frozenset({"revision"})


class Exclude(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests of a site are never cached.

    `paths`: patterns of paths; `prefixes`: what a path begins with; `extensions`: of the last segment, without the dot;
    `cookies`, `headers`: names that a request carries; `query`: parameters, `*` in them being anything.
    """

    paths: Texts = ()
    prefixes: Texts = ()
    extensions: Texts = ()
    cookies: Texts = ()
    headers: Texts = ()
    query: Texts = ()


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tenant.

    `domain`: a host name, or `*.shop.example` for every name one label below `shop.example`; `aliases`: others.
    `id`: letters, digits, `-` and `_`; fixed for ever, made by the store when it is empty.
    `origin`: the address that requests go to, or several `OriginAddress`s. `origin_host`: the host name that the origin
    is asked for; None: that of the request. `health_path`: the path that says whether an origin is well, if one does.
    `features`: what is done to answers, by name, with options. `exclude`: what is never cached. `rules`: as in the
    settings, without functions and import paths: nothing that a store says is imported. `ttl`: as in `Cache`; None as
    in the settings. `enabled`: whether it is served. `epoch`: another one makes another key of everything stored.
    `revision`: which version of the site this is, milliseconds of a region's clock, growing; given by the store.

    Raises `SettingsError` naming the key, such as `sites[shop.example].origin`.
    """

    domain: str
    aliases: Texts = ()
    id: str = ""
    origin: Origin
    origin_host: str | None = None
    health_path: str | None = None
    features: Features = msgspec.field(default_factory=dict)
    exclude: Exclude = Exclude()
    rules: RuleList = ()
    ttl: Lifetime = None
    enabled: bool = True
    epoch: int = 0
    revision: int = 0

    def __post_init__(self) -> None:
        key = f"sites[{self.domain}]"
        check_types(key, self)
        put = msgspec.structs.force_setattr
        put(self, "domain", _host(f"{key}.domain", self.domain))
        put(self, "aliases", _aliases(f"{key}.aliases", self))
        if self.id and not is_site_id(self.id):
            raise SettingsError(f"{key}.id", f"{self.id!r} is no id: 1 to {MAX_ID} letters, digits, - and _")
        if self.id == SiteKey().id:
            raise SettingsError(f"{key}.id", f"{self.id!r} is the site that the settings describe; give another one")
        _check_origin(f"{key}.origin", self)
        if self.origin_host is not None:
            put(self, "origin_host", _host(f"{key}.origin_host", self.origin_host, wildcard=False))
        if self.health_path is not None and not _HEALTH_PATH.fullmatch(self.health_path):
            raise SettingsError(f"{key}.health_path", f"{self.health_path!r} is no path; it begins with a slash")
        _check_features(f"{key}.features", self.features)
        put(self, "exclude", _exclude(f"{key}.exclude", self.exclude))
        put(self, "rules", _rules(key, self.rules))
        put(self, "ttl", ttl_by_status(f"{key}.ttl", self.ttl))
        for name in ("epoch", "revision"):
            check_number(f"{key}.{name}", getattr(self, name))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The domain and its aliases, in their normal form."""
        return (self.domain, *self.aliases)

    def upstream(self, *, allow_private: bool) -> Upstream:
        """Where its requests go; `allow_private`: also to addresses that are not public."""
        return Upstream(
            addresses=self.origins,
            host=self.origin_host,
            keeps_host=True,
            fallback_host=next((host for host in self.hosts if not host.startswith("*.")), None),
            health_path=self.health_path,
            is_guarded=not allow_private,
        )

    @property
    def origins(self) -> tuple[OriginAddress, ...]:
        """The origins, also when there is one."""
        return (OriginAddress(self.origin),) if isinstance(self.origin, str) else tuple(self.origin)


def is_site_id(text: str) -> bool:
    """Whether a text is the id of a site: letters, digits, `-` and `_`."""
    return _ID.fullmatch(text) is not None


def normalize_host(text: str, *, wildcard: bool = False) -> str | None:
    """Write the host of a request, with a port or without, in its normal form; None for what is no host name.

    That form is in lower case, without a port and a final dot, in A-labels (RFC 5890). `wildcard`: it may be one.
    """
    host = _PORT.sub("", text, count=1).lower().removesuffix(".")
    star, host = ("*.", host[2:]) if wildcard and host.startswith("*.") else ("", host)
    if not host.isascii():
        host = _a_labels(host)
    if not all(map(_LABEL.fullmatch, host.split("."))) or len(star + host) > _MAX_HOST:
        return None
    return star + host


def host_candidates(host: str) -> tuple[str, ...]:
    """What a site may list for a host: its name, and the wildcard beside it, which stands for one label."""
    if host.startswith("*."):
        return (host,)
    parent = host.partition(".")[2]
    return (host, f"*.{parent}") if parent else (host,)


def _a_labels(host: str) -> str:
    try:
        return (URL.build(scheme="http", host=host).raw_host or "").removesuffix(".")
    except ValueError:
        return ""


def _host(key: str, text: str, *, wildcard: bool = True) -> str:
    host = None if ":" in text else normalize_host(text, wildcard=wildcard)
    if host is None:
        form = "a host name such as shop.example" + (", or *.shop.example" if wildcard else "")
        raise SettingsError(key, f"{text!r} is not {form}, without a port")
    return host


def _aliases(key: str, site: Site) -> tuple[str, ...]:
    if len(site.aliases) >= MAX_HOSTS:
        raise SettingsError(key, f"are {len(site.aliases)}; a site has at most {MAX_HOSTS} hosts")
    found = [site.domain]
    for alias in site.aliases:
        host = _host(key, alias)
        if host in found:
            raise SettingsError(key, f"{alias!r} is there twice, or the domain")
        found.append(host)
    return tuple(found[1:])


def _check_origin(key: str, site: Site) -> None:
    if not site.origins:
        raise SettingsError(key, "is empty; give at least one address")
    urls = [origin.url for origin in site.origins]
    for origin in site.origins:
        if not is_address(origin.url):  # not quoted: there could be a password in it
            raise SettingsError(key, "is no address like https://origin.example, without user, query and fragment")
        if not 1 <= origin.weight <= _MAX_WEIGHT:
            raise SettingsError(f"{key}.weight", f"{origin.weight!r} is not from 1 to {_MAX_WEIGHT}")
        if urls.count(origin.url) > 1:
            raise SettingsError(key, f"{origin.url!r} is there twice")
    paths = {normalize_path(URL(url).raw_path).rstrip("/") for url in urls}
    if len(paths) > 1:
        raise SettingsError(key, "are addresses of different paths; what a write is signed for has one")
    if CONTROL_SEGMENT in "".join(paths).split("/"):
        raise SettingsError(key, f"leads to {CONTROL_SEGMENT}, where an edge keeps its own pages")


def _check_features(key: str, features: Mapping[str, Any]) -> None:
    for name, options in features.items():
        if not _TOKEN.fullmatch(name):
            raise SettingsError(key, f"{name!r} is no name of a feature")
        _check_options(f"{key}.{name}", options, _MAX_DEPTH)


def _check_options(key: str, value: Any, depth: int) -> None:
    """Refuse what does not come back from every form in which sites are kept."""
    if not depth:
        raise SettingsError(key, "is nested too deeply")
    if isinstance(value, Mapping):
        for name, each in value.items():
            _check_options(f"{key}.{name}", each, depth - 1)
        return
    if isinstance(value, (list, tuple)):
        for each in value:
            _check_options(key, each, depth - 1)
        return
    is_number = isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < _MAX_INTEGER
    if not (is_number or isinstance(value, str)):
        raise SettingsError(key, f"{value!r} is no text, truth value, number, list or table")


def _exclude(key: str, exclude: Exclude) -> Exclude:
    check_types(key, exclude)
    for pattern in exclude.paths:
        try:
            PathPattern(pattern)
        except ValueError as error:
            raise SettingsError(f"{key}.paths", str(error)) from None
    for prefix in exclude.prefixes:
        if not prefix.startswith("/"):
            raise SettingsError(f"{key}.prefixes", f"{prefix!r} does not begin with a slash")
    extensions = tuple(each.removeprefix(".").lower() for each in exclude.extensions)
    for name, names in (("extensions", extensions), ("cookies", exclude.cookies), ("headers", exclude.headers)):
        if (wrong := next((each for each in names if not _TOKEN.fullmatch(each)), None)) is not None:
            raise SettingsError(f"{key}.{name}", f"{wrong!r} is no name")
    check_parameters(f"{key}.query", exclude.query)
    headers = tuple(each.lower() for each in exclude.headers)
    return msgspec.structs.replace(exclude, extensions=extensions, headers=headers)


def _rules(key: str, rules: Sequence[Any]) -> tuple[Rule, ...]:
    """Read rules of which none names code: a site comes from a store, and what a store says must not be run."""
    try:
        found = tuple(_rule(number, rule) for number, rule in enumerate(rules))
        Rules(found)
    except SettingsError as error:
        raise SettingsError(f"{key}.{error.key}", str(error).removeprefix(f"{error.key}: ")) from None
    return found


def _rule(number: int, rule: Any) -> Rule:
    data = msgspec.structs.asdict(rule) if isinstance(rule, Rule) else rule
    name = f"rules[{number}]"
    if not isinstance(data, Mapping):
        raise SettingsError(name, f"{data!r} is no rule")
    name = f"rules[{data.get('path', number)}]"
    for part, value, allowed in _code(data):
        if value is not None and value not in allowed and not _names_identity(part, value):
            raise SettingsError(f"{name}.{part}", "names code, which the rule of a site may not")
    if isinstance(rule, Rule):
        return rule
    try:
        return msgspec.convert(data, Rule)
    except msgspec.ValidationError as error:
        raise explained(error, Rule, name) from None


def _code(data: Mapping[str, Any]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Every place of a rule where code may be named: its name, what stands there, and what that may be all the same."""
    yield "effect", data.get("effect", AUTO), NAMES
    yield "authorize", data.get("authorize"), ()
    yield "principal", data.get("principal"), ()
    affects = data.get("affects")
    for affect in affects if isinstance(affects, (list, tuple)) else ():
        yield "affects", _part(affect, "effect"), NAMES
    for name in ("encode", "decode"):
        yield f"bulk.{name}", _part(data.get("bulk"), name), ()


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _names_identity(part: str, value: Any) -> bool:
    return part == "principal" and isinstance(value, str) and value.startswith(("header:", "cookie:"))


def site_from(data: Any, name: str = "sites") -> Site:
    """Make a site from plain data such as decoded TOML. Raises `SettingsError` naming the key; `name` says whose."""
    if isinstance(data, Mapping) and isinstance(data.get("domain"), str):
        name = f"sites[{data['domain']}]"
    try:
        return msgspec.convert(data, Site)
    except msgspec.ValidationError as error:
        raise explained(error, Site, name) from None


def site_data(site: Site) -> dict[str, Any]:
    """Write a site as plain data, without what is as by default and without its revision."""
    return {name: value for name, value in _given(site).items() if name not in _BOOKKEEPING}


def _given(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(type(value))
        pairs = ((field, getattr(value, field.name)) for field in fields)
        return {field.name: _given(each) for field, each in pairs if field.required or each != _default(field)}
    if isinstance(value, Mapping):
        return {name: _given(each) for name, each in value.items()}
    return [_given(each) for each in value] if isinstance(value, (list, tuple)) else value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
