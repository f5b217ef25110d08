"""Who may send a request: the key of its headers, and the scope of its route."""

import ipaddress
from typing import Any

import falcon

from api.errors import KeyRefused, ScopeMissing
from api.key_ring import KeyRing
from api.keys import Key, Scope
from runtime.errors import SettingsError
from runtime.settings import Settings

BEARER = "bearer"


class Access:
    """Refuses requests without the key that their route needs, where keys are on.

    A resource says the scope as `scope`: generate if it says nothing, None for everybody.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make the request one without a key."""
        req.context.key = None

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: Any, params: dict[str, Any]
    ) -> None:
        """Find the request's key. Raises KeyRefused and ScopeMissing."""
        scope: Scope | None = getattr(resource, "scope", Scope.GENERATE)
        if scope is None or req.method == "OPTIONS" or not self._keys.on:
            return
        key = self._key_of(req)
        if scope not in key.scopes:
            raise ScopeMissing(
                f"the API key {key.name} may not do this: it lacks the scope {scope}"
            )
        req.context.key = key
        req.context.access.key = key.name

    def _key_of(self, request: falcon.Request) -> Key:
        given = secrets_of(request)
        if not given:
            raise KeyRefused(
                "this server needs an API key: send Authorization: Bearer KEY, or x-api-key: KEY"
            )
        for secret in given:
            if (key := self._keys.find(secret)) is not None:
                return key
        raise KeyRefused("the API key is not known here; ask the server's operator for one")


def secrets_of(request: falcon.Request) -> list[str]:
    """Return what may be keys in a request's headers: OpenAI's header and Anthropic's."""
    scheme, _, secret = (request.get_header("Authorization") or "").partition(" ")
    bearer = secret.strip() if scheme.lower() == BEARER else ""
    return [each for each in (bearer, request.get_header("X-Api-Key") or "") if each]


def key_name(request: falcon.Request) -> str | None:
    """Return the name of the key that sends a request; None where keys are off."""
    key: Key | None = request.context.key
    return None if key is None else key.name


def expect_guarded(settings: Settings, keys: KeyRing) -> None:
    """Raise SettingsError for a server that other machines could use without a key."""
    if not (keys.on or settings.insecure or is_loopback(settings.host)):
        raise SettingsError(
            f"--host {settings.host} lets other machines use this server, which has no API keys: "
            "make one with `rocmforge keys NAME`, or add --insecure to serve everybody"
        )


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
