"""A table that takes no more than it may."""

from __future__ import annotations

from aiohttp_regioncache.bounded import Bounded


def test_what_was_used_last_stays() -> None:
    table: Bounded[int, str] = Bounded(300)
    for number in range(3):
        table.put(number, str(number), 100)
    assert table.get(0) == "0"
    table.put(3, "3", 100)
    assert [table.get(number) for number in range(4)] == ["0", None, "2", "3"]


def test_no_more_octets_stay_than_may() -> None:
    table: Bounded[int, str] = Bounded(300)
    table.put(1, "a", 200)
    table.put(1, "b", 300)
    assert (table.get(1), table.size) == ("b", 300)
    table.put(2, "c", 1000)
    assert (table.get(1), table.get(2), table.size) == ("b", None, 300)
    table.drop(2)
    table.drop(1)
    assert (len(table), table.size) == (0, 0)
