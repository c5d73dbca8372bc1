"""Client sessions for origins."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import aiohttp

from ..upstream import is_public_address


class InwardAddressError(OSError):
    """Report that the origin of a site lies at an address that is not public."""


def client_session(
    *,
    reuse: bool = True,
    is_guarded: bool = False,
    connect_timeout: float = 10.0,
    response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
) -> aiohttp.ClientSession:
    """Make the client session for an origin: no cookies kept, nothing decoded or added, no proxy of the environment.

    `reuse`: whether connections serve more than one request. `is_guarded`: connect to public addresses alone, whatever
    names resolve to. `connect_timeout`: seconds, where a request says nothing. `response_class`: what answers are.
    Certificates are checked against those that the system trusts, or `SSL_CERT_FILE` names, now.
    """
    guard: dict[str, Any] = {"socket_factory": _guarded_socket} if is_guarded else {}
    lasting: dict[str, Any] = {"keepalive_timeout": 30} if reuse else {"force_close": True}
    tls = ssl.create_default_context()
    tls.set_alpn_protocols(("http/1.1",))
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls, **lasting, **guard),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        response_class=response_class,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )


def _guarded_socket(found: tuple[Any, ...]) -> socket.socket:
    """Make the socket for a resolved address, which is what is connected to: a name has no second chance."""
    family, kind, protocol, _, address = found
    if not is_public_address(str(address[0])):
        raise InwardAddressError(f"{address[0]} is no public address, where the origin of a site has to be")
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    return made
