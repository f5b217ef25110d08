"""Tiers of KV-cache pages beyond the pool: in RAM, and on disk over restarts."""

from runtime.page_tiers.opening import has_tiers, open_tiers
from runtime.page_tiers.page_fetch import PageFetch
from runtime.page_tiers.page_tiers import PageMemory, PageTiers

__all__ = ["PageFetch", "PageMemory", "PageTiers", "has_tiers", "open_tiers"]
