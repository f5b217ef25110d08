"""Models that other programs hold: found by name, and used where they are."""

import json
from pathlib import Path

import msgspec
import pytest

from pipelines.model_files.found import find, found_models
from pipelines.model_files.names import chosen, hub_name
from pipelines.preparation import expect_known, prepared
from rocmforge.__main__ import main
from runtime.errors import ModelNotFound
from runtime.manifest import Manifest
from runtime.settings import Settings
from tests.models import write_tiny_llama


@pytest.fixture
def others(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The folders of three programs, with a model in each."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    ollama, studio, llama = (tmp_path / each for each in ("ollama", "studio", "llama"))
    manifest = ollama / "manifests" / "registry.ollama.ai" / "library" / "llama3.2" / "1b"
    manifest.parent.mkdir(parents=True)
    (ollama / "blobs").mkdir()
    write_tiny_llama(ollama / "blobs" / "sha256-00aa")
    model = "application/vnd.ollama.image.model"
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:11"},
        {"mediaType": model, "digest": "sha256:00aa"},
    ]
    manifest.write_text(json.dumps({"layers": layers}))
    manifest.with_name("broken").write_text("{")
    (studio / "owner" / "tiny-GGUF").mkdir(parents=True)
    write_tiny_llama(studio / "owner" / "tiny-GGUF" / "tiny-Q8_0.gguf", seed=1)
    write_tiny_llama(studio / "owner" / "tiny-GGUF" / "tiny-Q4_K_M.gguf", seed=2)
    (studio / "owner" / "tiny-GGUF" / "mmproj-tiny.gguf").touch()
    llama.mkdir()
    write_tiny_llama(llama / "owner_small.gguf", seed=3)
    return msgspec.structs.replace(
        settings, ollama_models=ollama, lmstudio_models=studio, llama_cache=llama
    )


def test_the_list_names_every_model(others: Settings) -> None:
    assert [each.label for each in found_models(others)] == [
        "ollama:llama3.2:1b",
        "lmstudio:owner/tiny-GGUF/tiny-Q4_K_M.gguf",
        "lmstudio:owner/tiny-GGUF/tiny-Q8_0.gguf",
        "llamacpp:owner_small.gguf",
    ]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("llama3.2:1b", "sha256-00aa"),
        ("Owner/Tiny-GGUF", "tiny-Q4_K_M.gguf"),
        ("owner/tiny-gguf:q8_0", "tiny-Q8_0.gguf"),
        ("tiny-q8_0", "tiny-Q8_0.gguf"),
        ("owner_small.gguf", "owner_small.gguf"),
        ("llama3.2", None),
        ("owner/tiny-gguf:q2_k", None),
    ],
)
def test_a_name_is_looked_for_in_all_programs(
    others: Settings, name: str, file: str | None
) -> None:
    found = find(name, others)
    assert (None if found is None else found.path.name) == file


def test_it_is_served_where_it_is(others: Settings) -> None:
    expect_known("ollama:llama3.2:1b", others)
    folder = prepared("ollama:llama3.2:1b", others, lambda step: None)
    manifest = Manifest.read(folder)
    assert manifest.name == "llama3.2-1b"
    blob = found_models(others)[0].path
    assert Path(manifest.weights.path) == blob
    assert manifest.weights_path(folder).samefile(blob) or manifest.weights.stored_as == "reflink"
    assert prepared("llama3.2:1b", others, lambda step: None) == folder


def test_what_a_program_does_not_have_is_told_with_what_it_has(others: Settings) -> None:
    with pytest.raises(ModelNotFound, match=r"ollama has no model mistral; there is llama3\.2:1b"):
        expect_known("ollama:mistral", others)
    with pytest.raises(ModelNotFound, match="neither a GGUF file nor a published model"):
        expect_known("mistral", others)


def test_the_command_lists_and_finds_them(
    others: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(others.ollama_models))
    monkeypatch.setenv("ROCMFORGE_LMSTUDIO_MODELS", str(others.lmstudio_models))
    monkeypatch.setenv("LLAMA_CACHE", str(others.llama_cache))
    assert main(["models", "--found"]) == 0
    listed = capsys.readouterr().out
    assert all(each.label in listed for each in found_models(others))
    assert main(["pull", "llamacpp:owner_small"]) == 0
    assert capsys.readouterr().out == f"{others.llama_cache}/owner_small.gguf\n"
    assert main(["pull", "nothing"]) == 1
    assert "`rocmforge models --found` lists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("quant", "model"),
    [
        (None, "m-Q4_K_M.gguf"),
        ("q4_k_m", "m-Q4_K_M.gguf"),
        ("UD-Q4_K_M", "m-UD-Q4_K_M.gguf"),
        ("Q4_XS", None),
        ("IQ4_XS", "m-IQ4_XS.gguf"),
        ("BF16", "BF16/m-00001-of-00002.gguf"),
        ("F16", "m.f16.gguf"),
    ],
)
def test_a_quant_is_chosen_as_llama_cpp_does(quant: str | None, model: str | None) -> None:
    files = [
        "BF16/m-00001-of-00002.gguf",
        "BF16/m-00002-of-00002.gguf",
        "m-IQ4_XS.gguf",
        "m-Q4_K_M.gguf",
        "m-UD-Q4_K_M.gguf",
        "m.f16.gguf",
        "mmproj-F16.gguf",
        "config.json",
    ]
    assert chosen(files, quant) == model


def test_without_a_quant_and_the_usual_one_the_first_is_taken() -> None:
    files = ["b-Q8_0.gguf", "a-Q5_0.gguf", "a-mmproj.gguf", "mtp-a-Q4_K_M.gguf"]
    assert chosen(files, None) == "b-Q8_0.gguf"
    assert chosen(files[1:], None) == "a-Q5_0.gguf"
    assert chosen(files[2:], None) is None


def test_a_name_of_the_hub_has_repository_revision_and_quant_or_file() -> None:
    name = hub_name("hf:owner/repo@v1:Q8_0")
    assert (name.repo, name.revision, name.quant, name.file) == ("owner/repo", "v1", "Q8_0", None)
    assert hub_name("hf:owner/repo/Q8_0/m.gguf").file == "Q8_0/m.gguf"
