"""If-Match of writes behind: chained to pending writes, judged by the origin, or vanished."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache import Rule, Sync
from aiohttp_regioncache.records import WriteRecord
from aiohttp_regioncache.store.fates import MAX_NAMED, Fate, Named
from aiohttp_regioncache.sync import chain
from aiohttp_regioncache.sync.outcome import Verdict
from aiohttp_regioncache.tags import DirtyTag, if_match_of
from tests.reads.apps import running, until_hit
from tests.support import eventually
from tests.support.world import Edge, Reply, World

ANN = {"Authorization": "Bearer ann"}
BEN = {"Authorization": "Bearer ben"}
MERGE = {"Content-Type": "application/merge-patch+json"}
PATH = "/items/1"


class Versions:
    """An origin of one document with strong entity tags that judges If-Match (RFC 9110 section 13.1.1).

    `tag` makes the field from the document's hash. `seen` are the conditions that arrived with writes. A write with
    the member `refuse-me` is refused, one with the member `hold` waits for `gate`.
    """

    def __init__(self, tag: str | None = '"{}"') -> None:
        self.document: dict[str, Any] = {"n": 0}
        self.seen: list[str | None] = []
        self.hold = ""
        self.gate = asyncio.Event()
        self._tag = tag

    @property
    def etag(self) -> str:
        """The present entity tag."""
        return self.of(self.document)

    @staticmethod
    def of(document: dict[str, Any]) -> str:
        """The entity tag of a document."""
        return f'"{hashlib.sha256(json.dumps(document).encode()).hexdigest()[:8]}"'

    def app(self) -> web.Application:
        """The application to run."""
        app = web.Application()
        app.router.add_get(PATH, self._read)
        app.router.add_put(PATH, self._write)
        app.router.add_patch(PATH, self._write)
        return app

    def _headers(self) -> dict[str, str]:
        return {"Cache-Control": "max-age=60"} | ({"ETag": self._tag.format(self.etag[1:-1])} if self._tag else {})

    async def _read(self, _request: web.Request) -> web.Response:
        return web.json_response(self.document, headers=self._headers())

    async def _write(self, request: web.Request) -> web.Response:
        change, condition = await request.json(), request.headers.get("If-Match")
        self.seen.append(condition)
        if self.hold in change:
            await self.gate.wait()
        if "refuse-me" in change:
            return web.Response(status=422)
        if condition not in (None, "*") and self.etag not in condition.split(", "):
            return web.Response(status=412)
        self.document = change if request.method == "PUT" else {**self.document, **change}
        return web.json_response({}, headers=self._headers())


class Region:
    """An edge that takes writes, `taking`, and after `replay()` one that replays them."""

    def __init__(self, world: World, origin: str, rules: list[Rule], taking: Edge) -> None:
        self.taking = taking
        self._world = world
        self._changes: dict[str, Any] = {"origin": origin, "rules": rules}

    async def replay(self) -> Edge:
        """Begin to replay, in a second edge."""
        return await self._world.edge(**self._changes)

    async def write(self, document: Any, condition: str | None = None, *, put: bool = False, **headers: str) -> Reply:
        """Send a write of Ann's, or of whom `headers` say: a merge patch or a PUT, with If-Match."""
        fields = ANN | ({"Content-Type": "application/json"} if put else MERGE) | headers
        fields |= {"If-Match": condition} if condition is not None else {}
        return await self.taking.ask("PUT" if put else "PATCH", PATH, data=json.dumps(document), headers=fields)

    async def queued(self, document: Any, condition: str | None = None, **options: Any) -> Reply:
        """Send a write that is accepted."""
        answer = await self.write(document, condition, **options)
        assert answer.status == 202, answer.body
        return answer

    async def read(self, who: dict[str, str] = ANN) -> tuple[Any, str]:
        """The document and its entity tag as a reader gets them."""
        answer = await self.taking.get(PATH, headers=who)
        return json.loads(answer.body), answer.headers.get("ETag", "")

    async def ends(self, written: Reply, who: dict[str, str] = ANN) -> dict[str, Any]:
        """The status page of a write once it has settled."""
        pages: list[dict[str, Any]] = []

        async def has_settled() -> bool:
            page = await self.taking.get(written.headers["Location"], headers=who)
            pages.append(json.loads(page.body))
            return bool(pages[-1]["state"] != "pending")

        await eventually(has_settled)
        return pages[-1]

    async def outcomes(self, *written: Reply, who: dict[str, str] = ANN) -> list[str]:
        """How writes ended: `synced`, or the reason."""
        pages = [await self.ends(each, who) for each in written]
        return [page["state"] if page["state"] == "synced" else page["reason"] for page in pages]


