"""The circuit breaker, on a clock of its own."""

from aiohttp_regioncache.store.breaker import Breaker


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(3, 2.0, clock)
    for _ in range(3):
        breaker.failed()
    return breaker


def state(breaker: Breaker) -> tuple[bool, bool, float]:
    """Whether it is open, half open, and for how long."""
    return breaker.is_open, breaker.is_half_open, breaker.remaining


OPEN, CLOSED, HALF_OPEN = (True, False, 2.0), (False, False, 0.0), (False, True, 0.0)


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker(3, 2.0, Clock())
    for _ in range(2):
        breaker.failed()
        assert state(breaker) == CLOSED
    breaker.failed()
    assert state(breaker) == OPEN


def test_a_success_between_starts_the_count_again() -> None:
    breaker = Breaker(2, 2.0, Clock())
    for _ in range(5):
        breaker.failed()
        breaker.succeeded()
    assert state(breaker) == CLOSED
    breaker.failed()
    assert state(breaker) == CLOSED


def test_it_lets_attempts_through_after_its_time() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.5
    assert state(breaker) == (True, False, 0.5)
    clock.now += 0.5
    assert state(breaker) == HALF_OPEN


def test_a_failure_after_that_opens_it_at_once() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 2.0
    breaker.failed()
    assert state(breaker) == OPEN


def test_a_success_closes_it() -> None:
    breaker = opened(Clock())
    breaker.succeeded()
    assert state(breaker) == CLOSED
    breaker.failed()
    assert state(breaker) == CLOSED
