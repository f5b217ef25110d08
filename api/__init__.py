"""Serves a prepared model over HTTP: the documented routes, streams, metrics and traces."""
