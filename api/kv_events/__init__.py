"""Publishes what the prefix caches hold, so that a router finds the server that knows a prompt."""
