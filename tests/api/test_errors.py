"""Codes of errors, and their form in each API."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.error_bodies import OpenAIError
from api.errors import ANSWERS, answer_of, code_of_status
from runtime.errors import ContextLengthExceeded, InvalidRequest, RocmForgeError
from tests.api.conftest import Serve


def classes_of(base: type[RocmForgeError]) -> list[type[RocmForgeError]]:
    return [base, *(each for one in base.__subclasses__() for each in classes_of(one))]


def test_every_error_has_a_code_of_its_own() -> None:
    ours = [one for one in classes_of(RocmForgeError) if one.__module__.startswith(("api.", "run"))]
    codes = [one.code for one in ours]
    assert len(ours) >= 15
    assert len(set(codes)) == len(codes)


def test_what_is_not_a_client_s_fault_is_the_server_s_own() -> None:
    assert answer_of("invalid_gguf") == ANSWERS["internal_error"]
    assert OpenAIError.of("device_unavailable", "x").type == "server_error"


@given(st.integers(400, 599))
def test_a_status_without_a_code_stays_on_its_side(status: int) -> None:
    assert (answer_of(code_of_status(status)).status < 500) == (status < 500)


@pytest.mark.parametrize("status", sorted({answer.status for answer in ANSWERS.values()}))
def test_a_status_of_the_table_stays_as_it_is(status: int) -> None:
    assert answer_of(code_of_status(status)).status == status


def test_the_field_at_fault_is_openai_s_param() -> None:
    error = InvalidRequest("top_p must be between 0 and 1", field="top_p")
    assert OpenAIError.of(error.code, str(error), error.field).param == "top_p"


def test_a_prompt_over_the_model_s_context_says_so(serve: Serve) -> None:
    serving = serve(cache_tokens=4096)
    context = serving.model.engine.limits.context_length
    answer = serving.post("/v1/completions", json={"prompt": "a b " * context})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["code"] == ContextLengthExceeded.code == "context_length_exceeded"
    assert error["message"].startswith(
        f"This model's maximum context length is {context} tokens; the prompt has "
    )


def test_a_prompt_over_the_cache_names_the_setting(serve: Serve) -> None:
    serving = serve(cache_tokens=32)
    answer = serving.post("/v1/completions", json={"prompt": "a b " * 40})
    message = answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert message.startswith("This model's maximum context length is 32 tokens here")
    assert "--cache-tokens" in message
    assert serving.generate("a b " * 40).json()["error"] == message
