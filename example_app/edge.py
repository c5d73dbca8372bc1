"""The edges: regioncache around a handler that forwards everything to the origin."""

from collections.abc import Sequence

from aiohttp import web

import aiohttp_regioncache as regioncache

RULES = (regioncache.Rule("/items/{id}", write="behind", effect="auto", affects=("/items",)),)
TRUSTED_PROXIES = ("127.0.0.1/32", "::1/128")


def make_edge(region: str, regions: Sequence[regioncache.Region], origin_url: str) -> web.Application:
    """Return an edge that stands beside the Redis of `region`."""
    return _application(
        regioncache.Settings(
            origin=origin_url,
            regions=tuple(regions),
            home_region=region,
            trusted_proxies=TRUSTED_PROXIES,
            rules=RULES,
        )
    )


def make_anycast_edge(regions: Sequence[regioncache.Region], origin_url: str) -> web.Application:
    """Return an edge for all regions, which chooses by the country in `CF-IPCountry`.

    It replays no writes: the edge of a region does that, over that region's own way to the origin.
    """
    return _application(
        regioncache.Settings(
            origin=origin_url,
            regions=tuple(regions),
            trusted_proxies=TRUSTED_PROXIES,
            rules=RULES,
            sync=regioncache.Sync(enabled=False),
        )
    )


def _application(settings: regioncache.Settings) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", regioncache.forward)
    regioncache.setup(app, settings)
    return app
