"""Models on the ROCm provider: placement, memory, and logits compared with the CPU's."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from pipelines.conversion.convert import convert
from runtime.device.provider import OWN_PROVIDER, choose_provider
from runtime.errors import UnsupportedModel
from runtime.manifest import GRAPH_NAME
from runtime.ops.gpu.variants import CANDIDATES
from runtime.ops.schema import DOMAIN, OPERATORS
from runtime.sampling import Sampler, SamplingParameters, StepLogits
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.step import StepInputs
from tests.rocm.placement import on_cpu
from tests.rocm.stub_device import ARCHITECTURE, StubDevice
from tests.tiny_models import TINY_MODELS, Latent, write_tiny_model

PAGE_SIZE = 16
MOST_ERROR = 0.02
"""Over the standard deviation of the logits: float16 in the cache and experts chosen by it."""


def rows(*spans: tuple[int, int], pages: int, seed: int = 7) -> StepInputs:
    """A step of rows of tokens from .. to; row b has pages of its own, in a table of `pages`."""
    positions = np.concatenate([np.arange(*span, dtype=np.int32) for span in spans])
    lengths = [end - begin for begin, end in spans]
    table = np.arange(len(spans))[:, None] * pages + np.arange(pages)
    return StepInputs(
        token_ids=np.random.default_rng(seed).integers(3, 259, len(positions)).astype(np.int32),
        positions=positions,
        row_starts=np.cumsum([0, *lengths]).astype(np.int32),
        page_table=table.astype(np.int32),
        logit_rows=np.arange(len(positions), dtype=np.int32),
    )


STEPS = (
    # A long prompt and a short one; one token beside a few; one token each; a few tokens alone.
    rows((0, 130), (0, 7), pages=10),
    rows((130, 131), (7, 12), pages=10),
    rows((131, 132), (12, 13), pages=10),
    rows((132, 135), pages=10),
)


# Latent attention as wide as that of real models: 576 columns are cached of a token.
LATENT = Latent(width=512, plain=32, rotated=64, value=32, query=32)
# Keys and values of each head, as in older files.
WHOLE = Latent(width=32, plain=32, rotated=16, value=32, query=32, split=False)
MODELS = {
    **TINY_MODELS,
    "deepseek2-wide": replace(TINY_MODELS["deepseek2"], latent=LATENT),
    "deepseek2-older": replace(TINY_MODELS["deepseek2-whole"], latent=WHOLE),
}


def prepare(folder: Path, name: str) -> Path:
    prepared = folder / name
    prepared.mkdir()
    convert(Source(write_tiny_model(folder / f"{name}.gguf", MODELS[name])), prepared, name)
    return prepared


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of each model by its name, made when it is first asked for."""
    return cache(partial(prepare, tmp_path_factory.mktemp("models")))


def gpu_settings(home: Path) -> Settings:
    return Settings(home=home, device="rocm", cache_tokens=1024, token_budget=16, threads=1)


def run_all(session: Session) -> list[np.ndarray]:
    return [session.run(step).copy() for step in STEPS]


def is_refused(folder: Path) -> bool:
    """Whether the graph has what the GPU's kernels do not know: docs/gpu.md lists it."""
    for node in onnx.load(folder / GRAPH_NAME, load_external_data=False).graph.node:
        if node.domain == DOMAIN and not OPERATORS[node.op_type].on_gpu:
            return True
        found = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        head_dim = found.get("head_dim", 16)
        if head_dim > 576 or head_dim % 16 or found.get("columns", 32) % 32:
            return True
        if node.op_type == "MixtureOfExperts":
            known = found["activation"] in (b"silu", b"gelu", b"clamped_silu")
            if not known or found["formats"].count(b" ") < 2 or len(node.input) > 9:
                return True
    return False


def expect_refusal(folder: Path, settings: Settings) -> None:
    """The model is refused where a GPU is demanded, and left to the CPU where it is not."""
    with pytest.raises(UnsupportedModel, match=r"cannot run on the GPU stub \(gfx942\).*kernels"):
        Session(folder, settings=settings)
    session = Session(folder, settings=msgspec.structs.replace(settings, device="auto"))
    assert session.device.gpu is None
    assert "cannot run on the GPU" in session.device.reason
    assert np.isfinite(session.run(STEPS[2])).all()


@pytest.mark.parametrize("name", MODELS)
def test_every_node_runs_on_the_gpu_or_the_model_is_refused(
    tmp_path: Path, device: StubDevice, name: str, prepared: Callable[[str], Path]
) -> None:
    settings = gpu_settings(tmp_path / "home")
    folder = prepared(name)
    if is_refused(folder):
        expect_refusal(folder, settings)
        return
    session = Session(folder, settings=settings, profile_prefix=tmp_path / "profile")
    before = device.count("unknown launches")
    ours = run_all(session)
    assert on_cpu(session.end_profiling()) == []
    # The stub computes no elementwise operators of ONNX itself: such models are only placed.
    if device.count("unknown launches") == before:
        exact = run_all(Session(folder, settings=msgspec.structs.replace(settings, device="cpu")))
        for mine, expected in zip(ours, exact, strict=True):
            assert np.abs(mine - expected).max() < MOST_ERROR * expected.std()


