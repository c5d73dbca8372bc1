"""Rules: patterns, contradictions, what a write affects, what it can touch."""

import contextlib
import functools
from collections.abc import Iterable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from aiohttp_regioncache.durability import FSYNC, MEMORY, Durability
from aiohttp_regioncache.effects import UNKNOWN, Representation, Unknown, Write
from aiohttp_regioncache.errors import SettingsError
from aiohttp_regioncache.keys import normalize_path
from aiohttp_regioncache.patterns import PathPattern
from aiohttp_regioncache.rules import Affect, AffectedPath, Bulk, CompiledRule, Rule, Rules

NOT_CALLABLE = "text"
ABOUT_READS: dict[str, Any] = {
    "ttl": 0,
    "force_ttl": {"any": 1},
    "stale_while_revalidate": 0,
    "stale_if_error": 1,
    "early_refresh": 1,
    "ignore_query": [],
    "sort_query": False,
    "key": ["country"],
    "bypass_cookies": ["a"],
    "bypass_headers": ["a"],
}


def count(base: Representation | None, write: Write) -> Representation | Unknown | None:
    return UNKNOWN if base is None else Representation(write.body, base.content_type)


async def later(base: Representation | None, write: Write) -> None:
    """An effect that is none: it is asynchronous."""


async def allow(request: web.Request) -> bool:
    return True


def behind(path: str, **options: Any) -> Rule:
    return Rule(path, write="behind", **options)


@pytest.mark.parametrize(
    ("pattern", "path", "parameters"),
    [
        ("/items/{id}", "/items/1", {"id": "1"}),
        ("/items/{id}", "/items/1/x", None),
        ("/items/{id}", "/items/", None),
        ("/items/{id}", "/items/1\n", {"id": "1\n"}),
        ("/items/*", "/items/1", {}),
        ("/items/*", "/items/1/2", None),
        ("/static/**", "/static/a/b", {}),
        ("/static/**", "/static", None),
        ("**", "/anything/at/all", {}),
        ("**/x", "/a/b/x", {}),
        (r"/n/{n:\d+}", "/n/12", {"n": "12"}),
        (r"/n/{n:\d+}", "/n/x", None),
        (r"/n/{n:\d{2,3}}", "/n/12", {"n": "12"}),
        (r"/n/{n:\d{2,3}}", "/n/1", None),
        ("/p/{rest:.*}", "/p/a/b", {"rest": "a/b"}),
        ("/a/{x}-{y}.json", "/a/1-2.json", {"x": "1", "y": "2"}),
        ("/a.b", "/axb", None),
        ("/küche/{id}", "/k%C3%BCche/1", {"id": "1"}),
        ("/k%c3%bcche", "/k%C3%BCche", {}),
        ("/a b/%7e", "/a%20b/~", {}),
    ],
)
def test_patterns(pattern: str, path: str, parameters: dict[str, str] | None) -> None:
    assert PathPattern(pattern).match(path) == parameters


@pytest.mark.parametrize("pattern", ["", "x", "*x", "{id}", "/{", "/}", "/{1a}", "/{a}/{a}", "/{a:(}", "/a/../b", "/."])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"slash|brace|cannot be read|dot segment"):
        PathPattern(pattern)


@pytest.mark.parametrize("name", ["café", "a b", "x%2fy", "/etc"])
def test_a_filled_pattern_is_a_path_in_its_normal_form(name: str) -> None:
    pattern = PathPattern("/Küche/{name}/~")
    value = normalize_path("/" + name)[1:]
    filled = pattern.fill({"name": value})
    assert filled == normalize_path(filled) == f"/K%C3%BCche/{value}/~"


