"""varnish: its configuration and command."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_VCL: Final = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_deliver {{ if (obj.hits > 0) {{ set resp.http.X-Cache = "HIT"; }} }}
"""


def command(directory: Path, port: int, origin: int) -> list[str]:
    """Write the configuration, and give the command that runs it."""
    directory.mkdir(parents=True)
    file = directory / "default.vcl"
    file.write_text(_VCL.format(origin=origin), "utf-8")
    return [
        # Without its jail it stays who it is; as root it would become somebody who cannot enter the directory.
        *("varnishd", "-j", "none", "-F", "-n", str(directory / "run"), "-a", f"127.0.0.1:{port}", "-f", str(file)),
        *("-s", "malloc,512m", "-p", "thread_pools=1", "-p", "thread_pool_min=50"),
    ]
