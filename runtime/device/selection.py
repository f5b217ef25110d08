"""Selects the device for `--device`."""

import logging
from dataclasses import dataclass
from typing import Literal

from runtime.device import driver
from runtime.device.gpu import ANY_GPU, Gpu, find_gpu
from runtime.errors import DeviceError

log = logging.getLogger("rocmforge.device")


@dataclass(frozen=True, slots=True)
class Device:
    """The device of a session: a GPU, or the CPU if that is None. Immutable."""

    gpu: Gpu | None = None
    reason: str = ""
    """Why it is the CPU although a GPU was looked for; which provider serves a GPU, and why."""

    def __str__(self) -> str:
        return "the CPU" if self.gpu is None else f"the GPU {self.gpu}"


def select_device(wanted: Literal["auto", "cpu", "rocm"], number: int = ANY_GPU) -> Device:
    """Return a usable GPU, or the CPU; "cpu" looks for no GPU.

    number: of the GPU as HIP counts; ANY_GPU: the first that can be used.

    Raises DeviceError if "rocm" finds no usable one; "auto" logs why.
    """
    if wanted == "cpu":
        return Device()
    try:
        found = find_gpu(number)
    except DeviceError as error:
        if wanted == "rocm":
            raise
        # A machine without a GPU needs no warning.
        return cpu_instead(
            error, logging.WARNING if driver.KERNEL_DRIVER.exists() else logging.INFO
        )
    return Device(found, f"{found.provider}, since {found.reason}")


def cpu_instead(error: Exception, level: int = logging.WARNING) -> Device:
    """Return the CPU and log the reason."""
    log.log(level, "the model runs on the CPU: %s", error)
    return Device(reason=str(error))
