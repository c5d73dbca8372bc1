from aiohttp_regioncache.semantics.cache_status import cache_status


def test_a_hit() -> None:
    assert cache_status("regioncache", hit=True, ttl=376.9) == "regioncache; hit; ttl=376"


def test_a_stale_hit_has_a_negative_ttl() -> None:
    assert cache_status("regioncache", hit=True, ttl=-412.0) == "regioncache; hit; ttl=-412"


def test_everything_else() -> None:
    written = cache_status(
        "regioncache",
        fwd="stale",
        fwd_status=304,
        ttl=60,
        stored=True,
        collapsed=True,
        key='a"b',
        detail="dirty",
    )
    assert written == ('regioncache; fwd=stale; fwd-status=304; ttl=60; stored; collapsed; key="a\\"b"; detail=dirty')


def test_what_is_not_given_is_left_out() -> None:
    assert cache_status("regioncache") == "regioncache"


def test_not_stored_is_said() -> None:
    assert cache_status("regioncache", fwd="miss", stored=False) == "regioncache; fwd=miss; stored=?0"


def test_what_is_no_token_becomes_a_string() -> None:
    assert cache_status("my cache", fwd="miss", detail="no freshness") == (
        '"my cache"; fwd=miss; detail="no freshness"'
    )
