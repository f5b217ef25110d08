"""The exceptions of ROCmForge. Every message is one sentence that tells the user what to do.

A module raises one of these for whatever a user can cause; anything else that escapes is a bug.
`code` tells programs what happened and never changes; messages may, so nothing reads them.
"""

from typing import ClassVar


class RocmForgeError(Exception):
    """Base of every error a user can cause or fix. `str(error)` is shown as it is."""

    code: ClassVar[str] = "internal_error"


class GGUFError(RocmForgeError):
    """A GGUF file that cannot be read: the message names the file and the field."""

    code = "invalid_gguf"


class TruncatedGGUF(GGUFError):
    """A GGUF file that ends earlier than its header says: a copy of it may be under way."""

    code = "truncated_gguf"


class UnsupportedModel(RocmForgeError):
    """A readable model that this build cannot run: the message names what it lacks."""

    code = "unsupported_model"


class PreparationError(RocmForgeError):
    """A model failed conversion or a validation check; nothing was published."""

    code = "preparation_failed"


class BrokenModel(PreparationError):
    """A prepared model that cannot be loaded: the message says which file is missing or wrong."""

    code = "broken_model"


class NameTaken(PreparationError):
    """A file would become a version of another model, which has the same name."""

    code = "model_name_taken"


class ModelNotFound(RocmForgeError):
    """No published model or file has the name that was asked for."""

    code = "model_not_found"


class BenchmarkError(RocmForgeError):
    """A server could not be measured: it did not start, refused a request, or ended early."""

    code = "benchmark_failed"


class ServerNotStarted(BenchmarkError):
    """A server that was started as a child process ended by itself, or was not ready in time."""

    code = "server_not_started"


class Regression(RocmForgeError):
    """A model is served worse than before: the message says in which figures and by how much."""

    code = "regression"


class DeviceError(RocmForgeError):
    """The device that was asked for is missing or lacks what the model needs."""

    code = "device_unavailable"


class InvalidRequest(RocmForgeError):
    """A generation request that cannot be served; `field` is the field at fault, where it is one.

    A field inside another is named as in `messages[0].content`.
    """

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ContextLengthExceeded(InvalidRequest):
    """A prompt too long for any answer in the context, or in the KV cache."""

    code = "context_length_exceeded"


class QueueFull(RocmForgeError):
    """The server has as many requests as it may hold; try again later."""

    code = "queue_full"


class EngineUnavailable(RocmForgeError):
    """The engine is not started, is stopping, or has died."""

    code = "engine_unavailable"


class WeightsChanged(EngineUnavailable):
    """The weights of a loaded model are no longer what they were: it computes nothing more.

    `reloadable`: whether loading the same version again gives the right weights.
    """

    code = "weights_changed"

    def __init__(self, message: str, *, reloadable: bool = False) -> None:
        super().__init__(message)
        self.reloadable = reloadable


class SettingsError(RocmForgeError):
    """An environment variable or command-line option with a value that does not fit."""

    code = "invalid_setting"


class InvalidName(SettingsError):
    """A text that cannot be the name of a model, so nothing was looked for under it."""

    code = "invalid_model_name"
