"""Where users are, when they are awake, and how far apart places are."""

from __future__ import annotations

import bisect
import csv
import functools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from aiohttp_regioncache.regions import Location, Position, Ranking, Region, distance, known_regions

DATA: Final = Path(__file__).parent / "data"
CONTINENTS: Final = {
    "AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania", "SA": "South America",
}  # fmt: skip
REGIONS: Final[Sequence[str]] = (
    "ap-northeast-1", "eu-central-1", "us-east-1",
    "ap-southeast-1", "ap-south-1", "sa-east-1", "us-west-2", "ap-southeast-2", "af-south-1", "me-south-1",
    "ap-east-1", "ap-northeast-2", "ap-northeast-3", "ca-central-1", "eu-north-1", "eu-south-1", "eu-west-1",
    "eu-west-2", "eu-west-3", "us-east-2", "us-west-1", "ap-south-2", "ap-southeast-3", "ap-southeast-6",
    "ap-southeast-7", "ca-west-1", "eu-south-2", "il-central-1", "me-central-1", "mx-central-1",
)  # fmt: skip
"""Regions in the order in which they are opened: the first 3, 10 or 30 of them. The first is the origin's."""
FIBRE_KM_PER_MS: Final = 200.0
"""Light in glass: two thirds of its speed in the void."""
_HOURLY: Final = (
    0.70, 0.53, 0.42, 0.36, 0.33, 0.35, 0.43, 0.55, 0.66, 0.73, 0.77, 0.80,
    0.82, 0.82, 0.83, 0.85, 0.87, 0.90, 0.93, 0.96, 0.99, 1.00, 0.96, 0.86,
)  # fmt: skip
"""Load by the hour of local time, the peak being 1: the shape of a day at European exchange points (an assumption)."""


class Place(msgspec.Struct, frozen=True):
    """A part of a country: its centre and how many million users it has."""

    country: str
    continent: str
    position: Position
    millions: float

    def awake(self, seconds: float) -> float:
        """The load of a user here, the peak being 1, at a time in seconds of the day in UTC; by the sun's time."""
        hour = (seconds / 3600 + self.position.longitude / 15) % 24
        before = int(hour)
        return _HOURLY[before] + (hour - before) * (_HOURLY[(before + 1) % 24] - _HOURLY[before])

    @property
    def location(self) -> Location:
        """What an edge is told of users here."""
        return Location(self.country, self.position)


def _rows(file: str) -> Iterator[Mapping[str, str]]:
    lines = (DATA / file).read_text("utf-8").splitlines()
    return csv.DictReader(line for line in lines if not line.startswith("#"))


@functools.cache
def users() -> Sequence[Place]:
    """Every place where users are."""
    return tuple(
        Place(
            row["country"],
            row["continent"],
            Position(float(row["latitude"]), float(row["longitude"])),
            float(row["millions"]),
        )
        for row in _rows("users.csv")
    )


@functools.cache
def _measured() -> Mapping[tuple[str, str], float]:
    found = {(row["one"], row["other"]): float(row["milliseconds"]) for row in _rows("round_trips.csv")}
    return found | {(other, one): time for (one, other), time in found.items()}


@functools.cache
def detour() -> float:
    """How much longer a round trip takes than light in glass needs along the great circle: the median of the measured.

    Only of pairs more than 300 km apart: what is nearer is not dominated by the way.
    """
    known = known_regions()
    away = {pair: distance(known[pair[0]].position, known[pair[1]].position) for pair in _measured()}
    return statistics.median(
        time / (2 * away[pair] / FIBRE_KM_PER_MS) for pair, time in _measured().items() if away[pair] > 300
    )


def way(one: Position, other: Position) -> float:
    """Milliseconds of a round trip by distance."""
    return 2 * distance(one, other) / FIBRE_KM_PER_MS * detour()


@functools.cache
def round_trip(one: str, other: str) -> float:
    """Milliseconds between two regions, there and back: as measured, or by distance where nobody has."""
    measured = _measured().get((one, other))
    if measured is not None:
        return measured
    known = known_regions()
    return 1.0 + way(known[one].position, known[other].position)


@functools.cache
def _nearest(place: Place) -> tuple[str, float]:
    """The point of presence next to a place, whether there is a cache or not, and the milliseconds to it."""
    known = known_regions()
    return min(((name, way(place.position, known[name].position)) for name in REGIONS), key=lambda each: each[1])


def from_user(place: Place, region: str) -> float:
    """Milliseconds between users and a region, without their access network.

    Their way goes to the nearest point of presence, and on as between regions: no worse than a cloud's own network.
    """
    presence, first = _nearest(place)
    return first if presence == region else first + round_trip(presence, region)


def choices(regions: Sequence[str], places: Sequence[Place]) -> list[str]:
    """The region that the product chooses for the users of each place."""
    ranking = Ranking([Region(name, redis="redis://127.0.0.1") for name in regions])
    return [ranking.choose(place.location)[0] for place in places]


class Crowd:
    """Draws places by how many of their users are awake at a time of the day."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def weights(self, seconds: float) -> list[float]:
        """The load of each place."""
        return [place.millions * place.awake(seconds) for place in self._places]

    @functools.cached_property
    def mean(self) -> float:
        """The mean load of all places over a day."""
        return sum(sum(self.weights(hour * 3600 + 1800)) for hour in range(24)) / 24


def index_at(cumulative: Sequence[float], chance: float) -> int:
    """The index whose share of a total a chance (0 to 1) falls into."""
    return min(bisect.bisect_right(cumulative, chance * cumulative[-1]), len(cumulative) - 1)
