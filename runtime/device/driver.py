"""AMD's kernel driver: whether it is there and may be used."""

import grp
import os
from pathlib import Path

KERNEL_DRIVER = Path("/dev/kfd")
"""The device of AMD's kernel driver: without it ROCm cannot work."""
PCI_DEVICES = Path("/sys/bus/pci/devices")
AMD = "0x1002"
DISPLAYS = ("0x03", "0x12")
"""Classes of PCI devices that GPUs are of: displays and accelerators."""


def driver_error() -> str:
    """Return why the driver cannot be used, and what helps; "" if it can."""
    if not KERNEL_DRIVER.exists():
        missing = f"{KERNEL_DRIVER} is missing"
        if amd_cards():
            return (
                f"the driver of the AMD GPU is not loaded: {missing} (`sudo modprobe amdgpu`; in a "
                "container, start it with --device /dev/kfd --device /dev/dri)"
            )
        return f"there is no AMD GPU here, or its driver is not loaded: {missing}"
    if not os.access(KERNEL_DRIVER, os.R_OK | os.W_OK):
        group = _group(KERNEL_DRIVER)
        return (
            f"{KERNEL_DRIVER} may not be used by this user, but by the group {group}: "
            f"`sudo usermod --append --groups {group} $USER`, then log in again (in a container, "
            f"start it with --group-add {group})"
        )
    return ""


def amd_cards() -> list[str]:
    """Return the places on the PCI bus of AMD's GPUs, whether they have a driver or not."""
    found = []
    for device in sorted(PCI_DEVICES.glob("*")):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == AMD and kind.startswith(DISPLAYS):
            found.append(device.name)
    return found


def _group(path: Path) -> str:
    number = path.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # of the host, in a container
        return str(number)
