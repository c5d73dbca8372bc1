"""Settings: every mistake is refused by name, from code, TOML and the environment; nothing secret is shown."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache import (
    Bulk,
    Cache,
    Connections,
    Queue,
    Region,
    Rule,
    Settings,
    SettingsError,
    Sync,
    Webhook,
    from_mapping,
    load,
)

SECRET = "a secret of all the edges"
KEY = base64.b64encode(bytes(range(32))).decode()
REGION = Region("eu-west-1", redis="redis://:hunter2@10.0.0.5")
TABLE = {"name": "eu-west-1", "redis": "redis://:hunter2@10.0.0.5"}
BEHIND = Rule("/items/{id}", write="behind")

TOML = """
origin = "https://origin.example"
default_region = "eu-west-1"
secrets = ["0123456789abcdef"]
trusted_proxies = ["10.0.0.0/8", "unix"]

[cache]
ttl = 60
exclude = ["/admin/**"]

[sync]
poll = 0.5

[[regions]]
name = "eu-west-1"
redis = "redis://10.0.0.5"
countries = ["DE", "FR"]

[[regions]]
name = "home"
redis = "embedded://./data/home"
latitude = 35.7
longitude = 139.7

[[rules]]
path = "/items/{id}"
methods = ["PUT", "PATCH", "DELETE"]
write = "behind"
affects = ["/items", {path = "/items/{id}/summary", effect = "delete"}]

