"""The one typed settings object. Nothing else in the project reads the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import platformdirs
from msgspec import Meta

from runtime.errors import SettingsError

PREFIX = "ROCMFORGE_"

Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(ge=0)]
TimesWorse = Annotated[float, Meta(gt=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable settings; each field `x` is read from `ROCMFORGE_X` where that is set."""

    home: Path = msgspec.field(default_factory=lambda: platformdirs.user_data_path("rocmforge"))
    """Folder of the published models and caches."""
    gguf_folder: Path | None = None
    """Folder whose GGUF files the Dagster UI offers to prepare; `gguf` below home by default."""
    keep_versions: Count = 5
    """Versions of a model that stay published, the newest; older ones go unless they are loaded."""
    benchmark_cron: str = "0 3 * * *"
    """When Dagster measures every published model, in cron's five fields and UTC."""
    benchmark_allowed: dict[str, TimesWorse] = {}
    """Times worse that a benchmark's figures may become, by name, where ours do not suit.

    As a variable it is JSON: `{"prefill_tokens_per_second": 1.05}`.
    """
    host: str = "127.0.0.1"
    port: Port = 8080
    device: Literal["auto", "cpu", "rocm"] = "auto"
    threads: Annotated[int, Meta(ge=0)] = 0
    """Threads of the CPU operators; 0 takes every processor this process may run on."""
    cache_tokens: Annotated[int, Meta(ge=0)] = 0
    """Tokens that the paged KV cache holds over all requests; 0 takes what fits in the memory of a
    GPU, and 16384 on the CPU."""
    gpu_memory_utilization: Annotated[float, Meta(gt=0, le=1)] = 0.9
    """Share of a GPU's memory that weights and KV cache may fill; a step needs the rest."""
    page_size: Count = 16
    """Tokens a page."""
    token_budget: Count = 256
    """Most tokens that one engine step computes over all requests.

    More make no faster prefill here, and first tokens come later: at the end of their step.
    """
    longest_pause: Seconds = 0.5
    """Seconds between a request's tokens that others' prompts may take, while they are computed."""
    prompt_lookup: bool = True
    """Whether next tokens are guessed from a request's own text and verified in the same step."""
    max_batch_size: Count = 64
    """Most requests that are computed side by side."""
    max_queue_length: Count = 256
    """Most requests that wait; one more is refused."""
    max_connections: Count = 272
    """Most requests that are answered at once, streams included (threads of the HTTP server)."""
    max_body_bytes: Count = 8 * 1024 * 1024
    request_timeout: Seconds = 0.0
    """Seconds after which a request is ended as failed; 0 means never."""
    drain_timeout: Seconds = 30.0
    """Seconds that running requests are given at shutdown."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_prompts: bool = False

    @property
    def thread_count(self) -> int:
        """Threads of the CPU operators, counted out."""
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def models_folder(self) -> Path:
        """Where published models stand."""
        return self.home / "models"

    @property
    def incoming_folder(self) -> Path:
        """Where GGUF files stand that are to be prepared from the Dagster UI."""
        return self.gguf_folder or self.home / "gguf"

    @property
    def cache_folder(self) -> Path:
        """Where files stand that can be made again (tokenizers, the sample model)."""
        return self.home / "cache"

    @property
    def packed_folder(self) -> Path:
        """Where packed copies of weights stand."""
        return self.cache_folder / "packed"

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **overrides: object
    ) -> "Settings":
        """Settings from `ROCMFORGE_*` variables; `overrides` that are not None win.

        Raises SettingsError naming the variable whose value does not fit.
        """
        environment = os.environ if environment is None else environment
        given: dict[str, object] = {}
        for name in cls.__struct_fields__:
            if (value := environment.get(PREFIX + name.upper())) is not None:
                given[name] = _mapping(value) if value.startswith("{") else value
        given.update({name: value for name, value in overrides.items() if value is not None})
        try:
            return msgspec.convert(given, cls, strict=False, dec_hook=_decode)
        except msgspec.ValidationError as error:
            raise SettingsError(
                f"a setting does not fit: {error} (variables are {PREFIX}<NAME>)"
            ) from None


def _mapping(value: str) -> object:
    """A table is written as JSON; text that is none is refused with the type."""
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _decode(kind: type, value: object) -> object:
    """Paths come as text; msgspec knows every other type of a setting itself."""
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}`, got {value!r}")