@pytest.mark.parametrize(
    ("options", "key", "allowed"),
    [
        ({"path": "x"}, "path", "slash"),
        ({"path": 5}, "path", "str"),
        ({"methods": "PUT"}, "methods", "array"),
        ({"methods": ["PUT,POST"]}, "methods", "no method"),
        ({"methods": ["GET", "HEAD", "OPTIONS"], "write": "behind"}, "methods", "writes"),
        ({"read": "cached"}, "read", "'cache', 'pass'"),
        ({"write": "behnd"}, "write", "'through', 'behind'"),
        ({"answer": "ok"}, "answer", "'accepted', 'optimistic'"),
        ({"per_user": "yes"}, "per_user", "bool"),
        ({"ttl": "60"}, "ttl", "float"),
        ({"ttl": -1}, "ttl", ">= 0"),
        ({"ttl": float("nan")}, "ttl", ">= 0"),
        ({"ttl": {"404": -1}}, "ttl[404]", ">= 0"),
        ({"ttl": {"404": "5"}}, "ttl[...]", "float"),
        ({"ttl": {404: 5, "404": 6}}, "ttl[404]", "twice"),
        ({"ttl": {"4XX": 5}}, "ttl[4XX]", '"5xx"'),
        ({"ttl": {"1xx": 5}}, "ttl[1xx]", "200 to 599"),
        ({"ttl": {199: 5}}, "ttl[199]", "200 to 599"),
        ({"ttl": {"600": 5}}, "ttl[600]", "200 to 599"),
        ({"ttl": {"4\u0660\u0664": 5}}, "ttl[4", "200 to 599"),
        ({"ttl": {"all": 5}}, "ttl[all]", '"any"'),
        ({"ttl": [5]}, "ttl", "float"),
        ({"force_ttl": {"404": float("nan")}}, "force_ttl[404]", ">= 0"),
        ({"force_ttl": "60"}, "force_ttl", "float"),
        ({"force_ttl": 5, "ttl": 5}, "ttl", "force_ttl"),
        ({"force_ttl": {"any": 5}, "ttl": {"404": 1}}, "ttl", "force_ttl"),
        ({"stale_while_revalidate": -1}, "stale_while_revalidate", ">= 0"),
        ({"stale_if_error": "1"}, "stale_if_error", "float"),
        ({"early_refresh": -0.5}, "early_refresh", ">= 0"),
        ({"ignore_query": "utm_*"}, "ignore_query", "array"),
        ({"ignore_query": [""]}, "ignore_query", "utm_*"),
        ({"ignore_query": ["a=1"]}, "ignore_query", "utm_*"),
        ({"sort_query": 1}, "sort_query", "bool"),
        ({"key": "country"}, "key", "array"),
        ({"key": ["X-Kind"]}, "key", "header:NAME, cookie:NAME, query:NAME, country"),
        ({"key": ["country:JP"]}, "key", "header:NAME"),
        ({"key": ["header:"]}, "key", "header"),
        ({"key": ["header:a b"]}, "key", "header"),
        ({"key": ["cookie:a=b"]}, "key", "cookie"),
        ({"key": ["cookie:regioncache-pin"]}, "key", "our own"),
        ({"key": ["query:"]}, "key", "parameter"),
        ({"bypass_cookies": ["a b"]}, "bypass_cookies", "cookie"),
        ({"bypass_cookies": ["regioncache-pin"]}, "bypass_cookies", "our own"),
        ({"bypass_headers": ["X-Preview: 1"]}, "bypass_headers", "header"),
        ({"bypass_headers": "X-Preview"}, "bypass_headers", "array"),
        *(({"read": "pass", name: value}, name, "read='pass'") for name, value in ABOUT_READS.items()),
        ({"dirty_wait": float("inf")}, "dirty_wait", ">= 0"),
        ({"max_tries": 0}, "max_tries", "None"),
        ({"max_age": 1e300}, "max_age", "at most"),
        ({"max_tries": 1.5}, "max_tries", "int"),
        ({"max_age": 0.0}, "max_age", "None"),
        ({"effect": "replce"}, "effect", "merge-patch"),
        ({"effect": None}, "effect", "merge-patch"),
        ({"effect": 5}, "effect", "function"),
        ({"effect": lambda base, write: None}, "effect", "def"),
        ({"effect": functools.partial(count)}, "effect", "def"),
        ({"effect": later}, "effect", "async"),
        ({"effect": "tests.test_rules:missing"}, "effect", "imported"),
        ({"effect": "tests.test_rules:NOT_CALLABLE"}, "effect", "function"),
        ({"effect": "no_such_module:f"}, "effect", "imported"),
        ({"effect": ".relative:f"}, "effect", "imported"),
        ({"effect": ":f"}, "effect", "imported"),
        ({"authorize": "tests.test_rules:NOT_CALLABLE", "write": "behind"}, "authorize", "function"),
        ({"authorize": "tests.test_rules", "write": "behind"}, "authorize", "imported"),
        ({"authorize": True, "write": "behind"}, "authorize", "function"),
        ({"principal": "header:"}, "principal", "header:NAME"),
        ({"principal": "header: X-User"}, "principal", "header:NAME"),
        ({"principal": "cookie:"}, "principal", "cookie:NAME"),
        ({"principal": "cookie:regioncache-pin"}, "principal", "our own"),
        ({"principal": "X-User"}, "principal", "header:NAME"),
        ({"principal": 5}, "principal", "function"),
        ({"shared": True, "write": "behind"}, "shared", "authorize="),
        ({"shared": True, "authorized": True, "per_user": True, "write": "behind"}, "shared", "per_user"),
        ({"shared": True, "authorized": True}, "shared", "behind"),
        ({"authorize": allow}, "authorize", "behind"),
        ({"affects": ["/x"]}, "affects", "behind"),
        ({"effect": "replace"}, "effect", "behind"),
        ({"write": "behind", "answer": "optimistic", "effect": "unknown"}, "answer", "optimistic"),
        ({"group": "/a"}, "group", "behind"),
        ({"group": "a", "write": "behind"}, "group", "slash"),
        ({"group": "/b", "write": "behind"}, "group", "prefix"),
        ({"group": "/a/{id}", "write": "behind"}, "group", "prefix"),
        ({"durability": "disk", "write": "behind"}, "durability", "replicated=N"),
        ({"durability": 1, "write": "behind"}, "durability", "str"),
        ({"durability": "fsync"}, "durability", "behind"),
        ({"replay": "once", "write": "behind"}, "replay", "'once'"),
        ({"replay": "never"}, "replay", "behind"),
        ({"order": "principal", "write": "behind"}, "order", "per_user"),
        ({"order": "principal", "per_user": True}, "order", "behind"),
        ({"order": "group", "write": "behind"}, "order", "'group'"),
        ({"when_region_down": "through"}, "when_region_down", "behind"),
        ({"when_region_down": "through", "replay": "never", "write": "behind"}, "when_region_down", "never"),
        ({"on_dead": "wait", "write": "behind"}, "on_dead", "'wait'; allowed: 'block', 'skip'"),
        ({"on_dead": "skip"}, "on_dead", "behind"),
        ({"coalesce": True}, "coalesce", "behind"),
        ({"coalesce": True, "effect": "merge-patch", "write": "behind"}, "coalesce", "merge-patch"),
        ({"bulk": Bulk("/bulk")}, "bulk", "behind"),
        ({"bulk": Bulk("/bulk"), "replay": "never", "write": "behind"}, "bulk", "never"),
        ({"bulk": Bulk("bulk"), "write": "behind"}, "bulk.endpoint", "slash"),
        ({"bulk": Bulk("//other.example/bulk"), "write": "behind"}, "bulk.endpoint", "slash"),
        ({"bulk": Bulk("/bulk\n"), "write": "behind"}, "bulk.endpoint", "path"),
        ({"bulk": Bulk("/bulk", max_writes=0), "write": "behind"}, "bulk.max_writes", ">= 1"),
        ({"bulk": Bulk("/bulk", max_bytes=-1), "write": "behind"}, "bulk.max_bytes", ">= 1"),
        ({"bulk": Bulk("/bulk", encode="tests.test_rules:missing"), "write": "behind"}, "bulk.encode", "imported"),
        ({"bulk": Bulk("/bulk", decode="tests.test_rules:NOT_CALLABLE"), "write": "behind"}, "bulk.decode", "function"),
        ({"affects": "/x", "write": "behind"}, "affects", "array"),
        ({"affects": ["x"], "write": "behind"}, "affects", "slash"),
        ({"affects": [5], "write": "behind"}, "affects", "str"),
        ({"affects": ["/a/{other}"], "write": "behind"}, "affects", "'id'"),
        ({"affects": ["/a/*"], "write": "behind"}, "affects", "parameters"),
        ({"affects": [Affect("/a", effect="x")], "write": "behind"}, "affects[/a].effect", "merge-patch"),
    ],
)
def test_mistakes_are_refused_with_their_key(options: dict[str, Any], key: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Rule(**{"path": "/a/{id}", **options})
    assert refused.value.key.startswith("rules[")
    assert refused.value.key.partition("].")[2].startswith(key)
    assert allowed in str(refused.value)


def test_what_is_said_of_reads_is_brought_into_one_form() -> None:
    rule = Rule(
        "/a",
        ttl={200: 60, "4xx": 5},
        force_ttl={"502": 1},
        key=["query:Page", "header:X-Kind", "cookie:Lang", "country", "header:x-kind"],
        ignore_query=["utm_*"],
    )
    assert rule.ttl == {"200": 60, "4xx": 5}
    assert rule.key == ("cookie:Lang", "country", "header:x-kind", "query:Page")
    assert rule.ignore_query == ("utm_*",)
    assert Rule("/a", ttl=5, force_ttl={"502": 1}).ttl == 5


def test_a_rule_is_made_ready_when_it_is_made() -> None:
    rule = behind(
        "/a/{id}",
        methods=["put", "PATCH"],
        effect="tests.test_rules:count",
        authorize="tests.test_rules:allow",
        principal="header:X-User",
        affects=["/a", Affect("/a/{id}/x", effect=None)],
    )
    assert rule.methods == ("PUT", "PATCH")
    assert rule.effect is count
    assert rule.authorize is allow
    assert rule.affects == (Affect("/a", effect="unknown"), Affect("/a/{id}/x", effect="unknown"))
    with pytest.raises(AttributeError):
        rule.write = "through"  # type: ignore[misc]


def test_the_first_rule_that_covers_path_and_method_counts() -> None:
    rules = Rules([behind("/a/{id}", methods=["PUT"]), Rule("/a/**", ttl=5), Rule("/**", read="pass")])

    def found(method: str, path: str) -> str | None:
        rule = rules.find(method, path)
        return rule.rule.path if rule else None

    assert found("PUT", "/a/1") == "/a/{id}"
    assert found("GET", "/a/1") == "/a/**"
    assert found("GET", "/b") == "/**"
    assert Rules([]).find("GET", "/b") is None


def test_head_goes_with_get_unless_it_is_named() -> None:
    assert CompiledRule(Rule("/a", methods=["GET"])).covers("HEAD", "/a")
    assert not CompiledRule(Rule("/a", methods=["POST"])).covers("HEAD", "/a")
    assert CompiledRule(Rule("/a", methods=["HEAD"])).covers("HEAD", "/a")


@pytest.mark.parametrize(
    ("rule", "path", "affected"),
    [
        (behind("/items/{id}"), "/items/1", [("/items", "unknown")]),
        (behind("/items/{id}/"), "/items/1/", [("/items", "unknown")]),
        (behind("/items"), "/items", []),
        (behind("/items/{id}", affects=[]), "/items/1", []),
        (behind("/items/{id}", affects=["/items/{id}"]), "/items/1", []),
        (
            behind("/items/{id}", affects=["/items/{id}/summary", Affect("/items", effect="delete")]),
            "/items/1",
            [("/items/1/summary", "unknown"), ("/items", "delete")],
        ),
        (
            behind("/items/{id}", affects=[Affect("/items", effect=count)]),
            "/items/1",
            [("/items", f"{__name__}:count")],
        ),
        (behind("/api/v1/{id}", group="/api/v1"), "/api/v1/2", [("/api/v1", "unknown")]),
        (behind("/api/v1/{x:.*}", group="/api/v1"), "/api/v1/2/3", [("/api/v1/2", "unknown")]),
        (behind("/äpfel/{id}", affects=["/äpfel"]), "/%C3%A4pfel/1", [("/%C3%A4pfel", "unknown")]),
    ],
)
def test_what_a_write_affects(rule: Rule, path: str, affected: list[tuple[str, str]]) -> None:
    rules = Rules([rule])
    assert CompiledRule(rule).affected(path, rules.groups) == tuple(AffectedPath(*pair) for pair in affected)


def test_the_parent_in_another_group_is_not_affected() -> None:
    rules = Rules([behind("/api/v1/items/{id}", group="/api/v1/items"), behind("/api/v1/items", methods=["POST"])])
    posted = rules.find("POST", "/api/v1/items")
    assert posted is not None
    assert posted.affected("/api/v1/items", rules.groups) == ()


@pytest.mark.parametrize(
    ("rules", "accepted"),
    [
        ([behind("/a/{id}", affects=["/b/{id}"])], False),
        ([behind("/a/{id}", affects=["/a", "/a/{id}/x"])], True),
        ([behind("/{kind}/{id}", affects=["/{kind}"])], True),
        ([behind("/{kind}/{id}", affects=["/list"])], False),
        ([behind("/{kind:.*}/x", affects=["/{kind}/y"])], True),
        ([behind("/a{id}", affects=["/a"])], False),
        ([behind("**/x", affects=["/x/list"])], False),
        ([behind("/api/v1/{id}", group="/api/v1", affects=["/api/v1"])], True),
        ([behind("/api/v1/{id}", group="/api/v1", affects=["/api/list"])], False),
        ([behind("/api/{v}/x", affects=["/api/{v}"]), behind("/api/v1/x", group="/api/v1")], True),
        ([behind("/api/{v}/x", affects=["/api/list"]), behind("/api/v1/x", group="/api/v1")], False),
        ([behind("/{kind}/{id}", affects=["/{kind}"]), behind("/api/v1/x", group="/api/v1")], False),
        ([behind("/api/v1{x}", affects=["/api/v1"]), behind("/api/v1/x", group="/api/v1")], False),
        ([behind("/x/{id}", affects=["/x"]), behind("/api/v1/x", group="/api/v1")], True),
        ([behind("/x/{id}", group="/", affects=["/y"])], True),
    ],
)
def test_affected_resources_lie_in_one_group(rules: list[Rule], accepted: bool) -> None:
    if accepted:
        Rules(rules)
        return
    with pytest.raises(SettingsError, match="group= a prefix of both") as refused:
        Rules(rules)
    assert refused.value.key == f"rules[{rules[0].path}].affects"


def test_effect_functions_by_name_and_two_of_one_name_refused() -> None:
    def make() -> Any:
        def local(base: Representation | None, write: Write) -> None:
            return None

        return local

    same = [behind("/a/{id}", effect=count), behind("/b/{id}", affects=[Affect("/b", effect=count)])]
    assert Rules(same).functions() == {f"{__name__}:count": count}
    with pytest.raises(SettingsError, match="two functions"):
        Rules([behind("/a/{id}", effect=make()), behind("/b/{id}", effect=make())])


# --- everything that a write behind can touch is known to be touched ---

_pieces = st.sampled_from(["a", "b", "{x}", "*", "**", "a{y}", "a*", "{z:.*}", "{n:[ab]*}", "", "é"])
_patterns = st.lists(_pieces, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
_paths = st.lists(st.sampled_from(["a", "b", "ab", "", "é", "%2f"]), min_size=1, max_size=5).map(
    lambda parts: normalize_path("/" + "/".join(parts))
)


@st.composite
def _rules(draw: st.DrawFn) -> Rules:
    made = []
    for path in draw(st.lists(_patterns, min_size=1, max_size=3)):
        options: dict[str, Any] = {}
        if draw(st.booleans()):
            options["affects"] = draw(st.lists(_patterns, max_size=2))
        if draw(st.booleans()):
            options["group"] = path[: draw(st.integers(1, len(path)))]
        with contextlib.suppress(SettingsError):
            made.append(behind(path, **options))
    try:
        return Rules(made)
    except SettingsError:
        return reject()


@given(_rules(), st.lists(_paths, min_size=8, max_size=8))
@settings(max_examples=300, deadline=None)
def test_what_a_write_behind_touches_lies_in_its_group_and_is_known(rules: Rules, paths: Iterable[str]) -> None:
    for path in paths:
        rule = rules.find("PUT", path)
        if rule is None:
            continue
        assert rules.touching(path)
        for other in rule.affected(path, rules.groups):
            assert other.path == normalize_path(other.path)
            assert rules.touching(other.path), (rule.rule, path, other.path)
            assert rules.groups.group(other.path) == rules.groups.group(path), (rule.rule, path, other.path)


@pytest.mark.parametrize(
    ("rule", "path", "other"),
    [
        (behind("/a/b/*"), "/a/b/", "/a"),
        (behind("/a/{x:.*}"), "/a/b/c", "/a/b"),
        (behind("/a/**"), "/a/b/c//", "/a/b"),
        (behind("/a/b/{x}", affects=["/a/{x}/c"]), "/a/b/d", "/a/d/c"),
    ],
)
def test_what_is_hard_to_tell_counts_as_touched(rule: Rule, path: str, other: str) -> None:
    rules = Rules([rule])
    assert [affected.path for affected in CompiledRule(rule).affected(path, rules.groups)] == [other]
    assert rules.touching(other)


def test_what_no_write_behind_touches_is_not() -> None:
    rules = Rules([behind("/items/{id}"), behind("/lists/*"), Rule("/other/{id}")])
    assert rules.touching("/items")
    assert rules.touching("/lists")
    assert not rules.touching("/other/1")
    assert not rules.touching("/other")
    assert not rules.touching("/items/1/2")
    assert not rules.touching("/")


def test_the_regions_are_checked_for_what_the_rules_ask_for() -> None:
    rules = [behind("/a/{id}"), behind("/b/{id}", durability="replicated=2"), Rule("/c/{id}")]
    assert Rules(rules).durabilities("memory") == {MEMORY, Durability("replicated", 2)}
    assert Rules(rules).durabilities("fsync") == {FSYNC, Durability("replicated", 2)}
    assert Rules([Rule("/c/{id}")]).durabilities("fsync") == frozenset()


def test_one_bulk_endpoint_has_one_form() -> None:
    same = [behind("/a/{id}", bulk=Bulk("/bulk")), behind("/b/{id}", bulk=Bulk("/bulk"))]
    other = behind("/c/{id}", bulk=Bulk("/bulk", keeps_order=True))
    assert Rules([*same, behind("/d/{id}", bulk=Bulk("/else"))]).bulks().keys() == {"/bulk", "/else"}
    with pytest.raises(SettingsError, match="another form") as refused:
        Rules([*same, other])
    assert refused.value.key == "rules[/c/{id}].bulk"
