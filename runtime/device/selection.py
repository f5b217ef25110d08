"""The choice of the device that `--device` leaves open."""

import logging
from dataclasses import dataclass
from typing import Literal

from runtime.device import gpu
from runtime.device.gpu import Gpu, find_gpu
from runtime.errors import DeviceError

log = logging.getLogger("rocmforge.device")


@dataclass(frozen=True, slots=True)
class Device:
    """What a session runs on: a GPU, or the CPU where that is None. Immutable."""

    gpu: Gpu | None = None
    reason: str = ""
    """Why it is the CPU though a GPU was looked for."""

    def __str__(self) -> str:
        return "the CPU" if self.gpu is None else f"the GPU {self.gpu}"


def select_device(wanted: Literal["auto", "cpu", "rocm"]) -> Device:
    """A GPU that can be used, or the CPU; "cpu" looks for no GPU.

    Raises DeviceError where "rocm" finds none that can be used; "auto" logs why.
    """
    if wanted == "cpu":
        return Device()
    try:
        return Device(find_gpu())
    except DeviceError as error:
        if wanted == "rocm":
            raise
        # A machine without any GPU is nothing to warn of.
        return cpu_instead(error, logging.WARNING if gpu.KERNEL_DRIVER.exists() else logging.INFO)


def cpu_instead(error: Exception, level: int = logging.WARNING) -> Device:
    """The CPU, for a reason that is logged."""
    log.log(level, "the model runs on the CPU: %s", error)
    return Device(reason=str(error))
