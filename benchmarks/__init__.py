"""How fast the package is, beside a bare aiohttp handler and beside others: `python -m benchmarks --help`."""
