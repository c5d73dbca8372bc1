"""Regions and geography: where a request comes from and which regions are near to it."""

from __future__ import annotations

import csv
import difflib
import functools
import ipaddress
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from types import MappingProxyType

import msgspec

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG), in kilometres."""

COUNTRY_HEADERS: tuple[str, ...] = (
    "CF-IPCountry",
    "CloudFront-Viewer-Country",
    "X-Vercel-IP-Country",
    "Fastly-Geo-Country",
    "X-AppEngine-Country",
    "X-Country-Code",
)
"""Headers in which proxies name the client's country (ISO 3166-1 alpha-2), in the order of precedence."""

POSITION_HEADERS: tuple[tuple[str, str], ...] = (
    ("CF-IPLatitude", "CF-IPLongitude"),
    ("CloudFront-Viewer-Latitude", "CloudFront-Viewer-Longitude"),
    ("X-Vercel-IP-Latitude", "X-Vercel-IP-Longitude"),
)
"""Pairs of headers in which proxies name the client's latitude and longitude, in the order of precedence."""

REDIS_SCHEMES = ("redis", "rediss", "unix", "embedded", "redis+cluster", "rediss+cluster", "redis+sentinel")
"""Schemes that the Redis URL of a region may have."""

_PATH_SCHEMES = ("unix", "embedded")
_REGION_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_DEGREES = re.compile(r"[+-]?(?:[0-9]{1,3}(?:\.[0-9]*)?|\.[0-9]+)")
_USERINFO = re.compile(r"(?<=://).*@", re.DOTALL)
_QUERY = re.compile(r"\?.*", re.DOTALL)
_CACHED_CELLS = 4096
_CACHED_PEERS = 4096


class Position(msgspec.Struct, frozen=True):
    """Hold a point on the globe.

    Latitude (-90 to 90, north positive) and longitude (-180 to 180, east positive) are in degrees. ValueError
    names the coordinate that is not a finite number in its range.
    """

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        _check_degrees("latitude", self.latitude, 90)
        _check_degrees("longitude", self.longitude, 180)


def _check_degrees(key: str, value: object, limit: int) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and -limit <= value <= limit:
        return
    raise ValueError(f"{key}: must be a number from {-limit} to {limit}, not {value!r}")


def distance(a: Position, b: Position) -> float:
    """Return the great-circle distance from `a` to `b` in kilometres (mean radius)."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    delta = math.radians(b.longitude - a.longitude)
    # The special case of Vincenty's formula for a sphere is exact for near and for antipodal points alike.
    east = math.cos(phi_b) * math.sin(delta)
    north = math.cos(phi_a) * math.sin(phi_b) - math.sin(phi_a) * math.cos(phi_b) * math.cos(delta)
    along = math.sin(phi_a) * math.sin(phi_b) + math.cos(phi_a) * math.cos(phi_b) * math.cos(delta)
    return EARTH_RADIUS_KM * math.atan2(math.hypot(east, north), along)


class Country(msgspec.Struct, frozen=True):
    """Describe a country: ISO 3166-1 alpha-2 code, English name, population-weighted centre."""

    code: str
    name: str
    position: Position


class KnownRegion(msgspec.Struct, frozen=True):
    """Describe a region of a cloud provider (`aws`, `azure`, `fly`, `gcp`) and the city it lies in."""

    name: str
    provider: str
    position: Position
    city: str


def _read(file: str) -> Iterator[dict[str, str]]:
    text = resources.files("aiohttp_regioncache.data").joinpath(file).read_text(encoding="utf-8")
    return csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))


def _row_position(row: Mapping[str, str]) -> Position:
    return Position(float(row["latitude"]), float(row["longitude"]))


@functools.cache
def countries() -> Mapping[str, Country]:
    """Return every country of ISO 3166-1 by its alpha-2 code in upper case; read once."""
    rows = _read("countries.csv")
    return MappingProxyType({row["code"]: Country(row["code"], row["name"], _row_position(row)) for row in rows})


@functools.cache
def known_regions() -> Mapping[str, KnownRegion]:
    """Return the regions of AWS, Azure, Fly.io and Google Cloud by name; read once."""
    rows = _read("regions.csv")
    return MappingProxyType(
        {row["name"]: KnownRegion(row["name"], row["provider"], _row_position(row), row["city"]) for row in rows}
    )


class _Named(msgspec.Struct, frozen=True):
    name: str


class Region(_Named, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name a place that has one Redis or Valkey.

    `name` is 1 to 63 characters of `a-z0-9.-`. `redis` is the server's URL, its scheme one of
    `REDIS_SCHEMES`. `latitude` and `longitude` are in degrees; a name of `known_regions()` brings its own.
    `countries` are the ISO 3166-1 alpha-2 codes whose users come here whatever the distance. `partitions` is
    the number of hash slots that the writes are spread over: 1 on a standalone server. ValueError starts with
    the key that is wrong.
    """

    redis: str
    latitude: float | None = None
    longitude: float | None = None
    countries: Sequence[str] = ()
    partitions: int = 1

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_redis(self.name, self.redis)
        _check_coordinates(self.name, self.latitude, self.longitude)
        _check_partitions(self.name, self.partitions)
        msgspec.structs.force_setattr(self, "countries", _country_codes(self.name, self.countries))

    def __repr__(self) -> str:
        """Show every field, the URL without its credentials and its query."""
        values = msgspec.structs.asdict(self) | {"redis": _masked(self.redis)}
        return f"Region({', '.join(f'{key}={value!r}' for key, value in values.items())})"

    @property
    def position(self) -> Position:
        """Return the given position, or that of the known region of this name."""
        if self.latitude is None or self.longitude is None:
            return known_regions()[self.name].position
        return Position(self.latitude, self.longitude)


