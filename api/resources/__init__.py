"""The Falcon resources: one class a family of routes."""
