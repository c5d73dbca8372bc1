"""The settings: frozen, checked when made, from code or from a TOML file with environment overrides. Pure."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_origin

import msgspec

from .cipher import Cipher
from .durability import parse_durability
from .errors import SettingsError
from .patterns import PathPattern
from .regions import COUNTRY_HEADERS, POSITION_HEADERS, Region, TrustedProxies
from .rules import Lifetime, Rule, Rules, check_parameters
from .validation import check_number, check_types, explained, is_address, struct_in, ttl_by_status, type_at

if TYPE_CHECKING:
    Texts = Sequence[str]
    Pairs = Sequence[tuple[str, str]]
    Regions = Sequence[Region]
    RuleList = Sequence[Rule]
    Features = Mapping[str, Any]
else:  # msgspec makes tuples of the lists that are given
    Texts = tuple[str, ...]
    Pairs = tuple[tuple[str, str], ...]
    Regions = tuple[Region, ...]
    RuleList = tuple[Rule, ...]
    Features = dict[str, Any]

_SECRET: Final = frozenset({"secrets", "momento_secrets", "encryption_keys", "authorization"})
_FIELD_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
ENVIRONMENT_PREFIX: Final = "REGIONCACHE_"
_MIB: Final = 1024 * 1024
_MAX_PORT: Final = 65_535
_MAX_WORKERS: Final = 256

AccessLogForm = Literal["off", "common", "json"]


def _checked(key: str, check: Callable[[Any], object], value: object) -> None:
    try:
        check(value)
    except ValueError as error:
        raise SettingsError(key, str(error).removeprefix(f"{key}: ")) from None


def _shown(name: str, value: Any) -> Any:
    if name not in _SECRET or not value:
        return value
    return f"{len(value)} not shown" if isinstance(value, tuple) else "not shown"


class _Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the settings; every number in it is >= 0, and none beyond what Redis can count."""

    def __post_init__(self) -> None:
        check_types(self._key, self)
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, (int, float)):
                check_number(f"{self._key}.{name}", value)

    @property
    def _key(self) -> str:
        """The name of this part among the settings."""
        return type(self).__name__.lower()

    def __repr__(self) -> str:
        """Show every setting, secrets by their number."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Name and value of every setting, secrets by their number."""
        return [(name, _shown(name, value)) for name, value in msgspec.structs.asdict(self).items()]

    def _check_above(self, *names: str) -> None:
        """Refuse 0, which would mean at once, all the time or never."""
        if name := next((name for name in names if getattr(self, name) == 0), None):
            raise SettingsError(f"{self._key}.{name}", "is 0; it must be more")


