"""Descriptions of the served model, as Ollama's /api/tags, /api/ps and /api/show give them."""

from collections.abc import Mapping
from math import isinf
from typing import Any

from api.dialects.ollama.answer import moment, now
from api.model_pool import PooledModel
from api.served_models import ServedModel
from runtime.chat import ChatTemplate
from runtime.manifest import Manifest

FOR_EVER = "9999-12-31T23:59:59Z"
"""When a model is unloaded that stays until another one needs its room."""
UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


def listed(entry: PooledModel, name: str) -> dict[str, Any]:
    """Return an entry of /api/tags: a model by its name or an alias."""
    manifest = entry.manifest
    return {
        "name": name,
        "model": name,
        "modified_at": modified(entry),
        "size": manifest.weights.size if manifest else 0,
        "digest": manifest.weights.sha256 if manifest else "",
        "details": _details(manifest),
    }


def loaded(entry: PooledModel, model: ServedModel, expires_in: float) -> dict[str, Any]:
    """Return an entry of /api/ps; `expires_in` is in seconds from now."""
    described = listed(entry, model.name)
    del described["modified_at"]
    on_gpu = model.gpu_memory() is not None
    expires = FOR_EVER if isinf(expires_in) else moment(now() + expires_in)
    return described | {
        "expires_at": expires,
        "size_vram": described["size"] if on_gpu else 0,
        "context_length": model.engine.limits.context_length,
    }


def modified(entry: PooledModel) -> str:
    """Return when a model was loaded, or else prepared."""
    if (model := entry.served.model) is not None:
        return moment(model.loaded_at)
    manifest = entry.manifest
    return manifest.created_at if manifest else moment(0)


def shown(model: ServedModel, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of /api/show; `metadata` is that of the model's file."""
    manifest, tokenizer = model.manifest, model.tokenizer
    source = model.chat_template or tokenizer.chat_template
    capabilities = ["completion"]
    if source:
        capabilities.append("tools")
        template = ChatTemplate(tokenizer, source=model.chat_template)
        if template.reasons(with_tools=False):
            capabilities.append("thinking")
    architecture = manifest.architecture if manifest else "unknown"
    limits = model.engine.limits
    return {
        "modelfile": "",
        "parameters": "",
        "template": source or "",
        "details": _details(manifest),
        "model_info": {
            **metadata,
            "general.architecture": architecture,
            "general.parameter_count": manifest.parameters if manifest else 0,
            f"{architecture}.context_length": limits.trained_context_length,
            f"{architecture}.embedding_length": manifest.embedding_length if manifest else 0,
        },
        "capabilities": capabilities,
        "modified_at": moment(model.loaded_at),
    }


def _details(manifest: Manifest | None) -> dict[str, Any]:
    family = manifest.architecture if manifest else ""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": _size(manifest.parameters) if manifest else "",
        "quantization_level": manifest.quantization if manifest else "",
    }


def _size(parameters: int) -> str:
    """Return a number of parameters in words, such as 134.5M."""
    for unit, letter in UNITS:
        if parameters >= unit:
            return f"{parameters / unit:.1f}{letter}"
    return str(parameters)
