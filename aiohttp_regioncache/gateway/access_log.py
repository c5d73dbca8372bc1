"""The access log: one line for each request, in common or JSON form, written by a thread of its own."""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import HttpVersion, web
from aiohttp.abc import AbstractAccessLogger

from ..responses import CACHE_STATUS

MAX_WAITING: Final = 10_000
"""Lines that may wait for the thread; more are counted instead of written."""
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

logger = logging.getLogger(__name__)


class Access(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request as it is logged, and the names of the JSON form.

    `time` is when it came, seconds since the epoch; `duration` seconds; `bytes` those of the answer's body.
    `region` and `cache` are what our member of `Cache-Status` says. `trace_id` comes from `traceparent` (W3C Trace
    Context). `peer`, `target`, `version`, `referer` are for the common form.
    """

    time: float
    peer: str
    method: str
    host: str
    path: str
    target: str
    version: str
    status: int
    bytes: int
    duration: float
    region: str
    cache: str
    user_agent: str
    referer: str
    trace_id: str


def access_of(request: web.BaseRequest, response: web.StreamResponse, duration: float) -> Access:
    """Take from a request and its answer what is logged."""
    headers = request.headers
    region, cache = cache_facts(response.headers.getall(CACHE_STATUS, []))
    return Access(
        time=time.time() - duration,
        peer=request.remote or "",
        method=request.method,
        host=request.host,
        path=request.rel_url.raw_path,
        target=request.path_qs,
        version=f"HTTP/{request.version.major}.{request.version.minor}",
        status=response.status,
        bytes=max(0, response.body_length - _head_size(response, request.version)),
        duration=round(duration, 6),
        region=region,
        cache=cache,
        user_agent=headers.get("User-Agent", ""),
        referer=headers.get("Referer", ""),
        trace_id=trace_id(headers.get("traceparent", "")),
    )


def _head_size(response: web.StreamResponse, version: HttpVersion) -> int:
    """The octets of the status line and the header fields, which aiohttp counts among those of the body."""
    status_line = f"HTTP/{version.major}.{version.minor} {response.status} {response.reason}\r\n"
    fields = sum(len(name) + len(value.encode()) + 4 for name, value in response.headers.items())
    return len(status_line.encode()) + fields + 2


def cache_facts(cache_status: list[str]) -> tuple[str, str]:
    """The region and what it did, such as `hit; ttl=58`, from the last member of `Cache-Status`, which is ours."""
    name, _, said = cache_status[-1].rpartition(",")[2].strip().partition(";") if cache_status else ("", "", "")
    return name.strip().partition("/")[2], said.strip()


def trace_id(traceparent: str) -> str:
    """The trace id in a `traceparent` field (W3C Trace Context section 3.2); empty without a sound one."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    return match[1] if match and match[1].strip("0") else ""


def common_line(access: Access) -> str:
    """Write the Combined Log Format, followed by the cache status and the milliseconds it took."""
    moment = time.gmtime(access.time)
    month = _MONTHS[moment.tm_mon - 1]  # strftime's would be the locale's
    stamp = time.strftime(f"%d/{month}/%Y:%H:%M:%S +0000", moment)
    request = f"{_quoted(access.method)} {_quoted(access.target)} {access.version}"
    return (
        f'{access.peer or "-"} - - [{stamp}] "{request}" {access.status} {access.bytes or "-"} '
        f'"{_quoted(access.referer) or "-"}" "{_quoted(access.user_agent) or "-"}" '
        f'"{_quoted(access.cache) or "-"}" {access.duration * 1000:.1f}'
    )


def json_line(access: Access) -> str:
    """Write one JSON object: time (RFC 3339), method, host, path, status, bytes, duration, region, cache and so on."""
    seconds, fraction = divmod(access.time, 1)
    document = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(fraction * 1000):03}Z",
        "peer": access.peer,
        "method": access.method,
        "host": access.host,
        "path": access.path,
        "status": access.status,
        "bytes": access.bytes,
        "duration": access.duration,
        "region": access.region,
        "cache_status": access.cache,
        "user_agent": access.user_agent,
        "trace_id": access.trace_id,
    }
    return msgspec.json.encode({name: _sound(value) for name, value in document.items()}).decode()


FORMS: Final[dict[str, Callable[[Access], str]]] = {"common": common_line, "json": json_line}


def _quoted(text: str) -> str:
    """Escape what could end a quoted part or a line: a client must not write lines of its own."""
    if not _UNSAFE.search(text):
        return text
    octets = text.encode("utf-8", "surrogateescape").decode("latin-1")
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", octets)


def _sound(value: object) -> object:
    """Text that JSON can hold: octets that were no UTF-8 become question marks."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class AccessWriter:
    """Hand lines to `log` in a thread, so that a slow disk or pipe holds up no request.

    `form` is `common` or `json`. While the thread is behind, lines beyond `MAX_WAITING` are dropped; how many,
    a warning says.
    """

    def __init__(self, log: logging.Logger, form: str) -> None:
        self._log = log
        self._line = FORMS[form]
        self._waiting: queue.Queue[Access | None] = queue.Queue(MAX_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="access log", daemon=True)
        self._thread.start()

    def put(self, access: Access) -> None:
        """Have a line written; never waits."""
        try:
            self._waiting.put_nowait(access)
        except queue.Full:
            self._dropped += 1

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, up to `timeout` seconds."""
        try:
            self._waiting.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _write(self) -> None:
        while (access := self._waiting.get()) is not None:
            self._log.info(self._line(access))
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                logger.warning("%d lines of the access log were dropped", dropped)


def access_logger(writer: AccessWriter) -> type[AbstractAccessLogger]:
    """Make the class that aiohttp wants: `web.AppRunner(app, access_log_class=access_logger(writer))`."""

    class AccessLogger(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            writer.put(access_of(request, response, time))

    return AccessLogger


def access_log_to(stream: Any) -> logging.Logger:
    """The logger of the access log, writing bare lines to a stream and nowhere else."""
    log = logging.getLogger("aiohttp_regioncache.access")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)
    return log
