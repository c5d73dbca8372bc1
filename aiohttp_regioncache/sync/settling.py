"""End writes: what their outcome means for the queue, the other regions and whoever listens."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from ..hooks import Hooks, ended_event
from ..purges import Line
from ..records import WriteRecord
from ..semantics.groups import invalidated_groups
from ..settings import Settings
from ..store import entries, intents, queue
from ..store.outbox import announce, announce_purge
from ..store.purging import purge
from ..store.queue import Queued, SettleLimits, Settlement
from ..store.region import RegionStore
from . import outcome
from .leases import Claim, Leases
from .outcome import Attempt, Outcome, Verdict

logger = logging.getLogger(__name__)

UNREADABLE_DELAY: Final = 5.0
"""Seconds after which a resource is looked at again whose head nobody here can read."""
_ANSWER_FIELDS: Final = frozenset(
    {"content-encoding", "content-language", "content-type", "etag", "last-modified", "location", "preference-applied"}
)


class Settler:
    """Settle the writes that one loop has claimed. `settled` counts them by outcome, `under_way` those that are settled
    now; `begun` is called when one more is.

    What ends a write returns whether another one may go on after it.
    """

    def __init__(
        self, store: RegionStore, settings: Settings, leases: Leases, hooks: Hooks, begun: Callable[[], None]
    ) -> None:
        self._store = store
        self._limits = SettleLimits.of(settings)
        self._intent_seconds = settings.sync.intent_seconds
        self._leases = leases
        self._hooks = hooks
        self._begun = begun
        self.settled: Counter[str] = Counter()
        self.under_way = 0

    async def settle(
        self,
        claim: Claim,
        item: Queued,
        judged: Outcome,
        attempt: Attempt | None,
        *,
        attempted: bool = True,
        doubtful: bool = False,
    ) -> bool:
        """End a write. `doubtful`: an earlier attempt may have been applied, whatever this one came to."""
        write = item.record
        assert write is not None  # noqa: S101 - a corrupt one is buried
        may_be_applied = doubtful or judged.verdict in (Verdict.SYNCED, Verdict.DEAD)
        digests = (claim.claimed.digest, *write.affected)
        settlement = Settlement(
            judged.verdict.value,
            {"reason": judged.reason, **_answer_fields(attempt)},
            # What the origin may have applied, the other regions must hear of.
            announce=announce(write.group, digests) if may_be_applied else b"",
            blocks=outcome.blocks(judged, write.on_dead),
            attempted=attempted and attempt is not None,
            idempotency=write.idempotency,
        )
        if may_be_applied and judged.verdict is not Verdict.SYNCED:
            # The origin may still be at it, and change what is stored meanwhile.
            await intents.expect(self._store, claim.partition, write.group, digests, self._intent_seconds)
        if judged.verdict is Verdict.SYNCED and attempt is not None:
            groups = invalidated_groups(write.method, attempt.status, attempt.headers)
            if groups:  # before the write ends, so that no crash leaves it undone
                await self._purge_groups(write.site, groups)
        return await self._end(claim, item.seq, write.id, settlement, write.affected, _known(write))

    async def _purge_groups(self, site: str, groups: Sequence[str]) -> None:
        """Purge the groups that the origin's answer names."""
        lines = [Line("tag", site=site, value=group) for group in groups]
        await purge(self._store, lines, announce=announce_purge(lines))

    async def supersede(self, claim: Claim, replaced: Sequence[Queued]) -> bool:
        """End every write but the last, which goes in the place of all."""
        *records, last = [item.record for item in replaced if item.record]
        settlement = Settlement(
            Verdict.SUPERSEDED.value, {"reason": f"replaced by {last.id}", "by": last.id}, attempted=False
        )
        for item, write in zip(replaced, records, strict=False):
            one = msgspec.structs.replace(settlement, idempotency=write.idempotency)
            if not await self._end(claim, item.seq, write.id, one, write.affected, _known(write)):
                return False
        return True

    async def bury(self, claim: Claim, item: Queued) -> bool:
        """End what is no record; its bytes are kept."""
        write_id = await queue.write_id_at(self._store, claim.partition, item.seq)
        if write_id is None:  # nobody counts it: only an operator can tell what it was
            logger.error("region %s: what stands at the head of %s is no write", self._store.name, claim.claimed.digest)
            await self._leases.give_back(claim, UNREADABLE_DELAY)
            return False
        known = await queue.status(self._store, claim.partition, write_id) or {}
        affected = tuple(known.get("affected", "").split())
        settlement = Settlement(
            "dead", {"reason": "corrupt"}, attempted=False, idempotency=known.get("idempotency", "")
        )
        return await self._end(claim, item.seq, write_id, settlement, affected, known)

    async def _end(
        self,
        claim: Claim,
        seq: int,
        write_id: str,
        settlement: Settlement,
        affected: tuple[str, ...],
        known: Mapping[str, str],
    ) -> bool:
        deadline = self._leases.deadline()
        self.under_way += 1
        self._begun()
        try:
            answer, left = await queue.settle(
                self._store, claim.partition, claim.claimed, write_id, seq, settlement, affected, self._limits
            )
        finally:
            self.under_way -= 1
        if answer == "settled":
            self.settled[settlement.outcome] += 1
            claim.deadline = deadline  # a settle extends the lease
        if answer in ("settled", "already"):
            self._announce(write_id, settlement, known)
            return left > 0
        if settlement.outcome == Verdict.SYNCED.value:
            # It was sent once more by a sender that came back too late. An origin that honours no key has applied it
            # again, over whatever came after it.
            digests = (claim.claimed.digest, *affected)
            await entries.invalidate(self._store, claim.partition, digests, announce=settlement.announce)
        note_lost(write_id, answer)
        return False

    def _announce(self, write_id: str, settlement: Settlement, known: Mapping[str, str]) -> None:
        level = logging.WARNING if settlement.keep_record else logging.DEBUG
        logger.log(level, "write %s is %s: %s", write_id, settlement.outcome, settlement.fields.get("reason"))
        if not self._hooks.are_heard(settlement.outcome):
            return
        ended = ended_event(
            write_id, self._store.name, settlement.outcome, settlement.fields, known, now=self._store.now()
        )
        self._hooks.announce(ended)


def note_lost(write_id: str, answer: str) -> None:
    """Say that a write cannot be ended or sent here any more; `answer` is what a script said."""
    logger.warning("write %s: its resource belongs to another sender now (%s)", write_id, answer)


def _known(write: WriteRecord) -> dict[str, str]:
    """What the status of a write says of it from the beginning."""
    return {
        "method": write.method,
        "url": write.url,
        "principal": write.principal,
        "accepted": str(write.accepted),
    }


def _answer_fields(attempt: Attempt | None) -> dict[str, str]:
    """The origin's answer as fields of the write's status."""
    if attempt is None or not attempt.status:
        return {}
    headers = [(name, value) for name, value in attempt.headers if name.lower() in _ANSWER_FIELDS]
    return {
        "answer": str(attempt.status),
        "answer_headers": json.dumps(headers) if headers else "[]",
        "answer_body": attempt.body.decode("latin-1"),
    }