async def allow(_request: web.Request) -> bool:
    """Let every write in."""
    return True


@asynccontextmanager
async def region_of(directory: Path, versions: Versions, **rule: Any) -> AsyncIterator[Region]:
    """A region whose writes wait for `replay()`."""
    rules = [Rule("/items/{id}", write="behind", **rule)]
    async with World(directory, regions=("ap-northeast-1",)) as world, running(versions.app()) as origin:
        taking = await world.edge(origin=origin, rules=rules, sync=Sync(enabled=False))
        yield Region(world, origin, rules, taking)


# --- what readers get ---


async def test_a_dirty_answer_has_a_strong_tag_of_its_own(tmp_path: Path) -> None:
    async with region_of(tmp_path, Versions()) as region:
        clean = (await region.read())[1]
        await region.queued({"a": 1})
        answer = await region.taking.get(PATH, headers=ANN)
        first = answer.headers["ETag"]
        assert re.fullmatch(r'"rc-[0-9a-f]{32}-[0-9a-f]+-[0-9a-f]{32}"', first)
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert (await region.read())[1] == first
        unchanged = await region.taking.get(PATH, headers=ANN | {"If-None-Match": first})
        assert (unchanged.status, unchanged.headers["ETag"]) == (304, first)
        await region.queued({"a": 1})  # the same bytes, another state
        assert (await region.read())[1] not in (first, clean)
        assert (await region.read(BEN))[1] == clean


# --- chains ---


async def test_a_chain_is_replayed_with_the_tags_that_the_origin_returns(tmp_path: Path) -> None:
    versions = Versions()
    async with region_of(tmp_path, versions) as region:
        document, tag = await region.read()
        assert tag == versions.etag
        writes = []
        for number, put in enumerate((True, False, False, True), start=1):
            writes.append(await region.queued({**document, "n": number}, tag, put=put))
            document, tag = await region.read()
            assert document["n"] == number
        etags = [versions.etag, *(Versions.of({"n": number}) for number in (1, 2, 3))]
        await region.replay()
        assert await region.outcomes(*writes) == ["synced"] * 4
        assert versions.seen == etags


async def test_only_so_many_tags_of_ours_are_looked_up(tmp_path: Path) -> None:
    """Each costs many commands, and anybody can make up as many as fit into a field."""
    async with region_of(tmp_path, Versions()) as region:
        await region.queued({"a": 1})
        _, tag = await region.read()
        made_up = [f'"rc-{number:032x}-1-{number:032x}"' for number in range(MAX_NAMED)]
        await region.queued({"b": 1}, ", ".join((*made_up[1:], tag)))
        assert (await region.write({"c": 1}, ", ".join((*made_up, tag)))).status == 412


async def test_who_is_chained_to_a_refused_write_goes_with_it_and_others_stay(tmp_path: Path) -> None:
    versions = Versions()
    async with region_of(tmp_path, versions) as region:
        refused = await region.queued({"refuse-me": 1})
        first = await region.queued({"a": 1}, (await region.read())[1])
        second = await region.queued({"b": 1}, (await region.read())[1])
        bens = await region.queued({"c": 1}, **BEN)
        last = await region.queued({"d": 1})
        assert (await region.read())[0] == {"n": 0, "refuse-me": 1, "a": 1, "b": 1, "d": 1}
        await region.replay()
        ended = await region.outcomes(refused, first, second, last)
        assert ended == ["status 422", "status 424", "status 424", "synced"]
        assert await region.outcomes(bens, who=BEN) == ["synced"]
        assert (await region.ends(second))["answer"]["status"] == 424
        assert (await region.ends(second))["tries"] == 0
        assert versions.seen == [None, None, None]
        assert (await region.read())[0] == versions.document == {"n": 0, "c": 1, "d": 1}


async def test_who_waits_for_a_chained_write_is_told_that_it_failed_with_another(tmp_path: Path) -> None:
    async with region_of(tmp_path, Versions()) as region:
        await region.queued({"refuse-me": 1})
        tag = (await region.read())[1]
        waiting = asyncio.ensure_future(region.write({"a": 1}, tag, Prefer="wait=30"))

        async def is_queued() -> bool:
            return "a" in (await region.read())[0]

        await eventually(is_queued)
        await region.replay()
        answer = await waiting
        assert answer.status == 424
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert json.loads(answer.body)["title"] == "Failed Dependency"