[[rules]]
path = "/me"
per_user = true
"""


def written(tmp_path: Path, text: str = TOML) -> Path:
    path = tmp_path / "regioncache.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_file(tmp_path: Path) -> None:
    settings = load(written(tmp_path), {})
    assert settings.origin == "https://origin.example"
    assert settings.cache == Cache(ttl=60.0, exclude=("/admin/**",))
    assert settings.sync == Sync(poll=0.5)
    assert settings.queue == Queue()
    assert [region.name for region in settings.regions] == ["eu-west-1", "home"]
    assert settings.regions[0].countries == ("DE", "FR")
    assert settings.rules[0].methods == ("PUT", "PATCH", "DELETE")
    assert [affect.path for affect in settings.rules[0].affects or () if not isinstance(affect, str)] == [
        "/items",
        "/items/{id}/summary",
    ]
    assert settings.rules[1].per_user
    assert settings.writes_behind
    assert not settings.only_embedded


def test_rules_over_the_word_of_the_origin_in_a_file(tmp_path: Path) -> None:
    table = """
    [[rules]]
    path = "/pages/**"
    ttl = {404 = 5, 5xx = 1, any = 60}
    force_ttl = {200 = 30}
    stale_while_revalidate = 10
    stale_if_error = 20
    early_refresh = 1
    ignore_query = ["utm_*", "fbclid"]
    sort_query = true
    key = ["country", "header:X-Kind"]
    bypass_cookies = ["preview"]
    bypass_headers = ["X-Preview"]
    """
    expected = Rule(
        "/pages/**",
        ttl={"404": 5.0, "5xx": 1.0, "any": 60.0},
        force_ttl={200: 30},
        stale_while_revalidate=10,
        stale_if_error=20,
        early_refresh=1,
        ignore_query=["utm_*", "fbclid"],
        sort_query=True,
        key=["header:x-kind", "country"],
        bypass_cookies=["preview"],
        bypass_headers=["X-Preview"],
    )
    assert load(written(tmp_path, TOML + table), {}).rules[-1] == expected


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environment = {
        "REGIONCACHE_ORIGIN": "http://other.example/base",
        "REGIONCACHE_HOME_REGION": "home",
        "REGIONCACHE_SECRETS": "fedcba9876543210, 0123456789abcdef ,",
        "REGIONCACHE_CACHE__TTL": "5.5",
        "REGIONCACHE_CACHE__HEURISTICS": "false",
        "REGIONCACHE_CACHE__EXCLUDE": "/a/**,/b",
        "REGIONCACHE_QUEUE": '{"max_writes": 7, "max_body": 1}',
        "REGIONCACHE_QUEUE__MAX_WRITES": "8",
        "REGIONCACHE_POSITION_HEADERS": '[["X-Lat", "X-Lon"]]',
        "REGIONCACHE_RULES": '[{"path": "/x/{id}", "write": "behind"}]',
        "OTHER": "ignored",
    }
    settings = load(written(tmp_path), environment)
    assert settings.origin == "http://other.example/base"
    assert settings.home_region == "home"
    assert settings.secrets == ("fedcba9876543210", "0123456789abcdef")
    assert settings.cache == Cache(ttl=5.5, heuristics=False, exclude=("/a/**", "/b"))
    assert settings.queue == Queue(max_writes=8, max_body=1)
    assert settings.position_headers == (("X-Lat", "X-Lon"),)
    assert [rule.path for rule in settings.rules] == ["/x/{id}"]
    assert load(written(tmp_path), {"REGIONCACHE_CACHE__TTL": "null"}).cache.ttl is None
    by_status = load(written(tmp_path), {"REGIONCACHE_CACHE__TTL": '{"404": 5, "5xx": 1}'})
    assert by_status.cache == Cache(ttl={404: 5, "5xx": 1}, exclude=("/admin/**",))


def test_the_environment_of_the_process_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCACHE_CACHE__TTL", "7")
    assert load(written(tmp_path)).cache.ttl == 7.0


@pytest.mark.parametrize(
    ("variable", "value", "key", "allowed"),
    [
        ("REGIONCACHE_FOO", "1", "REGIONCACHE_FOO", "home_region"),
        ("REGIONCACHE_", "1", "REGIONCACHE_", "home_region"),
        ("REGIONCACHE_CACHE__FOO", "1", "REGIONCACHE_CACHE__FOO", "max_body"),
        ("REGIONCACHE_FOO__TTL", "1", "REGIONCACHE_FOO__TTL", "cache"),
        ("REGIONCACHE_FOO__ORIGIN", "1", "REGIONCACHE_FOO__ORIGIN", "cache"),
        ("REGIONCACHE_CACHE__TTL__X", "1", "REGIONCACHE_CACHE__TTL__X", "cache"),
        ("REGIONCACHE_ORIGIN__X", "1", "REGIONCACHE_ORIGIN__X", "cache"),
        ("REGIONCACHE_REGIONS__NAME", "x", "REGIONCACHE_REGIONS__NAME", "regions"),
        ("REGIONCACHE_RULES__PATH", "/x", "REGIONCACHE_RULES__PATH", "rules"),
        ("REGIONCACHE___TTL", "1", "REGIONCACHE___TTL", "cache"),
        ("REGIONCACHE_REGIONS", "eu", "REGIONCACHE_REGIONS", "JSON"),
        ("REGIONCACHE_CACHE", "ttl=5", "REGIONCACHE_CACHE", "JSON"),
        ("REGIONCACHE_CACHE__TTL", "soon", "cache.ttl", "float"),
        ("REGIONCACHE_CACHE__TTL", "{404: 5}", "REGIONCACHE_CACHE__TTL", "JSON"),
        ("REGIONCACHE_CACHE__TTL", '{"40x": 5}', "cache.ttl[40x]", "200 to 599"),
        ("REGIONCACHE_SYNC__ENABLED", "maybe", "sync.enabled", "bool"),
        ("REGIONCACHE_HOME_REGION", "mars", "home_region", "eu-west-1"),
    ],
)
def test_mistakes_in_the_environment(tmp_path: Path, variable: str, value: str, key: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(written(tmp_path), {variable: value})
    assert refused.value.key == key
    assert allowed in str(refused.value)


def test_a_variable_inside_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="REGIONCACHE_CACHE__TTL") as refused:
        load(written(tmp_path, "cache = 5"), {"REGIONCACHE_CACHE__TTL": "1"})
    assert refused.value.key == "cache"


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no TOML"):
        load(written(tmp_path, "origin ="), {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is no TOML"):
        load(tmp_path / "binary", {})
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.toml", {})


_SAME_EVERYWHERE: list[tuple[Mapping[str, Any], str, str]] = [
    ({"regions": []}, "regions", "at least one"),
    ({"regions": [TABLE, TABLE]}, "regions", "twice"),
    ({"home_region": "mars"}, "home_region", "eu-west-1"),
    ({"default_region": "mars"}, "default_region", "eu-west-1"),
    ({"origin": "origin.example"}, "origin", "https://origin.example"),
    ({"origin": "ftp://origin.example"}, "origin", "https://origin.example"),
    ({"origin": "https://"}, "origin", "https://origin.example"),
    ({"origin": "https://o.example/?q"}, "origin", "https://origin.example"),
    ({"origin": "https://o.example:x"}, "origin", "https://origin.example"),
    ({"origin": "https://user:hunter2@o.example"}, "origin", "without user"),
    ({"origin": "https://user:hun/ter2@o.example"}, "origin", "https://origin.example"),
    ({"origin": 5}, "origin", "str"),
    ({"secrets": ["hunter2"]}, "secrets", "at least 16"),
    ({"secrets": "hunter2hunter2hunter2"}, "secrets", "array"),
    ({"secrets": [5]}, "secrets[0]", "str"),
    ({"trusted_proxies": ["proxy.example"]}, "trusted_proxies", "network"),
    ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies", "bits"),
    ({"trusted_proxies": "10.0.0.1"}, "trusted_proxies", "array"),
    ({"country_headers": "CF-IPCountry"}, "country_headers", "array"),
    ({"position_headers": [["X-Lat"]]}, "position_headers[0]", "length 2"),
    ({"rules": [{"path": "/x", "foo": 1}]}, "rules[0].foo", "per_user"),
    (
        {"rules": [{"path": "/x"}, {"path": "/x", "affects": [{"path": "/", "foo": 1}]}]},
        "rules[1].affects[0].foo",
        "path",
    ),
    ({"rules": [{}]}, "rules[0]", "path"),
    ({"rules": [{"path": "/x", "read": "no"}]}, "rules[0].read", "'cache', 'pass'"),
    ({"rules": [{"path": "x"}]}, "rules[x].path", "slash"),
    ({"rules": [{"path": "/x", "shared": True}]}, "rules[/x].shared", "authorize="),
    ({"rules": {"path": "/x"}}, "rules", "array"),
    ({"rules": [{"path": "/x", "write": "behind"}]}, "origin", "replays"),
    ({"origin": "http://o", "rules": [{"path": "/x", "write": "behind"}]}, "secrets", "share"),
    ({"rules": [{"path": "/x", "per_user": True}]}, "secrets", "share"),
    ({"cache": {"ttl": "x"}}, "cache.ttl", "float"),
    ({"cache": {"ttl": {"404": -1}}}, "cache.ttl[404]", ">= 0"),
    ({"cache": {"ttl": {"4xxx": 1}}}, "cache.ttl[4xxx]", '"5xx"'),
    ({"cache": {"ignore_query": ["a&b"]}}, "cache.ignore_query", "parameter"),
    ({"cache": {"flight_age": -1}}, "cache.flight_age", ">= 0"),
    ({"rules": [{"path": "/x", "ttl": {"404": -1}}]}, "rules[/x].ttl[404]", ">= 0"),
    ({"rules": [{"path": "/x", "key": ["X-Kind"]}]}, "rules[/x].key", "country"),
    ({"cache": {"ttl": -1}}, "cache.ttl", ">= 0"),
    ({"cache": {"foo": 1}}, "cache.foo", "max_body"),
    ({"cache": {"max_body": 1.5}}, "cache.max_body", "int"),
    ({"cache": {"exclude": ["x"]}}, "cache.exclude", "slash"),
    ({"cache": {"exclude": "/x"}}, "cache.exclude", "array"),
    ({"cache": {"keep": float("inf")}}, "cache.keep", ">= 0"),
    ({"cache": {"ttl": 1e11}}, "cache.ttl", "at most"),
    ({"queue": {"status_seconds": 1e300}}, "queue.status_seconds", "at most"),
    ({"queue": {"max_bytes": 10**19}}, "queue.max_bytes", "at most"),
    ({"sync": {"max_age": 1e300}}, "sync.max_age", "at most"),
    ({"cache": 5}, "cache", "object"),
    ({"queue": {"max_bytes": -5}}, "queue.max_bytes", ">= 0"),
    ({"queue": {"max_bytes_per_resource": -1}}, "queue.max_bytes_per_resource", ">= 0"),
    ({"queue": {"max_bytes_per_resource": 1.5}}, "queue.max_bytes_per_resource", "int"),
    ({"queue": {"pin_seconds": -1}}, "queue.pin_seconds", ">= 0"),
    ({"queue": {"durability": "disk"}}, "queue.durability", "replicated=N"),
    ({"queue": {"durability": "replicated=0"}}, "queue.durability", "replicated=N"),
    ({"queue": {"durability": None}}, "queue.durability", "str"),
    ({"queue": {"durability_timeout": 0}}, "queue.durability_timeout", "more"),
    ({"queue": {"encryption_keys": ["hunter2"]}}, "queue.encryption_keys", "32 octets"),
    ({"queue": {"encryption_keys": ["hunter2" * 7]}}, "queue.encryption_keys", "32 octets"),
    ({"queue": {"encryption_keys": KEY}}, "queue.encryption_keys", "array"),
    ({"sync": {"max_stalls": 0}}, "sync.max_stalls", "more"),
    ({"sync": {"intent_seconds": 0}}, "sync.intent_seconds", "more"),
    ({"sync": {"authorization": ""}}, "sync.authorization", "value"),
    ({"sync": {"authorization": "Bearer hunter2\r\nX: y"}}, "sync.authorization", "value"),
    ({"sync": {"authorization": "Bearer hunter2 "}}, "sync.authorization", "value"),
    ({"sync": {"authorization": "Bearer hünter"}}, "sync.authorization", "value"),
    ({"webhook": {"wait": -1}}, "webhook.wait", ">= 0"),
    ({"webhook": {"secrets": "hunter2"}}, "webhook.secrets", "array"),
    ({"webhook": {"momento_secrets": [5]}}, "webhook.momento_secrets[0]", "str"),
    ({"webhook": {"foo": 1}}, "webhook.foo", "momento_secrets"),
    ({"sync": {"poll": 0}}, "sync.poll", "at most 1"),
    ({"sync": {"poll": 2}}, "sync.poll", "at most 1"),
    ({"sync": {"timeout": 24, "lease": 30}}, "sync.timeout", "80 %"),
    ({"sync": {"timeout": 0}}, "sync.timeout", "more"),
    ({"sync": {"claim": 0}}, "sync.claim", "more"),
    ({"sync": {"concurrency": 0}}, "sync.concurrency", "more"),
    ({"sync": {"max_tries": 0}}, "sync.max_tries", "more"),
    ({"sync": {"retry_cap": 0}}, "sync.retry_cap", "more"),
    ({"connections": {"timeout": 0}}, "connections.timeout", "more"),
]


@pytest.mark.parametrize(("wrong", "key", "allowed"), _SAME_EVERYWHERE)
def test_mistakes_in_data_and_in_code(wrong: Mapping[str, Any], key: str, allowed: str) -> None:
    data: dict[str, Any] = {"regions": [TABLE], **wrong}
    for make in (from_mapping, lambda given: Settings(**given)):
        with pytest.raises(SettingsError) as refused:
            make(data)
        assert refused.value.key == key
        assert allowed in str(refused.value)
        assert str(refused.value).startswith(f"{key}: ")
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "key", "problem"),
    [
        ({"foo": 1}, "foo", "allowed: origin"),
        ({"regions": [{"name": "eu-west-1"}]}, "regions[0]", "redis"),
        ({"regions": [{**TABLE, "zone": 1}]}, "regions[0].zone", "partitions"),
        ({"regions": [{"name": "eu-west-1", "redis": "hunter2"}]}, "regions[0]", "redis: the URL"),
        ({"regions": [{"name": "mars", "redis": "redis://x"}]}, "regions[0]", "latitude"),
    ],
)
def test_mistakes_in_data(data: Mapping[str, Any], key: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as refused:
        from_mapping({"regions": [TABLE], **data})
    assert refused.value.key == key
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Cache(ttl="5"), "cache.ttl"),  # type: ignore[arg-type]
        (lambda: Cache(max_body=True), "cache.max_body"),
        (lambda: Cache(exclude="/x"), "cache.exclude"),
        (lambda: Queue(max_writes=None), "queue.max_writes"),  # type: ignore[arg-type]
        (lambda: Sync(enabled="yes"), "sync.enabled"),  # type: ignore[arg-type]
        (lambda: Connections(timeout=0), "connections.timeout"),
        (lambda: Settings(regions=[REGION], cache=None), "cache"),  # type: ignore[arg-type]
        (lambda: Settings(regions=REGION), "regions"),  # type: ignore[arg-type]
        (lambda: Settings(regions=[REGION], rules=["/x"]), "rules[0]"),  # type: ignore[list-item]
    ],
)
def test_wrong_types_in_code(make: Any, key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make()
    assert refused.value.key == key


def test_secrets_are_needed_unless_every_region_is_embedded() -> None:
    embedded = Region("home", redis="embedded://./data", latitude=0, longitude=0)
    assert Settings(regions=(embedded,), origin="http://o", rules=(BEHIND,)).only_embedded
    assert Settings(regions=(REGION,), origin="http://o", rules=(BEHIND,), secrets=(SECRET,)).writes_behind
    assert not Settings(regions=(REGION,), rules=(Rule("/x"),)).writes_behind
    with pytest.raises(SettingsError, match="secrets"):
        Settings(regions=(embedded, REGION), origin="http://o", rules=(BEHIND,))


def test_lists_may_be_given_where_tuples_are_kept() -> None:
    settings = Settings(
        regions=[REGION],
        rules=[Rule("/x", methods=["put"])],
        cache=Cache(exclude=["/y"]),
    )
    assert settings.regions == (REGION,)
    assert settings.rules[0].methods == ("PUT",)
    assert settings.cache.exclude == ("/y",)
    assert hash(settings.cache) == hash(Cache(exclude=("/y",)))


def test_settings_are_frozen() -> None:
    settings = Settings(regions=(REGION,))
    for part in (settings, settings.cache, settings.queue, settings.sync, settings.connections):
        for name in part.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(part, name, None)


def test_a_service_credential_needs_somebody_who_asks_whether_the_user_may() -> None:
    async def allow(request: web.Request) -> bool:
        return True

    def made(*rules: Rule) -> Settings:
        sync = Sync(authorization="Bearer service")
        return Settings(regions=(REGION,), origin="http://o", secrets=(SECRET,), sync=sync, rules=rules)

    for rule in (
        Rule("/items/{id}", write="behind", authorize=allow),
        Rule("/items/{id}", write="behind", authorized=True),
        Rule("/items/{id}"),
    ):
        made(rule)
    with pytest.raises(SettingsError, match=r"rules\[/items/\{id\}\]") as refused:
        made(Rule("/me", write="behind", authorized=True), BEHIND)
    assert refused.value.key == "sync.authorization"
    assert "authorize=" in str(refused.value)


def test_nothing_secret_is_shown() -> None:
    settings = Settings(
        regions=(REGION,), secrets=(SECRET, SECRET + "2"), origin="https://origin.example",
        queue=Queue(encryption_keys=(KEY,)), sync=Sync(authorization=f"Bearer {SECRET}"),
        webhook=Webhook(secrets=("whsec_" + KEY,), momento_secrets=(SECRET,)),
    )  # fmt: skip
    for shown in (repr(settings), str(settings), f"{settings}", repr(settings.__rich_repr__())):
        assert SECRET not in shown
        assert "hunter2" not in shown
        assert KEY not in shown
        assert "2 not shown" in shown
        assert "origin.example" in shown


def test_every_setting_is_documented() -> None:
    for part in (Cache, Queue, Sync, Connections, Webhook, Settings, Rule, Bulk, Region):
        text = part.__doc__ or ""
        assert [name for name in part.__struct_fields__ if f"`{name}`" not in text and f"`{name}=" not in text] == []
