"""The benchmark: its figures from planted times, and whole runs on a tiny model's real server."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from pipelines.benchmark import report
from pipelines.benchmark.figures import (
    FigureKind,
    Spread,
    decode_tokens_per_second,
    figure_kinds,
    first_token_ms,
    gaps_ms,
    prefill_tokens_per_second,
    ratios,
    streams_figures,
)
from pipelines.benchmark.growth import DECODE, ENGINE, GrowthPlan, measure_growth
from pipelines.benchmark.load import CompletionRequest, StreamRecord, complete
from pipelines.benchmark.operator_profile import Shape, node_milliseconds, profile_model
from pipelines.benchmark.peers import llama_cpp
from pipelines.benchmark.plot import plot_benchmark, plot_growth
from pipelines.benchmark.prefill_apart import ONE, TWO, PrefillApartPlan, measure_prefill_apart
from pipelines.benchmark.prefill_apart import markdown as prefill_apart_report
from pipelines.benchmark.processor_time import ProcessorTime
from pipelines.benchmark.results import BenchmarkResult, Samples, write_json
from pipelines.benchmark.run import benchmark
from pipelines.benchmark.sampling import KINDS, ROWS, measure_sampling
from pipelines.benchmark.sampling import markdown as sampling_report
from pipelines.benchmark.simulated import scheduler_ms_per_step
from pipelines.benchmark.structured import markdown as structured_report
from pipelines.benchmark.structured import measure_structured
from pipelines.benchmark.warm_restart import RESTARTS, measure_warm_restart
from pipelines.benchmark.warm_restart import markdown as warm_restart_report
from pipelines.benchmark.workloads import Plan, Prompts
from pipelines.prepare import prepare
from runtime.errors import BenchmarkError
from runtime.gguf import GGUFFile
from runtime.manifest import Manifest
from runtime.server_process import (
    Candidate,
    Capacity,
    Memory,
    RunningServer,
    read_memory,
    rocmforge,
    started,
)
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.models import write_tiny_llama

MS = 1_000_000
SMALL = Plan(
    short_prompt_tokens=4,
    short_new_tokens=6,
    long_prompt_tokens=40,
    long_new_tokens=5,
    copied_tokens=90,
    stream_counts=(1, 3),
    stream_prompt_tokens=8,
    stream_new_tokens=6,
    single_rounds=2,
    stream_rounds=1,
    starts=1,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), cache_tokens=1024, threads=1)


@pytest.fixture(scope="module")
def published(home: Settings) -> Path:
    gguf = write_tiny_llama(home.home / "tiny.gguf")
    return prepare(gguf, home, lambda step: None)


@pytest.fixture(scope="module")
def server(home: Settings, published: Path) -> Iterator[RunningServer]:
    with started(rocmforge("tiny", home, "test"), Capacity(1, 100)) as running:
        yield running


@pytest.fixture(scope="module")
def words(published: Path) -> Tokenizer:
    return Tokenizer.from_gguf(GGUFFile.open(Manifest.read(published).weights_path(published)))


def planted(sent: int, events: list[int], prompt: int = 10, new: int = 0) -> StreamRecord:
    """Times in milliseconds."""
    return StreamRecord(
        sent_ns=sent * MS,
        event_ns=tuple(event * MS for event in events),
        prompt_tokens=prompt,
        completion_tokens=new or len(events),
    )


def test_one_streams_figures_from_planted_times() -> None:
    record = planted(100, [350, 400, 500], prompt=50)
    assert first_token_ms(record) == 250
    assert gaps_ms(record) == [50, 100]
    assert prefill_tokens_per_second(record) == pytest.approx(50 / 0.250)
    assert decode_tokens_per_second(record) == pytest.approx(2 / 0.150)


def test_tokens_that_arrive_in_one_event_count_each() -> None:
    assert decode_tokens_per_second(planted(0, [10, 20], new=11)) == pytest.approx(1000)


def test_figures_of_many_streams_are_over_all_of_them() -> None:
    records = [planted(0, [10, 20, 30]), planted(5, [45, 55, 105])]
    figures = streams_figures(records)
    assert figures["streams_2_tokens_per_second"] == pytest.approx(6 / 0.105)
    assert figures["streams_2_first_token_p50_ms"] == pytest.approx(25)
    assert figures["streams_2_first_token_p95_ms"] == pytest.approx(10 + 0.95 * 30)
    assert figures["streams_2_between_tokens_p50_ms"] == pytest.approx(10)
    assert figures["streams_2_between_tokens_p95_ms"] == pytest.approx(10 + 0.85 * 40)
    assert set(figures) <= {kind.name for kind in figure_kinds([2])}


def test_ratios_are_pair_by_pair_and_above_one_where_we_are_ahead() -> None:
    rate = FigureKind("rate_per_second", "rate", "1/s", higher_is_better=True)
    delay = FigureKind("delay_ms", "delay", "ms")
    # The third round was disturbed for both: its ratio is as the others'.
    assert ratios(rate, [20, 40, 2], [10, 20, 1]) == Spread(median=2, lowest=2, highest=2)
    assert ratios(delay, [10, 10, 30], [20, 40, 30]) == Spread(median=2, lowest=1, highest=4)


def test_memory_is_read_as_linux_writes_it() -> None:
    status = "Name:\tserver\nVmRSS:\t   3000 kB\nRssAnon:\t    1000 kB\nThreads:\t4\n"
    assert read_memory(status) == Memory(anonymous_bytes=1_024_000, total_bytes=3_072_000)


def test_processor_time_of_others_is_what_is_not_ours() -> None:
    earlier = ProcessorTime(all_seconds=100, own_seconds=10, clock_seconds=0, processors=2)
    later = ProcessorTime(all_seconds=116, own_seconds=21, clock_seconds=10, processors=2)
    assert later.others_share_since(earlier) == pytest.approx(5 / 20)


@pytest.mark.parametrize("length", [1, 16, 333])
def test_prompts_have_their_length_and_no_two_begin_alike(words: Tokenizer, length: int) -> None:
    prompts = Prompts(words)
    made = [prompts.next(length) for _ in range(30)]
    assert {len(prompt) for prompt in made} == {length}
    if length >= 16:
        # 16 tokens are the first page, which servers would share.
        assert len({prompt[:16] for prompt in made}) == len(made)
    again = Prompts(words)
    assert [again.next(length) for _ in range(30)] == made


def test_a_prompt_to_be_copied_has_its_text_and_the_beginning_of_the_copy(
    words: Tokenizer,
) -> None:
    text = words.decode(Prompts(words).copying(400))
    original, _, copy = text.partition("word for word:\n\n")
    assert copy
    assert f"\n\n{copy} " in original


def test_our_own_server_streams_as_many_tokens_as_were_asked_for(server: RunningServer) -> None:
    requests = [CompletionRequest((number + 3,) * (number + 1), 4 + number) for number in range(5)]
    records = complete(server.url, requests)
    assert [record.prompt_tokens for record in records] == [1, 2, 3, 4, 5]
    assert [record.completion_tokens for record in records] == [4, 5, 6, 7, 8]
    for record in records:
        times = (record.sent_ns, *record.event_ns)
        assert all(earlier <= later for earlier, later in pairwise(times))
        assert len(record.event_ns) <= record.completion_tokens


def test_our_own_server_refuses_a_prompt_that_fills_the_context(server: RunningServer) -> None:
    with pytest.raises(BenchmarkError, match="status 400"):
        complete(server.url, [CompletionRequest((3,) * 300, 4)])


def test_memory_and_start_are_those_of_the_servers_process(server: RunningServer) -> None:
    memory = server.memory()
    assert 10e6 < memory.anonymous_bytes < memory.total_bytes
    assert server.start_seconds > 0


def test_a_server_that_ends_by_itself_is_told_with_its_last_words() -> None:
    program = "print('a line'); raise SystemExit('no such model')"
    broken = Candidate("broken", "1", lambda port, capacity: [sys.executable, "-c", program], "/")
    with (
        pytest.raises(BenchmarkError, match="broken did not start: no such model"),
        started(broken, Capacity(1, 100)),
    ):
        pass


def test_a_measured_server_neither_knows_earlier_prompts_nor_publishes_its_own(
    home: Settings,
) -> None:
    of_the_user = {
        "ROCMFORGE_KV_RAM_BYTES": "1000000",
        "ROCMFORGE_KV_DISK_BYTES": "1000000",
        "ROCMFORGE_ROLE": "decode",
        "ROCMFORGE_KV_EVENTS": "tcp://127.0.0.1:5557",
        "ROCMFORGE_KV_EVENTS_REPLAY": "tcp://127.0.0.1:5558",
    }
    ours = rocmforge("tiny", home, "1")
    settings = Settings.from_environment({**of_the_user, **dict(ours.environment)})
    assert (settings.kv_ram_bytes, settings.kv_disk_bytes, settings.role) == (0, 0, "both")
    assert (settings.kv_events, settings.kv_events_replay) == ("", "")


@pytest.mark.slow
def test_a_whole_run_has_every_figure_and_survives_its_file(
    home: Settings, published: Path, words: Tokenizer, tmp_path: Path
) -> None:
    # The same server twice, under two names, as if one were a peer.
    ours = rocmforge("tiny", home, "1")
    candidates = [ours, Candidate("twin", "2", ours.command, ours.ready_path)]
    told: list[tuple[int, int]] = []
    result = benchmark(
        candidates,
        Manifest.read(published),
        words,
        threads=1,
        plan=SMALL,
        progress=lambda title, done, parts: told.append((done, parts)),
    )
    assert [done for done, _ in told] == list(range(told[0][1] + 1))
    for server in result.servers:
        assert set(server.figures) == {kind.name for kind in figure_kinds(SMALL.stream_counts)}
        assert len(server.figures["prefill_tokens_per_second"]) == SMALL.single_rounds
        assert all(value >= 0 for values in server.figures.values() for value in values)
    assert result.client_processor_share > 0
    assert 0 <= result.others_processor_share <= 1

    write_json(result, tmp_path / "kept" / "result.json")
    assert BenchmarkResult.read(tmp_path / "kept" / "result.json") == result
    table = report.markdown(result).splitlines()
    assert len(table) == 2 + len(result.kinds())
    assert {line.count("|") for line in table} == {5}
    assert "beside twin (2)" in report.summary(result)
    plot_benchmark(result, tmp_path / "result.png")
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"model": 3}')
    with pytest.raises(BenchmarkError, match=r"other\.json"):
        BenchmarkResult.read(tmp_path / "other.json")


def test_numbers_in_the_table_have_three_digits_and_their_range() -> None:
    samples = Samples()
    for value in (1234.5, 2345.6, 1111.1):
        samples.add({"prefill_tokens_per_second": value})
    result = small_result(samples.frozen())
    assert report.rows(result) == [("prefill, long prompt, tokens/s", "1,234 (1,111 to 2,346)")]


def small_result(figures: dict[str, tuple[float, ...]]) -> BenchmarkResult:
    fields = {
        "model": "tiny",
        "weights_sha256": "",
        "started_at": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "threads": 1,
        "machine": {
            "processor": "",
            "processors": 1,
            "instruction_set": "scalar",
            "memory_bytes": 1,
        },
        "plan": msgspec.to_builtins(SMALL),
        "servers": [{"name": "rocmforge", "version": "1", "figures": figures}],
        "client_processor_share": 0.0,
        "others_processor_share": 0.0,
    }
    return msgspec.convert(fields, BenchmarkResult, strict=False)


@pytest.mark.slow
def test_growth_has_a_sample_for_every_point_that_the_context_allows(
    home: Settings, published: Path, words: Tokenizer, tmp_path: Path
) -> None:
    plan = GrowthPlan(
        contexts=(8, 32, 255),
        context_new_tokens=4,
        context_rounds=2,
        streams=(1, 2),
        stream_prompt_tokens=4,
        stream_new_tokens=4,
        requests=(1, 3),
        steps=5,
    )
    result = measure_growth(
        [rocmforge("tiny", home, "1")],
        Manifest.read(published),
        words,
        threads=1,
        plan=plan,
        progress=lambda title, done, parts: None,
    )
    (decode,) = result.of(DECODE)
    assert decode.x == (8, 32)  # 255 + 4 tokens are more than the model's 256
    assert [len(samples) for samples in decode.samples] == [2, 2]
    (engine,) = result.of(ENGINE)
    assert engine.x == (1, 3)
    assert all(samples for samples in engine.samples)
    plot_growth(result, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_scheduler_is_timed_for_whole_steps() -> None:
    assert len(scheduler_ms_per_step(running=7, steps=20)) == 20


def test_a_nodes_time_is_the_shortest_of_its_last_runs() -> None:
    events = [
        {"cat": "Node", "name": "blk.0.ffn_kernel_time", "dur": dur} for dur in (5, 20, 30, 40)
    ]
    events += [{"cat": "Session", "name": "model_run", "dur": 5}]
    assert node_milliseconds(events, runs=3) == {"blk.0.ffn": pytest.approx(0.02)}


def test_the_profile_reads_every_matrix_once_in_a_decode_step(
    home: Settings, published: Path
) -> None:
    shapes = (Shape("decode", rows=2, new=1, context=20, runs=3),)
    profile = profile_model(published, home, lambda step: None, shapes)
    (step,) = profile.steps
    manifest = Manifest.read(published)
    tensors = GGUFFile.open(manifest.weights_path(published)).tensors.values()
    matrices = [tensor for tensor in tensors if len(tensor.shape) == 2]
    read = {each.operator: each.bytes_read for each in step.operators}
    products = sum(size for name, size in read.items() if "MatMul" in name)
    assert products == sum(matrix.size for matrix in matrices)
    layout = manifest.page_layout
    attention = next(size for name, size in read.items() if "Attention" in name)
    assert attention == 2 * 21 * layout.bytes_per_token()
    operations = sum(each.operations for each in step.operators if "MatMul" in each.operator)
    assert operations == 2 * 2 * sum(matrix.rows * matrix.columns for matrix in matrices)
    assert step.weight_bytes == products + read["RowLookup"]
    assert step.read_bytes_per_second > 0


def test_sampling_is_measured_beside_the_steps_whose_logits_it_takes(
    published: Path, home: Settings
) -> None:
    result = measure_sampling(published, home, lambda step: None, rounds=2)
    assert [(c.rows, c.samplers) for c in result.costs] == [(r, k) for r in ROWS for k in KINDS]
    assert {len(times) for c in result.costs for times in (c.measured, c.beside)} == {2}
    assert len(sampling_report(result).splitlines()) == 2 + len(result.costs)


def test_structured_output_is_measured_beside_the_same_streams_without(
    home: Settings, published: Path
) -> None:
    result = measure_structured(published, home, lambda step: None, rounds=2)
    assert [(c.sampling, c.prompt_lookup) for c in result.costs] == [
        (sampling, lookup) for lookup in (False, True) for sampling in ("greedy", "sampled")
    ]
    assert {len(times) for c in result.costs for times in (c.measured, c.beside)} == {2}
    assert len(structured_report(result).splitlines()) == 2 + 4


@pytest.mark.long
def test_one_process_and_two_are_measured_by_turns(home: Settings, published: Path) -> None:
    plan = PrefillApartPlan(stream_new_tokens=6, long_prompt_tokens=100, rounds=2)
    result = measure_prefill_apart(published, home, lambda step: None, plan=plan)
    assert {name: len(rounds) for name, rounds in result.rounds.items()} == {ONE: 2, TWO: 2}
    assert len(prefill_apart_report(result).splitlines()) == 2 + 2


@pytest.mark.long
def test_a_restart_is_measured_beside_the_prefill(home: Settings, published: Path) -> None:
    result = measure_warm_restart(published, home, lambda step: None, prompt_tokens=200)
    assert result.prompt_tokens == 200
    assert result.computed.known_tokens == 0
    assert [each.known_tokens for each in result.restarted] == [192] * RESTARTS
    page = Manifest.read(published).page_layout.bytes_per_token() * 16
    assert result.computed.copied_bytes == 13 * page
    assert {each.restored_bytes for each in result.restarted} == {13 * page}
    assert len(warm_restart_report(result).splitlines()) == 2 + 1 + RESTARTS + 2


@pytest.mark.slow
def test_llama_cpp_answers_the_same_requests(published: Path) -> None:
    pytest.importorskip("xllamacpp")
    weights = Manifest.read(published).weights_path(published)
    with started(llama_cpp(weights, 1), Capacity(2, 64)) as running:
        records = complete(running.url, [CompletionRequest((3, 4, 5), 6)] * 2)
        assert [record.completion_tokens for record in records] == [6, 6]
    assert not Path(f"/proc/{running.process_id}").exists()
