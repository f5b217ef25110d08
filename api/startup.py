"""The server as the command line starts it: the port first, then the model."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from api.access import expect_guarded
from api.app import create_app
from api.discovery import Discovery
from api.followed_model import FollowedModel
from api.lifecycle import serve
from api.model_pool import aliases_of
from api.served_models import ServedModel
from api.services import Services
from api.storage_follower import start_following
from api.takeover import LOOK_SECONDS
from runtime.background import BackgroundLoop
from runtime.chat import source_of
from runtime.embedding_engine import EmbeddingEngine
from runtime.engine import Engine
from runtime.loading import load, tokenizer_cache
from runtime.logprobs_memory import MOST_PIECES
from runtime.malloc_arenas import limit_arenas
from runtime.registry import Catalog, version_number
from runtime.settings import Settings
from runtime.turns import Turns

EXAMPLE = """\
Ready after {seconds:.1f} s: {name}. Open {url}/ in a browser, or try

  curl {url}/generate -H 'Content-Type: application/json' \\
    -d '{{"prompt": "The capital of France is", "max_tokens": 20, "temperature": 0}}'
"""


EMBEDDING_EXAMPLE = """\
Ready after {seconds:.1f} s: {name}. Try

  curl {url}/v1/embeddings -H 'Content-Type: application/json' -d '{{"input": "A text"}}'
"""
SCORING_EXAMPLE = """\
Ready after {seconds:.1f} s: {name}. Try

  curl {url}/v1/rerank -H 'Content-Type: application/json' \\
    -d '{{"query": "Where is Rome?", "documents": ["In Italy.", "In the fridge."]}}'
"""


def serve_models(
    models: Sequence[str],
    settings: Settings,
    prepare: Callable[[str], Path],
    say: Callable[[str], None],
) -> None:
    """Serve models until a signal: the first from the start, the others from their first request.

    `prepare` returns the folder of one, and may be slow.

    `say` prints a line for the user, and raises nothing.

    What is served by its published name is followed: the version that becomes current is taken
    over, also the one that becomes the newest in a storage. A file and a named version (NAME@2)
    stay what they are. A version whose files changed is loaded again as soon as they are right.
    /health answers from the start, while the model is prepared and loaded. Raises SettingsError
    for an address that cannot be had or that needs
    keys, and what preparing and loading raise.
    """
    began = time.perf_counter()
    limit_arenas()
    template = source_of(settings.chat_template)
    cache = tokenizer_cache(settings)
    catalog = Catalog(settings)
    services = Services(
        settings=settings,
        models=Discovery(catalog),
        cache_statistics=cache.statistics,
    )
    expect_guarded(settings, services.keys)
    address: list[str] = []
    turns = Turns()

    def announce(line: str) -> None:
        address.append(line.rpartition(" ")[2])
        say(f"ROCmForge is {line}")

    def started(folder: Path) -> ServedModel:
        session, tokenizer = load(folder, settings, cache, turns)
        engine = Engine(
            session,
            end_of_generation=tokenizer.end_of_generation,
            settings=settings,
            observer=services,
            request_ids=services.request_ids,
            longest_pieces=lambda: tokenizer.longest_pieces(MOST_PIECES),
            page_changes=services.page_changes(session.manifest.name),
            tiers=session.page_tiers(settings),
        )
        engine.start()
        embedding = None
        if session.manifest.pooled is not None:
            embedding = EmbeddingEngine(session, settings)
            embedding.start()
        return ServedModel(
            session.manifest.name,
            engine,
            tokenizer,
            session.gpu_memory,
            version=version_number(folder),
            embedding=embedding,
            device_reason=session.device.reason,
            chat_template=template,
            manifest=session.manifest,
        )

    def loaded() -> ServedModel:
        say(f"Loading {models[0]}")
        pool = services.pool
        followed = [
            FollowedModel(given, prepare(given), catalog, pool, started) for given in models
        ]
        for each in followed:
            if each.address is not None and each.address.version is None:
                start_following(each.address, settings, services.draining)
        pool.publish([each.loadable(settings) for each in followed], aliases_of(settings.aliases))
        served = followed[0].load()

        def look() -> None:
            for each in followed:
                each.look(time.monotonic())
            pool.unload_idle()

        BackgroundLoop("takeover", look, seconds=LOOK_SECONDS, ended=services.draining).start()
        return served

    def ready(served: ServedModel) -> None:
        seconds = time.perf_counter() - began
        say(_example(served).format(seconds=seconds, name=served.label, url=address[0]))

    serve(create_app(services), services, load=loaded, announce=announce, ready=ready)


def _example(served: ServedModel) -> str:
    """Return a request that the model answers."""
    if served.embedding is None:
        return EXAMPLE
    return SCORING_EXAMPLE if served.embedding.pooled.scores else EMBEDDING_EXAMPLE