class Cache(_Group, frozen=True, kw_only=True):
    """How reads are cached.

    `ttl`: seconds of freshness for responses that do not say, None for none; or seconds by status, as in a `Rule`.
    `heuristics`: whether RFC 9111 section 4.2.2 may guess. `stale_while_revalidate`, `stale_if_error`: seconds, for
    responses that do not say. `stale_if_unreachable`: seconds that a response may be stale which stands in for an
    origin without any answer, where the response does not forbid it (RFC 9111 section 4.2.4).
    `early_refresh`: how early a response in demand is fetched anew while it is still fresh, by chance and the more
    likely the nearer its end and the longer its fetch took (XFetch); 0 never, 1 is usual.
    `ignore_query`: parameters of the query that do not count in the key: names, `*` in them being anything.
    `sort_query`: whether the order of differently named parameters does not count.
    `max_body`: bytes of the largest body stored. `keep`: seconds that an entry stays after it went stale.
    `memory_seconds`, `memory_bytes`: the process's own memory; 0 seconds turns it off.
    `dirty_wait`: seconds that a read waits for a write of unknown effect. `flight_wait`: seconds that a request
    waits for another's fetch; then it asks for itself, and its answer is not stored. `flight_age`: seconds after which
    one more request begins a fetch beside one that still runs, and its answer is stored; 0 for never. `holdoff`:
    seconds that the origin's readers may lag behind its writers.
    `landed_count`, `landed_seconds`: how many landed writes stay over an older base, and how long.
    `exclude`: path patterns that are never cached. `cookies_are_credentials`: whether a response to a request
    with cookies is shared only when it says so, as with `Authorization` (RFC 9111 section 3.5).
    `store_set_cookie`: whether responses that set cookies may be stored where the origin has given them a lifetime.
    `soft_purge_seconds`: how long what was purged softly may be served while it is revalidated, if it allows less.
    """

    ttl: Lifetime = None
    heuristics: bool = True
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    stale_if_unreachable: float = 86_400.0
    early_refresh: float = 0.0
    ignore_query: Texts = ()
    sort_query: bool = False
    max_body: int = _MIB
    keep: float = 86_400.0
    memory_seconds: float = 1.0
    memory_bytes: int = 64 * _MIB
    dirty_wait: float = 2.0
    flight_wait: float = 10.0
    flight_age: float = 5.0
    holdoff: float = 0.0
    landed_count: int = 128
    landed_seconds: float = 600.0
    exclude: Texts = ()
    cookies_are_credentials: bool = True
    store_set_cookie: bool = True
    soft_purge_seconds: float = 60.0

    @property
    def table_bytes(self) -> int:
        """What each table by which requests are answered faster may take: an eighth of the memory's octets."""
        return self.memory_bytes // 8

    def __post_init__(self) -> None:
        super().__post_init__()
        msgspec.structs.force_setattr(self, "ttl", ttl_by_status("cache.ttl", self.ttl))
        check_parameters("cache.ignore_query", self.ignore_query)
        if self.landed_seconds <= self.holdoff:
            raise SettingsError("cache.landed_seconds", f"must be more than cache.holdoff {self.holdoff!r}")


class Queue(_Group, frozen=True, kw_only=True):
    """What a region accepts.

    `max_writes`, `max_bytes`: pending in a partition; `max_writes_per_resource`, `max_bytes_per_resource`,
    `max_writes_per_principal`. `durability`: what a write has survived when it is acknowledged, `memory`,
    `replicated=N` or `fsync`; `durability_timeout`: seconds that replicas or the disk get for that.
    `encryption_keys`: 32 octets each in base64; the first encrypts queued requests, all decrypt. `pin_seconds`: how
    long who has written stays with that region.
    `max_body`: bytes of the largest write taken behind. `inline_body`: bytes up to which a body stays in the
    record. `status_seconds`, `idempotency_seconds`: how long the status of a settled write and the client's
    idempotency key are kept.
    """

    max_writes: int = 100_000
    max_bytes: int = 256 * _MIB
    max_writes_per_resource: int = 1_000
    max_bytes_per_resource: int = 32 * _MIB
    max_writes_per_principal: int = 10_000
    durability: str = "memory"
    durability_timeout: float = 1.5
    encryption_keys: Texts = ()
    pin_seconds: float = 600.0
    max_body: int = 8 * _MIB
    inline_body: int = 16 * 1024
    status_seconds: float = 86_400.0
    idempotency_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _checked("queue.durability", parse_durability, self.durability)
        _checked("queue.encryption_keys", Cipher, self.encryption_keys)
        self._check_above("durability_timeout")