def _check_name(name: object) -> None:
    if not (isinstance(name, str) and _REGION_NAME.fullmatch(name)):
        raise ValueError(
            f"name: {name!r} is no region name; 1 to 63 of a-z, 0-9, '.' and '-', the first a letter or digit"
        )


def _check_redis(name: str, url: object) -> None:
    """Check scheme and place of a Redis URL; what is wrong is never quoted, it could be a password."""
    scheme, _, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if scheme not in REDIS_SCHEMES:
        raise ValueError(f"redis: the URL of region {name!r} must begin with one of {_listed(REDIS_SCHEMES)}")
    place, wanted = (_path(rest), "PATH") if scheme in _PATH_SCHEMES else (_host(rest), "HOST")
    if not place:
        raise ValueError(f"redis: the URL of region {name!r} must look like {scheme}://{wanted}")


def _listed(schemes: Iterable[str]) -> str:
    return ", ".join(f"{scheme}://" for scheme in schemes)


def _path(rest: str) -> str:
    return rest.partition("?")[0].rpartition("@")[2]


def _host(rest: str) -> str:
    return re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]


def _masked(url: str) -> str:
    return _QUERY.sub("?***", _USERINFO.sub("***@", url))


def _check_coordinates(name: str, latitude: float | None, longitude: float | None) -> None:
    if latitude is not None and longitude is not None:
        Position(latitude, longitude)
    elif (latitude is None) != (longitude is None):
        missing = "latitude" if latitude is None else "longitude"
        raise ValueError(f"{missing}: region {name!r} has only one of latitude and longitude; give both or none")
    elif name not in known_regions():
        raise ValueError(
            f"latitude: {name!r} is no known region, so latitude (-90 to 90) and longitude (-180 to 180)"
            f" are needed{_suggestion(name)}"
        )


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, known_regions())
    return f"; known names like it: {', '.join(close)}" if close else ""


def _check_partitions(name: str, partitions: object) -> None:
    if not isinstance(partitions, int) or isinstance(partitions, bool) or partitions < 1:
        raise ValueError(f"partitions: must be a whole number of at least 1, not {partitions!r} (region {name!r})")


def _country_codes(name: str, codes: object) -> tuple[str, ...]:
    if not isinstance(codes, list | tuple):
        raise ValueError(f"countries: must be a list of country codes, not {codes!r} (region {name!r})")
    return tuple(_known_country(name, code) for code in codes)


