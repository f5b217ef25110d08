"""Published models in a storage: what one machine pushes, another one pulls, byte for byte."""

import hashlib
import multiprocessing
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from pipelines.conversion.convert import convert
from runtime.errors import ModelNotFound, NameTaken, PreparationError, SettingsError, StorageError
from runtime.manifest import Manifest
from runtime.registry import PublishedModel, Registry
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.storage import files, stores
from runtime.storage.address import Address
from runtime.storage.layout import Pointer, chunks_key, encoded, object_key, pointer_key
from runtime.storage.pull import pull
from runtime.storage.push import Pushed, push
from runtime.storage.stores import FolderStore, Store, open_store
from runtime.verification import Condition, verify
from tests.cut_store import CutStore
from tests.models import write_tiny_llama
from tests.split_models import split
from tests.storage_server import BUCKET, Connection, s3_server, use_s3

CHUNK = 4_000
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a tiny model has some."""
    monkeypatch.setattr(files, "CHUNK_BYTES", CHUNK)


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return open_store(f"file://{tmp_path}/a storage")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return open_store("memory://models")
    use_s3(monkeypatch, request.getfixturevalue("s3_port"))
    return open_store(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    store = open_store(f"file://{tmp_path}/storage")
    assert isinstance(store, FolderStore)
    return store


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """The machine that prepares."""
    return Settings(home=tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Settings:
    """A machine that serves."""
    return Settings(home=tmp_path / "there")


def publish(settings: Settings, gguf: Path, **versions: str) -> PublishedModel:
    """versions: of other programs than those that are installed."""
    registry = Registry(settings)
    staging = registry.new_staging("tiny", "test")
    manifest = convert(Source(gguf), staging, "tiny", weights_copy="copy")
    manifest = msgspec.structs.replace(manifest, versions={**manifest.versions, **versions})
    folder = registry.publish(staging, manifest)
    return registry.version("tiny", int(folder.name))


def pushed(store: Store, model: PublishedModel) -> Pushed:
    return push(store, model, lambda step: None)


def pulled(
    store: Store, settings: Settings, name: str = "tiny", *, replace: bool = False
) -> PublishedModel:
    address = Address.of(f"{store.url}/{name}")
    return pull(store, address, settings, lambda step: None, replace=replace)


def contents(model: PublishedModel) -> list[bytes]:
    paths = model.manifest.weights_paths(model.folder)
    return [path.read_bytes() for path in (*paths, model.folder / "model.onnx")]


def damage(store: FolderStore, key: str) -> None:
    content = bytearray(store.read(key, 1 << 30))
    content[len(content) // 2] ^= 1
    store.write(key, bytes(content))


def path_of(store: FolderStore, key: str) -> Path:
    return Path(store.url.removeprefix("file://")) / key


def first_chunk(store: Store, model: PublishedModel) -> str:
    listed = msgspec.json.decode(store.read(chunks_key(model.manifest.weights.sha256), 1 << 20))
    return object_key(listed["chunks"][0])


def test_what_is_pushed_is_pulled_byte_for_byte(
    store: Store, here: Settings, there: Settings, tmp_path: Path
) -> None:
    original = publish(here, write_tiny_llama(tmp_path / "tiny.gguf"))
    assert str(pushed(store, original).address) == f"{store.url}/tiny@1"
    model = pulled(store, there)
    assert model.label == "tiny@1"
    assert contents(model) == contents(original)
    findings = verify(model.folder, there.packed_folder)
    assert {finding.condition for finding in findings} == {Condition.INTACT}
    assert (model.folder / "weights.sums").read_bytes() == (
        original.folder / "weights.sums"
    ).read_bytes()
    assert pulled(store, there).folder == model.folder
    Session(model.folder, settings=there)


def test_a_model_in_pieces_keeps_its_pieces(
    store: Store, here: Settings, there: Settings, tmp_path: Path
) -> None:
    pieces = split(write_tiny_llama(tmp_path / "tiny.gguf"), 3)
    original = publish(here, pieces[0])
    pushed(store, original)
    model = pulled(store, there)
    assert contents(model) == contents(original)
    Session(model.folder, settings=there)


def test_the_newest_version_is_pulled_by_its_name_and_each_by_its_number(
    store: Store, here: Settings, there: Settings, tmp_path: Path
) -> None:
    for seed in (1, 2):
        pushed(store, publish(here, write_tiny_llama(tmp_path / f"{seed}.gguf", seed=seed)))
    assert pulled(store, there).version == 2
    assert pulled(store, there, "tiny@1").version == 1
    registry = Registry(there)
    assert [model.version for model in registry.versions("tiny")] == [2, 1]
    with pytest.raises(ModelNotFound, match="tiny@3 is not there"):
        pulled(store, there, "tiny@3")


def test_an_earlier_version_that_is_pushed_again_becomes_the_current_one_without_being_sent(
    store: Store, here: Settings, there: Settings, tmp_path: Path
) -> None:
    first, second = (
        publish(here, write_tiny_llama(tmp_path / f"{seed}.gguf", seed=seed)) for seed in (1, 2)
    )
    for model in (first, second):
        pushed(store, model)
        pulled(store, there)
    again = pushed(store, first)
    assert (str(again.address), again.sent_bytes) == (f"{store.url}/tiny@1", 0)
    assert pulled(store, there).version == 1
    current = Registry(there).current("tiny")
    assert current is not None
    assert current.version == 1


def test_versions_of_one_gguf_share_it_in_the_storage_and_where_they_are_pulled(
    folder: FolderStore, here: Settings, there: Settings, tmp_path: Path
) -> None:
    gguf = write_tiny_llama(tmp_path / "tiny.gguf")
    first = publish(here, gguf)
    assert pushed(folder, first).sent_bytes > gguf.stat().st_size
    one = pulled(folder, there)
    second = publish(here, gguf, onnx="0")
    assert pushed(folder, second).sent_bytes < 10_000
    path_of(folder, first_chunk(folder, second)).unlink()  # nothing is fetched
    two = pulled(folder, there)
    assert two.version == 2
    assert (two.folder / "tiny.gguf").samefile(one.folder / "tiny.gguf")


def test_a_damaged_copy_on_this_machine_is_not_shared_but_fetched(
    folder: FolderStore, here: Settings, there: Settings, tmp_path: Path
) -> None:
    gguf = write_tiny_llama(tmp_path / "tiny.gguf")
    pushed(folder, publish(here, gguf))
    first = pulled(folder, there).folder / "tiny.gguf"
    first.chmod(0o644)
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    pushed(folder, publish(here, gguf, onnx="0"))
    assert (pulled(folder, there).folder / "tiny.gguf").read_bytes() == gguf.read_bytes()


def test_what_is_damaged_on_this_machine_is_pulled_anew(
    folder: FolderStore, here: Settings, there: Settings, tmp_path: Path
) -> None:
    original = publish(here, write_tiny_llama(tmp_path / "tiny.gguf"))
    pushed(folder, original)
    first = pulled(folder, there).folder / "tiny.gguf"
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.chmod(0o644)
    first.write_bytes(content)
    again = pulled(folder, there)
    assert again.version == 2
    assert contents(again) == contents(original)


def test_two_machines_that_push_under_one_name_get_numbers_of_their_own(
    store: Store, here: Settings, there: Settings, tmp_path: Path
) -> None:
    one = publish(here, write_tiny_llama(tmp_path / "1.gguf", seed=1))
    other = publish(there, write_tiny_llama(tmp_path / "2.gguf", seed=2))
    assert (one.version, other.version) == (1, 1)
    assert str(pushed(store, one).address).endswith("tiny@1")
    assert str(pushed(store, other).address).endswith("tiny@2")
    assert str(pushed(store, one).address).endswith("tiny@1")


def test_what_was_pulled_can_be_pushed_on(
    folder: FolderStore, here: Settings, there: Settings, tmp_path: Path
) -> None:
    pushed(folder, publish(here, write_tiny_llama(tmp_path / "tiny.gguf")))
    model = pulled(folder, there)
    assert pushed(folder, model).sent_bytes == 0
    further = open_store(f"file://{tmp_path}/further")
    assert pushed(further, model).sent_bytes > 0
    assert pulled(further, Settings(home=tmp_path / "third")).label == "tiny@1"


def test_a_model_of_another_origin_is_not_replaced_unasked(
    folder: FolderStore, here: Settings, there: Settings, tmp_path: Path
) -> None:
    pushed(folder, publish(here, write_tiny_llama(tmp_path / "1.gguf", seed=1)))
    publish(there, write_tiny_llama(tmp_path / "2.gguf", seed=2))
    with pytest.raises(NameTaken, match="--replace"):
        pulled(folder, there)
    assert pulled(folder, there, replace=True).version == 2


@pytest.mark.parametrize("part", ["chunk", "graph", "manifest"])
def test_a_damaged_object_is_refused_by_name_and_repaired_by_another_push(
    folder: FolderStore, here: Settings, there: Settings, tmp_path: Path, part: str
) -> None:
    model = publish(here, write_tiny_llama(tmp_path / "tiny.gguf"))
    pushed(folder, model)
    pointer = msgspec.json.decode(folder.read(pointer_key("tiny"), 1000), type=Pointer)
    key = {
        "chunk": first_chunk(folder, model),
        "graph": object_key(model.manifest.graph_sha256),
        "manifest": object_key(pointer.manifest),
    }[part]
    damage(folder, key)
    with pytest.raises(StorageError, match=f"{key} is damaged .* delete it and push"):
        pulled(folder, there)
    assert Registry(there).versions("tiny") == []
    path_of(folder, key).unlink()
    with pytest.raises(StorageError, match=f"{key} is missing; push its model again"):
        pulled(folder, there)
    assert pushed(folder, model).sent_bytes > 0
    assert contents(pulled(folder, there)) == contents(model)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"version":0,"manifest":"00"}', b'{"version":1,"manifest":"../x"}'],
)
def test_a_damaged_pointer_is_refused(folder: FolderStore, there: Settings, content: bytes) -> None:
    folder.write(pointer_key("tiny"), content)
    with pytest.raises(StorageError, match=r"current\.json is damaged"):
        pulled(folder, there)


def store_manifest(store: Store, manifest: Manifest) -> None:
    """Put a manifest into the storage as the newest, whatever it says."""
    content = msgspec.json.encode(manifest)
    sha256 = hashlib.sha256(content).hexdigest()
    store.write(object_key(sha256), content)
    store.write(pointer_key("tiny"), encoded(Pointer(1, sha256)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"linked_name": "../../tiny.gguf"}, "outside its folder"),
        ({"linked_name": "manifest.json"}, "describes its files in a way"),
        ({"linked_name": "model.onnx"}, "describes its files in a way"),
        ({"linked_name": None}, "describes its files in a way"),
        ({"sha256": "../../tiny"}, "is no SHA-256"),
        ({"size": 5}, "does not have the file"),
    ],
)
def test_a_manifest_that_names_other_files_is_refused(
    folder: FolderStore,
    here: Settings,
    there: Settings,
    tmp_path: Path,
    changed: dict[str, object],
    told: str,
) -> None:
    model = publish(here, write_tiny_llama(tmp_path / "tiny.gguf"))
    pushed(folder, model)
    weights = msgspec.structs.replace(model.manifest.weights, **changed)
    store_manifest(folder, msgspec.structs.replace(model.manifest, weights=weights))
    with pytest.raises(StorageError, match=told):
        pulled(folder, there)


def test_a_version_of_another_build_is_refused_before_its_files_are_fetched(
    folder: FolderStore, here: Settings, there: Settings, tmp_path: Path
) -> None:
    manifest = publish(here, write_tiny_llama(tmp_path / "tiny.gguf")).manifest
    versions = {**manifest.versions, "graph": "0"}
    store_manifest(folder, msgspec.structs.replace(manifest, versions=versions))
    with pytest.raises(StorageError, match="another build"):
        pulled(folder, there)


def test_a_file_that_has_changed_since_it_was_published_is_not_pushed(
    folder: FolderStore, here: Settings, tmp_path: Path
) -> None:
    model = publish(here, write_tiny_llama(tmp_path / "tiny.gguf"))
    path = model.folder / "tiny.gguf"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PreparationError, match="changed since it was prepared"):
        pushed(folder, model)
    assert folder.size(pointer_key("tiny")) is None


@pytest.mark.parametrize(
    "text", ["s3://bucket", "s3://", "s3://bucket/..", "s3://bucket/model@", "s3://b/m@x", "a/b"]
)
def test_what_names_no_model_in_a_storage_is_told(text: str) -> None:
    with pytest.raises(ModelNotFound, match="names no model in a storage"):
        Address.of(text)


@pytest.mark.parametrize("url", ["nothing://here", "file://other-machine/folder"])
def test_what_names_no_storage_is_told(url: str) -> None:
    with pytest.raises(SettingsError, match="names no"):
        open_store(url)


@given(cuts=st.lists(st.integers(0, 50), max_size=6))
@profile(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_a_push_that_is_cut_shows_nothing_and_goes_on_where_it_ended(
    cuts: list[int], model: PublishedModel
) -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = open_store(f"file://{home}/storage")
        there = Settings(home=Path(home) / "there")
        written = 0
        for operations in cuts:
            cut = CutStore(folder, operations)
            with suppress(StorageError):
                pushed(cut, model)
            written += cut.written
            with suppress(ModelNotFound):  # all of it is there, or nothing is
                assert contents(pulled(folder, there)) == contents(model)
        whole = CutStore(folder, 10**6)
        pushed(whole, model)
        # Nothing is sent twice but pointers and lists of chunks.
        assert written + whole.written < sum(map(len, contents(model))) + 10_000
        assert contents(pulled(folder, there)) == contents(model)


@given(cuts=st.lists(st.integers(0, 25), max_size=6))
@profile(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_a_pull_that_is_cut_publishes_nothing_and_goes_on_where_it_ended(
    cuts: list[int], model: PublishedModel, stored: FolderStore
) -> None:
    with tempfile.TemporaryDirectory() as home:
        there = Settings(home=Path(home))
        kept = 0
        for operations in cuts:
            with suppress(StorageError):
                pulled(CutStore(stored, operations), there)
            versions = Registry(there).versions("tiny")
            assert [contents(each) for each in versions] in ([], [contents(model)])
            if not versions:
                left = sum(file.stat().st_size for file in Path(home).rglob("staging/pull/*"))
                assert left >= kept
                kept = left
        assert contents(pulled(stored, there)) == contents(model)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PublishedModel:
    home = tmp_path_factory.mktemp("here")
    return publish(Settings(home=home), write_tiny_llama(home / "tiny.gguf"))


@pytest.fixture
def stored(model: PublishedModel, folder: FolderStore) -> FolderStore:
    pushed(folder, model)
    return folder


def killed(target: object, *arguments: object) -> None:
    """Call a function in a child process that kills itself in it."""
    child = FORK.Process(target=target, args=arguments)  # type: ignore[arg-type]
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("operations", [2, 5, 9, 13])
def test_a_pull_that_is_killed_is_gone_on_with(
    stored: FolderStore, model: PublishedModel, there: Settings, operations: int
) -> None:
    killed(pulled, CutStore(stored, operations, kills=True), there)
    assert Registry(there).versions("tiny") == []
    assert contents(pulled(stored, there)) == contents(model)
    (staging,) = (there.home / "models" / "tiny" / "staging").parent.glob("staging")
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("operations", [2, 11, 22])
def test_a_push_that_is_killed_is_gone_on_with(
    folder: FolderStore, model: PublishedModel, there: Settings, operations: int
) -> None:
    killed(pushed, CutStore(folder, operations, kills=True), model)
    assert folder.size(pointer_key("tiny")) is None
    pushed(folder, model)
    assert contents(pulled(folder, there)) == contents(model)


def test_what_a_killed_pull_has_left_damaged_is_fetched_again(
    stored: FolderStore, model: PublishedModel, there: Settings
) -> None:
    with pytest.raises(StorageError):
        pulled(CutStore(stored, 12), there)
    (partial,) = there.home.rglob("*.partial")
    assert partial.stat().st_size > CHUNK
    with partial.open("r+b") as left:
        left.seek(CHUNK + 5)
        left.write(bytes(100))
    assert contents(pulled(stored, there)) == contents(model)


def test_a_storage_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "TRANSFER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_s3(monkeypatch, silent.getsockname()[1])
        store = open_store(f"s3://{BUCKET}/folder")
        for operation in (
            lambda: store.read("key", 100),
            lambda: store.size("key"),
            lambda: store.write("key", b"content"),
            lambda: store.create("key", b"content"),
        ):
            with pytest.raises(StorageError, match="is not reached"):
                operation()


@pytest.mark.long
def test_a_connection_that_is_cut_loses_no_more_than_the_chunks_on_their_way(
    s3_port: int, here: Settings, there: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 1 << 16)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    model = publish(here, write_tiny_llama(tmp_path / "large.gguf", format="F16", embedding=512))
    size = model.manifest.weights.size
    assert size > 20 << 16
    connection = Connection(s3_port)
    use_s3(monkeypatch, connection.port)
    store = open_store(f"s3://{BUCKET}/{tmp_path.name}")

    connection.cut_after(size // 2)
    with pytest.raises(StorageError, match="is not reached"):
        pushed(store, model)
    connection.cut_after(None)
    pushed(store, model)
    assert connection.sent < 0.9 * size

    connection.cut_after(size // 2)
    with pytest.raises(StorageError, match="is not reached"):
        pulled(store, there)
    assert Registry(there).versions("tiny") == []
    connection.cut_after(None)
    assert contents(pulled(store, there)) == contents(model)
    assert connection.received < 0.9 * size
    connection.close()
