"""The device a model runs on: the CPU, or an AMD GPU if everything it needs is there."""

from runtime.device.bound_step import BoundStep
from runtime.device.device_logits import CandidateSearch
from runtime.device.gpu import Gpu, GpuMemory, find_gpu, gpu_memory
from runtime.device.pool import DevicePool, HostPool, PagePool, StatePool, mebibytes
from runtime.device.provider import CPU_PROVIDER, DeviceMemory, open_session
from runtime.device.selection import Device, cpu_instead, select_device

__all__ = [
    "CPU_PROVIDER",
    "BoundStep",
    "CandidateSearch",
    "Device",
    "DeviceMemory",
    "DevicePool",
    "Gpu",
    "GpuMemory",
    "HostPool",
    "PagePool",
    "StatePool",
    "cpu_instead",
    "find_gpu",
    "gpu_memory",
    "mebibytes",
    "open_session",
    "select_device",
]
