"""Who is where: the demo's regions and users, and the distances between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp_regioncache.regions import Ranking, Region, countries, distance, known_regions
from example_app.distance import ROUND_TRIP_TO_ORIGIN_MS, last_mile_ms

COUNTRIES = ("JP", "AU", "IN", "US", "BR", "DE", "GB", "ZA")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody at the population-weighted centre of a country, and the region nearest to it."""

    country: str
    name: str
    region: str
    kilometres: float

    @property
    def last_mile_ms(self) -> float:
        """Return the round trip to the nearest region."""
        return last_mile_ms(self.kilometres)

    @property
    def straight_ms(self) -> float:
        """Return the round trip to the origin, which leads past the nearest region."""
        return self.last_mile_ms + ROUND_TRIP_TO_ORIGIN_MS[self.region]


def make_regions(names: Sequence[str], directory: Path) -> list[Region]:
    """Return regions on embedded servers that keep their data below `directory`."""
    return [Region(name, redis=f"embedded://{directory.resolve() / name}") for name in names]


def make_users(regions: Sequence[Region]) -> list[User]:
    """Return a user in each of `COUNTRIES`."""
    ranking = Ranking(regions)
    positions = {region.name: region.position for region in regions}
    users = []
    for code in COUNTRIES:
        country, nearest = countries()[code], ranking.for_country(code)[0]
        users.append(User(code, country.name, nearest, distance(country.position, positions[nearest])))
    return users


def city(region: str) -> str:
    """Return the city that a region lies in."""
    return known_regions()[region].city