class Sync(_Group, frozen=True, kw_only=True):
    """The sync loop.

    `enabled`: whether this edge replays writes. `poll`: seconds between looks without a wake-up (at most 1).
    `lease`: seconds that a claim lasts. `claim`: resources claimed at once. `concurrency`: requests to the origin
    at once. `timeout`: seconds for one attempt. `max_tries`, `max_age` (seconds): when a write is given up.
    `max_stalls`: how many senders may vanish over a write before it is given up too. `authorization`: the value of the
    field that every replay carries instead of the user's; None: the user's own. `intent_seconds`: how long a write
    through may take until another edge invalidates in its place.
    `retry_base`, `retry_cap`: seconds, of the exponential back-off. `breaker_failures`, `breaker_seconds`: an
    origin that failed so often in a row is left alone for so long.
    """

    enabled: bool = True
    poll: float = 1.0
    lease: float = 30.0
    claim: int = 256
    concurrency: int = 64
    timeout: float = 15.0
    max_tries: int = 100
    max_age: float = 3 * 86_400.0
    max_stalls: int = 20
    authorization: str | None = None
    intent_seconds: float = 60.0
    retry_base: float = 0.5
    retry_cap: float = 60.0
    breaker_failures: int = 5
    breaker_seconds: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.poll <= 1:
            raise SettingsError("sync.poll", f"{self.poll!r} is not more than 0 and at most 1 second")
        if self.timeout >= 0.8 * self.lease:
            raise SettingsError("sync.timeout", f"{self.timeout!r} does not fit into 80 % of sync.lease {self.lease!r}")
        self._check_above(
            "timeout", "claim", "concurrency", "max_tries", "max_age", "max_stalls", "intent_seconds", "retry_base",
            "retry_cap",
        )  # fmt: skip
        if self.authorization is not None and not _FIELD_VALUE.fullmatch(self.authorization):
            raise SettingsError("sync.authorization", "is no value of a header field")


class Webhook(_Group, frozen=True, kw_only=True):
    """The signed call `POST /_regioncache/sync` that wakes the sync loops.

    `secrets`: of Standard Webhooks (`whsec_...`); `momento_secrets`: of Momento's form; several during a rotation.
    `wait`: seconds that a call waits for the queue to drain.
    """

    secrets: Texts = ()
    momento_secrets: Texts = ()
    wait: float = 5.0


class Connections(_Group, frozen=True, kw_only=True):
    """Connections to the regions' Redis.

    `connect_timeout`, `timeout`: seconds for cache reads and fills, which never retry. `queue_timeout`: seconds for
    the queue, sync and control, which do. `breaker_failures`, `breaker_seconds`: a region that failed so often in
    a row is skipped for so long.
    """

    connect_timeout: float = 0.5
    timeout: float = 0.25
    queue_timeout: float = 3.0
    breaker_failures: int = 2
    breaker_seconds: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_above("connect_timeout", "timeout", "queue_timeout")


