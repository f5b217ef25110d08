"""The exceptions of ROCmForge. Every message is one sentence that tells the user what to do.

A room raises one of these for whatever a user can cause; anything else that escapes is a bug.
"""


class RocmForgeError(Exception):
    """Base of every error a user can cause or mend. `str(error)` is shown as it is."""


class GGUFError(RocmForgeError):
    """A GGUF file that cannot be read: the message names the file and the field."""


class UnsupportedModel(RocmForgeError):
    """A readable model that this build cannot run: the message names what it lacks."""


class PreparationError(RocmForgeError):
    """A model failed conversion or a validation check; nothing was published."""


class ModelNotFound(RocmForgeError):
    """No published model or file has the name that was asked for."""


class BenchmarkError(RocmForgeError):
    """A server could not be measured: it did not start, refused a request, or ended early."""


class Regression(RocmForgeError):
    """A model is served worse than before: the message says in which figures and by how much."""


class DeviceError(RocmForgeError):
    """The device that was asked for is missing or lacks what the model needs."""


class InvalidRequest(RocmForgeError):
    """A generation request whose parameters cannot be served."""


class QueueFull(RocmForgeError):
    """The engine has as many waiting requests as it may hold; try again later."""


class EngineUnavailable(RocmForgeError):
    """The engine is not started, is stopping, or has died."""


class SettingsError(RocmForgeError):
    """An environment variable or command-line option with a value that does not fit."""
