"""The load generator: keep-alive connections on one core that look at every octet of every answer.

`closed` sends the next request of a connection when the answer to the one before is there: it finds the maximum.
`paced` sends at a given rate, whatever the answers do, and counts a wait from when the request was due.
"""

from __future__ import annotations

import gc
import math
import random
import re
import select
import socket
import struct
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from .figures import percentile
from .processes import HOST

CONNECTIONS: Final = 32
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_PATIENCE: Final = 5.0
_ROOM: Final = 4096
# Ends a connection at once. Else the system remembers it for a minute, and forgets many at a time, while others wait.
_AT_ONCE: Final = struct.pack("ii", 1, 0)

Spacing = Literal["even", "random"]


class Asked(msgspec.Struct, frozen=True):
    """A request as it goes over the wire, and what the answer has to be.

    `marks` must stand in the head of the answer, `absent` must not; `body` None is any body.
    """

    request: bytes
    status: int = 200
    body: bytes | None = None
    marks: tuple[bytes, ...] = ()
    absent: tuple[bytes, ...] = ()


class Measured(msgspec.Struct, frozen=True):
    """What a load has found: how many answers came, within which seconds, and what was wrong with some."""

    seconds: float
    count: int
    p50: float
    p99: float
    p999: float
    wrong: Counter[str]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.count / self.seconds