class Gateway(_Group, frozen=True, kw_only=True):
    """How requests are forwarded to origins.

    `connect_timeout`: seconds that a connection to an origin may take; `read_timeout`: seconds without a byte of an
    answer, which only event streams may be silent for, or of the body of a request. `max_request_body`: bytes, decoded
    ones of a coded body; `max_websocket_message`: bytes. `health_seconds`: between the checks of origins that have a
    path for it. `fast_hits`: whether `serve` answers hits, and misses, before aiohttp makes a request of them.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 15.0
    max_request_body: int = 100 * _MIB
    max_websocket_message: int = 4 * _MIB
    health_seconds: float = 10.0
    fast_hits: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_above("connect_timeout", "read_timeout", "health_seconds", "max_websocket_message")


class Sites(_Group, frozen=True, kw_only=True):
    """Many tenants on one edge, each a `Site` in the regions' Redis.

    `enabled`: whether hosts are looked up there. `cache_seconds`: how long a process takes a site for known without
    asking again, 1 to 60; a published change counts at once. `max_known`: how many hosts it knows at once, and as many
    of which it knows that they are none. `allow_private_origins`: whether a site's origin may lie at a loopback,
    link-local or private address.
    """

    enabled: bool = False
    cache_seconds: float = 30.0
    max_known: int = 10_000
    allow_private_origins: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.cache_seconds <= 60:
            raise SettingsError("sites.cache_seconds", f"{self.cache_seconds!r} is not from 1 to 60 seconds")
        self._check_above("max_known")


class Serve(_Group, frozen=True, kw_only=True):
    """The server that `aiohttp-regioncache serve` runs; what its command line says comes first.

    `host` and `port`: where it listens, or `socket`: the path of a unix socket. `workers`: processes that share it.
    `tls_cert`, `tls_key`: files in PEM form, both or none. `access_log`: `off`, `common` or `json`, to the standard
    output. `drain`: seconds that a stopping server still takes connections while its readiness says 503.
    `stop_timeout`: seconds that requests get to end. `start_timeout`: seconds within which a worker is ready.
    `health_from`: addresses or networks that may ask for its health, beside this machine and `trusted_proxies`.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    socket: str | None = None
    workers: int = 1
    tls_cert: str | None = None
    tls_key: str | None = None
    access_log: AccessLogForm = "off"
    drain: float = 0.0
    stop_timeout: float = 30.0
    start_timeout: float = 60.0
    health_from: Texts = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.port > _MAX_PORT:
            raise SettingsError("serve.port", f"{self.port!r} is no port; allowed: 0 (any that is free) to {_MAX_PORT}")
        if not 1 <= self.workers <= _MAX_WORKERS:
            raise SettingsError("serve.workers", f"{self.workers!r} is not 1 to {_MAX_WORKERS}")
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "tls_cert" if self.tls_cert is None else "tls_key"
            raise SettingsError(f"serve.{missing}", "is missing; give tls_cert and tls_key, or none of them")
        self._check_above("stop_timeout", "start_timeout")
        _checked("serve.health_from", TrustedProxies, self.health_from)


class Settings(_Group, frozen=True, kw_only=True):
    """Everything that can be set.

    `origin`: the address that writes are replayed to, such as `https://origin.example`. `regions`: at least one.
    `home_region`: the region beside this edge, if there is one. `default_region`: the one for users whose place is
    unknown. `trusted_proxies`: addresses or networks whose headers say where a user is: `country_headers` name the
    country, `position_headers` latitude and longitude. `secrets`: the same on every edge; the first signs, all verify.
    `rules`: what happens to which path. `features`: what is done to answers, options by name. `cache`, `queue`, `sync`,
    `connections`, `webhook`, `gateway`, `sites`, `serve`: the parts of their name.
    """

    origin: str | None = None
    regions: Regions = ()
    home_region: str | None = None
    default_region: str | None = None
    trusted_proxies: Texts = ()
    country_headers: Texts = COUNTRY_HEADERS
    position_headers: Pairs = POSITION_HEADERS
    secrets: Texts = ()
    rules: RuleList = ()
    features: Features = msgspec.field(default_factory=dict)
    cache: Cache = Cache()
    queue: Queue = Queue()
    sync: Sync = Sync()
    connections: Connections = Connections()
    webhook: Webhook = Webhook()
    gateway: Gateway = Gateway()
    sites: Sites = Sites()
    serve: Serve = Serve()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_regions()
        self._check_origin()
        self._check_secrets()
        for pattern in self.cache.exclude:
            _checked("cache.exclude", PathPattern, pattern)
        _checked("trusted_proxies", TrustedProxies, self.trusted_proxies)
        Rules(self.rules)
        if self.sync.authorization is not None:
            check_service(self.rules)

    @property
    def _key(self) -> str:
        return ""

    @property
    def only_embedded(self) -> bool:
        """Whether every region is an embedded server, on this machine."""
        return all(region.redis.startswith("embedded:") for region in self.regions)

    @property
    def writes_behind(self) -> bool:
        """Whether any rule takes writes behind."""
        return any(rule.behind for rule in self.rules)

    def _check_regions(self) -> None:
        names = [region.name for region in self.regions]
        if not names:
            raise SettingsError("regions", "is empty; give at least one Region(name, redis=...)")
        if double := next((name for name in names if names.count(name) > 1), None):
            raise SettingsError("regions", f"{double!r} is there twice")
        for key in ("home_region", "default_region"):
            name = getattr(self, key)
            if name is not None and name not in names:
                raise SettingsError(key, f"{name!r} is no region; allowed: {', '.join(names)}")

    def _check_origin(self) -> None:
        if self.origin is None:
            if self.writes_behind and not self.sites.enabled:
                raise SettingsError("origin", "is missing; a rule with write='behind' replays its writes there")
            return
        if not is_address(self.origin):  # not quoted: there could be a password in it
            raise SettingsError("origin", "is no address like https://origin.example, without user, query and fragment")

    def _check_secrets(self) -> None:
        short = next((secret for secret in self.secrets if len(secret) < 16), None)
        if short is not None:
            raise SettingsError("secrets", f"one has {len(short)} characters; at least 16")
        needed = self.writes_behind or self.sites.enabled or any(rule.per_user for rule in self.rules)
        if needed and not self.secrets and not self.only_embedded:
            raise SettingsError(
                "secrets",
                "is empty, yet a rule (or that of a site) writes behind or stores per user; give one that all edges of "
                "all regions share",
            )


