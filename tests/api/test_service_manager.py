"""What systemd hears of a server: a real datagram socket, and the protocol of sd_notify(3)."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from api.service_manager import Heartbeat, ServiceManager
from tests.api.conftest import Serve
from tests.command_line.test_serve import serving
from tests.models import write_tiny_llama
from tests.waiting import SECONDS, eventually


class Listener:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(SECONDS)

    def next(self) -> dict[str, str]:
        """The variables of the next message."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def until(self, variable: str) -> list[dict[str, str]]:
        """The messages up to one with this variable."""
        found = [self.next()]
        while variable not in found[-1]:
            found.append(self.next())
        return found

    def waiting(self) -> list[dict[str, str]]:
        """The messages that have arrived already."""
        found = []
        self._socket.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                found.append(self.next())
        self._socket.settimeout(SECONDS)
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    path = str(tmp_path / "notify")
    one = Listener(path if request.param == "path" else f"@{path}")
    yield one
    one.close()


@pytest.mark.parametrize("listener", ["abstract"], indirect=True)
def test_a_server_says_when_it_is_ready_that_it_lives_and_when_it_stops(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    with serving(write_tiny_llama(tmp_path / "tiny.gguf"), tmp_path / "home") as (process, url):
        (*before, ready) = listener.until("READY")
        assert requests.get(f"{url}/ready", timeout=SECONDS).status_code == 200
        assert ready == {"READY": "1", "STATUS": "Serving tiny@1"}
        assert not any("STOPPING" in message for message in before)
        listener.until("WATCHDOG")
        process.send_signal(signal.SIGTERM)
        *_, stopping = listener.until("STOPPING")
        # The drain and the longest end after it, beyond which the process ends itself.
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) == 90_000_000
        assert process.wait(SECONDS) == 0


def test_the_watchdog_hears_nothing_of_an_engine_that_hangs(
    listener: Listener, serve: Serve
) -> None:
    server = serve(stall_timeout=1e-9)
    heartbeat = Heartbeat(server.services, ServiceManager(listener.address))
    heartbeat.beat()
    assert listener.waiting() == [{"STATUS": "Serving tiny"}, {"WATCHDOG": "1"}]
    heartbeat.beat()
    assert listener.waiting() == [{"WATCHDOG": "1"}]
    server.session.hold()
    client = threading.Thread(target=server.generate, kwargs={"max_tokens": 1})
    client.start()
    server.session.wait_for_step()
    heartbeat.beat()
    assert listener.waiting() == [{"STATUS": "An engine has died or hangs"}]
    server.session.let_go()
    client.join()
    eventually(lambda: server.get("/health").status_code == 200)
    heartbeat.beat()
    assert {"WATCHDOG": "1"} in listener.waiting()


def test_a_heartbeat_comes_twice_in_the_time_that_the_watchdog_allows(serve: Serve) -> None:
    nobody = ServiceManager("")
    assert Heartbeat(serve(watchdog_usec=3_000_000).services, nobody).seconds == 1.5
    assert Heartbeat(serve(watchdog_usec=0).services, nobody).seconds == 5.0


def test_a_service_manager_that_has_gone_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ServiceManager(str(tmp_path / "gone")).tell(ready=1)
    assert "READY=1" in caplog.text
