"""The models that GET /models lists."""

import math
import os
from pathlib import Path

from gguf import GGUFWriter

from api.discovery import Discovery
from runtime.finite_json import finite_json
from runtime.manifest import Manifest
from runtime.registry import PublishedModel, Registry
from runtime.settings import Settings


class OneModel(Registry):
    """A registry of one model, whose folder the test has made."""

    def __init__(self, model: PublishedModel) -> None:
        super().__init__(Settings())
        self._model = model

    def models(self) -> list[PublishedModel]:
        return [self._model]


def test_numbers_that_json_cannot_write_are_left_out(prepared: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(prepared)
    writer = GGUFWriter(manifest.weights_path(tmp_path), "llama")
    writer.add_float32("a", math.nan)
    writer.add_float64("b", -math.inf)
    writer.add_float32("c", 0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    (found,) = Discovery(OneModel(PublishedModel("m", 1, tmp_path, manifest)))()
    assert found.metadata == {"general.architecture": "llama", "c": 0.5}
    assert finite_json(found)


def test_a_path_that_is_not_utf_8_is_listed(prepared: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff"))
    model = PublishedModel("m", 1, folder, Manifest.read(prepared))
    (found,) = Discovery(OneModel(model))()
    assert "m\ufffd" in finite_json(found).decode()
