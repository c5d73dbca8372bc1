"""A world-wide day simulated, and what it costs: `python -m benchmarks.world --help`."""
