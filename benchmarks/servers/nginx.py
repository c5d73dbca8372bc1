"""nginx: its configuration, as a cache that is set well, as one that comes as it is, and as a proxy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_WELL: Final = """
sendfile off; tcp_nopush off; tcp_nodelay on; keepalive_timeout 600s; keepalive_requests 1000000000;
open_file_cache max=10000 inactive=600s; open_file_cache_valid 600s; access_log off; server_tokens off;
"""
_AS_IT_COMES: Final = "sendfile on; access_log off; keepalive_requests 1000000000;"


def configuration(directory: Path, port: int, origin: int, *, well: bool) -> str:
    """The text of an nginx.conf for one worker; everything that it writes lies in `directory`."""
    paths = " ".join(
        f"{module}_temp_path {directory}/{module};" for module in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if os.geteuid() == 0 else ""  # else its worker could not enter the directory
    # Without sendfile small bodies are faster, with it large ones.
    large = "location /65536/ { sendfile on; proxy_pass http://origin; }" if well else ""
    lock = "proxy_cache_lock on; proxy_cache_valid 200 1d;" if well else ""
    return f"""
{user}daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
    {paths}
    {_WELL if well else _AS_IT_COMES}
    default_type text/plain;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }}
    proxy_cache_path {directory}/cache levels=1:2 keys_zone=bench:64m inactive=1d max_size=4g use_temp_path=off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        proxy_cache bench; {lock}
        add_header X-Cache $upstream_cache_status;
        location / {{ proxy_pass http://origin; }}
        {large}
        location /fresh/ {{ proxy_cache off; proxy_pass http://origin; }}
    }}
}}
"""


def command(directory: Path, port: int, origin: int, *, well: bool) -> list[str]:
    """Write the configuration, and give the command that runs it."""
    directory.mkdir(parents=True)
    file = directory / "nginx.conf"
    file.write_text(configuration(directory, port, origin, well=well), "utf-8")
    return ["nginx", "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(file)]
