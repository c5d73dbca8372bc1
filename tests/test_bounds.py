"""Nothing grows without bound: every structure that lives longer than a call is listed here with what bounds it.

A structure that is not listed fails a test, and so does one that is listed and gone. Those of `BOUNDED` and `IN_REDIS`
have a test that drives them beyond their bound.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import itertools
import re
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request
from redis.asyncio import Redis

import aiohttp_regioncache
from aiohttp_regioncache.bounded import Bounded
from aiohttp_regioncache.effects import Representation
from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.exchange import Asker, Said
from aiohttp_regioncache.exchanges import MAX_PRINCIPALS, Exchanges
from aiohttp_regioncache.features import Enabled, Step
from aiohttp_regioncache.gateway import access_log, protocol
from aiohttp_regioncache.gateway.access_log import Access, AccessWriter
from aiohttp_regioncache.gateway.protocol import FastHandler, Gate
from aiohttp_regioncache.hooks import MAX_RUNNING, Hooks
from aiohttp_regioncache.idempotency import MemoryStorage
from aiohttp_regioncache.origins import origins as origins_module
from aiohttp_regioncache.origins.origins import Origins
from aiohttp_regioncache.overlay import MEMO_FROM, Memo
from aiohttp_regioncache.principal import Signer
from aiohttp_regioncache.purges import Line
from aiohttp_regioncache.reads.fetching import Fetching
from aiohttp_regioncache.reads.filling import Fills
from aiohttp_regioncache.reads.flights import Flight, Flights
from aiohttp_regioncache.reads.memory import Memory
from aiohttp_regioncache.reads.plans import Plan, Plans
from aiohttp_regioncache.records import CacheRecord, Form
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.rules import Rules
from aiohttp_regioncache.semantics.requests import PLAIN_REQUEST
from aiohttp_regioncache.served import default_site
from aiohttp_regioncache.settings import Cache, Queue, Settings
from aiohttp_regioncache.settings import Sites as SiteSettings
from aiohttp_regioncache.sites.directory import Directory, _Pulse
from aiohttp_regioncache.sites.serving import Sites
from aiohttp_regioncache.sites.store import put_site
from aiohttp_regioncache.store import collector, entries, executor, glances, keyspace, nonces, purging, queue
from aiohttp_regioncache.store.accepting import Verdict
from aiohttp_regioncache.store.collector import Collector
from aiohttp_regioncache.store.events import Events
from aiohttp_regioncache.store.keyspace import Partition
from aiohttp_regioncache.store.outbox import announce
from aiohttp_regioncache.store.pipe import Answered, packed
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.outlets import SiteOutlets
from aiohttp_regioncache.tasks import Tasks
from aiohttp_regioncache.transforms.runner import Transformer
from aiohttp_regioncache.upstream import OriginAddress, Upstream
from aiohttp_regioncache.writes.accept import MAX_TOLD, Accepter
from tests.gateway.differential import LAST, Pair, Script
from tests.sites.tools import site
from tests.store.tools import (
    LIMITS,
    TOKYO,
    accept,
    acceptance,
    claim_one,
    fetched,
    keys,
    purges_of,
    raw,
    resource,
    settle,
)
from tests.support import eventually
from tests.support.world import one_edge
from tests.sync.tools import accept_all, looping

ROOT = Path(aiohttp_regioncache.__file__).parent

BOUNDED: Final = {
    "reads/memory.py:Memory._kept": ("cache.memory_bytes", "test_memory_keeps_to_its_octets"),
    "reads/memory.py:Memory._keys": ("the entries of _kept", "test_memory_keeps_to_its_octets"),
    "bounded.py:Bounded._values": ("an eighth of cache.memory_bytes", "test_tables_of_plans_keep_to_octets"),
    "exchange.py:Said.principals": ("MAX_PRINCIPALS", "test_what_is_kept_of_the_same_fields_keeps_to_its_number"),
    "exchange.py:Said.told": ("MAX_TOLD", "test_what_is_kept_of_the_same_fields_keeps_to_its_number"),
    "gateway/protocol.py:Gate._tables": ("http or https, trusted or not", "test_tables_of_plans_keep_to_octets"),
    "gateway/protocol.py:FastHandler._held": ("_MAX_HELD and a read", "test_a_connection_holds_no_more_than_it_may"),
    "gateway/access_log.py:AccessWriter._waiting": ("MAX_WAITING", "test_lines_of_the_access_log_are_dropped"),
    "overlay.py:Memo._kept": ("MEMO_BYTES", "test_folds_that_are_remembered_keep_to_their_octets"),
    "tasks.py:Tasks._tasks": ("its limit, 10,000", "test_background_tasks_beyond_their_limit_are_refused"),
    "reads/filling.py:Fills._under_way": ("the tasks of Tasks", "test_fills_beyond_the_limit_of_tasks_are_dropped"),
    "sites/directory.py:Directory._found": ("sites.max_known", "test_hosts_that_are_known_keep_to_their_number"),
    "sites/directory.py:Directory._missing": ("sites.max_known", "test_hosts_that_are_known_keep_to_their_number"),
    "sites/directory.py:Directory._names": ("the names of _found", "test_hosts_that_are_known_keep_to_their_number"),
    "sites/directory.py:Directory._newest": ("the sites of _found", "test_hosts_that_are_known_keep_to_their_number"),
    "sites/directory.py:Directory._flights": ("the tasks of Tasks", "test_hosts_that_are_known_keep_to_their_number"),
    "sites/directory.py:_Pulse._vouched": ("two epochs", "test_two_epochs_are_vouched_for"),
    "sites/serving.py:Sites._ready": ("sites.max_known", "test_sites_made_ready_keep_to_their_number"),
    "sync/outlets.py:SiteOutlets._outlets": ("sites.max_known", "test_outlets_of_sites_keep_to_their_number"),
    "origins/origins.py:Origins._balances": ("MOST_ORIGINS", "test_origins_remembered_keep_to_their_number"),
    "origins/origins.py:Origins._used": ("the keys of _balances", "test_origins_remembered_keep_to_their_number"),
    "store/nonces.py:Nonces._left": ("_AT_ONCE", "test_numbers_at_hand_are_few"),
    "store/executor.py:Executor._waiting": ("MAX_WAITING", "test_commands_that_wait_keep_to_their_number"),
    "store/executor.py:Executor._tasks": ("PIPELINES", "test_commands_that_wait_keep_to_their_number"),
    "store/executor.py:Executor._sent": ("PIPELINES", "test_commands_that_wait_keep_to_their_number"),
    "store/executor.py:Executor._pipes": ("PIPELINES", "test_commands_that_wait_keep_to_their_number"),
    "store/glances.py:Glances._waiting": ("MAX_WAITING", "test_commands_that_wait_keep_to_their_number"),
    "store/collector.py:Collector._waiting": ("MAX_WAITING", "test_who_waits_for_a_shared_call_keeps_to_a_number"),
    "store/region.py:RegionStore.purge_lines": ("MAX_LINES for each partition", "test_purges_keep_to_their_lines"),
    "purges.py:_Index._numbers": ("MAX_LINES and their groups", "test_purges_keep_to_their_lines"),
    "purges.py:_Index._lengths": ("MAX_LINES", "test_purges_keep_to_their_lines"),
    "store/untold.py:Untold._changes": ("what tasks tell, and one", "test_untold_changes_are_in_the_tests_of_writes"),
    "idempotency.py:MemoryStorage._finished": ("max_bytes", "test_answers_kept_in_memory_keep_to_their_octets"),
    "idempotency.py:MemoryStorage._reserved": ("work_seconds", "test_answers_kept_in_memory_keep_to_their_octets"),
    "sync/loop.py:SyncLoop._drains": ("sync.concurrency", "test_a_loop_claims_no_more_than_it_has_slots_for"),
    "transforms/runner.py:Transformer._pool": ("THREADS", "test_responses_do_not_queue_up_in_the_pool_of_features"),
}  # fmt: skip
"""What grows with traffic: what bounds it, and the test that drives it there."""

UNDER_WAY: Final = {
    "reads/flights.py:Flights._under_way": "one for each request being answered, at most; see the test of flights",
    "reads/flights.py:Flights._tasks": "one for each request being answered, at most; read_timeout ends it",
    "reads/fetching.py:Fetching._renewing": "a name for each task of Tasks",
    "gateway/passing.py:Passing._tasks": "one for each request being answered; read_timeout ends it",
    "origins/letters.py:Patience._until": "one for each request being answered, gone with the head of its answer",
    "store/events.py:Events._waiters": "an event for each request being answered, gone with it",
    "store/glances.py:_Collected.places": "a part of Glances._waiting",
    "store/glances.py:_Collected.asked": "a part of Glances._waiting",
    "store/pipe.py:Pipe._waiting": "what Glances and Executor have asked for; silence ends the connection",
    "sync/batcher.py:_Parcel.items": "writes of one claim, at most Bulk.max_writes",
    "sync/batcher.py:Batcher._waiting": "a parcel for each claim of a loop",
    "sync/batcher.py:Batcher._carriers": "REQUESTS",
    "sync/loop.py:SyncLoop._using": "a count for each claim, forgotten at zero",
    "sync/loop.py:SyncLoop._batchers": "weakly by outlet, and by the endpoints of its rules",
    "store/accepting.py:Blank._lists": "a part of a plan of WritePlans",
    "store/accepting.py:Batch.keys": "those of ACCEPTED_AT_ONCE writes",
    "store/accepting.py:Batch.arguments": "those of ACCEPTED_AT_ONCE writes",
    "store/accepting.py:Batch.bodies": "those of ACCEPTED_AT_ONCE writes",
    "store/accepting.py:Batch.ids": "those of ACCEPTED_AT_ONCE writes",
    "control/writes.py:_List._ahead": "one page of a listing, for one call",
    "writes/flush.py:Flush._stores": "the regions",
}
"""What holds something of each request, connection or task, and lets it go with that: a process has as many of them as
it may have open files, and tasks as in `Tasks`."""

BY_OPERATORS: Final = {
    "cipher.py:Cipher._ciphers": "queue.encryption_keys",
    "effects.py:Effects._functions": "the functions that rules name",
    "exclusions.py:Exclusions._paths": "the patterns of the settings or a site",
    "features.py:Catalogue._features": "features that the application adds",
    "gateway/listeners.py:Listeners._sockets": "the addresses of the settings",
    "gateway/supervisor.py:Supervisor._workers": "serve.workers",
    "gateway/supervisor.py:Supervisor._keepers": "serve.workers",
    "gateway/supervisor.py:Supervisor._running": "serve.workers, and those that end",
    "gateway/supervisor.py:Supervisor._ending": "workers of before a restart, until they have ended",
    "hooks.py:Hooks._signals": "five",
    "keying.py:Keying._parts": "the parts of a rule's key",
    "keys.py:QueryForm._globs": "the patterns of the settings or a rule",
    "origins/balance.py:Balance._health": "the addresses of an origin",
    "origins/origins.py:Origins._sessions": "four kinds",
    "writes/accept.py:Accepter._kinds": "partitions, over http and https",
    "writes/receipts.py:Receipts._pieces": "one answer",
    "plugin.py:RegionCache.stores": "regions",
    "plugin.py:RegionCache.loops": "regions",
    "plugin.py:RegionCache.couriers": "regions",
    "plugin.py:RegionCache.sweepers": "regions",
    "plugin.py:RegionCache._adopted": "regions that are registered in Redis",
    "principal.py:Signer._keys": "secrets",
    "regions.py:Ranking._by_country": "countries",
    "rules.py:CompiledRule._affects": "what a rule affects",
    "rules.py:CompiledRule._touched": "what a rule affects",
    "rules.py:Rules._rules": "rules",
    "rules.py:Rules._behind": "rules",
    "rules.py:Rules._ordering": "rules",
    "served.py:RuleBook._policies": "rules",
    "served.py:RuleBook._keyings": "rules",
    "store/events.py:Events._on_change": "those who are built at the start",
    "store/events.py:Events._on_link": "those who are built at the start",
    "store/events.py:Events._on_work": "loops",
    "store/region.py:RegionStore.accepts": "partitions, durabilities and caps of the settings",
    "store/region.py:RegionStore.settles": "partitions and limits of the settings",
    "store/region.py:RegionStore._clients": "kinds of connections",
    "store/region.py:RegionStore._run_ids": "nodes of a Cluster",
    "store/region.py:RegionStore._policies": "nodes of a Cluster",
    "store/region.py:RegionStore._keeps_log": "nodes of a Cluster",
    "store/region.py:RegionStore._replicas": "nodes of a Cluster",
    "store/region.py:RegionStore._versions": "nodes of a Cluster",
    "sync/bulk.py:Form._told": "two functions",
    "sync/courier.py:Courier._regions": "regions that are registered in Redis",
    "sync/courier.py:Courier._wakes": "regions that are registered in Redis",
    "sync/courier.py:Courier._carriers": "regions that are registered in Redis",
    "sync/outlets.py:Outlet.bulks": "rules",
    "sync/settling.py:Settler.settled": "outcomes",
}
"""What is as large as operators make it, whatever clients send."""

IN_REDIS: Final = {
    "due": ("queue.max_writes", "test_each_cap_of_a_queue_holds"),
    "lease": ("the resources of due", "test_each_cap_of_a_queue_holds"),
    "queue": ("queue.max_writes", "test_each_cap_of_a_queue_holds"),
    "bytes": ("a number, up to queue.max_bytes", "test_each_cap_of_a_queue_holds"),
    "pending": ("queue.max_writes_per_resource", "test_each_cap_of_a_queue_holds"),
    "affected": ("the writes of queue", "test_each_cap_of_a_queue_holds"),
    "body": ("queue.max_bytes; else a lifetime", "test_what_stays_in_redis_is_bounded"),
    "principals": ("queue.max_writes", "test_each_cap_of_a_queue_holds"),
    "blocked": ("counts in queue.max_writes", "test_blocked_resources_take_places_of_the_queue"),
    "status": ("a lifetime, once it has ended", "test_what_stays_in_redis_is_bounded"),
    "idempotency": ("a lifetime, once its write has ended", "test_what_stays_in_redis_is_bounded"),
    "ended": ("ENDED_LENGTH", "test_lists_of_ended_writes_keep_to_their_length"),
    "landed": ("cache.landed_count and a lifetime", "test_landed_writes_keep_to_their_number"),
    "entry": ("a lifetime and maxmemory", "test_what_stays_in_redis_is_bounded"),
    "state": ("a lifetime and maxmemory", "test_what_stays_in_redis_is_bounded"),
    "out": ("OUTBOX_LENGTH", "test_an_outbox_keeps_to_its_length"),
    "purges": ("MAX_LINES", "test_purges_keep_to_their_lines"),
    "intents": ("writes through under way, and sync.intent_seconds", "test_intents_go_with_their_writes"),
    "seq": ("a number", "test_what_stays_in_redis_is_bounded"),
    "processed": ("a number", "test_what_stays_in_redis_is_bounded"),
    "purge": ("a number", "test_what_stays_in_redis_is_bounded"),
    "cursors": ("regions", "test_what_stays_in_redis_is_bounded"),
    "courier": ("regions, and a lifetime", "test_what_stays_in_redis_is_bounded"),
    "site_changes": ("a number", "test_what_stays_in_redis_is_bounded"),
    "META": ("three fields", "test_what_stays_in_redis_is_bounded"),
    "REGIONS": ("regions", "test_what_stays_in_redis_is_bounded"),
    "SITES": ("sites that operators have", "test_what_stays_in_redis_is_bounded"),
    "site_key": ("sites that operators have", "test_what_stays_in_redis_is_bounded"),
    "domain_key": ("hosts of these sites", "test_what_stays_in_redis_is_bounded"),
}  # fmt: skip
"""Every kind of key: what bounds it, and the test."""

FINITE: Final = {"store/scripts.py:script": "the scripts of the package, by their names"}
"""What is cached for arguments that are few."""

_GROWING: Final = frozenset(
    {
        "Counter", "OrderedDict", "Queue", "SimpleQueue", "ThreadPoolExecutor", "WeakKeyDictionary", "WeakSet",
        "WeakValueDictionary", "bytearray", "defaultdict", "deque", "dict", "list", "set",
    }
)  # fmt: skip


# --- the sources ---


@functools.cache
def _sources() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def _grows(value: ast.expr | None) -> bool:
    """Whether an expression makes a structure that can grow."""
    if isinstance(value, ast.IfExp):
        return _grows(value.body) or _grows(value.orelse)
    if isinstance(value, ast.BoolOp):
        return any(map(_grows, value.values))
    if isinstance(value, ast.Call):
        function = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        return ast.unparse(function).rpartition(".")[2] in _GROWING
    return isinstance(value, (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp))


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign):
        yield node.target, node.value


def _attributes() -> Iterator[str]:
    """The attributes of instances that any method makes a structure of, and those of classes."""
    for file, tree in _sources().items():
        for made in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            for node in ast.walk(made):
                for target, value in _assigned(node):
                    if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self" and _grows(value):
                        yield f"{file}:{made.name}.{target.attr}"


def test_every_structure_is_listed_once() -> None:
    listed = [*BOUNDED, *UNDER_WAY, *BY_OPERATORS]
    assert len(listed) == len(set(listed))
    found = set(_attributes())
    unlisted, gone = found - set(listed), set(listed) - found
    assert not unlisted, f"say in BOUNDED, UNDER_WAY or BY_OPERATORS what bounds {sorted(unlisted)}"
    assert not gone, f"no longer there: {sorted(gone)}"


def test_every_bound_has_its_test() -> None:
    for name, (_, test) in {**BOUNDED, **IN_REDIS}.items():
        assert callable(globals().get(test)), f"{name}: {test}"


def test_every_kind_of_key_is_listed() -> None:
    partition = Partition("eu", 0)
    made = {name for name, value in vars(partition).items() if str(value).startswith(f"{partition.tag}:")}
    methods = {name for name, value in vars(Partition).items() if callable(value) and not name.startswith("_")}
    functions = {name for name in vars(keyspace) if name.endswith("_key")}
    assert made | (methods - {"resource", "resources"}) | functions | {"META", "REGIONS", "SITES"} == set(IN_REDIS)


def test_modules_keep_nothing() -> None:
    for file, tree in _sources().items():
        for node in tree.body:
            for target, value in _assigned(node):
                name = ast.unparse(target)
                is_constant = name.strip("_").isupper() or name == "__all__"
                assert is_constant or not _grows(value), f"{file}: {name} is a structure of the process"


def _caches() -> Iterator[tuple[str, ast.FunctionDef | None, ast.expr]]:
    """Every use of `functools.cache` and `lru_cache`: the file, the function under it, and the expression."""
    for file, tree in _sources().items():
        decorating: dict[int, ast.FunctionDef] = {
            id(part): node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for decorator in node.decorator_list
            for part in ast.walk(decorator)
        }
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Attribute, ast.Name)) and re.fullmatch(
                r"(functools\.)?(lru_cache|cache)", ast.unparse(node)
            ):
                if isinstance(node, ast.Name) and not _is_imported(tree, node.id):
                    continue
                yield file, decorating.get(id(node)), calls.get(id(node), node)


def _is_imported(tree: ast.Module, name: str) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "functools" and name in {each.name for each in node.names}
        for node in ast.walk(tree)
    )


def test_every_cache_of_calls_has_a_size_or_no_arguments() -> None:
    found = list(_caches())
    assert len(found) > 8
    for file, function, used in found:
        sizes = [key.value for key in used.keywords if key.arg == "maxsize"] if isinstance(used, ast.Call) else []
        is_sized = bool(sizes) and ast.unparse(sizes[0]) != "None"
        takes = function is None or function.args.args or function.args.posonlyargs or function.args.kwonlyargs
        name = f"{file}:{function.name if function else ast.unparse(used)}"
        assert is_sized or not takes or name in FINITE, f"{name} keeps every answer"


def test_the_sources_are_seen_through() -> None:
    source = "def f(self):\n self.a: dict[int, int] = {}\n self.b = x or deque[int]()\n self.c = 1"
    made = ast.parse(source)
    found = [ast.unparse(target) for node in ast.walk(made) for target, value in _assigned(node) if _grows(value)]
    assert found == ["self.a", "self.b"]


# --- structures of a process ---


async def test_memory_keeps_to_its_octets() -> None:
    events = Events("home", Redis())
    events.is_connected = True
    memory = Memory("eu", events, seconds=60.0, max_bytes=100_000)
    record = CacheRecord(
        url="http://a/b", status=200, reason=b"OK", body=b"x" * 1000, form=int(Form.PLAIN), sent_lines=b"Date: x\r\n",
        terms=msgspec.structs.replace(CacheRecord(url="").terms, no_cache=False, lifetime=60.0),
    )  # fmt: skip
    for number in range(1_000):
        memory.put(f"{number}", record, f"digest {number}", memory.generation)
        kept = memory.find(f"{number}")
        assert kept is not None
        assert memory.ready(kept) is not None
        assert memory.size <= 100_000
    assert 20 < len(memory) == len(memory._keys) < 100
    assert memory.size == sum(kept.size for kept in memory._kept.values())
    memory.clear()
    assert (memory.size, len(memory._kept), len(memory._keys)) == (0, 0, 0)


def _settings(**changes: Any) -> Settings:
    return Settings(regions=[Region(TOKYO, redis="redis://127.0.0.1")], origin="http://origin.example", **changes)


def test_tables_of_plans_keep_to_octets() -> None:
    plans = Plans(_settings(cache=Cache(memory_bytes=80_000)), {}, Fills({}, Tasks(), 0.0), None)
    gate = Gate(plans, None, None)
    kinds = itertools.product(("http", "https"), (False, True))
    tables = [gate.table(scheme, is_trusted=is_trusted) for scheme, is_trusted in [*kinds] * 3]
    assert len(gate._tables) == 4
    plan: Any = object()
    every: list[Bounded[Any, Any]] = [*tables, plans._exact, plans._alike]
    for table, most in (*[(table, 10) for table in every], (plans._seen, 80)):
        for number in range(100):
            table.put(f"{number}".encode(), plan, 1_000)
            assert table.size <= most * 1_000
        assert len(table) == most


def test_what_is_remembered_of_misses_keeps_to_octets() -> None:
    fetching = Fetching(Cache(memory_bytes=80_000), Fills({}, Tasks(), 0.0), Tasks())
    exchange: Any = SimpleNamespace(has_credentials=False, owner="", asks_range=False)
    fetched: Any = SimpleNamespace(record=None, failed=False)
    for number in range(100):
        fetching._note(exchange, ("eu", f"{number}"), fetched, entries.Remembered("token", 0, 1))
        assert fetching._unshared.size <= 10_000
    assert 20 < len(fetching._unshared) < 50
    fetching.close()


async def test_tables_by_octets_hold_no_more_plans_than_they_may(tmp_path: Path) -> None:
    async with Pair(tmp_path, "gateway", memory_seconds=0.0) as pair:
        assert pair.runner.gate is not None
        plans = pair.cache.edge.plans
        plans._most = 20_000
        table = pair.runner.gate.table("http", is_trusted=False)
        requests = [b"GET /plain/%d HTTP/1.1\r\nHost: a.example\r\n\r\n" % number for number in range(30)]
        for number in range(0, 30, 5):
            some = requests[number : number + 5]
            for _ in range(4):
                await pair.play(Script((*some, LAST)))
        assert pair.sent
        assert 0 < len(table) * Plan.overhead <= plans._most


def test_what_is_kept_of_the_same_fields_keeps_to_its_number() -> None:
    said = Said([], [], PLAIN_REQUEST, has_pin=False)
    settings = _settings()
    exchanges = Exchanges(settings, {}, Signer(["a secret of the tests alone"]))
    accepter = Accepter(settings, Signer(["a secret of the tests alone"]), str)
    request: Any = make_mocked_request("PUT", "/")
    for number in range(100):
        served: Any = SimpleNamespace(scope=f"site {number}", site=None)
        exchanges._principal(request, said, served, None)
        exchange: Any = SimpleNamespace(
            asker=Asker(f"192.0.2.{number}", is_trusted=False, scheme="http"),
            request=request, served=served, method="PUT", headers=[], said=said,
        )  # fmt: skip
        accepter._told(exchange)
    assert (len(said.principals), len(said.told)) == (MAX_PRINCIPALS, MAX_TOLD)


def test_a_connection_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[int] = []
    monkeypatch.setattr(FastHandler, "_pause_transport_reading", lambda self: paused.append(self._held_octets))
    handler = FastHandler.__new__(FastHandler)
    handler._held, handler._held_octets = deque(), 0
    while not paused:  # from then on nothing more is read
        handler._hold(b"x" * 1_000)
    assert sum(map(len, handler._held)) == paused[0] < protocol._MAX_HELD + 1_000


def test_lines_of_the_access_log_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING", 10)
    gate, written = threading.Event(), list[str]()

    def write(line: str) -> None:
        gate.wait(10)
        written.append(line)

    log: Any = SimpleNamespace(info=write)
    writer = AccessWriter(log, "common")
    line = Access(
        time=0.0, peer="", method="GET", host="", path="/", target="/", version="HTTP/1.1", status=200, bytes=0,
        duration=0.0, region="", cache="", user_agent="", referer="", trace_id="",
    )  # fmt: skip
    for _ in range(100):
        writer.put(line)
    assert writer._waiting.qsize() <= 10
    gate.set()
    writer.close()
    assert 10 <= len(written) <= 11  # one was on its way


def test_folds_that_are_remembered_keep_to_their_octets() -> None:
    memo = Memo(max_bytes=50_000)
    names = tuple((str(number), "replace") for number in range(MEMO_FROM))
    for key in range(1_000):
        memo.keep(key, names, 500, Representation(b"x" * 1_000, "application/json"))
        assert memo._bytes <= 50_000
    assert len(memo) < 50


async def test_background_tasks_beyond_their_limit_are_refused() -> None:
    gate = asyncio.Event()
    hooks = Hooks()
    for tasks, limit in ((Tasks(20), 20), (Tasks(), 10_000), (hooks._tasks, MAX_RUNNING)):
        begun = [tasks.spawn(gate.wait(), "a test") for _ in range(limit + 5)]
        assert len(tasks) == limit
        assert begun[limit:] == [None] * 5
    gate.set()
    await hooks.drain(1)


async def test_fills_beyond_the_limit_of_tasks_are_dropped() -> None:
    tasks, gate = Tasks(5), asyncio.Event()
    fills = Fills({"eu": SimpleNamespace(forget=lambda _: None)}, tasks, 0.0)  # type: ignore[dict-item]

    async def wait(*_: Any) -> None:
        await gate.wait()

    vars(fills)["_fill"] = wait
    store: Any = SimpleNamespace(name="eu")
    begun = []
    for number in range(20):
        exchange: Any = SimpleNamespace(resource=resource(f"/items/{number}"))
        begun.append(fills.begin(store, exchange, CacheRecord(url=""), None))  # type: ignore[arg-type]
    assert (begun.count(True), len(fills._under_way)) == (5, 5)
    gate.set()
    await tasks.drain(1)
    await asyncio.sleep(0)
    assert not fills._under_way


async def test_flights_end_with_their_fetches() -> None:
    flights, gate = Flights[int](), asyncio.Event()

    async def fetch(flight: Flight[int]) -> int:
        await gate.wait()
        flight.land()
        return 1

    crowd = [asyncio.ensure_future(flights.join(number % 10, fetch, 5)) for number in range(100)]
    await asyncio.sleep(0)
    assert len(flights) == len(flights._tasks) == 10
    for request in crowd[50:]:
        request.cancel()
    gate.set()
    await asyncio.gather(*crowd, return_exceptions=True)
    await asyncio.sleep(0)
    assert len(flights) == len(flights._tasks) == 0


async def test_hosts_that_are_known_keep_to_their_number(store: RegionStore) -> None:
    await eventually(lambda: store.events.is_connected)
    directory = Directory([store], SiteSettings(enabled=True, max_known=5))
    for number in range(20):
        assert await directory.find(f"nobody{number}.example") is None
    sites = [site(f"shop{number}.example") for number in range(20)]
    for each in sites:
        await _put(store, each)
        assert await directory.find(each.domain) is not None
    assert (len(directory._found), len(directory._missing)) == (5, 5)
    assert (len(directory._names), len(directory._newest), len(directory._flights)) == (5, 5, 0)
    directory._tasks._limit = 0
    with pytest.raises(RegionUnavailableError):
        await directory.find("another.example")
    assert not directory._flights
    await directory.drain(1)


async def _put(store: RegionStore, wanted: aiohttp_regioncache.Site) -> None:
    await put_site([store], wanted)


def test_two_epochs_are_vouched_for() -> None:
    pulse = _Pulse()
    for number in range(0, 1_000, 2):
        pulse.felt(number, float(number))
        pulse.heard(number + 5)  # some were missed
        pulse.lost()
    assert len(pulse._vouched) <= 2


async def test_sites_made_ready_keep_to_their_number() -> None:
    settings = _settings(sites=SiteSettings(enabled=True, max_known=5), secrets=["x" * 32])
    directory: Any = None
    sites = Sites(directory, settings, default_site(settings, Rules(())))
    for number in range(20):
        sites._made_ready(msgspec.structs.replace(site(f"shop{number}.example"), id=f"shop{number}", revision=1))
    assert len(sites._ready) == 5


async def test_outlets_of_sites_keep_to_their_number() -> None:
    settings = _settings(sites=SiteSettings(enabled=True), secrets=["x" * 32])
    default = default_site(settings, Rules(()))

    async def find(_: str) -> Any:
        return default

    outlets = SiteOutlets(find, lambda *_: SimpleNamespace(), None, 5)  # type: ignore[arg-type]
    for number in range(20):
        assert await outlets.find(f"shop{number}") is not None
    assert len(outlets._outlets) == 5


async def test_origins_remembered_keep_to_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins_module, "MOST_ORIGINS", 5)
    async with Origins() as origins:
        for number in range(20):
            addresses = tuple(OriginAddress(url=f"http://{each}{number}.example") for each in "ab")
            upstream = Upstream(addresses=addresses)
            list(origins.ways(upstream))
            origins.note(upstream, addresses[0], 0)
        assert len(origins._balances) == len(origins._used) == 5


async def test_commands_that_wait_keep_to_their_number(store: RegionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (executor, glances):
        monkeypatch.setattr(module, "MAX_WAITING", 50)
    monkeypatch.setattr(executor, "MAX_BATCH", 1)
    commands = [store.queue.submit("ECHO", str(number)) for number in range(50)]
    with pytest.raises(RegionUnavailableError, match="too many"):
        store.queue.submit("ECHO", "another")
    assert len(commands) == len(store.queue._waiting) == 50
    await asyncio.sleep(0)
    assert len(store.queue._tasks) <= executor.PIPELINES
    await asyncio.gather(*commands)
    await eventually(lambda: not store.queue._tasks)
    assert 0 < len(store.queue._pipes) <= executor.PIPELINES
    assert not store.queue._sent

    told: list[Any] = []
    for number in range(100):
        store.glances.ask(store.partitions[0], [packed(f"{number}")], told.append)
    assert [type(each) for each in told] == [RegionUnavailableError] * 50
    assert sum(len(collected.asked) for collected in store.glances._waiting.values()) == 50
    await eventually(lambda: len(told) == 100)


async def test_who_waits_for_a_shared_call_keeps_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MAX_WAITING", 50)
    gate = asyncio.Event()

    calls: list[asyncio.Task[None]] = []

    def call(_asked: Any, answered: Answered) -> None:
        async def answer() -> None:
            await gate.wait()
            answered(None)

        calls.append(asyncio.create_task(answer()))

    shared: Collector[int, list[int], int] = Collector("eu", list[int], call, lambda asked, _answer: asked, 4)
    answers = []
    refused = 0
    for number in range(200):
        try:
            answers.append(shared.ask(number))
        except RegionUnavailableError:
            refused += 1
        await asyncio.sleep(0)
        assert sum(len(futures) for _, futures in shared._waiting) <= 50
        assert shared._calls <= collector.UNDER_WAY
    assert refused > 100
    gate.set()
    assert len(await asyncio.gather(*answers)) == 200 - refused


def test_untold_changes_are_in_the_tests_of_writes() -> None:
    source = (Path(__file__).parent / "writes" / "test_through.py").read_text("utf-8")
    assert "def test_when_too_many_changes_wait_to_be_told_everything_is_invalidated(" in source


async def test_answers_kept_in_memory_keep_to_their_octets() -> None:
    now = [0.0]
    storage = MemoryStorage(max_bytes=50_000, clock=lambda: now[0])
    for number in range(1_000):
        await storage.reserve(f"{number}", "same", "owner", 60.0)
        await storage.finish(f"{number}", "same", "owner", b"x" * 1_000, 600.0)
        assert storage._bytes <= 50_000
    assert 10 < len(storage._finished) < 50
    for number in range(1_000):  # whose work never ends
        now[0] += 1
        await storage.reserve(f"lost {number}", "same", "owner", 60.0)
    assert len(storage._reserved) <= 61


async def test_a_loop_claims_no_more_than_it_has_slots_for(tmp_path: Path, store: RegionStore) -> None:
    async with one_edge(tmp_path / "world") as (world, edge):
        await edge.stop()
        world.origin.gate.clear()
        await accept_all(store, [acceptance(f"/items/{number}") for number in range(50)])
        async with looping(store, world.origin.url, concurrency=4) as loop:
            await eventually(lambda: sum(world.origin.in_flight.values()) == 4)
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert len(loop._drains) == 4
            world.origin.gate.set()
            await eventually(lambda: len(world.origin.effects) == 50)


async def test_responses_do_not_queue_up_in_the_pool_of_features() -> None:
    gate = threading.Event()

    class Endless:
        name = "endless"

        def affects(self, _: str) -> bool:
            return True

        def apply(self, *_: Any) -> Any:
            gate.wait(20)
            raise ValueError

    feature: Any = Endless()
    steps = [Step(Enabled(feature, None, ""), "")]
    transformer = Transformer()
    transformer._seconds = 0.2
    try:
        worked = await asyncio.gather(*(transformer.run(steps, "/", [], b"body") for _ in range(50)))
        assert {each.problem for each in worked} == {"endless-slow"}
        assert transformer._pool._work_queue.qsize() == 0
    finally:
        gate.set()
        transformer.close()


# --- structures in Redis ---


@pytest.mark.parametrize(
    ("caps", "most"),
    [
        (Queue(max_writes=5), 5),
        (Queue(max_bytes=50), 5),
        (Queue(max_writes_per_resource=2), 8),
        (Queue(max_bytes_per_resource=25), 8),
        (Queue(max_writes_per_principal=5), 10),
    ],
)
async def test_each_cap_of_a_queue_holds(store: RegionStore, client: Redis, caps: Queue, most: int) -> None:
    """Forty writes of ten octets to four resources by two principals."""
    partition = store.partitions[0]
    accepted = 0
    for number in range(40):
        write = acceptance(f"/items/{number % 4}", principal=f"p{number % 2}", affects=("/items",), size=10)
        accepted += (await accept(store, write, caps)).verdict is Verdict.ACCEPTED
    assert accepted == most == await raw(client, "ZCARD", partition.queue)
    assert int(await raw(client, "GET", partition.bytes)) == 10 * most
    targets = [partition.pending(resource(f"/items/{number}").digest) for number in range(4)]
    pending = [await raw(client, "ZCARD", key) for key in targets]
    assert sum(pending) == most
    assert await raw(client, "ZCARD", partition.affected(resource("/items").digest)) == most
    assert await raw(client, "ZCARD", partition.due) == sum(map(bool, pending))
    assert await raw(client, "HLEN", partition.principals) <= 2
    while claims := await queue.claim(store, partition, "fence", 10, 60):
        assert await raw(client, "HLEN", partition.lease) <= 4
        for claimed in claims:
            for queued in await queue.read_queue(store, partition, claimed.digest):
                assert queued.record is not None
                ending = queue.Settlement("synced")
                digests = queued.record.affected
                await queue.settle(store, partition, claimed, queued.record.id, queued.seq, ending, digests, LIMITS)
    for key in (partition.queue, partition.due, partition.lease, partition.principals):
        assert not await raw(client, "EXISTS", key)


async def test_blocked_resources_take_places_of_the_queue(store: RegionStore, client: Redis) -> None:
    partition, caps = store.partitions[0], Queue(max_writes=5)
    for number in range(20):
        write = acceptance(f"/items/{number}")
        accepted = await accept(store, write, caps)
        if accepted.verdict is Verdict.ACCEPTED:
            await settle(store, partition, await claim_one(store, partition), write, accepted.seq, "dead", blocks=True)
    assert await raw(client, "HLEN", partition.blocked) == 5


async def test_lists_of_ended_writes_keep_to_their_length(
    store: RegionStore, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "ENDED_LENGTH", 5)
    partition = store.partitions[0]
    for outcome in ("dead", "rejected"):
        for number in range(20):
            write = acceptance(f"/items/{number}")
            seq = (await accept(store, write)).seq
            await settle(store, partition, await claim_one(store, partition), write, seq, outcome)
        assert await raw(client, "ZCARD", partition.ended(outcome)) == 5


async def test_landed_writes_keep_to_their_number(store: RegionStore, client: Redis) -> None:
    partition, limits = store.partitions[0], msgspec.structs.replace(LIMITS, landed_count=5)
    landed = partition.landed(resource("/items/1").digest)
    for _ in range(20):
        write = acceptance()
        seq = (await accept(store, write)).seq
        await settle(store, partition, await claim_one(store, partition), write, seq, limits=limits)
        assert await raw(client, "ZCARD", landed) <= 5
        assert await raw(client, "PTTL", landed) > 0


def test_numbers_at_hand_are_few() -> None:
    made = nonces.Nonces()
    for _ in range(1000):
        made.new()
        assert len(made._left) < nonces._AT_ONCE


async def test_an_outbox_keeps_to_its_length(
    store: RegionStore, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "OUTBOX_LENGTH", 200)
    found, partition = resource("/items/1"), store.partitions[0]
    message = announce(found.group, (found.digest,))
    await asyncio.gather(
        *(entries.invalidate(store, partition, [found.digest], announce=message) for _ in range(2_000))
    )
    assert 200 <= await raw(client, "XLEN", partition.out) <= 400  # of whole nodes, a hundred each


async def test_purges_keep_to_their_lines(store: RegionStore, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "MAX_LINES", 20)
    partition = store.partitions[0]
    await fetched(store, "/items/1")
    for number in range(100):
        kind: Any = ("path", "prefix", "tag")[number % 3]
        await purging.purge(store, [Line(kind, site="default", value=f"/{'x' * number}")])
    assert await raw(client, "ZCARD", partition.purges) <= 21
    await purges_of(store, "/items/1")
    assert set(store.purge_lines) == {0}
    lines = store.purge_lines[0]
    for index in (lines._hard, lines._soft):
        assert len(index._numbers) <= 2 * 21
        assert sum(map(len, index._lengths.values())) <= 21


async def test_intents_go_with_their_writes(tmp_path: Path) -> None:
    async with one_edge(tmp_path, rules=[]) as (world, edge):
        world.origin.gate.clear()
        (partition,) = next(iter(edge.cache.stores.values())).partitions
        async with next(iter(world.servers.values())).client() as client:
            writes = [asyncio.ensure_future(edge.put(f"/pages/{number}", {})) for number in range(20)]
            await eventually(lambda: sum(world.origin.in_flight.values()) == 20)
            assert await raw(client, "ZCARD", partition.intents) == 20
            world.origin.gate.set()
            await asyncio.gather(*writes)

            async def is_empty() -> bool:
                return not await raw(client, "ZCARD", partition.intents)

            await eventually(is_empty)


async def test_what_stays_in_redis_is_bounded(store: RegionStore, client: Redis) -> None:
    """After traffic of every kind, what has no lifetime are numbers, and lists that have their own bound."""
    partition = store.partitions[0]
    outcomes = itertools.cycle(("synced", "rejected", "dead", "superseded"))
    for number in range(40):
        await fetched(store, f"/items/{number}", tags=("a",))
        write = acceptance(
            f"/items/{number}", affects=("/items",), key=f"key {number}", body=b"x" * 100, stored=bool(number % 2)
        )
        seq = (await accept(store, write)).seq
        claimed = await claim_one(store, partition)
        found = resource(f"/items/{number}")
        announced = announce(found.group, (found.digest,))
        await settle(store, partition, claimed, write, seq, next(outcomes), announce=announced)
        await purging.purge(store, [Line("path", site="default", value=f"/items/{number}")])
    await _put(store, site())
    lifetimes = {name: lifetime for name, lifetime in (await keys(client)).items() if lifetime < 0}
    numbers = {partition.seq, partition.processed, partition.bytes, partition.purge, partition.site_changes}
    lists = {partition.ended("dead"), partition.ended("rejected"), partition.out, partition.purges}
    of_operators = {name for name in lifetimes if name.startswith(("rc:meta", "rc:sites", "rc:site:", "rc:domain:"))}
    assert set(lifetimes) - of_operators <= numbers | lists
    assert len(await keys(client)) > 100