@pytest.mark.parametrize("covers", [False, True])
async def test_a_state_has_vanished_when_any_write_in_it_has(tmp_path: Path, covers: bool) -> None:
    """The patch that the tag names stays, but what its reader saw held the refused one too, unless it was replaced."""
    async with region_of(tmp_path, Versions()) as region:
        await region.queued({"refuse-me": 1})
        named = await region.queued({"a": 1}, put=covers)
        before = (await region.read())[1]
        chained = await region.queued({"b": 1}, before)
        syncing = await region.replay()
        ended = await region.outcomes(named, chained)
        assert ended == ["synced", "synced" if covers else "status 424"]
        await syncing.stop()
        late = await region.write({"c": 1}, before)
        assert late.status == (202 if covers else 412)


async def test_a_tag_that_was_read_after_a_write_vanished_does_not_name_it(tmp_path: Path) -> None:
    versions = Versions()
    versions.hold = "held"
    async with region_of(tmp_path, versions) as region:
        refused = await region.queued({"refuse-me": 1})
        held = await region.queued({"held": 1})
        before = (await region.read())[1]
        await region.replay()
        await region.ends(refused)
        document, after = await region.read()
        assert document == {"n": 0, "held": 1}
        assert (await region.write({"a": 1}, before)).status == 412
        chained = await region.queued({"a": 1}, after)
        versions.gate.set()
        assert await region.outcomes(held, chained) == ["synced", "synced"]


@pytest.mark.parametrize("tag", [None, 'W/"{}"'])
async def test_without_tags_of_the_origin_only_the_write_before_can_be_chained_to(
    tmp_path: Path, tag: str | None
) -> None:
    versions = Versions(tag)
    async with region_of(tmp_path, versions) as region:
        await region.queued({"a": 1})
        named = (await region.read())[1]
        next_one = await region.queued({"b": 1}, named)
        other = await region.queued({"c": 1}, named)
        await region.replay()
        assert await region.outcomes(next_one, other) == ["synced", "precondition"]
        assert (await region.ends(other))["answer"]["status"] == 412
        assert versions.seen == [None, None]
        assert versions.document == {"n": 0, "a": 1, "b": 1}


@pytest.mark.parametrize(("tag", "reason"), [('"{}"', "status 412"), (None, "precondition")])
async def test_what_another_principal_wrote_in_between_breaks_a_chain(
    tmp_path: Path, tag: str | None, reason: str
) -> None:
    async with region_of(tmp_path, Versions(tag)) as region:
        await region.queued({"a": 1})
        named = (await region.read())[1]
        bens = await region.queued({"b": 1}, **BEN)
        chained = await region.queued({"c": 1}, named)
        further = await region.queued({"d": 1}, (await region.read())[1])
        await region.replay()
        assert await region.outcomes(chained, further) == [reason, "status 424"]
        assert await region.outcomes(bens, who=BEN) == ["synced"]


async def test_under_a_shared_rule_principals_chain_to_each_other(tmp_path: Path) -> None:
    versions = Versions()
    async with region_of(tmp_path, versions, shared=True, authorize=allow) as region:
        await region.queued({"a": 1})
        bens = await region.queued({"b": 1}, (await region.read(BEN))[1], **BEN)
        anns = await region.queued({"c": 1}, (await region.read())[1])
        await region.replay()
        assert await region.outcomes(bens, who=BEN) == ["synced"]
        assert await region.outcomes(anns) == ["synced"]
        assert versions.document == {"n": 0, "a": 1, "b": 1, "c": 1}


# --- accept ---


async def test_what_is_no_tag_of_ours_is_left_to_the_origin(tmp_path: Path) -> None:
    versions = Versions()
    async with region_of(tmp_path, versions) as region:
        conditions = ["*", '"v1"', '"v1", "v2"', "nonsense", '"rc-1"', 'W/"rc-' + "0" * 32 + "-1-" + "0" * 32 + '"']
        writes = [await region.queued({"a": 1}, condition) for condition in conditions]
        await region.replay()
        assert await region.outcomes(*writes) == ["synced"] + ["status 412"] * 5
        assert versions.seen == conditions


