"""How the cache keeps to the clauses of HTTP, seen on the wire: one table per subject, one row per case."""
