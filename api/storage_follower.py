"""Keeps the published models up to date with the storage that they are served from."""

import logging
import threading

from runtime.background import BackgroundLoop
from runtime.settings import Settings
from runtime.storage.address import Address
from runtime.storage.follow import Event, follow

log = logging.getLogger("rocmforge.storage")


def start_following(address: Address, settings: Settings, ended: threading.Event) -> None:
    """Pull each version that becomes the newest at an address, until the server ends.

    A child process does it, and another one where that dies. What it publishes on this machine is
    taken over as any version that becomes current.
    """

    def said(event: Event) -> None:
        if event.problem:
            log.error("the newest version of %s is not pulled: %s", address, event.problem)
        else:
            log.info("%s is the newest version of %s", event.pulled, address)

    BackgroundLoop(
        "storage",
        lambda: follow(address, settings, said),
        seconds=settings.storage_seconds,
        ended=ended,
    ).start()