def test_some_models_are_computed_whole_and_use_every_kernel(
    tmp_path: Path, device: StubDevice, kernels: Path, prepared: Callable[[str], Path]
) -> None:
    before = device.count("unknown launches")
    for name in ("llama", "gpt-oss", "mixtral", "qwen3"):
        run_all(Session(prepared(name), settings=gpu_settings(tmp_path / "home")))
    assert device.count("unknown launches") == before
    # With operators of ONNX itself, of which the stub computes those of our provider.
    names = ["deepseek2-wide", "command-r"]
    # One with scaled positions, one with the largest of a router's logits.
    is_ours = choose_provider(ARCHITECTURE).provider == OWN_PROVIDER
    for name in [*names, *(("mistral3", "llama4") if is_ours else ())]:
        run_all(Session(prepared(name), settings=gpu_settings(tmp_path / "home")))
    used = {name.partition(".")[0] for name in device.launches}
    written = {path.name.partition(".")[0] for path in kernels.iterdir()}
    # These are of small float32 matrices and short contexts; and those of our provider.
    elsewhere = {"merge_attention", "round_activations", "sum_splits"}
    if not is_ours:
        elsewhere |= {"gather_rows", "row_maximum", "map_values", "map_pairs"}
    assert used == written - {"manifest"} - elsewhere


def test_a_long_context_is_cut_into_splits_that_are_merged(
    tmp_path: Path, device: StubDevice, prepared: Callable[[str], Path]
) -> None:
    settings = msgspec.structs.replace(gpu_settings(tmp_path / "home"), cache_tokens=2048)
    folder = prepared("gpt-oss")
    steps = [rows((0, 1100), pages=70), rows((1100, 1101), pages=70)]
    mine = [Session(folder, settings=settings)]
    mine.append(Session(folder, settings=msgspec.structs.replace(settings, device="cpu")))
    for step in steps:
        ours, expected = (session.run(step).copy() for session in mine)
        assert np.abs(ours - expected).max() < MOST_ERROR * expected.std()
    assert any(name.startswith("merge_attention") for name in device.launches)


def test_a_step_writes_the_pool_in_place_on_one_stream_and_waits_only_at_its_end(
    tmp_path: Path, device: StubDevice, prepared: Callable[[str], Path]
) -> None:
    session = Session(prepared("llama"), settings=gpu_settings(tmp_path / "home"))
    session.run(STEPS[2])
    device.begin()
    counters = ("synchronizations", "bytes within", "bytes to host", "bytes to device")
    before = {name: device.count(name) for name in counters}
    session.step(STEPS[2])
    spent = {name: device.count(name) - before[name] for name in counters}
    layers = TINY_MODELS["llama"].layers
    assert device.launches["rotary_page_write"] == layers
    # The search for candidates follows on the default stream.
    assert len(device.streams - {None}) == 1
    # The pool is never copied; only candidates come back, and only the step's numbers go there.
    step = STEPS[2]
    given = (step.token_ids, step.positions, step.row_starts, step.page_table, step.logit_rows)
    assert spent["bytes within"] == 0
    assert spent["bytes to host"] == len(step.logit_rows) * CANDIDATES * 8
    assert spent["bytes to device"] == sum(each.nbytes for each in given)
    # As many as there are layers or more would mean a wait within the step. The search reads what
    # the provider's stream writes, so that has been waited for; then its own result is copied.
    assert 1 < spent["synchronizations"] <= layers


@pytest.mark.parametrize(
    ("parameters", "is_whole"),
    [
        (SamplingParameters(temperature=0.0), False),
        (SamplingParameters(seed=1), False),
        (SamplingParameters(temperature=0.6, top_k=CANDIDATES, top_p=0.95, seed=2), False),
        (SamplingParameters(temperature=1.7, top_k=CANDIDATES + 1, top_p=1.0, seed=3), True),
        (SamplingParameters(top_k=0, top_p=0.5, seed=4), True),
        (SamplingParameters(top_k=0, top_p=1.0, seed=5), True),
    ],
)
def test_tokens_are_those_of_a_sampler_that_sees_every_logit(
    tmp_path: Path,
    device: StubDevice,
    parameters: SamplingParameters,
    is_whole: bool,
    prepared: Callable[[str], Path],
) -> None:
    session = Session(prepared("llama"), settings=gpu_settings(tmp_path / "home"))
    logits = StepLogits(session.run(STEPS[0]).copy())
    searched = session.step(STEPS[0])
    before = device.count("bytes to host")
    ours, whole = Sampler(parameters), Sampler(parameters)
    rows = range(len(logits.values))
    assert [ours.sample(searched, row) for row in rows] == [
        whole.sample(logits, row) for row in rows
    ]
    read = device.count("bytes to host") - before
    assert read == (logits.values.nbytes if is_whole else 0)


def test_only_models_of_odd_widths_or_experts_and_recurrent_ones_are_refused(
    tmp_path: Path, prepared: Callable[[str], Path]
) -> None:
    refused = {name for name in MODELS if is_refused(prepared(name))}
    recurrent = {name for name, model in MODELS.items() if model.recurrent is not None}
    latent = {"deepseek2", "deepseek2-lite", "deepseek2-whole", "deepseek32", "glm-dsa"}
    odd = {*latent, "gemma3n", "mimo2", "minicpm3", "mistral4", "plm"}
    experts = {"maple", "smallthinker", "smallthinker-global", "step35-capped"}
    matrices = {"cohere2moe-fused", "qwen3moe-scaled"}
    assert refused == odd | recurrent | experts | matrices
