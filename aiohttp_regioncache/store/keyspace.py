"""The names of all keys and channels in a region's Redis."""

from __future__ import annotations

from typing import Final

LAYOUT: Final = 5
"""Version of the key layout and scripts; a Redis that holds another one is refused."""

META: Final = "rc:meta"
"""Hash: region name, number of partitions, layout version."""

REGIONS: Final = "rc:regions"
"""Hash: every region that must hear of invalidations, by name, with its address."""

SITES: Final = "rc:sites"
"""Sorted set: the id of every site, also of those deleted lately, by its revision."""

WAKE_CHANNEL: Final = "cache_sync"
"""Channel that announces a resource that became due; the message is `region:partition`, and `TAKEN` or nothing."""

TAKEN: Final = ":taken"
"""Behind such a message: the process that announces it looks for the work itself, others need not hurry."""


def events_channel(region: str) -> str:
    """Channel that announces what changed in a region.

    The message is `partition write-id digest ...`, for a purge `partition *`,
    for a site `0 @ id number host ...`.
    """
    return f"rc:{region}:events"


def site_key(site_id: str) -> str:
    """The key of a site, by its id."""
    return f"rc:site:{site_id}"


def domain_key(host: str) -> str:
    """The key that says which site a host, or a wildcard, belongs to."""
    return f"rc:domain:{host}"


class Partition:
    """The keys of one partition of a region: one hash slot."""

    def __init__(self, region: str, number: int) -> None:
        self.region = region
        self.number = number
        self.tag = tag = f"{{rc:{region}:{number}}}"
        self.site_changes = f"{tag}:sites"
        self.due = f"{tag}:due"
        self.lease = f"{tag}:lease"
        self.queue = f"{tag}:queue"
        self.seq = f"{tag}:seq"
        self.processed = f"{tag}:processed"
        self.bytes = f"{tag}:bytes"
        self.principals = f"{tag}:principals"
        self.blocked = f"{tag}:blocked"
        self.intents = f"{tag}:intents"
        self.out = f"{tag}:out"
        self.cursors = f"{tag}:cursors"
        self.courier = f"{tag}:courier"
        self.purge = f"{tag}:purge"
        self.purges = f"{tag}:purges"

    def entry(self, key: str) -> str:
        """The key of an entry or marker, by its record's key."""
        return f"{self.tag}:e:{key}"

    def state(self, digest: str) -> str:
        """The key of a resource's state."""
        return f"{self.tag}:s:{digest}"

    def pending(self, digest: str) -> str:
        """The key of the resource's own pending writes."""
        return f"{self.tag}:q:{digest}"

    def affected(self, digest: str) -> str:
        """The key of other resources' pending writes that affect this one."""
        return f"{self.tag}:a:{digest}"

    def landed(self, digest: str) -> str:
        """The key of the landed writes that a stored base may not contain yet."""
        return f"{self.tag}:l:{digest}"

    def resource(self, digest: str) -> tuple[str, str, str, str]:
        """The four keys of a resource, in the order that scripts expect."""
        return self.state(digest), self.pending(digest), self.affected(digest), self.landed(digest)

    def body(self, write_id: str) -> str:
        """The key of a large write's body."""
        return f"{self.tag}:b:{write_id}"

    def status(self, write_id: str) -> str:
        """The key of a write's status."""
        return f"{self.tag}:w:{write_id}"

    def ended(self, outcome: str) -> str:
        """The key of the list of writes that ended so: `dead` or `rejected`."""
        return f"{self.tag}:{outcome}"

    def idempotency(self, digest: str) -> str:
        """The key of an idempotency record."""
        return f"{self.tag}:i:{digest}"