def _known_country(name: str, code: object) -> str:
    known = parse_country(code) if isinstance(code, str) else None
    if known is None:
        raise ValueError(f"countries: {code!r} is no ISO 3166-1 alpha-2 code (region {name!r})")
    return known


class Location(msgspec.Struct, frozen=True):
    """Say where a request comes from, as far as it is known.

    `country` is an ISO 3166-1 alpha-2 code in upper case, `position` the client's own; None means unknown.
    """

    country: str | None = None
    position: Position | None = None


UNKNOWN = Location()
"""The location of a request about whose origin nothing trustworthy is known."""


def parse_country(value: str) -> str | None:
    """Return the ISO 3166-1 alpha-2 code that `value` stands for, in upper case, or None.

    Unassigned codes (`XX`, `ZZ`), Tor's `T1` and anything else that is no country are None.
    """
    text = value.strip()
    # Only ASCII: the upper case of other characters can be two letters that are a country.
    return text.upper() if text.isascii() and text.upper() in countries() else None


def parse_position(latitude: str, longitude: str) -> Position | None:
    """Return the position that two decimal numbers in degrees stand for, or None when they do not."""
    north, east = latitude.strip(), longitude.strip()
    if not (_DEGREES.fullmatch(north) and _DEGREES.fullmatch(east)):
        return None
    try:
        return Position(float(north), float(east))
    except ValueError:
        return None


def locate(
    headers: Mapping[str, str],
    *,
    country_headers: Iterable[str] = COUNTRY_HEADERS,
    position_headers: Iterable[tuple[str, str]] = POSITION_HEADERS,
) -> Location:
    """Read the location of a request from its headers, which the caller trusts.

    `headers` looks names up without regard to case, as multidict does. Of each kind, the first header that is
    present decides, even when its value is unknown or malformed: a later one may come from the client.
    """
    return Location(_country(headers, country_headers), _position(headers, position_headers))


def _country(headers: Mapping[str, str], names: Iterable[str]) -> str | None:
    for name in names:
        if (value := headers.get(name)) is not None:
            return parse_country(value)
    return None


