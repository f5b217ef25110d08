"""One HTTP request that generates: from its parsed body to the end of its answer."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import falcon
from opentelemetry.context import Context

from api.admission import Admission
from api.answer_form import grammar_of_answer, thought_limit
from api.client import Client
from api.prompts import prompt_tokens
from api.schemas import SEEDS, GenerateRequest
from api.served_models import ServedModel
from api.services import Services
from api.telemetry.logs import AccessEntry
from api.telemetry.request_context import RequestContext
from api.telemetry.tracing import remote_parent
from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json
from runtime.generation import EngineRequest, Generation, Generations
from runtime.sampling import SamplingParameters

HANDLE_BYTES = 16


class ActiveRequest:
    """An HTTP request that generates: its slot, its Generations and its log line.

    Owned by the thread that makes its answer; only `abort` is called from others.
    """

    def __init__(
        self,
        services: Services,
        model: ServedModel,
        generations: Generations,
        entry: AccessEntry,
        admission: Admission,
        held: ExitStack,
    ) -> None:
        """held: the admission and the lease of the model."""
        self.model = model
        self.generations = generations
        self.owner = entry.key
        """Name of the API key that began it; None where keys are off."""
        self.handle = secrets.token_hex(HANDLE_BYTES)
        """Its name that nobody guesses."""
        self._services = services
        self._entry = entry
        self._admission = admission
        self._held = held
        self._closed = False

    @property
    def generation(self) -> Generation:
        """The request, or the first of several."""
        return self.generations.each[0]

    def known_tokens(self, generation: Generation) -> int:
        """Prompt tokens of one of its requests that are shown as known before."""
        return 0 if self._services.settings.hide_cached_tokens else generation.prefix_hit_tokens

    def finish(self, index: int = 0) -> None:
        """End one of the requests as stopped: its client has the whole text."""
        self.model.engine.finish(self.generations.each[index].request_id)

    def abort(self) -> None:
        """Abort the requests, so that their pages are free in the next step."""
        for generation in self.generations.each:
            self.model.engine.abort(generation.request_id)

    @contextmanager
    def closed_on_failure(self) -> Iterator[None]:
        """Close the request if the block raises."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the slot and write the log line, once; a request still running is aborted."""
        if self._closed:
            return
        self._closed = True
        if not all(generation.finished for generation in self.generations.each):
            self.abort()
        self._admission.tokens = sum(
            each.token_count + (0 if each.leader else len(each.prompt_tokens))
            for each in self.generations.each
        )
        self._held.close()
        if self._entry.outlives_responder:
            self._entry.write(200)


def begin(services: Services, request: falcon.Request, wanted: GenerateRequest) -> ActiveRequest:
    """Admit the request, wait for its model and submit it; the caller closes the result.

    Raises UnknownModel for a model that is not served, InvalidRequest for more answers than the
    server may have at once, QueueFull if no slot is free, RateLimited where the limits of its API
    key are reached, ClientGone if the client has disconnected before the prompts are tokenized, and
    what ModelPool.lease and Engine.submit_all raise.
    """
    entry: AccessEntry = request.context.access
    if services.settings.log_prompts:
        entry.prompt = str(wanted.prompt if len(wanted.prompts) == 1 else wanted.prompts)
    entry.ignored_fields = wanted.unknown
    services.pool.find(wanted.model)
    client = Client(request)
    parent = remote_parent(_lower_case_headers(request))
    with ExitStack() as places:
        admission = places.enter_context(services.admit(request.context.key))
        lease = places.enter_context(
            services.pool.lease(
                wanted.model, keep_alive=wanted.keep_alive, watch=client.expect_waiting
            )
        )
        model, generations = services.with_newest(
            lease, lambda newest: (newest, _submit(newest, wanted, parent, client, entry.key))
        )
        held = places.pop_all()
    active = ActiveRequest(services, model, generations, entry, admission, held)
    with active.closed_on_failure():
        entry.generations = generations.each
        entry.handle = active.handle
        for generation in generations.each:
            services.requests.add(
                generation,
                entry.x_request_id,
                model,
                wanted.stops,
                active.abort,
                owner=entry.key,
                handle=active.handle if generation is active.generation else "",
            )
        client.when_gone(active.abort)
    return active


def _submit(
    model: ServedModel,
    wanted: GenerateRequest,
    parent: Context | None,
    client: Client,
    owner: str | None,
) -> Generations:
    model.expect_text()
    answers = len(wanted.prompts) * wanted.choices
    if answers > model.engine.capacity:
        raise InvalidRequest(
            f"{answers} answers are more than the {model.engine.capacity} that --max-batch-size "
            "and --max-queue-length allow at once; send fewer prompts, or a smaller n or best_of"
        )
    sampling = wanted.sampling
    if sampling.top_k > model.engine.limits.vocabulary_size:
        sampling = replace(sampling, top_k=model.engine.limits.vocabulary_size)
    sampling = sampling.with_breakers(model.breakers)
    chat = wanted.options
    operation = "text_completion" if chat is None else "chat"
    context = RequestContext(model.name, owner, parent, operation)
    requests = []
    for prompt in wanted.prompts:
        tokens = tuple(prompt_tokens(prompt, wanted, model, client))
        grammar = wanted.grammar
        if chat is not None:
            grammar = grammar_of_answer(model, chat, tokens, grammar)
        requests += [
            EngineRequest(
                tokens,
                _of_choice(sampling, choice),
                wanted.max_tokens,
                ignore_eos=wanted.ignore_eos,
                matcher=None if grammar is None else model.grammars.matcher(grammar),
                thought_limit=None if chat is None else thought_limit(model, chat, tokens),
                context=context,
                top_logprobs=wanted.top_logprobs,
                prompt_top_logprobs=wanted.prompt_top_logprobs if choice == 0 else None,
                cache_salt=_salt(owner, wanted.cache_salt),
                same_prompt=choice > 0,
            )
            for choice in range(wanted.choices)
        ]
    return model.engine.submit_all(requests)


def _salt(owner: str | None, salt: str) -> bytes:
    """Return what requests that share pages have in common: the API key, and their own salt."""
    return finite_json([owner, salt]) if owner or salt else b""


def _of_choice(sampling: SamplingParameters, choice: int) -> SamplingParameters:
    """Return the parameters of a prompt's answer number `choice`; the first has the given seed."""
    if choice == 0 or sampling.seed is None:
        return sampling
    return replace(sampling, seed=(sampling.seed + choice) % SEEDS)


def _lower_case_headers(request: falcon.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
