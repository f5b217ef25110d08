"""Models by name: fetched from a server that speaks the Hub's protocol."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE

from pipelines.model_files.locate import located
from pipelines.preparation import prepared
from runtime.errors import DownloadError, ModelNotFound
from runtime.manifest import Manifest
from runtime.settings import Settings
from tests.hub_server import COMMIT, Hub, serving
from tests.models import write_tiny_llama
from tests.split_models import split

REPO = "owner/tiny-GGUF"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (tmp_path / "made").mkdir()
    whole = write_tiny_llama(tmp_path / "made" / "tiny.gguf")
    pieces = split(whole, 2)
    files = {
        "README.md": b"a model",
        "mmproj-tiny-Q4_K_M.gguf": b"no model",
        "tiny-Q4_K_M.gguf": whole.read_bytes(),
        **{f"Q8_0/{path.name.replace('tiny', 'tiny-q8_0')}": path.read_bytes() for path in pieces},
    }
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with serving(Hub({REPO: files, "owner/other-GGUF": {}})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def fetch(hub: Hub, settings: Settings):
    def fetch(name: str = f"hf:{REPO}") -> Path:
        found = located(name, settings, lambda step: None)
        assert found is not None
        return found.path

    return fetch


def test_it_is_fetched_once_into_the_hubs_own_cache(hub: Hub, fetch, tmp_path: Path) -> None:
    path = fetch()
    repository = tmp_path / "hub" / "hub" / "models--owner--tiny-GGUF"
    assert path == repository / "snapshots" / COMMIT / "tiny-Q4_K_M.gguf"
    assert path.read_bytes() == hub.repos[REPO]["tiny-Q4_K_M.gguf"]
    assert path.resolve().parent == repository / "blobs"
    assert fetch() == path
    assert len(hub.ranges()) == 1
    assert sorted(each.name for each in (repository / "blobs").iterdir()) == [path.resolve().name]


def test_all_pieces_of_a_quant_are_fetched_and_served(hub: Hub, fetch, settings: Settings) -> None:
    path = fetch(f"hf:{REPO}:q8_0")
    assert path.name == "tiny-q8_0-00001-of-00002.gguf"
    folder = prepared(f"hf:{REPO}:Q8_0", settings, lambda step: None)
    manifest = Manifest.read(folder)
    assert (manifest.name, len(manifest.weights.files)) == ("tiny-q8_0", 2)


def test_a_file_and_a_revision_may_be_named(fetch) -> None:
    assert fetch(f"hf:{REPO}@{COMMIT}/tiny-Q4_K_M.gguf").name == "tiny-Q4_K_M.gguf"
    with pytest.raises(ModelNotFound, match="has no revision v9"):
        fetch(f"hf:{REPO}@v9")


@pytest.fixture
def large(hub: Hub) -> bytes:
    """What takes more than one piece of huggingface_hub's; a lost one is fetched again."""
    hub.repos[REPO]["tiny-Q4_K_M.gguf"] = content = bytes(range(256)) * (DOWNLOAD_CHUNK_SIZE // 100)
    hub.cut = DOWNLOAD_CHUNK_SIZE + 1000
    return content


def test_a_lost_connection_is_taken_up_where_it_ended(hub: Hub, large: bytes, fetch) -> None:
    assert fetch().read_bytes() == large
    assert hub.ranges() == [None, f"bytes={DOWNLOAD_CHUNK_SIZE}-"]


def test_a_command_goes_on_where_an_earlier_one_ended(hub: Hub, large: bytes, fetch) -> None:
    hub.refuse_after_cut = True
    with pytest.raises(DownloadError):
        fetch()
    hub.gated = False
    hub.requests.clear()
    assert fetch().read_bytes() == large
    assert hub.ranges() == [f"bytes={DOWNLOAD_CHUNK_SIZE}-"]


def test_a_disk_that_fills_up_meanwhile_is_told_and_what_is_there_is_kept(
    hub: Hub, large: bytes, fetch
) -> None:
    """A limit of a file's size stands for the disk."""
    hub.cut = None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(large) - 1000, limits[1]))
    try:
        with pytest.raises(DownloadError, match="File too large; what is there is kept"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fetch().read_bytes() == large
    assert hub.ranges()[-1] is not None


def test_wrong_bytes_are_not_kept(hub: Hub, fetch, tmp_path: Path) -> None:
    hub.wrong_bytes = True
    with pytest.raises(DownloadError, match="arrived damaged and is deleted"):
        fetch()
    hub.wrong_bytes = False
    fetch()
    assert hub.ranges() == [None, None]


def test_without_room_nothing_is_fetched(hub: Hub, fetch) -> None:
    hub.claimed_size = 10**17
    with pytest.raises(DownloadError, match=r"takes 100000000\.0 GB and .* are free in .*HF_HOME"):
        fetch()
    assert hub.ranges() == []


def test_a_gated_repository_says_what_to_do(hub: Hub, fetch) -> None:
    hub.gated = True
    with pytest.raises(DownloadError, match=r"is gated: accept its terms at .* and set HF_TOKEN"):
        fetch()


def test_a_token_is_used(hub: Hub, fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "secret"
    with pytest.raises((DownloadError, ModelNotFound), match="HF_TOKEN"):
        fetch()
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert fetch().is_file()


def test_an_unknown_repository_is_told_with_the_owners_others(fetch) -> None:
    with pytest.raises(ModelNotFound, match="is not there; owner has tiny-GGUF, other-GGUF; check"):
        fetch("hf:owner/tony-GGUF")


def test_an_unknown_quant_is_told_with_those_there_are(fetch) -> None:
    with pytest.raises(
        ModelNotFound,
        match=r"has no IQ1_S; there is Q8_0/tiny-q8_0-00001-of-00002\.gguf, tiny-Q4_K_M\.gguf$",
    ):
        fetch(f"hf:{REPO}:IQ1_S")
    with pytest.raises(ModelNotFound, match="holds no GGUF file"):
        fetch("hf:owner/other-GGUF")
    with pytest.raises(ModelNotFound, match="names no model of the Hub; write hf:OWNER/REPO"):
        fetch("hf:tiny")


def test_offline_the_cache_is_enough(hub: Hub, fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch()
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch() == path
    assert hub.requests == []
    with pytest.raises(ModelNotFound, match=r"has no Q8_0; there is tiny-Q4_K_M\.gguf"):
        fetch(f"hf:{REPO}:Q8_0")
    with pytest.raises(DownloadError, match=r"is not in .*, and HF_HUB_OFFLINE is set"):
        fetch("hf:owner/other-GGUF")


def test_without_a_connection_the_cache_is_enough(fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch() == path


def test_a_server_fetches_prepares_and_serves_it(hub: Hub, settings: Settings) -> None:
    command = [sys.executable, "-m", "rocmforge", "serve", f"hf:{REPO}", "--port", "0"]
    with subprocess.Popen(
        [*command, "--home", str(settings.home)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        ready = next((line for line in server.stdout if line.startswith("Ready")), "")
        server.send_signal(signal.SIGTERM)
        server.stdout.read()
    assert (server.returncode, ": tiny-Q4_K_M" in ready) == (0, True)


def test_the_models_command_lists_what_was_fetched(
    fetch,
) -> None:
    path = fetch()
    command = [sys.executable, "-m", "rocmforge", "models", "--found"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in listed.splitlines() if line.startswith("hf:"))
    assert line.split()[0] == f"hf:{REPO}/tiny-Q4_K_M.gguf"
    assert line.split()[-1] == str(path)
