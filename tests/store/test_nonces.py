"""Numbers that nobody has had before."""

import copy
import re

from aiohttp_regioncache.store.nonces import Nonces


def test_no_number_comes_twice() -> None:
    nonces = Nonces()
    made = [nonces.new() for _ in range(1000)]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch("[0-9a-f]{32}", number) for number in made)


def test_the_random_part_of_each_is_another() -> None:
    nonces = Nonces()
    assert len({nonces.new()[:24] for _ in range(1000)}) == 1000


def test_a_copy_of_the_process_makes_others() -> None:
    """After a fork, or in a copy of a machine, the random digits at hand are the same."""
    nonces = Nonces()
    nonces.new()
    other = copy.deepcopy(nonces)
    assert {nonces.new() for _ in range(60)}.isdisjoint([other.new() for _ in range(60)])
