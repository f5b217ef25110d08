"""Pulls each version that becomes the newest in a storage, in a child process of a server."""

import time
from collections.abc import Callable

import msgspec

from runtime.child_process import run_in_child
from runtime.errors import RocmForgeError
from runtime.settings import Settings
from runtime.storage.address import Address
from runtime.storage.pull import pull
from runtime.storage.stores import Store, open_store

FUNCTION = f"{__name__}:carry_out"


class Order(msgspec.Struct, frozen=True):
    """What is followed."""

    address: str
    settings: Settings


class Event(msgspec.Struct, frozen=True):
    """A version that was pulled, or why none was; one of them is empty."""

    pulled: str = ""
    problem: str = ""


class Ended(msgspec.Struct, frozen=True):
    """Never comes: it is followed until the process ends."""


def follow(address: Address, settings: Settings, report: Callable[[Event], None]) -> None:
    """Pull what becomes the newest at an address, until the child process dies: ChildDied.

    A problem is reported when it begins; the next look tries again.
    """
    run_in_child(FUNCTION, Order(str(address), settings), report, progress=Event, answer=Ended)


def carry_out(order: Order, report: Callable[[Event], None]) -> Ended:
    """Look for a new version again and again, in a child process."""
    address, settings = Address.of(order.address), order.settings
    store = open_store(address.folder)
    last = Event()
    while True:
        event = _look(store, address, settings)
        if event != last:
            report(event)
            last = event
        time.sleep(settings.storage_seconds)


def _look(store: Store, address: Address, settings: Settings) -> Event:
    try:
        return Event(pulled=pull(store, address, settings, lambda _: None, replace=True).label)
    except RocmForgeError as error:
        return Event(problem=str(error))
