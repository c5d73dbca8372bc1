"""What `--once` judges must notice a trip to the origin where none should be."""

import pytest

from example_app.checks import Checks
from example_app.exchange import Reply
from example_app.measure import expect_near
from example_app.world import User

JAPAN = User("JP", "Japan", "ap-northeast-1", 224.0)
BRAZIL = User("BR", "Brazil", "sa-east-1", 685.0)


@pytest.mark.parametrize(
    ("user", "milliseconds", "near"),
    [(BRAZIL, (19.0, 400.0), True), (BRAZIL, (310.0, 320.0), False), (JAPAN, (310.0,), True)],
)
def test_an_answer_that_came_from_the_origin_is_a_failure(
    user: User, milliseconds: tuple[float, ...], near: bool
) -> None:
    checks = Checks()
    expect_near(checks, user, "cached read", [Reply(200, each, b"") for each in milliseconds])
    assert bool(checks.failures) is not near