def _position(headers: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> Position | None:
    for names in pairs:
        latitude, longitude = map(headers.get, names)
        if latitude is not None or longitude is not None:
            return parse_position(latitude or "", longitude or "")
    return None


class TrustedProxies:
    """Decide whose headers count.

    `networks` are CIDR networks or single addresses, IPv4 or IPv6; the word `unix` stands for every peer on a
    unix socket. ValueError names an entry that is none of these.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        if isinstance(networks, str):
            raise ValueError(f"trusted_proxies: must be a list of networks, not {networks!r}")
        entries = tuple(networks)
        self._unix = "unix" in entries
        self._networks = tuple(_network(entry) for entry in entries if entry != "unix")
        self._trusts_address = functools.lru_cache(maxsize=_CACHED_PEERS)(self._contains)

    def trusts(self, peer: str | None) -> bool:
        """Tell whether the peer's headers count.

        `peer` is its IP address, None for a unix socket. An IPv4-mapped IPv6 address (RFC 4291, section
        2.5.5.2) is the IPv4 address, a scope id is ignored, and what is no address is not trusted.
        """
        return self._unix if peer is None else self._trusts_address(peer)

    def _contains(self, peer: str) -> bool:
        try:
            address = _unmapped(ipaddress.ip_address(peer))
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _unmapped(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(entry: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        # To `ipaddress` a number is an address, and a scope id is nothing: it would trust every interface.
        network = ipaddress.ip_network(entry if isinstance(entry, str) and "%" not in entry else "")
    except ValueError:
        raise ValueError(
            f"trusted_proxies: {entry!r} is no address, no network (no bits beyond the prefix), not 'unix'"
        ) from None
    if _unmapped(network.network_address).version != network.version:
        raise ValueError(f"trusted_proxies: {entry!r} must be written as an IPv4 network")
    return network


def locate_request(
    headers: Mapping[str, str],
    peer: str | None,
    trusted: TrustedProxies,
    *,
    country_headers: Iterable[str] = COUNTRY_HEADERS,
    position_headers: Iterable[tuple[str, str]] = POSITION_HEADERS,
) -> Location:
    """Read the location of a request whose peer is `peer` (None on a unix socket).

    The headers of a peer that is not trusted say nothing: its location is `UNKNOWN`.
    """
    if not trusted.trusts(peer):
        return UNKNOWN
    return locate(headers, country_headers=country_headers, position_headers=position_headers)


class Ranking:
    """Order the regions by their distance from a user, computed once.

    `default_region` is where users of unknown location go (default: the first region given). `home_region`
    pins: it comes first for everybody, and the others follow by their distance from it. Regions at the same
    distance stay in the order given. ValueError names what is missing, doubled or unknown.
    """

    def __init__(
        self,
        regions: Iterable[Region],
        *,
        default_region: str | None = None,
        home_region: str | None = None,
    ) -> None:
        given = tuple(regions)
        self._positions = _positions(given)
        _check_member("default_region", default_region, self._positions)
        _check_member("home_region", home_region, self._positions)
        self._overrides = _overrides(given)
        self._pinned = None if home_region is None else self._from_region(home_region)
        self._unknown = self._pinned or self._from_region(default_region or given[0].name)
        self._by_country = {} if self._pinned else {code: self._from_country(code) for code in countries()}
        self._from_cell = functools.lru_cache(maxsize=_CACHED_CELLS)(self._nearest)

    def for_country(self, code: str | None) -> tuple[str, ...]:
        """Return all names, nearest to the country's centre first; its own regions (`Region.countries`) lead.

        `code` is upper case; None and what is no country get the order of the default region.
        """
        return self._unknown if code is None else self._by_country.get(code, self._unknown)

    def for_position(self, position: Position) -> tuple[str, ...]:
        """Return all names, nearest first, for the position rounded to a tenth of a degree (11 km)."""
        if self._pinned:
            return self._pinned
        return self._from_cell(round(position.latitude, 1), round(position.longitude, 1))

    def choose(self, location: Location) -> tuple[str, ...]:
        """Return all names in the order to try: by the position if it is known, else by the country.

        The regions that claim the country lead in both cases.
        """
        if location.position is None or self._pinned:
            return self.for_country(location.country)
        return self._led(location.country, self.for_position(location.position))

    def _from_region(self, name: str) -> tuple[str, ...]:
        position = self._positions[name]
        nearest = self._nearest(position.latitude, position.longitude)
        return (name, *(other for other in nearest if other != name))

    def _from_country(self, code: str) -> tuple[str, ...]:
        centre = countries()[code].position
        return self._led(code, self._nearest(centre.latitude, centre.longitude))

    def _nearest(self, latitude: float, longitude: float) -> tuple[str, ...]:
        start = Position(latitude, longitude)
        return tuple(sorted(self._positions, key=lambda name: distance(start, self._positions[name])))

    def _led(self, code: str | None, names: tuple[str, ...]) -> tuple[str, ...]:
        leaders = self._overrides.get(code) if code else None
        if leaders is None:
            return names
        return tuple(sorted(names, key=lambda name: name not in leaders))


def _positions(regions: Sequence[Region]) -> dict[str, Position]:
    if not regions:
        raise ValueError("regions: at least one is needed")
    positions = {region.name: region.position for region in regions}
    if len(positions) < len(regions):
        names = [region.name for region in regions]
        raise ValueError(f"regions: {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return positions


def _check_member(key: str, name: str | None, names: Collection[str]) -> None:
    if name is not None and name not in names:
        raise ValueError(f"{key}: {name!r} is none of the regions {', '.join(names)}")


def _overrides(regions: Iterable[Region]) -> dict[str, frozenset[str]]:
    claims: dict[str, set[str]] = {}
    for region in regions:
        for code in region.countries:
            claims.setdefault(code, set()).add(region.name)
    return {code: frozenset(names) for code, names in claims.items()}
