import threading

import pytest

from api.resources.health import gpu_check
from api.served_models import ServedModel
from api.services import VERSION
from api.slots import GenerationSlots
from runtime.device import GpuMemory
from runtime.engine_core import MAX_FAILED_STEPS
from runtime.errors import PreparationError
from runtime.settings import Settings
from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.waiting import eventually

NOT_READY = {"error": "Service Unavailable", "status": "error"}


def test_a_server_with_a_model_is_healthy_and_ready(serving: Serving) -> None:
    response = serving.get("/health")
    assert response.status_code == 200
    pages = serving.services.settings.cache_tokens // serving.services.settings.page_size
    assert response.json() == {
        "status": "healthy",
        "service": "rocmforge",
        "version": VERSION,
        "checks": {
            "engine": {"running": True, "model_loaded": True},
            "gpu": {"available": False},
            "model": {"name": "tiny", "version": None},
            "requests": {"active": 0, "queued": 0},
            "cache": {
                "pages_used": 0,
                "pages_total": pages,
                "pages_free": pages,
                "active_sequences": 0,
            },
        },
    }
    ready = serving.get("/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "service": "rocmforge"})


def test_health_counts_what_the_engine_holds(serving: Serving) -> None:
    serving.session.hold()
    client = threading.Thread(target=serving.generate, kwargs={"max_tokens": 2})
    client.start()
    eventually(lambda: serving.pages_used() > 0)
    checks = serving.get("/health").json()["checks"]
    assert checks["requests"] == {"active": 1, "queued": 0}
    cache = checks["cache"]
    assert cache["pages_used"] > 0
    assert cache["pages_used"] + cache["pages_free"] == cache["pages_total"]
    assert cache["active_sequences"] == 1
    serving.session.let_go()
    client.join()
    assert serving.get("/health").json()["checks"]["cache"]["pages_used"] == 0


def test_without_a_model_the_server_is_alive_but_not_ready(serve: Serve) -> None:
    empty = serve(with_model=False)
    response = empty.get("/health")
    assert response.status_code == 200
    assert response.json() == {
        "status": "unhealthy",
        "service": "rocmforge",
        "version": VERSION,
        "checks": {
            "engine": {"running": False, "model_loaded": False},
            "gpu": {"available": False},
        },
    }
    ready = empty.get("/ready")
    assert (ready.status_code, ready.json()) == (503, NOT_READY)
    assert empty.generate().status_code == 500
    assert "engine" in empty.generate().json()["error"]
    assert empty.get("/status/1").status_code == 500
    assert empty.get("/metrics").status_code == 200
    assert empty.get("/requests").json() == {"requests": []}


def test_while_a_model_loads_new_work_is_sent_away_for_a_moment(serve: Serve) -> None:
    loaded, empty = serve(), serve(with_model=False)
    may_end = threading.Event()

    def load() -> ServedModel:
        may_end.wait()
        return loaded.model

    loading = threading.Thread(target=empty.services.served.load, args=(load,))
    loading.start()
    eventually(lambda: empty.services.served.status == "loading")
    assert empty.get("/health").status_code == 200
    assert empty.get("/ready").status_code == 503
    refused = empty.generate()
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert "loaded" in refused.json()["error"]
    may_end.set()
    loading.join()
    assert empty.get("/ready").status_code == 200
    assert empty.generate(max_tokens=1).status_code == 200


def test_a_model_that_cannot_be_loaded_is_unhealthy(serve: Serve) -> None:
    empty = serve(with_model=False)

    def load() -> ServedModel:
        raise PreparationError("the graph is torn")

    with pytest.raises(PreparationError):
        empty.services.served.load(load)
    assert empty.get("/health").status_code == 503
    assert empty.get("/ready").status_code == 503
    assert empty.generate().status_code == 500
    assert "loaded" in empty.generate().json()["error"]
    assert "torn" not in empty.generate().json()["error"]


def test_an_engine_that_has_died_is_unhealthy(serving: Serving) -> None:
    serving.model.engine.stop()
    response = serving.get("/health")
    assert response.status_code == 503
    assert response.json()["status"] == "unhealthy"
    assert response.json()["checks"]["engine"] == {"running": False, "model_loaded": True}
    assert serving.get("/ready").json() == NOT_READY
    assert serving.generate().status_code == 503


def test_an_engine_whose_steps_all_fail_is_unhealthy_and_not_ready(serving: Serving) -> None:
    serving.session.broken = True
    for _ in range(MAX_FAILED_STEPS):
        failed = serving.generate(max_tokens=1)
        assert (failed.status_code, failed.json()["status"]) == (500, "error")
        assert "broken by the test" not in failed.text
    eventually(lambda: not serving.model.engine.running)
    assert serving.get("/health").status_code == 503
    assert serving.get("/ready").status_code == 503
    assert serving.generate().status_code == 503


def test_an_engine_that_hangs_is_unhealthy_and_takes_nothing_also_while_draining(
    serve: Serve,
) -> None:
    serving = serve(stall_timeout=1e-9)
    serving.session.hold()
    client = threading.Thread(target=serving.generate, kwargs={"max_tokens": 1})
    client.start()
    serving.session.wait_for_step()
    refused = serving.generate()
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    for is_draining in (False, True):
        if is_draining:
            serving.services.draining.set()
        health = serving.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        assert not health.json()["checks"]["engine"]["running"]
        assert serving.get("/ready").status_code == 503
    serving.session.let_go()
    client.join()
    eventually(lambda: serving.get("/health").status_code == 200)


def test_a_draining_server_is_alive_but_takes_nothing_new(serving: Serving) -> None:
    answer = serving.generate(max_tokens=1).json()
    serving.services.draining.set()
    assert serving.get("/health").status_code == 200
    ready = serving.get("/ready")
    assert (ready.status_code, ready.json()) == (503, NOT_READY)
    refused = serving.generate()
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    assert serving.get(f"/status/{answer['request_id']}").json() == answer


def test_why_a_gpu_is_not_used_is_given() -> None:
    assert gpu_check(None) == {"available": False}
    assert gpu_check(None, "no kernels") == {"available": False, "reason": "no kernels"}


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (12079595520, {"free_mb": 11520, "total_mb": 16384, "used_mb": 4864, "percent": 29}),
        (17179869184, {"free_mb": 16384, "total_mb": 16384, "used_mb": 0, "percent": 0}),
        (1, {"free_mb": 0, "total_mb": 16384, "used_mb": 16383, "percent": 99}),
    ],
)
def test_gpu_memory_is_given_in_whole_units_rounded_down(
    free: int, expected: dict[str, int]
) -> None:
    percent = expected.pop("percent")
    assert gpu_check(GpuMemory(free_bytes=free, total_bytes=17179869184)) == {
        "available": True,
        "memory": {
            "free_bytes": free,
            "total_bytes": 17179869184,
            **expected,
            "utilization_percent": percent,
        },
    }


