"""Runs a prepared model: pages, scheduler, sessions, sampler and the custom operators."""
