"""Claims on resources, and who may send now."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ..errors import RegionUnavailableError
from ..settings import Sync
from ..store import queue
from ..store.keyspace import Partition
from ..store.queue import Claimed, Queued
from ..store.region import RegionStore
from .sender import Sender

LEASE_SHARE: Final = 0.8
"""The part of a lease within which attempts must have ended."""


class Claim(msgspec.Struct, eq=False):
    """A claimed resource with the monotonic time at which sending must have ended; `is_lost`: another's by now.

    `queued` are its oldest writes, where they could be read when it was claimed.
    """

    partition: Partition
    claimed: Claimed
    deadline: float
    queued: Sequence[Queued] = ()
    is_lost: bool = False

    @property
    def remaining(self) -> float:
        """Seconds that are left for sending."""
        return self.deadline - time.monotonic()


class Leases:
    """The claims of one loop on its region's resources, and the slots that origins have for their requests."""

    def __init__(self, store: RegionStore, settings: Sync) -> None:
        self._store = store
        self._lease = settings.lease
        self._timeout = settings.timeout
        self.is_stopping = False

    def is_closed(self, sender: Sender) -> bool:
        """Whether nothing should be sent now: the loop stops, or the sender's origin is left alone."""
        return self.is_stopping or sender.breaker.is_open

    async def claim(self, partition: Partition, limit: int) -> list[Claim]:
        """Claim due resources and read what is queued. Raises `RegionUnavailableError`."""
        deadline = self.deadline()
        found = await queue.claim(self._store, partition, secrets.token_hex(8), limit, self._lease)
        if not found:
            return []
        queued: Mapping[str, Sequence[Queued]] = {}
        with contextlib.suppress(RegionUnavailableError):
            queued = await queue.read_queues(self._store, partition, [claimed.digest for claimed in found])
        return [Claim(partition, claimed, deadline, queued.get(claimed.digest, ())) for claimed in found]

    def deadline(self) -> float:
        """When sending must have ended under a lease that is asked for now."""
        return time.monotonic() + LEASE_SHARE * self._lease

    def spare(self, claim: Claim) -> float:
        """Seconds that a claim can wait before an attempt no longer fits into its lease."""
        return max(0.0, claim.remaining - self._timeout)

    async def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Extend the claims into whose lease no attempt fits any more; returns those that may be sent.

        Not one of a process that was stopped until the lease it asked for had run out, too. Raises
        `RegionUnavailableError`.
        """
        sendable = time.monotonic() + self._timeout
        short = [claim for claim in claims if claim.deadline < sendable]
        if short:
            await self._renew(short)
        now = time.monotonic()
        return [claim for claim in claims if not claim.is_lost and claim.deadline > now]

    async def _renew(self, short: Sequence[Claim]) -> None:
        partitions = {claim.partition.number: claim.partition for claim in short}
        await asyncio.gather(
            *(
                self._extend(partition, [claim for claim in short if claim.partition.number == number])
                for number, partition in partitions.items()
            )
        )

    async def give_back(self, claim: Claim, delay: float) -> None:
        """Give a resource back, due again after `delay` seconds. Raises `RegionUnavailableError`."""
        await queue.defer(self._store, claim.partition, claim.claimed, delay=delay)

    async def _extend(self, partition: Partition, claims: Sequence[Claim]) -> None:
        deadline = self.deadline()
        kept = await queue.extend(self._store, partition, [claim.claimed for claim in claims], self._lease)
        for claim in claims:
            claim.is_lost = claim.claimed.digest not in kept
            claim.deadline = deadline

    def admitted(self, claims: Sequence[Claim], sender: Sender) -> Admission:
        """Hold a sender's slot for a request of these claims: those that are still ours, with a long enough lease.

        None of them when it should not be sent now: what finds no slot in time is given back, so that no lease runs
        out over it. Raises `RegionUnavailableError`.
        """
        return Admission(self, claims, sender)


class Admission:
    """A slot for a request, for as long as its context lasts; the context gives the claims that it may be sent for."""

    __slots__ = ("_claims", "_has_slot", "_leases", "_sender")

    def __init__(self, leases: Leases, claims: Sequence[Claim], sender: Sender) -> None:
        self._leases = leases
        self._claims = claims
        self._sender = sender
        self._has_slot = False

    async def __aenter__(self) -> list[Claim]:
        leases, slots = self._leases, self._sender.slots
        patience = min(map(leases.spare, self._claims)) if slots.locked() else 0.0
        self._has_slot = await _has_slot(slots, patience)
        if not self._has_slot or leases.is_closed(self._sender):
            return []
        try:
            return await leases.renew(self._claims)
        except BaseException:
            slots.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        if self._has_slot:
            self._sender.slots.release()


async def _has_slot(slots: asyncio.Semaphore, patience: float) -> bool:
    if not slots.locked():
        return await slots.acquire()
    try:
        async with asyncio.timeout(patience):
            return await slots.acquire()
    except TimeoutError:
        return False
