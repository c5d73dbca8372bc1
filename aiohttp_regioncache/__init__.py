"""A regional cache for aiohttp: reads from the nearest region, writes acknowledged there, one origin."""

from .effects import UNKNOWN, Representation, Write
from .errors import (
    CorruptRecordError,
    EmbeddedServerError,
    EvictionPolicyError,
    LayoutMismatchError,
    NotSetUpError,
    RecordError,
    RegionCacheError,
    RegionUnavailableError,
    SettingsError,
    StoreError,
    UnreadableRecordError,
)
from .plugin import REGION_CACHE, RegionCache, cached, forward, region_cache, setup, write_behind
from .regions import Region
from .rules import Affect, Rule
from .settings import Cache, Connections, Queue, Settings, Sync, from_mapping, load

__version__ = "0.1.0"

__all__ = [
    "REGION_CACHE",
    "UNKNOWN",
    "Affect",
    "Cache",
    "Connections",
    "CorruptRecordError",
    "EmbeddedServerError",
    "EvictionPolicyError",
    "LayoutMismatchError",
    "NotSetUpError",
    "Queue",
    "RecordError",
    "Region",
    "RegionCache",
    "RegionCacheError",
    "RegionUnavailableError",
    "Representation",
    "Rule",
    "Settings",
    "SettingsError",
    "StoreError",
    "Sync",
    "UnreadableRecordError",
    "Write",
    "cached",
    "forward",
    "from_mapping",
    "load",
    "region_cache",
    "setup",
    "write_behind",
]
