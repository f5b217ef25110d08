"""Tiers of KV-cache pages beyond the pool: in RAM, and on disk over restarts."""

from runtime.page_tiers.opening import has_tiers, open_tiers, prefill_socket
from runtime.page_tiers.page_fetch import PageFetch
from runtime.page_tiers.page_tiers import PageMemory, PageTiers
from runtime.page_tiers.prefill_client import AskedPrompt

__all__ = [
    "AskedPrompt",
    "PageFetch",
    "PageMemory",
    "PageTiers",
    "has_tiers",
    "open_tiers",
    "prefill_socket",
]
