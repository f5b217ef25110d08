"""One generation over HTTP: from a body that was read to the end of its answer."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import falcon

from api.errors import ClientGone
from api.holder import ServedModel
from api.schemas import Conversation, GenerateRequest
from api.services import Services
from api.telemetry.logs import AccessEntry
from api.telemetry.tracing import remote_parent
from runtime.chat import ChatTemplate
from runtime.errors import EngineUnavailable, QueueFull
from runtime.generation import Generation
from runtime.tokenizer import Tokenizer, Watch

WATCH_CLIENT = "rocmforge.watch_client"
"""Key of the WSGI environment: calls a function as soon as the client is gone (see server)."""


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
    Raises QueueFull where no slot is free, ClientGone where nobody waits any more before the
    prompt's tokens are known, and what Engine.submit raises.
    """
    entry: AccessEntry = request.context.access
    if services.settings.log_prompts:
        entry.prompt = str(wanted.prompt)
    if not services.slots.acquire():
        raise QueueFull(
            f"all {services.slots.count} generation requests that this server answers at once "
            f"are busy, which is all that {services.slots.setting} allows; try again later"
        )
    client_gone = threading.Event()
    watch: Callable[[Callable[[], None]], None] = request.env.get(WATCH_CLIENT, _never)
    try:
        watch(client_gone.set)
        context = remote_parent(_lower_case_headers(request))
        try:
            generation = _submit(model, wanted, context, client_gone)
        except EngineUnavailable:
            newer = services.model_for_new_work()
            if newer is model:
                raise
            # Another version was taken over since the model was looked up.
            model = newer
            generation = _submit(model, wanted, context, client_gone)
    except BaseException:
        services.slots.release()
        raise
    exchange = Exchange(services, model, generation, entry)
    with exchange.closed_on_failure():
        entry.generation = generation
        services.requests.add(generation, entry.x_request_id, model)
        watch(exchange.abort)
    return exchange


def _never(client_gone: Callable[[], None]) -> None:
    """Stands for WATCH_CLIENT where the server cannot tell."""


def _submit(
    model: ServedModel, wanted: GenerateRequest, context: object, client_gone: threading.Event
) -> Generation:
    def watch(tokens: int) -> None:
        if client_gone.is_set():
            raise ClientGone("the client has gone")
        model.engine.check_prompt_length(tokens, at_least=True)

    sampling = wanted.sampling
    if sampling.top_k > model.engine.vocabulary_size:
        sampling = replace(sampling, top_k=model.engine.vocabulary_size)
    return model.engine.submit(
        _prompt_tokens(wanted, model.tokenizer, watch),
        sampling,
        wanted.max_tokens,
        ignore_eos=wanted.ignore_eos,
        context=context,
    )


def _prompt_tokens(wanted: GenerateRequest, tokenizer: Tokenizer, watch: Watch) -> Sequence[int]:
    prompt = wanted.prompt
    if isinstance(prompt, Conversation):
        template = ChatTemplate(tokenizer)
        return template.encode(prompt.messages, variables=prompt.variables, watch=watch)
    if isinstance(prompt, str):
        return tokenizer.encode(prompt, parse_special=wanted.parse_special, watch=watch)
    return prompt


def _lower_case_headers(request: falcon.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
