"""A regional cache for aiohttp: reads from the nearest region, writes acknowledged there, one origin."""

from .control.depths import QueueDepth
from .control.listing import WriteDetail, WriteFilter, WritePage, WriteSummary
from .control.purger import PurgeReport
from .control.writes import Treated, WriteDesk
from .decorators import cached, write_behind
from .effects import UNKNOWN, Representation, Write
from .errors import (
    CorruptRecordError,
    DurabilityError,
    EmbeddedServerError,
    EvictionPolicyError,
    LayoutMismatchError,
    NotSetUpError,
    PurgeError,
    RecordError,
    RegionCacheError,
    RegionUnavailableError,
    SettingsError,
    SiteBusyError,
    SiteError,
    StoreError,
    UnknownSiteError,
    UnknownWriteError,
    UnreadableRecordError,
    WriteBusyError,
    WriteEndedError,
    WriteError,
)
from .features import Asked, Feature, Transformed, register_feature
from .hooks import WriteEvent
from .idempotency import MemoryStorage, RedisStorage, origin_idempotency
from .plugin import REGION_CACHE, RegionCache, add_forwarding, forward, region_cache, setup
from .purges import Purge
from .regions import Region
from .rules import Affect, Bulk, BulkAnswer, BulkItem, BulkRequest, ItemAnswer, Rule
from .settings import Cache, Connections, Gateway, Queue, Serve, Settings, Sites, Sync, Webhook, from_mapping, load
from .site import Exclude, Site
from .transforms import register_all as _register_all
from .upstream import OriginAddress

_register_all()

__version__ = "0.1.0"

__all__ = [
    "REGION_CACHE",
    "UNKNOWN",
    "Affect",
    "Asked",
    "Bulk",
    "BulkAnswer",
    "BulkItem",
    "BulkRequest",
    "Cache",
    "Connections",
    "CorruptRecordError",
    "DurabilityError",
    "EmbeddedServerError",
    "EvictionPolicyError",
    "Exclude",
    "Feature",
    "Gateway",
    "ItemAnswer",
    "LayoutMismatchError",
    "MemoryStorage",
    "NotSetUpError",
    "OriginAddress",
    "Purge",
    "PurgeError",
    "PurgeReport",
    "Queue",
    "QueueDepth",
    "RecordError",
    "RedisStorage",
    "Region",
    "RegionCache",
    "RegionCacheError",
    "RegionUnavailableError",
    "Representation",
    "Rule",
    "Serve",
    "Settings",
    "SettingsError",
    "Site",
    "SiteBusyError",
    "SiteError",
    "Sites",
    "StoreError",
    "Sync",
    "Transformed",
    "Treated",
    "UnknownSiteError",
    "UnknownWriteError",
    "UnreadableRecordError",
    "Webhook",
    "Write",
    "WriteBusyError",
    "WriteDesk",
    "WriteDetail",
    "WriteEndedError",
    "WriteError",
    "WriteEvent",
    "WriteFilter",
    "WritePage",
    "WriteSummary",
    "add_forwarding",
    "cached",
    "forward",
    "from_mapping",
    "load",
    "origin_idempotency",
    "region_cache",
    "register_feature",
    "setup",
    "write_behind",
]