async def test_a_tag_that_names_no_state_that_can_come_is_refused_at_once(tmp_path: Path) -> None:
    async with region_of(tmp_path, Versions()) as region:
        await region.queued({"a": 1})
        tag = (await region.read())[1]
        unknown = f'"rc-{"0" * 32}-1-{"0" * 32}"'
        assert (await region.write({"b": 1}, unknown)).status == 412
        answer = await region.write({"b": 1}, tag, put=False, **BEN)
        assert (answer.status, answer.headers["Content-Type"]) == (412, "application/problem+json")
        elsewhere = {**ANN, **MERGE, "If-Match": tag}
        assert (await region.taking.ask("PATCH", "/items/2", data=b"{}", headers=elsewhere)).status == 412
        assert (await region.write({"b": 1}, f"{unknown}, {tag}")).status == 202


async def test_of_a_state_that_the_origin_has_its_tag_takes_the_place(tmp_path: Path) -> None:
    versions = Versions()
    async with region_of(tmp_path, versions) as region:
        named = await region.queued({"a": 1})
        tag = (await region.read())[1]
        await region.replay()
        await region.ends(named)
        etag = versions.etag
        assert await region.outcomes(await region.queued({"b": 1}, tag)) == ["synced"]
        assert await region.outcomes(await region.queued({"c": 1}, tag)) == ["status 412"]
        assert versions.seen == [None, etag, etag]


async def test_a_tag_over_landed_writes_names_the_last_of_them(tmp_path: Path) -> None:
    versions = Versions()
    async with region_of(tmp_path, versions) as region:
        await region.taking.get(PATH)
        await until_hit(region.taking, PATH)
        named = await region.queued({"a": 1})
        await region.replay()
        await region.ends(named)
        answer = await region.taking.get(PATH, headers=ANN)
        assert answer.cache_status.endswith("hit; detail=dirty")
        chained = await region.queued({"b": 1}, answer.headers["ETag"])
        assert await region.outcomes(chained) == ["synced"]


async def test_a_repeated_write_gets_its_answer_though_what_it_named_has_vanished(tmp_path: Path) -> None:
    versions = Versions()
    async with region_of(tmp_path, versions) as region:
        refused = await region.queued({"refuse-me": 1})
        tag = (await region.read())[1]
        key: dict[str, Any] = {"Idempotency-Key": "k"}
        chained = await region.queued({"a": 1}, tag, **key)
        await region.replay()
        assert await region.outcomes(refused, chained) == ["status 422", "status 424"]
        again = await region.queued({"a": 1}, tag, **key)
        assert again.headers["Location"] == chained.headers["Location"]
        assert (await region.write({"a": 1}, tag, **(key | {"Idempotency-Key": "k2"}))).status == 412


# --- decisions ---

_TAG = DirtyTag("0" * 32, 1)
_ETAG = f'"rc-{_TAG.write}-1-{"0" * 32}"'


@pytest.mark.parametrize(
    ("named", "may_be_sent", "expected"),
    [
        (Named(Fate.SYNCED, '"e"', 4), False, ['"e"']),
        (Named(Fate.SYNCED, "", 7), False, []),
        (Named(Fate.SYNCED, "", 6), False, chain.CHANGED),
        (Named(Fate.REPLACED, "", 7), False, chain.CHANGED),
        (Named(Fate.VANISHED), True, chain.VANISHED),
        (Named(Fate.FORGOTTEN), False, chain.VANISHED),
        (Named(Fate.FORGOTTEN), True, chain.UNTOLD),
    ],
)
def test_what_becomes_of_a_chained_write(named: Named, may_be_sent: bool, expected: Any) -> None:
    write = WriteRecord(
        id="w", site="s", url="u", endpoint="/", method="PUT", principal="p", path="/", group="g",
        headers=((b"if-match", _ETAG.encode()),), chained=True,
    )  # fmt: skip
    judged = chain.judge(write, [_ETAG], {_ETAG: named}, after=7, may_be_sent=may_be_sent)
    assert (if_match_of(judged) if isinstance(judged, WriteRecord) else judged) == expected
    with_another = chain.judge(write, [_ETAG, '"x"'], {_ETAG: named}, after=7, may_be_sent=may_be_sent)
    assert isinstance(with_another, WriteRecord)
    assert chain.UNTOLD.outcome.verdict is Verdict.DEAD
