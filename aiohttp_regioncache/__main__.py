"""`python -m aiohttp_regioncache` is the command `aiohttp-regioncache`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
