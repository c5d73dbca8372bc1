"""The ways that requests take through a running demo."""

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from example_app.world import User


@dataclass(frozen=True, slots=True)
class Way:
    """A user's two ways: to the edge of the nearest region, and straight to the origin."""

    user: User
    edge: aiohttp.ClientSession
    straight: aiohttp.ClientSession


@dataclass(frozen=True, slots=True)
class Demo:
    """What runs. `origin` and `edges` (by region) are reached without any distance, for checks."""

    ways: Mapping[str, Way]
    origin: aiohttp.ClientSession
    edges: Mapping[str, aiohttp.ClientSession]
    origin_url: str
    front_url: str
    front_round_trip_ms: float
