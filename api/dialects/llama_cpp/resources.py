"""POST /completion and /infill, GET /props and /slots of llama.cpp's server."""

from typing import Any

import falcon

from api.access import key_name
from api.active_request import ActiveRequest
from api.completions import WHOLE_CONTEXT, OpenAIRequest
from api.dialects.llama_cpp.answer import CompletionsWriter
from api.dialects.llama_cpp.generation_settings import sampling_settings
from api.dialects.llama_cpp.request import DEFAULTS, LlamaCppRequest
from api.request_log import RunningEntry
from api.resources.completions import OpenAIResource
from api.resources.readable import Readable
from api.served_models import ServedModel
from api.services import VERSION, Services
from runtime.errors import EngineUnavailable
from runtime.finite_json import finite_json
from runtime.sampling import SamplingParameters


class CompletionResource(OpenAIResource):
    """POST /completion."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return LlamaCppRequest.parse_completion(body)

    def _writer(
        self, active: ActiveRequest, wanted: OpenAIRequest, request_id: str
    ) -> CompletionsWriter:
        assert isinstance(wanted, LlamaCppRequest)
        return CompletionsWriter(active, wanted)


class InfillResource(CompletionResource):
    """POST /infill."""

    def _wanted(self, body: bytes) -> OpenAIRequest:
        return LlamaCppRequest.parse_infill(body)


class PropsResource(Readable):
    """GET /props: the model and what requests get by default."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Describe the served model."""
        model = self._services.served.ready_model()
        tokenizer = model.tokenizer
        found = (each.path for each in self._services.models() if each.name == model.name)
        sampling = SamplingParameters(**DEFAULTS)  # type: ignore[arg-type]
        resp.data = finite_json(
            {
                "default_generation_settings": {
                    "params": sampling_settings(sampling, WHOLE_CONTEXT),
                    "n_ctx": model.engine.limits.context_length,
                },
                "total_slots": self._services.settings.max_batch_size,
                "model_alias": model.name,
                "model_ftype": model.manifest.quantization if model.manifest else "",
                "model_path": next(found, ""),
                "modalities": {"vision": False, "video": False, "audio": False},
                "endpoint_slots": True,
                "endpoint_props": False,
                "endpoint_metrics": True,
                "chat_template": model.chat_template or tokenizer.chat_template or "",
                "bos_token": _text(model, tokenizer.bos),
                "eos_token": _text(model, tokenizer.eos),
                "build_info": f"rocmforge-{VERSION}",
                "is_sleeping": False,
            }
        )


class SlotsResource(Readable):
    """GET /slots: what is computed now, without any text of it; details of the key's own only."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the places of a batch; with `fail_on_no_slot`, answer 503 if none is free.

        Raises EngineUnavailable.
        """
        model = self._services.served.ready_model()
        places = self._services.settings.max_batch_size
        taken = min(self._services.statistics().active, places)
        if req.has_param("fail_on_no_slot") and taken == places:
            raise EngineUnavailable("no slot is free; try again later")
        own = [
            entry
            for entry in self._services.requests.running(key_name(req))
            if entry.generation.timings.started_ns is not None
        ]
        slots = [self._slot(place, model, is_taken=place < taken) for place in range(places)]
        for slot, entry in zip(slots, own, strict=False):
            slot |= _work(entry)
        resp.data = finite_json(slots)

    def _slot(self, place: int, model: ServedModel, *, is_taken: bool) -> dict[str, Any]:
        return {
            "id": place,
            "n_ctx": model.engine.limits.context_length,
            "speculative": self._services.settings.prompt_lookup,
            "is_processing": is_taken,
        }


def _work(entry: RunningEntry) -> dict[str, Any]:
    """Return the fields of a slot that a request is in."""
    generation = entry.generation
    made, known = generation.token_count, generation.prefix_hit_tokens
    return {
        "is_processing": True,
        "id_task": generation.request_id,
        "n_prompt_tokens": len(generation.prompt_tokens),
        "n_prompt_tokens_processed": len(generation.prompt_tokens) - known if made else 0,
        "n_prompt_tokens_cache": known,
        "params": sampling_settings(generation.sampling, generation.max_tokens),
        "next_token": [
            {
                "has_next_token": not generation.finished,
                "n_remain": generation.max_tokens - made,
                "n_decoded": made,
            }
        ],
    }


def _text(model: ServedModel, token: int | None) -> str:
    return "" if token is None else model.tokenizer.token_text(token)