def test_health_and_metrics_answer_while_every_generation_slot_is_busy(serve: Serve) -> None:
    serving = serve()
    serving.session.hold()
    slots = serving.services.slots
    clients = [
        threading.Thread(target=lambda: serving.stream(max_tokens=1).content)
        for _ in range(slots.count)
    ]
    for client in clients:
        client.start()
    eventually(lambda: slots.in_use == slots.count)
    for path in ("/health", "/ready", "/metrics", "/requests", "/traces", "/models"):
        assert serving.get(path).status_code == 200
    refused = serving.generate()
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["status"] == "error"
    assert len(serving.get("/requests").json()["requests"]) == slots.count
    serving.session.let_go()
    for client in clients:
        client.join()
    eventually(lambda: slots.in_use == 0)
    assert serving.generate(max_tokens=1).status_code == 200


def test_a_refusal_names_the_setting_that_allows_no_more(serve: Serve) -> None:
    serving = serve()
    while serving.services.slots.acquire():
        pass
    assert "--max-connections" in serving.generate().json()["error"]


@pytest.mark.parametrize(
    ("given", "slots", "setting"),
    [
        ({}, 320, "--max-queue-length"),
        ({"max_batch_size": 2, "max_queue_length": 3}, 16, "--max-queue-length"),
        ({"max_queue_length": 100_000}, 1008, "--max-connections"),
        ({"max_connections": 8}, 6, "--max-connections"),
        ({"max_connections": 1}, 1, "--max-connections"),
    ],
)
def test_places_to_answer_in_follow_from_what_may_be_computed_and_wait(
    given: dict[str, int], slots: int, setting: str
) -> None:
    made = GenerationSlots.of_server(Settings(**given))  # type: ignore[arg-type]
    assert (made.count, made.setting) == (slots, setting)


def test_a_full_queue_is_503(serve: Serve) -> None:
    serving = serve(max_batch_size=1, max_queue_length=1)
    serving.session.hold()
    clients = []
    for active, queued in ((1, 0), (1, 1)):
        clients.append(threading.Thread(target=serving.generate, kwargs={"max_tokens": 1}))
        clients[-1].start()
        eventually(
            lambda counts=(active, queued): (
                (  # type: ignore[misc]
                    serving.model.engine.statistics().active,
                    serving.model.engine.statistics().queued,
                )
                == counts
            )
        )
    refused = serving.generate()
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    serving.session.let_go()
    for client in clients:
        client.join()
    assert serving.services.slots.in_use == 0
