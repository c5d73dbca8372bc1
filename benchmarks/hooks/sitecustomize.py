"""Loaded by servers that are told so with PYTHONPATH: settings of the interpreter that are to be measured.

`BENCH_NO_UVLOOP` hides uvloop. SIGUSR1 keeps what there is by then out of garbage collections, and makes them rare.
"""

import gc
import os
import signal
import sys

if os.environ.get("BENCH_NO_UVLOOP"):
    sys.modules["uvloop"] = None  # type: ignore[assignment]


def _settle(*_: object) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


signal.signal(signal.SIGUSR1, _settle)
