"""Where the demo's users are."""

from pathlib import Path

from example_app.distance import ROUND_TRIP_TO_ORIGIN_MS
from example_app.world import COUNTRIES, city, make_regions, make_users


def test_users_go_to_the_region_that_one_expects(tmp_path: Path) -> None:
    users = {user.country: user for user in make_users(make_regions(list(ROUND_TRIP_TO_ORIGIN_MS), tmp_path))}
    assert tuple(users) == COUNTRIES
    nearest = {country: city(user.region) for country, user in users.items()}
    assert nearest["JP"] == "Tokyo"
    assert nearest["AU"] == "Sydney"
    assert nearest["ZA"] == "Cape Town"
    assert users["BR"].region == "sa-east-1"
    assert users["US"].region == "us-east-1"


def test_the_origin_is_farther_than_the_nearest_region(tmp_path: Path) -> None:
    for user in make_users(make_regions(list(ROUND_TRIP_TO_ORIGIN_MS), tmp_path)):
        assert 4 < user.last_mile_ms < user.straight_ms


def test_fewer_regions_are_farther_away(tmp_path: Path) -> None:
    users = {user.country: user.region for user in make_users(make_regions(["eu-central-1"], tmp_path))}
    assert set(users.values()) == {"eu-central-1"}
