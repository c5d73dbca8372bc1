"""The command line: `aiohttp-regioncache`, or `python -m aiohttp_regioncache`."""
