"""One generation over HTTP: from a body that was read to the end of its answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import falcon

from api.client import Client
from api.holder import ServedModel, expect_served
from api.prompts import prompt_tokens
from api.schemas import GenerateRequest
from api.services import Services
from api.telemetry.logs import AccessEntry
from api.telemetry.tracing import remote_parent
from runtime.errors import EngineUnavailable
from runtime.generation import Generation


class Exchange:
    """One generation request: its slot, its Generation and its line in the log.

    Owned by the thread that answers; only `abort` is called from others.
    """

    def __init__(
        self, services: Services, model: ServedModel, generation: Generation, entry: AccessEntry
    ) -> None:
        self.model = model
        self.generation = generation
        self._services = services
        self._entry = entry
        self._closed = False

    def finish(self) -> None:
        """End the request as stopped: its client has the whole text."""
        self.model.engine.finish(self.generation.request_id)

    def abort(self) -> None:
        """End the request where it is, so that its pages are free in the engine's next step."""
        self.model.engine.abort(self.generation.request_id)

    @contextmanager
    def closed_on_failure(self) -> Iterator[None]:
        """Within it, whatever is raised lets go of the request."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the request, once; one that is still running has lost its client."""
        if self._closed:
            return
        self._closed = True
        if not self.generation.finished:
            self.abort()
        self._services.slots.release()
        if self._entry.outlives_responder:
            self._entry.write(200)


def begin(
    services: Services, request: falcon.Request, wanted: GenerateRequest, model: ServedModel
) -> Exchange:
    """Take a slot and submit; whoever gets the exchange closes it.

    The exchange's model is another where `model` was replaced a moment ago.
    Raises UnknownModel where another model is asked for, QueueFull where no slot is free,
    ClientGone where nobody waits any more before the prompt's tokens are known, and what
    Engine.submit raises.
    """
    entry: AccessEntry = request.context.access
    if services.settings.log_prompts:
        entry.prompt = str(wanted.prompt)
    entry.ignored_fields = wanted.unknown
    expect_served(wanted.model, model)
    services.slots.take()
    try:
        client = Client(request)
        context = remote_parent(_lower_case_headers(request))
        try:
            generation = _submit(model, wanted, context, client)
        except EngineUnavailable:
            newer = services.model_for_new_work()
            if newer is model:
                raise
            # Another version was taken over since the model was looked up.
            model = newer
            generation = _submit(model, wanted, context, client)
    except BaseException:
        services.slots.release()
        raise
    exchange = Exchange(services, model, generation, entry)
    with exchange.closed_on_failure():
        entry.generation = generation
        services.requests.add(generation, entry.x_request_id, model, wanted.stops)
        client.when_gone(exchange.abort)
    return exchange


def _submit(
    model: ServedModel, wanted: GenerateRequest, context: object, client: Client
) -> Generation:
    sampling = wanted.sampling
    if sampling.top_k > model.engine.vocabulary_size:
        sampling = replace(sampling, top_k=model.engine.vocabulary_size)
    prompt = prompt_tokens(wanted, model, client)
    grammar = wanted.grammar
    return model.engine.submit(
        prompt,
        sampling,
        wanted.max_tokens,
        ignore_eos=wanted.ignore_eos,
        matcher=None if grammar is None else model.grammars.matcher(grammar),
        context=context,
    )


def _lower_case_headers(request: falcon.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
