"""The settings object. Nothing else in the project reads the environment."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, cast

import msgspec
import platformdirs
from msgspec import Meta, inspect

from runtime.errors import SettingsError
from runtime.setting_fields import close_name, takes
from runtime.settings_file import read_settings_file

PREFIX = "ROCMFORGE_"
CONFIG = "config"
"""The field that names the file of the others."""
VARIABLES_OF_OTHERS = {
    "ollama_models": "OLLAMA_MODELS",
    "llama_cache": "LLAMA_CACHE",
    "notify_socket": "NOTIFY_SOCKET",
    "watchdog_usec": "WATCHDOG_USEC",
}
"""Other programs' own variables, which set these fields where `ROCMFORGE_*` does not."""
NO_SETTINGS = frozenset({"ROCMFORGE_IMAGE"})
"""Variables of this prefix that others read: the container image of runs on Kubernetes."""

SECRETS = frozenset({"api_keys"})
"""Settings whose values are never shown."""

OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")
"""Where Ollama's own service keeps its models."""
MAX_SECONDS = 31_536_000.0
"""A year. Durations are converted to integers, which infinity cannot be."""
MAX_COUNT = 2**31 - 1
MAX_THREADS_PER_PROCESSOR = 4
"""More threads only take turns, and ONNX Runtime starts each of them before it loads a model."""
CPU_CACHE_TOKENS = 16384
"""Size of the KV cache on the CPU if `cache_tokens` is 0."""
MIN_CACHE_PAGES = 4
MIN_PAGE_SIZE, MAX_PAGE_SIZE = 8, 1024

log = logging.getLogger("rocmforge.settings")


def _count(description: str, *, least: int = 1, most: int = MAX_COUNT) -> Meta:
    return Meta(ge=least, le=most, description=description)


def _seconds(description: str) -> Meta:
    return Meta(ge=0, le=MAX_SECONDS, description=description)


def _text(description: str) -> Meta:
    return Meta(description=description)


