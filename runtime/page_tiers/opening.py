"""The tiers that the settings ask for."""

import logging
import os
from pathlib import Path

from runtime.errors import SettingsError
from runtime.manifest import Manifest
from runtime.page_tiers.disk_queue import DiskQueue
from runtime.page_tiers.disk_tier import DiskTier
from runtime.page_tiers.handover import MOST_PATH
from runtime.page_tiers.identity import identity_of
from runtime.page_tiers.page_tiers import PageMemory, PageTiers
from runtime.page_tiers.prefill_client import PrefillClient
from runtime.page_tiers.ram_tier import RamTier
from runtime.settings import Settings

log = logging.getLogger("rocmforge.page_tiers")

NONE_KEPT = "none are kept in RAM or on disk"


def has_tiers(manifest: Manifest, settings: Settings) -> bool:
    """Whether the settings ask for tiers, and the model generates from pages alone.

    A recurrent layer's state is not in its pages, so a prefix could not go on from them.
    """
    asked = settings.kv_ram_bytes or settings.kv_disk_bytes
    return bool(asked) and manifest.pooled is None and not manifest.page_layout.state_values


def open_tiers(
    manifest: Manifest, settings: Settings, memory: PageMemory | None
) -> PageTiers | None:
    """Return the tiers beyond a model's pool; None if there are none.

    memory: the pool, None where it is not the host's.
    """
    if not has_tiers(manifest, settings):
        if settings.kv_ram_bytes or settings.kv_disk_bytes:
            log.warning(
                "%s: no prefix continues from its pages alone; %s", manifest.name, NONE_KEPT
            )
        return None
    if memory is None:
        log.warning("%s: its pages are on the GPU; %s", manifest.name, NONE_KEPT)
        return None
    disk = prefill = None
    if settings.kv_disk_bytes:
        identity = identity_of(manifest, settings.page_size, settings.weights)
        tier = DiskTier(settings.kv_folder, identity, memory.page_bytes, settings.kv_disk_bytes)
        disk = DiskQueue(tier)
    if settings.role == "decode":
        prefill = PrefillClient(prefill_socket(manifest, settings))
    ram = RamTier(settings.kv_ram_bytes) if settings.kv_ram_bytes else None
    return PageTiers(memory, ram=ram, disk=disk, prefill=prefill)


def prefill_socket(manifest: Manifest, settings: Settings) -> Path:
    """Return where a process computes prompts of a model for others of the same arithmetic.

    Raises SettingsError where the folder's path is too long for a socket.
    """
    identity = identity_of(manifest, settings.page_size, settings.weights)
    path = settings.kv_folder / f"{identity.hex()}.sock"
    if len(os.fsencode(path)) > MOST_PATH:
        raise SettingsError(
            f"--kv-disk-folder {settings.kv_folder} is too long a path for the socket in it that "
            "--role needs; take a shorter one"
        )
    return path
