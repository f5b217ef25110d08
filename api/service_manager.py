"""Tells systemd, or what else speaks the protocol of sd_notify(3), how the server does."""

import logging
import socket

from api.health import health_of
from api.services import Services

MICROSECONDS = 1_000_000
LOOK_SECONDS = 5.0
"""Longest interval at which the status is looked at."""
SEND_SECONDS = 1.0

log = logging.getLogger("rocmforge.service")


class ServiceManager:
    """Sends messages to the socket of a service manager, if there is one.

    Immutable; any thread may call it.
    """

    def __init__(self, address: str) -> None:
        """address: a path, "@" and the name of an abstract socket, or "" for no service manager."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._address)

    def tell(self, **variables: object) -> None:
        """Send the variables of sd_notify(3), here in lower case, as one message.

        One that cannot be delivered is logged: serving matters more.
        """
        if not self._address:
            return
        lines = [f"{name.upper()}={value}" for name, value in variables.items()]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_SECONDS)
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError as error:
                log.warning("the service manager cannot be told %s: %s", lines[0], error)


class Heartbeat:
    """Tells the service manager the status where it changes, and that the engines get on.

    Nothing is said of an engine that hangs or has died, so that the watchdog ends the process.
    Owned by the thread that calls `beat`.
    """

    def __init__(self, services: Services, manager: ServiceManager) -> None:
        self._services = services
        self._manager = manager
        self._told = ""

    @property
    def seconds(self) -> float:
        """Time between two beats: half of what the watchdog allows, as systemd advises."""
        watchdog = self._services.settings.watchdog_usec
        return min(LOOK_SECONDS, watchdog / MICROSECONDS / 2 or LOOK_SECONDS)

    def beat(self) -> None:
        """Send what there is to say."""
        is_broken = health_of(self._services).broken
        status = "An engine has died or hangs" if is_broken else self._status()
        if status != self._told:
            self._manager.tell(status=status)
            self._told = status
        if not is_broken:
            self._manager.tell(watchdog=1)

    def _status(self) -> str:
        if self._services.draining.is_set():
            return "Shutting down"
        found = (each.served.model for each in self._services.pool.models)
        labels = [model.label for model in found if model is not None]
        return f"Serving {', '.join(labels)}" if labels else "No model is loaded"
