"""Every exception of the package.

RegionCacheError
├── SettingsError (ValueError)        a setting is wrong; names the key
├── NotSetUpError (RuntimeError)      setup(app, settings) was not called
├── PurgeError (ValueError)           what is to be purged, or where, makes no sense
├── SiteError                         a site cannot be treated as an operator asks
│   ├── UnknownSiteError (LookupError)    none has this id
│   └── SiteBusyError                 it has pending writes
├── RecordError                       stored bytes that cannot be used
│   ├── CorruptRecordError            they are no record
│   └── UnreadableRecordError         a newer version wrote them
├── WriteError                        a queued write cannot be treated as an operator asks
│   ├── UnknownWriteError (LookupError)   none has this id
│   ├── WriteEndedError               it has ended in a way that is not to be changed any more
│   └── WriteBusyError                a sender holds its resource
└── StoreError                        a region's Redis
    ├── RegionUnavailableError        it cannot be reached now
    ├── LayoutMismatchError           it holds data of another layout or region
    ├── EvictionPolicyError           it may evict queued writes
    ├── DurabilityError               it cannot make writes as safe as a rule asks
    └── EmbeddedServerError (RuntimeError)   an embedded server cannot run
"""

from __future__ import annotations


class RegionCacheError(Exception):
    """Base of every error that this package raises."""


class SettingsError(RegionCacheError, ValueError):
    """Report a wrong setting.

    `key` is the dotted name of the setting; the message says what is allowed.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class NotSetUpError(RegionCacheError, RuntimeError):
    """Report the use of an application on which `setup(app, settings)` was not called."""


class PurgeError(RegionCacheError, ValueError):
    """Report a purge that says nothing, too much or something wrong; the message names it."""


class RecordError(RegionCacheError):
    """Base of the errors about stored bytes that cannot be used as a record."""


class CorruptRecordError(RecordError):
    """Report stored bytes that are no record of any version."""


class UnreadableRecordError(RecordError):
    """Report a record that only a newer version of this package can read."""


class WriteError(RegionCacheError):
    """Base of the errors about what an operator asks for a queued write; `write_id` is its id."""

    def __init__(self, write_id: str, problem: str) -> None:
        super().__init__(f"write {write_id}: {problem}")
        self.write_id = write_id


class UnknownWriteError(WriteError, LookupError):
    """Report that no write has this id, or that its status has been forgotten."""

    def __init__(self, write_id: str) -> None:
        super().__init__(write_id, "not known here, or forgotten")


class WriteEndedError(WriteError):
    """Report a write that has ended as `state`, so that it can neither be queued again nor let go."""

    def __init__(self, write_id: str, state: str) -> None:
        super().__init__(write_id, f"it is {state}, and its request is not kept")
        self.state = state


class WriteBusyError(WriteError):
    """Report a write whose resource a sender holds: the same may be asked again."""

    def __init__(self, write_id: str) -> None:
        super().__init__(write_id, "its resource is being sent to the origin; try again")


class SiteError(RegionCacheError):
    """Base of the errors about what an operator asks for a site; `site_id` is its id."""

    def __init__(self, site_id: str, problem: str) -> None:
        super().__init__(f"site {site_id}: {problem}")
        self.site_id = site_id


class UnknownSiteError(SiteError, LookupError):
    """Report that no site has this id."""

    def __init__(self, site_id: str) -> None:
        super().__init__(site_id, "not known")


class SiteBusyError(SiteError):
    """Report a site that has `pending` writes in a region, which would find no origin any more."""

    def __init__(self, site_id: str, region: str, pending: int) -> None:
        super().__init__(site_id, f"{pending} writes are pending in region {region}; let them end, or drop them")
        self.region = region
        self.pending = pending


class StoreError(RegionCacheError):
    """Base of the errors about a region's Redis."""


class RegionUnavailableError(StoreError):
    """Report that a region's Redis cannot be reached now.

    `region` is its name; `retry_after` the whole seconds after which a new attempt makes sense.
    """

    def __init__(self, region: str, reason: str, *, retry_after: int = 1) -> None:
        super().__init__(f"region {region}: {reason}")
        self.region = region
        self.retry_after = retry_after


class LayoutMismatchError(StoreError):
    """Report a Redis whose stored layout, region name or number of partitions differs from the settings."""


class EvictionPolicyError(StoreError):
    """Report a Redis that may evict keys without a lifetime (`maxmemory-policy allkeys-*`) under write-behind."""


class DurabilityError(StoreError):
    """Report a Redis that cannot make writes as safe as a rule's `durability` asks."""


class EmbeddedServerError(StoreError, RuntimeError):
    """Report that an embedded server cannot be started."""
