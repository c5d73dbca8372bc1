"""Where a request comes from, and which regions are near to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiohttp_regioncache.regions import (
    COUNTRY_HEADERS,
    EARTH_RADIUS_KM,
    POSITION_HEADERS,
    REDIS_SCHEMES,
    UNKNOWN,
    Location,
    Position,
    Ranking,
    Region,
    TrustedProxies,
    countries,
    distance,
    known_regions,
    locate,
    locate_request,
)

NAMES = (
    "ap-northeast-1",
    "us-east-1",
    "us-west-2",
    "eu-west-1",
    "sa-east-1",
    "af-south-1",
    "ap-southeast-2",
)
SEATTLE = Position(47.61, -122.33)
NEW_YORK = Position(40.71, -74.01)
HONOLULU = Position(21.31, -157.86)
HALF_TURN_KM = math.pi * EARTH_RADIUS_KM

positions = st.builds(Position, st.floats(-90, 90), st.floats(-180, 180))
some_regions = st.lists(st.sampled_from(sorted(known_regions())), min_size=1, max_size=8, unique=True)
quick = settings(max_examples=100, deadline=None)


def regions(*names: str, **overrides: tuple[str, ...]) -> list[Region]:
    """Make regions of known names; `overrides` maps a name (`_` for `-`) to the countries it claims."""
    claims = {name.replace("_", "-"): codes for name, codes in overrides.items()}
    return [Region(name, redis="redis://localhost", countries=claims.get(name, ())) for name in names]


# Position, distance


@pytest.mark.parametrize(
    ("latitude", "longitude", "wrong"),
    [
        (90.01, 0.0, "latitude"),
        (-91, 0, "latitude"),
        (0.0, 180.5, "longitude"),
        (math.nan, 0.0, "latitude"),
        (0.0, math.inf, "longitude"),
        (10**400, 0, "latitude"),
        ("1", 0, "latitude"),
        (0, True, "longitude"),
    ],
)
def test_no_position(latitude: Any, longitude: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"^{wrong}: must be a number from"):
        Position(latitude, longitude)


def test_distance_between_cities() -> None:
    tokyo, london = Position(35.6895, 139.6917), Position(51.5074, -0.1278)
    assert distance(tokyo, london) == pytest.approx(9559, abs=10)
    assert distance(Position(0, 179.5), Position(0, -179.5)) == pytest.approx(111.2, abs=0.1)


@quick
@given(positions, positions)
def test_distance_is_symmetric_and_bounded(a: Position, b: Position) -> None:
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-6)
    assert 0 <= distance(a, b) <= HALF_TURN_KM * (1 + 1e-12)
    assert distance(a, a) == pytest.approx(0, abs=1e-6)


@quick
@given(positions, positions)
def test_distance_to_a_place_and_to_its_antipode_make_half_a_turn(a: Position, b: Position) -> None:
    antipode = Position(-b.latitude, b.longitude - math.copysign(180, b.longitude))
    assert distance(a, b) + distance(a, antipode) == pytest.approx(HALF_TURN_KM, abs=1e-6)


# Region


def test_known_name_brings_its_position() -> None:
    region = Region("ap-northeast-1", redis="redis://10.0.0.5")
    assert region.position == known_regions()["ap-northeast-1"].position
    assert (region.countries, region.partitions) == ((), 1)


def test_own_position_wins_over_the_known_one() -> None:
    region = Region("ap-northeast-1", redis="redis://h", latitude=1, longitude=2)
    assert region.position == Position(1, 2)


def test_countries_are_normalised() -> None:
    region = Region("home", redis="redis://h", latitude=0, longitude=0, countries=["jp", "KR"])
    assert region.countries == ("JP", "KR")
    assert hash(region) == hash(msgspec.structs.replace(region))


def test_region_from_settings() -> None:
    raw = {"name": "us-east-1", "redis": "rediss://h", "countries": ["us"], "partitions": 16}
    assert msgspec.convert(raw, Region) == Region("us-east-1", redis="rediss://h", countries=("US",), partitions=16)
    with pytest.raises(msgspec.ValidationError, match="bogus"):
        msgspec.convert(raw | {"bogus": 1}, Region)


@pytest.mark.parametrize("name", ["", "-x", "Tokyo", "a b", "a" * 64, "a\n", "é", "a{b}", "a:b", None])
def test_bad_name(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^name: "):
        Region(name, redis="redis://h", latitude=0, longitude=0)


@pytest.mark.parametrize("name", ["a" * 63, "0", "home.lan-2"])
def test_good_name(name: str) -> None:
    assert Region(name, redis="redis://h", latitude=0, longitude=0).name == name


@pytest.mark.parametrize(
    "url",
    [
        "redis://10.0.0.5",
        "rediss://user:secret@cache.example:6380/1?socket_timeout=1",
        "unix:///run/valkey.sock?db=1",
        "embedded://./data/home",
        "redis+cluster://a:7000,b:7000",
        "rediss+cluster://a:7000",
        "redis+sentinel://a:26379,b:26379/main/0",
    ],
)
def test_good_redis_url(url: str) -> None:
    assert url.partition("://")[0] in REDIS_SCHEMES
    assert Region("iad", redis=url).redis == url


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@h",
        "hunter2",
        "redis:hunter2@h",
        "hunter2://h",
        "redis://",
        "redis://u:hunter2@/0",
        "redis:///0?password=hunter2",
        "unix://",
        "unix://u:hunter2@",
        "embedded://?password=hunter2",
        "REDIS://h",
        "",
        None,
    ],
)
def test_bad_redis_url_is_refused_without_its_password(url: Any) -> None:
    with pytest.raises(ValueError, match=r"^redis: the URL of region 'iad' must ") as caught:
        Region("iad", redis=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://u:hunter2@h/0", "redis://h?password=hunter2", "unix://:hun@ter2hunter2@/s"])
def test_repr_hides_the_password(url: str) -> None:
    shown = repr(Region("iad", redis=url, countries=("US",)))
    assert "hunter2" not in shown
    assert "name='iad'" in shown
    assert "countries=('US',)" in shown


def test_unknown_name_needs_a_position() -> None:
    with pytest.raises(ValueError, match=r"^latitude: 'us-esat-1' is no known region.*us-east-1"):
        Region("us-esat-1", redis="redis://h")
    with pytest.raises(ValueError, match=r"^latitude: 'zzzzzzzzzz' is no known region.* are needed$"):
        Region("zzzzzzzzzz", redis="redis://h")


@pytest.mark.parametrize(("given", "missing"), [({"latitude": 1.0}, "longitude"), ({"longitude": 1.0}, "latitude")])
def test_one_coordinate_is_not_enough(given: dict[str, float], missing: str) -> None:
    with pytest.raises(ValueError, match=f"^{missing}: "):
        msgspec.convert({"name": "iad", "redis": "redis://h"} | given, Region)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latitude", 91),
        ("countries", ["XX"]),
        ("countries", ["JPN"]),
        ("countries", "JP"),
        ("countries", [1]),
        ("partitions", 0),
        ("partitions", True),
        ("partitions", 1.5),
    ],
)
def test_bad_value_is_named(key: str, value: Any) -> None:
    values: dict[str, Any] = {"latitude": 0, "longitude": 0, key: value}
    with pytest.raises(ValueError, match=f"^{key}: "):
        Region("home", redis="redis://h", **values)


# Ranking


@pytest.mark.parametrize(
    ("location", "nearest"),
    [
        (Location("JP"), "ap-northeast-1"),
        (Location("BR"), "sa-east-1"),
        (Location("ZA"), "af-south-1"),
        (Location("AU"), "ap-southeast-2"),
        (Location("US"), "us-east-1"),  # the population's centre is in Missouri
        (Location("US", SEATTLE), "us-west-2"),
        (Location("US", NEW_YORK), "us-east-1"),
        (Location(None, SEATTLE), "us-west-2"),
        (Location("DE"), "eu-west-1"),
        (Location("NZ"), "ap-southeast-2"),
        (Location("FJ"), "ap-southeast-2"),
        (UNKNOWN, "ap-northeast-1"),
        (Location("XX"), "ap-northeast-1"),
    ],
)
def test_nearest_region(location: Location, nearest: str) -> None:
    order = Ranking(regions(*NAMES)).choose(location)
    assert order[0] == nearest
    assert sorted(order) == sorted(NAMES)


def test_whole_order_of_a_country() -> None:
    assert Ranking(regions(*NAMES)).for_country("BR") == (
        "sa-east-1",
        "af-south-1",
        "us-east-1",
        "eu-west-1",
        "us-west-2",
        "ap-southeast-2",
        "ap-northeast-1",
    )


def test_unknown_goes_to_the_default_region_and_then_to_its_neighbours() -> None:
    ranking = Ranking(regions(*NAMES), default_region="us-west-2")
    assert ranking.choose(UNKNOWN)[:3] == ("us-west-2", "us-east-1", "eu-west-1")
    assert ranking.for_country("ZZ") == ranking.for_country(None)
    assert ranking.for_country("JP")[0] == "ap-northeast-1"


def test_default_region_leads_others_at_the_same_place() -> None:
    ranking = Ranking(regions("us-east-1", "iad", "us-east4"), default_region="us-east4")
    assert ranking.for_country(None) == ("us-east4", "us-east-1", "iad")
    assert ranking.for_country("US") == ("us-east-1", "iad", "us-east4")


def test_region_that_claims_a_country_leads_there() -> None:
    ranking = Ranking(regions(*NAMES, eu_west_1=("BR", "US"), ap_northeast_1=("US",)))
    assert ranking.for_country("BR")[:2] == ("eu-west-1", "sa-east-1")
    assert ranking.for_country("US")[:3] == ("eu-west-1", "ap-northeast-1", "us-east-1")
    assert ranking.choose(Location("US", HONOLULU))[:3] == ("ap-northeast-1", "eu-west-1", "us-west-2")
    assert ranking.choose(Location(None, HONOLULU))[0] == "us-west-2"
    assert ranking.for_country("AR")[0] == "sa-east-1"


def test_home_region_is_pinned() -> None:
    ranking = Ranking(regions(*NAMES, sa_east_1=("BR",)), home_region="eu-west-1", default_region="us-west-2")
    order = ranking.choose(UNKNOWN)
    assert order[:3] == ("eu-west-1", "us-east-1", "us-west-2")
    assert {
        ranking.for_country("BR"),
        ranking.for_position(SEATTLE),
        ranking.choose(Location("BR", SEATTLE)),
    } == {order}


@pytest.mark.parametrize(
    ("names", "pins", "problem"),
    [
        ((), {}, "^regions: at least one"),
        (("iad", "iad"), {}, "^regions: 'iad' is given twice"),
        (("iad",), {"default_region": "fra"}, "^default_region: 'fra' is none of the regions iad"),
        (("iad",), {"default_region": ""}, "^default_region: "),
        (("iad",), {"home_region": "fra"}, "^home_region: 'fra' is none of the regions iad"),
    ],
)
def test_contradictions_are_refused(names: tuple[str, ...], pins: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Ranking(regions(*names), **pins)


@quick
@given(some_regions, positions)
def test_a_position_ranks_by_distance(names: list[str], position: Position) -> None:
    order = Ranking(regions(*names)).for_position(position)
    lengths = [distance(position, known_regions()[name].position) for name in order]
    # Rounding to a tenth of a degree moves the user, and so each distance, by at most 7.9 km.
    assert all(longer - shorter > -16 for shorter, longer in itertools.pairwise(lengths))
    assert sorted(order) == sorted(names)


@quick
@given(some_regions, st.sampled_from(sorted(countries())))
def test_a_country_ranks_by_distance_from_its_centre(names: list[str], code: str) -> None:
    order = Ranking(regions(*names)).for_country(code)
    lengths = [distance(countries()[code].position, known_regions()[name].position) for name in order]
    assert lengths == sorted(lengths)
    assert sorted(order) == sorted(names)


def test_a_position_is_good_to_a_tenth_of_a_degree() -> None:
    west = Region("west", redis="redis://h", latitude=0, longitude=0)
    east = Region("east", redis="redis://h", latitude=0, longitude=0.4)
    assert Ranking([west, east]).for_position(Position(0, 0.27)) == ("east", "west")
    assert Ranking([west, east]).for_position(Position(0, 0.13)) == ("west", "east")


def test_the_order_of_a_position_does_not_depend_on_who_came_before() -> None:
    first, second = Ranking(regions(*NAMES)), Ranking(regions(*NAMES))
    near, nearby = Position(20.01, 10.01), Position(20.04, 10.04)
    assert (first.for_position(near), first.for_position(nearby)) == (
        second.for_position(nearby),
        second.for_position(near),
    )


# Location from headers


@pytest.mark.parametrize("header", COUNTRY_HEADERS)
@pytest.mark.parametrize(
    ("value", "country"),
    [
        ("JP", "JP"),
        ("jp", "JP"),
        (" za ", "ZA"),
        ("XX", None),
        ("T1", None),
        ("ZZ", None),
        ("UK", None),
        ("", None),
        ("J", None),
        ("JPN", None),
        ("JP, US", None),
        ("ß", None),
        ("ﬁ", None),
        ("ＪＰ", None),  # noqa: RUF001
        ("\udcff\udcfe", None),
        ("A" * 8000, None),
    ],
)
def test_country_header(header: str, value: str, country: str | None) -> None:
    assert locate(CIMultiDict({header.lower(): value})) == Location(country, None)


@pytest.mark.parametrize("pair", POSITION_HEADERS)
@pytest.mark.parametrize(
    ("latitude", "longitude", "position"),
    [
        ("47.61", "-122.33", SEATTLE),
        (" +47.61", "-122.33 ", SEATTLE),
        ("-90", "180", Position(-90, 180)),
        (".5", "-.5", Position(0.5, -0.5)),
        ("nan", "0", None),
        ("0", "inf", None),
        ("90.1", "0", None),
        ("0", "-180.01", None),
        ("1e1", "0", None),
        ("1_0", "0", None),
        ("٣", "0", None),
        ("", "0", None),
        ("north", "east", None),
        ("9" * 5000, "0", None),
    ],
)
def test_position_headers(pair: tuple[str, str], latitude: str, longitude: str, position: Position | None) -> None:
    headers = CIMultiDict({pair[0].upper(): latitude, pair[1]: longitude})
    assert locate(headers).position == position


@pytest.mark.parametrize("pair", POSITION_HEADERS)
def test_half_a_position_is_none(pair: tuple[str, str]) -> None:
    assert locate(CIMultiDict({pair[0]: "1"})).position is None
    assert locate(CIMultiDict({pair[1]: "1"})).position is None


def test_the_first_header_present_decides() -> None:
    headers = CIMultiDict(
        {
            "X-Country-Code": "US",
            "CF-IPCountry": "XX",
            "CF-IPLatitude": "?",
            "X-Vercel-IP-Latitude": "1",
            "X-Vercel-IP-Longitude": "2",
        }
    )
    assert locate(headers) == UNKNOWN
    assert locate(headers, country_headers=["X-Country-Code"], position_headers=POSITION_HEADERS[2:]) == (
        Location("US", Position(1, 2))
    )


def test_no_headers_no_location() -> None:
    assert locate(CIMultiDict({"Fly-Region": "nrt"})) == UNKNOWN


@given(st.dictionaries(st.sampled_from([*COUNTRY_HEADERS, *itertools.chain(*POSITION_HEADERS)]), st.text()))
@quick
def test_no_header_breaks_it(headers: Mapping[str, str]) -> None:
    location = locate(CIMultiDict(headers))
    assert location.country is None or location.country in countries()


# Trust


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.1.2.3", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.0.0.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", True),
        ("fe81::1%eth0", False),
        (None, False),
        ("", False),
        ("unix", False),
        ("10.1.2.3:80", False),
        ("garbage", False),
        ("1" * 5000, False),
    ],
)
def test_trusted_peer(peer: str | None, trusted: bool) -> None:
    proxies = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "fe80::/64"])
    assert proxies.trusts(peer) is trusted


def test_unix_peers_are_trusted_only_when_named() -> None:
    assert TrustedProxies(["unix"]).trusts(None)
    assert not TrustedProxies(["unix"]).trusts("127.0.0.1")
    assert not TrustedProxies().trusts(None)


@pytest.mark.parametrize(
    "entry",
    ["", "10.0.0.1/8", "10.0.0.0/33", "localhost", "*", "::ffff:10.0.0.0/104", "fe80::%x/64", 5, None],
)
def test_bad_network_is_named(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"^trusted_proxies: ") as caught:
        TrustedProxies(["10.0.0.0/8", entry])
    assert repr(entry) in str(caught.value)


def test_one_string_is_no_list_of_networks() -> None:
    with pytest.raises(ValueError, match="must be a list"):
        TrustedProxies("10.0.0.0/8")


def test_forged_headers_say_nothing() -> None:
    headers = CIMultiDict({"CF-IPCountry": "JP", "CF-IPLatitude": "47.61", "CF-IPLongitude": "-122.33"})
    trusted = TrustedProxies(["10.0.0.0/8"])
    assert locate_request(headers, "203.0.113.9", trusted) == UNKNOWN
    assert locate_request(headers, None, trusted) == UNKNOWN
    assert locate_request(headers, "10.0.0.1", trusted) == Location("JP", SEATTLE)
    assert locate_request(headers, "10.0.0.1", trusted, country_headers=["X-Country-Code"], position_headers=[]) == (
        UNKNOWN
    )