class _Connection:
    __slots__ = ("at", "number", "part", "plan", "rest", "room", "since", "sock", "starts", "wanted")

    def __init__(self, port: int, plan: Sequence[Asked]) -> None:
        self.sock = socket.create_connection((HOST, port), _PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.number = self.sock.fileno()
        self.plan = plan
        self.room = _ROOM + max(len(asked.body or b"") for asked in plan)
        # Made once: of each request the octets its answer begins with.
        self.starts = [b"HTTP/1.1 %d " % asked.status for asked in plan]
        self.at = -1
        self.wanted = plan[0]
        self.part = b""
        self.rest = b""
        self.since = 0.0


class Load:
    """Connections to a port of this machine, each with its plan: the requests that it sends in turn, again and again.

    Raises `ConnectionError` when the server ends a connection.
    """

    def __init__(self, port: int, plans: Sequence[Sequence[Asked]], connections: int = CONNECTIONS) -> None:
        self._poll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self.wrong: Counter[str] = Counter()
        for number in range(connections):
            connection = _Connection(port, plans[number % len(plans)])
            self._connections[connection.number] = connection
            self._poll.register(connection.number, select.EPOLLIN)

    def close(self) -> None:
        """End the connections."""
        for connection in self._connections.values():
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            connection.sock.close()
        self._poll.close()

    def closed(self, seconds: float = math.inf, *, once: bool = False) -> Measured:
        """Send as fast as answers come, for some seconds; `once`: each connection its plan from the start, once."""
        latencies = array("d")
        clock = time.perf_counter
        gc.disable()
        started = clock()
        end = started + seconds
        for connection in self._connections.values():
            connection.at = -1 if once else connection.at
            self._send(connection, started)
        waiting = len(self._connections)
        now = started
        while waiting:
            events = self._poll.poll(_PATIENCE)
            if not events:
                raise TimeoutError(f"no answer for {_PATIENCE:g} s")
            for number, event in events:
                connection = self._connections[number]
                if not self._has_answer(connection, event):
                    continue
                now = clock()
                latencies.append(now - connection.since)
                if now < end and not (once and connection.at + 1 == len(connection.plan)):
                    self._send(connection, now)
                else:
                    waiting -= 1
        gc.enable()
        return self._measured(now - started, latencies)

    def paced(self, rate: float, seconds: float, spacing: Spacing = "even") -> Measured:
        """Send `rate` requests a second for some seconds, evenly, or at random as independent users would."""
        latencies = array("d")
        clock = time.perf_counter
        idle = deque(self._connections.values())
        due: deque[float] = deque()
        waiting = 0
        gc.disable()
        started = clock()
        end = started + seconds
        following = started
        while True:
            now = clock()
            while following <= now and following < end:
                due.append(following)
                following += random.expovariate(rate) if spacing == "random" else 1.0 / rate
            while due and idle:
                self._send(idle.popleft(), due.popleft())
                waiting += 1
            if not waiting and not due and following >= end:
                break
            events = self._poll.poll(0)
            if not events:
                # epoll counts in milliseconds only.
                pause = max(0.0, following - clock()) if following < end else _PATIENCE
                if not select.select([self._poll], [], [], pause)[0] and pause == _PATIENCE:
                    raise TimeoutError(f"no answer for {_PATIENCE:g} s")
                continue
            for number, event in events:
                connection = self._connections[number]
                if self._has_answer(connection, event):
                    latencies.append(clock() - connection.since)
                    idle.append(connection)
                    waiting -= 1
        gc.enable()
        return self._measured(clock() - started, latencies)

    def _measured(self, seconds: float, latencies: array[float]) -> Measured:
        wrong, self.wrong = self.wrong, Counter()
        ordered = sorted(latencies)
        p50, p99, p999 = (percentile(ordered, share) for share in (0.5, 0.99, 0.999))
        return Measured(seconds, len(ordered), p50, p99, p999, wrong)

    def _send(self, connection: _Connection, since: float) -> None:
        connection.at = (connection.at + 1) % len(connection.plan)
        connection.wanted = connection.plan[connection.at]
        connection.since = since
        request = connection.wanted.request
        sent = connection.sock.send(request)
        if sent < len(request):
            connection.rest = request[sent:]
            self._poll.modify(connection.number, select.EPOLLIN | select.EPOLLOUT)

    def _has_answer(self, connection: _Connection, event: int) -> bool:
        """Go on with what a connection is ready for; whether its answer is whole."""
        if event & select.EPOLLOUT:
            connection.rest = connection.rest[connection.sock.send(connection.rest) :]
            if not connection.rest:
                self._poll.modify(connection.number, select.EPOLLIN)
        if not event & select.EPOLLIN:
            if event & (select.EPOLLHUP | select.EPOLLERR):
                raise ConnectionError("the server has ended a connection")
            return False
        data = connection.sock.recv(connection.room)
        if not data:
            raise ConnectionError("the server has ended a connection")
        if connection.part:
            data = connection.part + data
        end = data.find(_HEAD_END)
        wanted = connection.wanted
        length = _length_of(data, end) if wanted.body is None else len(wanted.body)
        if end < 0 or len(data) < end + 4 + length:
            # What is shorter than expected would be waited for without end.
            if end >= 0 and wanted.body is not None and _length_of(data, end) < length:
                self.wrong["length"] += 1
                raise ConnectionError(f"a wrong answer: {data[: end + 200]!r}")
            connection.part = data
            return False
        connection.part = b""
        if problem := _problem(data, end, wanted, connection.starts[connection.at], length):
            self.wrong[problem] += 1
        return True


def _length_of(data: bytes, end: int) -> int:
    if end < 0:
        return 0
    head = data[:end].lower()
    at = head.find(_LENGTH)
    return int(head[at + len(_LENGTH) :].partition(b"\r\n")[0]) if at >= 0 else 0


def _told(head: bytes) -> str:
    """What the head of an answer says of where it comes from, if anything."""
    lines = (line.decode("latin-1") for line in head.split(b"\r\n"))
    told = next((line for line in lines if line.lower().startswith("cache-status:")), "")
    return f", {re.sub('ttl=-?[0-9]+', 'ttl', told)}" if told else ""


def _problem(data: bytes, end: int, wanted: Asked, start: bytes, length: int) -> str:
    """What is wrong with an answer."""
    if not data.startswith(start):
        return data[:60].partition(b"\r\n")[0].decode("latin-1")
    if len(data) != end + 4 + length:
        return "length"
    if wanted.body is not None and not data.endswith(wanted.body):
        return "body"
    for mark in wanted.marks:
        if data.find(mark, 0, end) < 0:
            return f"no {mark.decode()}{_told(data[:end])}"
    for mark in wanted.absent:
        if data.find(mark, 0, end) >= 0:
            return mark.decode()
    return ""
