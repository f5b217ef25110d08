"""The exceptions of ROCmForge. Every message is one sentence that says what to do.

A module raises one of these for whatever a user can cause; any other exception is a bug. `code` is
for programs and never changes; messages may, so nothing parses them.
"""

from typing import ClassVar


class RocmForgeError(Exception):
    """Base of every error that a user can cause or fix. `str(error)` is shown to users."""

    code: ClassVar[str] = "internal_error"


class GGUFError(RocmForgeError):
    """A GGUF file that cannot be read; the message names the file and the field."""

    code = "invalid_gguf"


class TruncatedGGUF(GGUFError):
    """A GGUF file that ends too early, or lacks a piece; it may still be copied."""

    code = "truncated_gguf"


class UnsupportedModel(RocmForgeError):
    """A readable model that this build cannot run; the message names what is missing."""

    code = "unsupported_model"


class PreparationError(RocmForgeError):
    """A model failed conversion or a validation check; nothing was published."""

    code = "preparation_failed"


class DownloadError(PreparationError):
    """A model that cannot be fetched: no connection, no permission, no room, wrong bytes."""

    code = "download_failed"


class StorageError(RocmForgeError):
    """A storage of published models that cannot be used, or that holds something damaged."""

    code = "storage_failed"


class BrokenModel(PreparationError):
    """A prepared model that cannot be loaded; the message names the missing or wrong file."""

    code = "broken_model"


class NameTaken(PreparationError):
    """A file would become a version of a different model of the same name."""

    code = "model_name_taken"


class ModelNotFound(RocmForgeError):
    """No published model or file has the requested name."""

    code = "model_not_found"


class BenchmarkError(RocmForgeError):
    """A server could not be measured: it did not start, refused a request, or ended early."""

    code = "benchmark_failed"


class InvalidTrace(RocmForgeError):
    """A trace of chats that cannot be read, or that no replica could serve."""

    code = "invalid_trace"


class ServerNotStarted(BenchmarkError):
    """A server child process ended by itself, or was not ready in time."""

    code = "server_not_started"


class Regression(RocmForgeError):
    """A model became slower; the message says in which figures and by how much."""

    code = "regression"


class ChildDied(RocmForgeError):
    """A child process ended before its work did: the message says by which signal or status."""

    code = "child_process_died"


class DeviceError(RocmForgeError):
    """The requested device is missing or lacks what the model needs."""

    code = "device_unavailable"


class MissingPackage(RocmForgeError):
    """A package of an extra is not installed; the message has the command that installs it."""

    code = "missing_package"


class InvalidRequest(RocmForgeError):
    """A request that cannot be served; `field` is the field at fault, if there is one.

    A nested field is written as `messages[0].content`.
    """

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ContextLengthExceeded(InvalidRequest):
    """A prompt that leaves no room for an answer in the context, or in the KV cache."""

    code = "context_length_exceeded"


class QueueFull(RocmForgeError):
    """The server has the maximum number of requests; try again later."""

    code = "queue_full"


class EngineUnavailable(RocmForgeError):
    """The engine is not started, is stopping, or has died."""

    code = "engine_unavailable"


class WeightsChanged(EngineUnavailable):
    """The weights of a loaded model have changed on disk; it computes nothing more.

    reloadable: whether loading the same version again gives the right weights.
    """

    code = "weights_changed"

    def __init__(self, message: str, *, reloadable: bool = False) -> None:
        super().__init__(message)
        self.reloadable = reloadable


class SettingsError(RocmForgeError):
    """An environment variable or command-line option with an invalid value."""

    code = "invalid_setting"


class InvalidName(SettingsError):
    """Text that cannot be the name of a model."""

    code = "invalid_model_name"