def check_service(rules: Iterable[Rule]) -> None:
    """Refuse rules under which nobody asks whether a write is allowed, when all are replayed as one service."""
    for rule in rules:
        if rule.behind and not (rule.authorize or rule.authorized):
            raise SettingsError(
                "sync.authorization",
                f"replays as a service that may do everything, yet rules[{rule.path}] says of no write whether its "
                "user may: give authorize=, or authorized=True when an outer middleware does",
            )


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from a TOML file, overridden by environment variables.

    A variable is named after the key: `REGIONCACHE_HOME_REGION`, `REGIONCACHE_CACHE__TTL` (two underscores for a
    step down). Lists of text are separated by commas, other lists and tables are JSON. Raises `SettingsError`
    naming the key for what is unknown or wrong, and `OSError` for a file that cannot be read.
    """
    return parse(Path(path).read_bytes(), str(path), environ)


def parse(text: bytes, name: str, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from TOML in UTF-8, as `load` does; `name` is what errors call it. Raises `SettingsError`."""
    try:
        data = tomllib.loads(text.decode("utf-8").replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(name, f"is no TOML: {error}") from None
    for name, value in sorted((os.environ if environ is None else environ).items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            _override(data, name, value)
    return from_mapping(data)


def from_mapping(data: Mapping[str, Any]) -> Settings:
    """Make settings from plain data such as decoded TOML. Raises `SettingsError` naming the key."""
    try:
        return msgspec.convert(data, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise explained(error, Settings) from None


def _override(data: dict[str, Any], variable: str, value: str) -> None:
    *groups, name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    owner = type_at(Settings, ".".join(groups))
    if not (isinstance(owner, type) and issubclass(owner, _Group)):
        owner = Settings
    field = next((f for f in msgspec.structs.fields(owner) if f.name == name), None)
    if field is None or (groups and owner is Settings):
        raise SettingsError(variable, f"names no setting; allowed: {', '.join(owner.__struct_fields__)}")
    for group in groups:
        data = data.setdefault(group, {})
        if not isinstance(data, dict):
            raise SettingsError(group, f"is no table, yet {variable} sets something in it")
    data[name] = _from_text(variable, field.type, value)


def _from_text(variable: str, kind: Any, value: str) -> Any:
    if kind == tuple[str, ...]:
        return [part.strip() for part in value.split(",") if part.strip()]
    is_table = kind == Lifetime and value.lstrip().startswith("{")
    if get_origin(kind) is not tuple and struct_in(kind) is None and not is_table:
        return value
    try:
        return msgspec.json.decode(value.encode())
    except msgspec.DecodeError as error:
        raise SettingsError(variable, f"is no JSON: {error}") from None
