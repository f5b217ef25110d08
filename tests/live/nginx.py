"""Debian's nginx with our configuration, in front of servers of a test."""

import random
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.waiting import eventually

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "rocmforge.conf"
BINARY = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin")
UPSTREAM = re.compile(r"server 10\.0\.0\.(\d):8080")

EPHEMERAL = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
"""The first port of those that the system gives."""

needs_nginx = pytest.mark.skipif(BINARY is None, reason="nginx is not installed")

AROUND = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/rocmforge.conf;
}}
"""


def free_port() -> int:
    """Return a port that nobody has, and that the system gives to nobody who asks for any."""
    while True:
        port = random.randrange(10_000, max(EPHEMERAL, 20_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def nginx(folder: Path, ports: Sequence[int]) -> Iterator[str]:
    """The address of an nginx in front of two servers of this machine, for the time of a block."""
    folder.mkdir()
    port = free_port()
    text = UPSTREAM.sub(
        lambda found: f"server 127.0.0.1:{ports[int(found[1]) - 1]}", CONFIGURATION.read_text()
    ).replace("listen 80;", f"listen 127.0.0.1:{port};")
    (folder / "rocmforge.conf").write_text(text)
    outer = folder / "nginx.conf"
    outer.write_text(AROUND.format(folder=folder))
    assert BINARY is not None
    log = folder / "error.log"
    process = subprocess.Popen([BINARY, "-p", folder, "-c", outer, "-e", log])

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
