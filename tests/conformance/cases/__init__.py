"""The tables, by subject."""

from . import (
    codings,
    conditional,
    dates,
    directives,
    fields,
    freshness,
    invalidation,
    methods,
    ranges,
    requests,
    stale,
    statuses,
    targeted,
    validation,
    vary,
)

_TABLES = (
    freshness,
    dates,
    directives,
    statuses,
    vary,
    conditional,
    validation,
    invalidation,
    ranges,
    methods,
    requests,
    stale,
    fields,
    targeted,
    codings,
)

CASES = [case for table in _TABLES for case in table.CASES]