WeightsCopy = Literal["auto", "link", "copy"]
MEASURED_CHECKS = ("logits", "greedy", "perplexity")
"""Checks whose failure is accepted up to a figure."""
AcceptableCheck = Literal["logits", "greedy", "perplexity", "tokenizer", "determinism", "served"]
TimesWorse = Annotated[float, Meta(gt=1, le=1000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings; each field `x` is read from `ROCMFORGE_X` if that is set. Immutable.

    A field's description is its text in `--help` and docs/settings.md.
    """

    config: Annotated[
        Path | None,
        _text(
            "TOML file of settings by these names in lower case, such as port = 9000; options and "
            "variables win over it; by default ~/.config/rocmforge/rocmforge.toml, if it exists"
        ),
    ] = None
    home: Annotated[Path, _text("folder of the published models and caches")] = msgspec.field(
        default_factory=lambda: platformdirs.user_data_path("rocmforge")
    )
    gguf_folder: Annotated[
        Path | None, _text("folder whose GGUF files Dagster prepares; by default gguf below home")
    ] = None
    ollama_models: Annotated[
        Path | None, _text("folder of Ollama's models; by default OLLAMA_MODELS, or Ollama's own")
    ] = None
    lmstudio_models: Annotated[
        Path | None, _text("folder of LM Studio's models; by default LM Studio's own")
    ] = None
    llama_cache: Annotated[
        Path | None, _text("folder of llama.cpp's models; by default LLAMA_CACHE, or its own")
    ] = None
    keep_versions: Annotated[
        int, _count("number of versions of a model to keep; older ones are deleted unless loaded")
    ] = 5
    weights_copy: Annotated[
        WeightsCopy,
        _text(
            "how a version keeps its GGUF: auto makes a reflink or else a hard link; copy makes a "
            "reflink or else a copy; link makes a hard link"
        ),
    ] = "auto"
    weights: Annotated[
        Literal["packed", "mapped"],
        _text(
            "how a CPU reads matrices: packed makes a copy in the layout of its kernels; mapped "
            "reads the GGUF alone, slower, and writes nothing"
        ),
    ] = "packed"
    packed_bytes: Annotated[
        int,
        _count(
            "size in bytes of all packed copies together; for a new one the least recently used "
            "are deleted that no process has loaded; 0 means what fits on the disk",
            least=0,
            most=2**50,
        ),
    ] = 0
    accept_check: Annotated[
        dict[AcceptableCheck, Annotated[float, Meta(ge=0, le=1000)] | None],
        _text(
            "failed checks in spite of which a model is published, as JSON: logits, greedy and "
            "perplexity up to a figure, tokenizer, determinism and served with null: "
            '{"logits": 0.2, "served": null}'
        ),
    ] = {}
    storage: Annotated[
        str,
        _text(
            "URL of a folder in an object storage where Dagster and `rocmforge push` put published "
            "models, such as s3://bucket/models; empty means nowhere"
        ),
    ] = ""
    storage_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=MAX_SECONDS,
            description="seconds between two looks for a new version of a model that is served "
            "from a storage",
        ),
    ] = 30.0
    benchmark_cron: Annotated[
        str, _text("when Dagster measures every published model, in cron's five fields and UTC")
    ] = "0 3 * * *"
    benchmark_allowed: Annotated[
        dict[str, TimesWorse],
        _text(
            "factors by which figures may become worse, as JSON: "
            '{"prefill_tokens_per_second": 1.05}'
        ),
    ] = {}
    host: Annotated[str, _text("address to listen on")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="port to listen on; 0 means any free one")
    ] = 8080
    key_file: Annotated[
        Path | None, _text("file of API keys; by default keys.toml below home, where it is there")
    ] = None
    api_keys: Annotated[
        str, _text("API keys that may do everything, as NAME=KEY with commas between")
    ] = ""
    ask_for_keys: Annotated[
        Literal["auto", "never"],
        _text("whether requests need an API key: auto where there is one"),
    ] = "auto"
    allowed_origins: Annotated[
        str, _text("origins whose pages may use the server, with commas between; * means all")
    ] = "*"
    hide_cached_tokens: Annotated[
        bool, _text("whether answers say that no token of a prompt was known before")
    ] = False
    insecure: Annotated[
        bool, _text("whether to listen on addresses that other machines reach without any key")
    ] = False
    device: Annotated[
        Literal["auto", "cpu", "rocm"],
        _text("device to run on: auto uses an AMD GPU if everything that it needs is there"),
    ] = "auto"
    gpu: Annotated[
        int,
        Meta(
            ge=-1,
            le=63,
            description="number of the GPU to use, as `rocmforge doctor` lists them; -1 means the "
            "first that there are kernels for",
        ),
    ] = -1
    threads: Annotated[
        int, _count("threads of the CPU operators; 0 means one per processor", least=0)
    ] = 0
    cache_tokens: Annotated[
        int,
        _count(
            "size of the KV cache in tokens, over all requests; 0 means what fits into the memory "
            f"of a GPU, and {CPU_CACHE_TOKENS} on the CPU",
            least=0,
        ),
    ] = 0
    state_snapshot_bytes: Annotated[
        int,
        _count(
            "memory in bytes for states at page ends, from which known prefixes continue in models "
            "with recurrent layers",
            least=0,
            most=2**40,
        ),
    ] = 512 * 1024 * 1024
    kv_ram_bytes: Annotated[
        int,
        _count(
            "memory in bytes for pages that the KV cache of a model has no room for; 0 means none",
            least=0,
            most=2**50,
        ),
    ] = 0
    kv_disk_bytes: Annotated[
        int,
        _count(
            "size in bytes of all pages of KV caches on disk, which stay over restarts; the least "
            "recently used are deleted for others; 0 means none",
            least=0,
            most=2**50,
        ),
    ] = 0
    kv_disk_folder: Annotated[
        Path | None, _text("folder of the pages on disk; by default cache/kv below home")
    ] = None
    role: Annotated[
        Literal["both", "prefill", "decode"],
        _text(
            "what this process computes: prefill computes prompts for those with decode, which "
            "share its --kv-disk-folder; both computes all"
        ),
    ] = "both"
    logprobs_bytes: Annotated[
        int,
        _count(
            "memory in bytes for the logprobs of all requests, each with as many tokens as it may "
            "get; more are refused",
            least=0,
            most=2**40,
        ),
    ] = 256 * 1024 * 1024
    gpu_memory_utilization: Annotated[
        float,
        Meta(gt=0, le=1, description="fraction of a GPU's memory for weights and KV cache"),
    ] = 0.9
    page_size: Annotated[
        int,
        Meta(
            ge=MIN_PAGE_SIZE,
            le=MAX_PAGE_SIZE,
            multiple_of=8,
            description="tokens per page of the KV cache",
        ),
    ] = 16
    # A larger budget makes prefill no faster here, and delays first tokens to the end of a step.
    token_budget: Annotated[
        int, _count("maximum number of tokens that one step computes over all requests", most=65536)
    ] = 256
    longest_pause: Annotated[
        float, _seconds("seconds that a request's next token may wait for the prompts of others")
    ] = 0.5
    prompt_lookup: Annotated[
        bool, _text("whether to draft tokens from a request's own text (prompt lookup)")
    ] = True
    max_batch_size: Annotated[
        int, _count("maximum number of requests that are computed together", most=4096)
    ] = 64
    max_queue_length: Annotated[
        int,
        _count("maximum number of requests waiting for the batch; more are refused"),
    ] = 256
    max_connections: Annotated[
        int,
        _count(
            "maximum number of requests answered at once, including streams; 0 means enough for "
            "max_batch_size, max_queue_length and requests such as /health",
            least=0,
            most=16384,
        ),
    ] = 0
    max_body_bytes: Annotated[int, _count("maximum size of a request's body in bytes")] = (
        8 * 1024 * 1024
    )
    max_held_body_bytes: Annotated[
        int,
        _count("maximum size of all bodies in memory, less 64 KiB of each, in bytes"),
    ] = 256 * 1024 * 1024
    resume_seconds: Annotated[
        float,
        _seconds(
            "longest time in seconds for which a client may ask that its stream goes on, and can "
            "be resumed, after its connection ends; 0 means never"
        ),
    ] = 60.0
    resume_bytes: Annotated[
        int,
        _count(
            "memory in bytes for the events of streams that can be resumed, 1 MiB each; further "
            "streams cannot be",
            least=0,
            most=2**40,
        ),
    ] = 64 * 1024 * 1024
    receive_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=MAX_SECONDS,
            description="seconds in which a request must arrive, plus one per 16 KiB",
        ),
    ] = 60.0
    request_timeout: Annotated[
        float, _seconds("seconds after which a request fails; 0 means never")
    ] = 0.0
    stall_timeout: Annotated[
        float,
        _seconds(
            "seconds without a sign of life after which the engine counts as stuck; 0 means never"
        ),
    ] = 120.0
    drain_timeout: Annotated[
        float, _seconds("seconds that running requests get to finish at shutdown")
    ] = 30.0
    chat_template: Annotated[
        Path | None,
        _text("file with a Jinja chat template; by default the model's own"),
    ] = None
    memory_budget: Annotated[
        int,
        _count(
            "memory in bytes for weights and KV caches of all loaded models; the least recently "
            "used are unloaded for others; 0 means no limit",
            least=0,
            most=2**50,
        ),
    ] = 0
    keep_alive: Annotated[
        float, _seconds("seconds that an unused model stays loaded; 0 means for ever")
    ] = 0.0
    aliases: Annotated[
        str, _text("further names of served models, as NAME=MODEL with commas between")
    ] = ""
    notify_socket: Annotated[
        str,
        _text(
            "socket of the service manager, which hears how the server does; by default "
            "NOTIFY_SOCKET, which systemd sets"
        ),
    ] = ""
    watchdog_usec: Annotated[
        int,
        _count(
            "microseconds in which the service manager wants a sign of life; by default "
            "WATCHDOG_USEC, which systemd sets; 0 means never",
            least=0,
            most=2**50,
        ),
    ] = 0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _text("minimum severity of log messages"),
    ] = "info"
    log_prompts: Annotated[bool, _text("whether to log prompts and answers")] = False
    otlp: Annotated[
        bool,
        _text("whether to push traces and metrics by OTLP; where to is said by OTEL_* variables"),
    ] = False

    kv_events: Annotated[
        str,
        _text(
            "ZeroMQ address at which changes of the prefix cache are published for routers, with "
            "the tokens of prompts, such as tcp://10.0.0.1:5557; empty for nowhere"
        ),
    ] = ""
    kv_events_replay: Annotated[
        str,
        _text("ZeroMQ address at which missed ones are asked for, such as tcp://10.0.0.1:5558"),
    ] = ""
    server_name: Annotated[
        str, _text("name of this server in what it publishes; by default the host's")
    ] = ""

    @property
    def thread_count(self) -> int:
        """Number of threads of the CPU operators, at least 1."""
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def keys_path(self) -> Path:
        """File of API keys."""
        return self.key_file or self.home / "keys.toml"

    @property
    def models_folder(self) -> Path:
        """Folder of the published models."""
        return self.home / "models"

    @property
    def incoming_folder(self) -> Path:
        """Folder of GGUF files that Dagster prepares."""
        return self.gguf_folder or self.home / "gguf"

    @property
    def ollama_folders(self) -> tuple[Path, ...]:
        """Folders of Ollama's models: a user's, and its service's."""
        if self.ollama_models is not None:
            return (self.ollama_models,)
        return Path.home() / ".ollama" / "models", OLLAMA_SERVICE

    @property
    def lmstudio_folders(self) -> tuple[Path, ...]:
        """Folders of LM Studio's models: of its releases of today, and of earlier ones."""
        if self.lmstudio_models is not None:
            return (self.lmstudio_models,)
        return Path.home() / ".lmstudio" / "models", Path.home() / ".cache" / "lm-studio" / "models"

    @property
    def llama_folder(self) -> Path:
        """Folder of what llama.cpp has fetched."""
        return self.llama_cache or platformdirs.user_cache_path("llama.cpp")

    @property
    def cache_folder(self) -> Path:
        """Folder of files that can be made again (tokenizers, the sample model)."""
        return self.home / "cache"

    @property
    def packed_folder(self) -> Path:
        """Folder of the packed copies of weights."""
        return self.cache_folder / "packed"

    @property
    def kv_folder(self) -> Path:
        """Folder of KV-cache pages on disk."""
        return self.kv_disk_folder or self.cache_folder / "kv"

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **overrides: object
    ) -> "Settings":
        """Return settings from `ROCMFORGE_*` variables; `overrides` that are not None win.

        What neither sets is read from the file `config`. Warns of unknown variables with the
        prefix. Raises SettingsError naming the option, variable or file with an invalid value, and
        its range.
        """
        environment = os.environ if environment is None else environment
        _warn_of_unknown(environment)
        fields = {field.name: field for field in setting_fields()}

        def set_outside(name: str) -> tuple[object, str]:
            """Return what an option or a variable sets, None if neither does, and which it is."""
            value: object = overrides.get(name)
            source = f"--{name.replace('_', '-')}"
            for variable in (PREFIX + name.upper(), VARIABLES_OF_OTHERS.get(name)):
                if value is None and variable and (text := environment.get(variable)) is not None:
                    value, source = text, variable
            return value, source

        def converted(name: str, value: object, source: str) -> object:
            return _converted(cls.__annotations__[name], fields[name], value, source)

        named, source = set_outside(CONFIG)
        config = None if named is None else cast(Path, converted(CONFIG, named, source))
        path, in_file = read_settings_file(config, [name for name in fields if name != CONFIG])
        given: dict[str, object] = {}
        for name in fields:
            value, source = set_outside(name)
            if value is None and name in in_file:
                value, source = in_file[name], f"{name} in {path}"
            if value is not None:
                given[name] = converted(name, value, source)
        return _checked(cls(**given))  # type: ignore[arg-type]


def setting_fields() -> tuple[inspect.Field, ...]:
    """Return name, type, limits and description of each setting."""
    struct = inspect.type_info(Settings)
    assert isinstance(struct, inspect.StructType)
    return struct.fields


def _converted(kind: object, field: inspect.Field, value: object, source: str) -> object:
    """Return a setting's value in its type. Raises SettingsError for an invalid one."""
    if isinstance(field.type, inspect.Metadata) and isinstance(field.type.type, inspect.DictType):
        value = _mapping(value)
    try:
        return msgspec.convert(value, kind, strict=False, dec_hook=_decode)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for bytes that are no UTF-8
        shown = "empty text" if value == "" else str(value).encode(errors="replace").decode()
        raise SettingsError(f"{source} takes {takes(field)}, not {shown}") from None


def _checked(settings: Settings) -> Settings:
    """Return the settings. Raises SettingsError if they do not fit together."""
    processors = len(os.sched_getaffinity(0))
    if settings.threads > MAX_THREADS_PER_PROCESSOR * processors:
        raise SettingsError(
            f"--threads {settings.threads} is too many for {processors} processors; take at most "
            f"{MAX_THREADS_PER_PROCESSOR * processors}, or 0 for one per processor"
        )
    for name, limit in settings.accept_check.items():
        if (limit is None) is (name in MEASURED_CHECKS):
            form = f"{name}=X, the most that it may be" if limit is None else f"{name} alone"
            raise SettingsError(f"--accept-check takes {form}")
    if settings.kv_events_replay and not settings.kv_events:
        raise SettingsError("--kv-events-replay sends --kv-events again; name both")
    if "@" in settings.server_name:
        raise SettingsError("--server-name takes no @, which separates it from a model's name")
    if settings.role != "both" and not settings.kv_disk_bytes:
        raise SettingsError(
            f"--role {settings.role} hands prompts over in files; set --kv-disk-bytes, and the "
            "--kv-disk-folder of the other process, such as one in /dev/shm"
        )
    least = MIN_CACHE_PAGES * settings.page_size
    if 0 < settings.cache_tokens < least:
        raise SettingsError(
            f"--cache-tokens {settings.cache_tokens} is too few: prompts and answers of all "
            f"requests share them; take at least {least}, or 0 for the default"
        )
    return settings


def _warn_of_unknown(environment: Mapping[str, str]) -> None:
    known = [name.upper() for name in Settings.__struct_fields__]
    for name in sorted(environment):
        rest = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and rest not in known and name not in NO_SETTINGS:
            meant = close_name(rest, known, PREFIX)
            log.warning("the variable %s is no setting and is ignored%s", name, meant)


def _mapping(value: object) -> object:
    """Return the value of JSON text; other text is refused later, by its type."""
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        return value


def _decode(kind: type, value: object) -> object:
    """Return a Path of text; msgspec converts every other type of a setting itself."""
    if isinstance(value, Path):
        return value
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError(f"{value!r} is no {kind.__name__}")
