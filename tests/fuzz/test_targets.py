"""Every target, with octets that hypothesis finds, and with long ones: nothing raises, nothing takes too long."""

import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .__main__ import main
from .targets import TARGETS

FRAGMENTS = (
    b",", b'"', b'","', b',"', b'\\"', b"\\", b";", b"=", b" ", b"\t", b"a,", b"a=b,", b'a="b",', b'W/"a",', b'W/"',
    b"(", b"a=(", b"a;b;", b"?", b"9", b"9.", b"/", b"/../", b"/./", b"%", b"%41", b"\xff", b"\xc3\xa9", b"*,",
    b"en;q=0.1,", b":", b"a=b; ", b"{", b"{a}", b"{a:", b"**", b"[", b'{"a":', b"a,\n", b'"\n', b"\n", b"-", b"0",
    b"\x91", b"\xc1", b"|",
)  # fmt: skip
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
WORDS = (b"max-age", b"no-cache", b"GMT", DATE, b"wait", b"bytes", b"http://", b"//", b"gzip")
OCTETS = st.binary(max_size=80) | st.lists(st.sampled_from((*FRAGMENTS, *WORDS)), max_size=30).map(b"".join)

SHORT, TIMES = 4096, 8
LINEAR_WITHIN = 40.0
"""Work that grows with the square of the length takes 64 times as long for 8 times the length."""


FOUND = (
    ("effects", b"1e66666666666666666666"),
    ("effects", b'{"a": 1}\n{"a": 1e66666666666666666666}'),
    ("announcements", b"9" * 5000),
    ("outbox_items", b"\xff"),
)
"""What has broken a target before."""


@pytest.mark.parametrize(("name", "data"), FOUND, ids=[f"{name}-{number}" for number, (name, _) in enumerate(FOUND)])
def test_what_broke_a_target_does_so_no_more(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=OCTETS)
def test_nothing_breaks_its_word(name: str, data: bytes) -> None:
    TARGETS[name](data)


def _seconds(target: Callable[[bytes], object], data: bytes) -> float:
    started = time.process_time()
    target(data)
    return time.process_time() - started


def grows_linearly(target: Callable[[bytes], object], fragment: bytes) -> bool:
    """Whether 8 times the length takes less than 40 times as long, in the best of five measurements of each."""
    short = fragment * (SHORT // len(fragment))
    # What takes less than a tenth of a millisecond is not measured.
    most = LINEAR_WITHIN * max(0.0001, min(_seconds(target, short) for _ in range(5)))
    return any(_seconds(target, short * TIMES) < most for _ in range(5))


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=ascii)
@pytest.mark.parametrize("name", TARGETS)
def test_long_octets_cost_no_more_than_their_length(name: str, fragment: bytes) -> None:
    assert grows_linearly(TARGETS[name], fragment)


def test_the_measure_tells_a_square() -> None:
    def square(data: bytes) -> None:
        while data:
            data = data[1:]
            data.count(b"x")

    assert not grows_linearly(square, b"a")


def test_an_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "invalid choice" in capsys.readouterr().err
