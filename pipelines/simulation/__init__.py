"""Simulates a fleet of servers: the real scheduler and page manager, measured times, no model."""
