"""Where requests go: the addresses of an origin, and the host that it is asked for. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec
from yarl import URL

from .keys import normalize_path

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Site-local (RFC 3879), local NAT64 (RFC 8215), documentation (RFC 9637), which not every Python knows.
_SPECIAL: Final = tuple(map(ipaddress.IPv6Network, ("fec0::/10", "64:ff9b:1::/48", "3fff::/20")))


class OriginAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address of an origin, and its share of the requests."""

    url: str
    weight: int = 1


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of a site. Its addresses have the same path.

    `host`: the host that it is asked for, in `Host`, SNI and the check of its certificate; None: that of each request
    if it `keeps_host`, else the address's own. `fallback_host`: for requests that belong to no host alone.
    `health_path` is asked from time to time. `is_guarded`: it must not lie at an address that is not public.
    """

    addresses: tuple[OriginAddress, ...]
    host: str | None = None
    keeps_host: bool = False
    fallback_host: str | None = None
    health_path: str | None = None
    is_guarded: bool = False

    @property
    def path(self) -> str:
        """What comes before the paths of requests: that of the addresses, in its normal form."""
        return normalize_path(URL(self.addresses[0].url).raw_path).rstrip("/")

    def host_for(self, host: str | None) -> str | None:
        """The host that is asked for on behalf of a request to `host`; None for that of the address."""
        return self.host or ((host or self.fallback_host) if self.keeps_host else None)


def plain_upstream(url: str) -> Upstream:
    """Make the upstream of one address of the operator's own."""
    return Upstream(addresses=(OriginAddress(url),))


def is_public_address(text: str) -> bool:
    """Whether an IP address may be that of somebody else's origin: no loopback, link-local, private or special one.

    An IPv6 address that stands for an IPv4 address is judged by that (RFC 4291 section 2.5.5.2, 6052, 3056, 4380).
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (inner := _inner(address)) is not None:
        address = inner
    is_special = address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL)
    return address.is_global and not is_special


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
