"""Answers that follow a grammar: every one is valid, alone and in a batch."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runtime.engine import Engine
from runtime.errors import InvalidRequest
from runtime.generation import FinishReason, Generation
from runtime.grammar import Grammar, GrammarCompiler
from runtime.sampling import SamplingParameters
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.waiting import SECONDS

PROMPT = [1, 2, 3, 1, 2, 3, 1, 2]
GREEDY = SamplingParameters(temperature=0.0)
MAX_TOKENS = 900


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer)


@pytest.fixture(scope="module")
def engine(
    prepared: Path, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine that guesses, over the tiny random model."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), cache_tokens=4096, threads=1)
    manifest = Session(prepared, settings=settings)
    engine = Engine(manifest, end_of_generation=tokenizer.end_of_generation, settings=settings)
    engine.start()
    yield engine
    engine.stop()


def follows(engine: Engine, compiler: GrammarCompiler, grammar: Grammar, seed: int) -> Generation:
    sampling = SamplingParameters(temperature=1.0, top_k=0, top_p=1.0, seed=seed)
    return engine.submit(PROMPT, sampling, MAX_TOKENS, matcher=compiler.matcher(grammar))


def text_of(generation: Generation, tokenizer: Tokenizer) -> str:
    assert generation.wait(SECONDS)
    assert generation.error is None
    return b"".join(map(tokenizer.token_bytes, generation.tokens)).decode()


def schema(value: Any) -> Grammar:
    return Grammar.json_schema(value, field="json_schema")


NUMBERS = st.fixed_dictionaries(
    {"type": st.just("integer")},
    optional={"minimum": st.integers(-50, 0), "maximum": st.integers(1, 300)},
)
TEXTS = st.fixed_dictionaries(
    {"type": st.just("string"), "maxLength": st.integers(2, 6)},
    optional={"minLength": st.integers(0, 2)},
)
SCALARS = st.one_of(
    NUMBERS,
    TEXTS,
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda values: {"enum": values},
        st.lists(st.one_of(st.text(max_size=5), st.integers(-9, 9)), min_size=1, unique_by=repr),
    ),
    st.builds(lambda value: {"const": value}, st.text(max_size=8)),
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, required: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in required],
            "additionalProperties": False,
        },
        st.dictionaries(NAMES, inner, max_size=3),
        st.sets(NAMES, max_size=3),
    )


SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        _objects(inner),
        st.builds(lambda item: {"type": "array", "items": item, "maxItems": 3}, inner),
        st.builds(lambda items: {"anyOf": items}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=4,
)


@hypothesis_settings(max_examples=60)
@given(value=SCHEMAS, seed=st.integers(0, 2**32))
def test_every_whole_answer_is_json_that_its_schema_allows(
    engine, compiler, tokenizer, value, seed
) -> None:
    generation = follows(engine, compiler, schema(value), seed)
    text = text_of(generation, tokenizer)
    if generation.finish_reason is FinishReason.LENGTH:  # digits without end
        return
    jsonschema.validate(json.loads(text), value, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (Grammar.regex("[a-c]{3}-[0-9]+x", field="r"), r"[a-c]{3}-[0-9]+x"),
        (Grammar.choice(["yes", "no", "no way! ü"], field="c"), "yes|no|no way! ü"),
        (Grammar.choice(["a|b", "(", "\\d"], field="c"), r"a\|b|\(|\\d"),
        (Grammar.gbnf('root ::= word "x"\nword ::= [a-z]{1,5}', field="g"), "[a-z]{1,5}x"),
        (Grammar.gbnf('root ::= "[" root "]" | [0-9]{1,3} ', field="g"), r"\[*[0-9]{1,3}\]*"),
    ],
    ids=["regex", "choice", "quoted choice", "flat grammar", "recursive grammar"],
)
def test_a_random_model_s_answer_is_what_the_grammar_describes(
    engine, compiler, tokenizer, grammar: Grammar, pattern: str
) -> None:
    generations = [follows(engine, compiler, grammar, seed) for seed in range(4)]
    for generation in generations:
        text = text_of(generation, tokenizer)
        if generation.finish_reason is not FinishReason.LENGTH:
            assert re.fullmatch(pattern, text)


def test_an_answer_stops_with_the_last_token_that_the_grammar_allows(
    engine, compiler, tokenizer
) -> None:
    matcher = compiler.matcher(Grammar.choice(["hello"], field="c"))
    generation = engine.submit(PROMPT, GREEDY, 50, matcher=matcher)
    assert text_of(generation, tokenizer) == "hello"
    assert generation.finish_reason is FinishReason.STOP


def test_an_answer_that_is_cut_has_the_reason_length(engine, compiler, tokenizer) -> None:
    matcher = compiler.matcher(Grammar.choice(["hello the world"], field="c"))
    generation = engine.submit(PROMPT, GREEDY, 2, matcher=matcher)
    assert "hello the world".startswith(text_of(generation, tokenizer))
    assert generation.finish_reason is FinishReason.LENGTH


def test_grammars_of_other_requests_change_no_text(engine, compiler, tokenizer) -> None:
    grammar = Grammar.regex("([a-z]{2} ){12}", field="r")
    alone = [text_of(follows(engine, compiler, grammar, seed), tokenizer) for seed in range(3)]
    free = engine.submit(PROMPT, GREEDY, 40)
    assert free.wait(SECONDS)
    together = [follows(engine, compiler, grammar, seed) for seed in range(3)]
    beside = engine.submit(PROMPT, GREEDY, 40)
    assert [text_of(generation, tokenizer) for generation in together] == alone
    assert beside.wait(SECONDS)
    assert beside.tokens == free.tokens


def test_guesses_change_no_token_of_an_answer_with_a_grammar(
    prepared: Path, settings: Settings, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    grammar = Grammar.regex("(abc ){30}|(ab ){30}", field="r")
    answers = []
    for guesses in (True, False):
        chosen = msgspec.structs.replace(settings, prompt_lookup=guesses)
        session = Session(prepared, settings=chosen)
        engine = Engine(session, end_of_generation=tokenizer.end_of_generation, settings=chosen)
        engine.start()
        generation = engine.submit(PROMPT, GREEDY, 150, matcher=compiler.matcher(grammar))
        answers.append(text_of(generation, tokenizer))
        engine.stop()
    assert answers[0] == answers[1]
    assert len(answers[0]) in (90, 120)


def test_masks_after_guesses_are_those_of_a_matcher_that_went_there(compiler, tokenizer) -> None:
    matcher = compiler.matcher(Grammar.json_object(field="f"))
    tokens = tokenizer.encode('{"a": [1, {"b": true}]}', add_special=False)
    held = matcher.allowed_of(tokens)
    assert held == len(tokens)
    at_once = matcher.masks(tokens)
    for place, token in enumerate(tokens):
        assert np.array_equal(matcher.masks()[0].words, at_once[place].words)
        assert token in at_once[place]
        matcher.advance(token)
    assert matcher.ended


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (Grammar.json_object(field="f"), '{"a": [1, "é", {"b": true}]}'),
        (Grammar.regex("[a-c]{2,4}( x)?", field="r"), "abc"),
    ],
)
def test_a_token_that_is_looked_up_is_allowed_where_its_mask_allows_it(
    compiler, tokenizer, grammar: Grammar, text: str
) -> None:
    matcher = compiler.matcher(grammar)
    size = tokenizer.vocabulary_size
    for token in tokenizer.encode(text, add_special=False):
        looked_up = [matcher.allowed_of([each]) for each in range(size)]
        assert np.array_equal(np.array(looked_up) == 1, matcher.masks()[0].array(size))
        assert matcher.allowed_of([size]) == 0
        matcher.advance(token)


def test_what_takes_a_token_is_where_advancing_leads(compiler, tokenizer) -> None:
    size = tokenizer.vocabulary_size
    taking, advancing = (compiler.matcher(Grammar.json_object(field="f")) for _ in range(2))
    for token in tokenizer.encode('{"a": [1, "b"]}', add_special=False):
        (allowed,) = advancing.masks()
        refused = np.flatnonzero(~allowed.array(size))[:20]
        assert not any(taking.takes(int(other)) for other in [*refused, size])
        other = int(np.flatnonzero(allowed.array(size))[0])
        # Another token than the one that was taken may come after all.
        assert taking.takes(other)
        taking.advance(token)
        advancing.advance(token)
        assert np.array_equal(taking.masks()[0].words, advancing.masks()[0].words)
        assert taking.ended == advancing.ended


def test_a_matcher_goes_on_when_the_lexer_that_it_shares_is_full(
    tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = Grammar.regex("[ab]*a[ab]{20}c", field="r")
    unlimited = GrammarCompiler(tokenizer).matcher(grammar)
    monkeypatch.setattr("runtime.grammar.compiler.MAX_SHARED_STATES", 200)
    compiler = GrammarCompiler(tokenizer)
    first, beside = compiler.matcher(grammar), compiler.matcher(grammar)
    for token in np.random.default_rng(0).choice(tokenizer.encode("ab", add_special=False), 300):
        expected = unlimited.masks()[0].words
        assert np.array_equal(first.masks()[0].words, expected)
        assert np.array_equal(beside.masks()[0].words, expected)
        beside.takes(int(token))
        for matcher in (unlimited, first, beside):
            matcher.advance(int(token))
    assert not first.is_shared
    assert not beside.is_shared
    assert unlimited.is_shared
    assert compiler.matcher(grammar).is_shared


def test_requests_of_one_grammar_share_what_its_lexer_learns_but_not_their_places(
    compiler, tokenizer
) -> None:
    grammar = Grammar.choice(["left one", "right one"], field="c")
    first, second = compiler.matcher(grammar), compiler.matcher(grammar)
    before = second.masks()[0].words
    first.advance(tokenizer.encode("left", add_special=False)[0])
    assert np.array_equal(second.masks()[0].words, before)
    assert not np.array_equal(first.masks()[0].words, before)
    with pytest.raises(ValueError, match="beginning"):
        first.copy()


def test_no_control_token_is_ever_allowed_inside(compiler, tokenizer) -> None:
    matcher = compiler.matcher(schema({"type": "string"}))
    matcher.advance(*tokenizer.encode('"', add_special=False))
    allowed = np.flatnonzero(matcher.masks()[0].array(tokenizer.vocabulary_size))
    assert len(allowed) > 100
    assert all(tokenizer.token_bytes(token) for token in allowed)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"not": {}}, "keyword not"),
        ({"properties": {"a": {"if": True}}}, "keyword if is not supported, at json_schema"),
        ({"type": "array", "uniqueItems": True}, "keyword uniqueItems"),
        ({"format": "regex"}, "format regex"),
        ({"$ref": "http://a.b/c"}, r"\$ref"),
        ({"type": 5}, "type"),
        ({"oneOf": [{"type": "string"}, {"type": "string"}]}, "oneOf"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "Unsatisfiable"),
        ([], "must be a JSON schema"),
        ({"description": "x" * 70_000}, "more than 65536 characters"),
    ],
)
def test_a_schema_that_cannot_be_honoured_is_refused_by_its_keyword(
    compiler, value: Any, named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        compiler.matcher(schema(value))


def test_a_boolean_is_a_schema(compiler) -> None:
    assert compiler.matcher(schema(True))
    with pytest.raises(InvalidRequest, match="no JSON fits"):
        schema(False)


def test_keywords_that_ask_for_nothing_and_notes_are_taken(compiler) -> None:
    notes = {"uniqueItems": False, "format": "int32", "unevaluatedProperties": True, "title": "a"}
    assert compiler.matcher(schema({"type": "object", "x-guidance": {"lenient": True}, **notes}))


@pytest.mark.parametrize("schema", [{"const": 2**64}, {"type": "integer", "minimum": -(2**70)}])
def test_a_schema_with_a_number_of_more_than_64_bits_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="more than 64 bits"):
        Grammar.json_schema(schema, field="json_schema")


def test_a_schema_that_overflows_the_compiler_s_stack_is_refused_and_others_go_on(
    compiler,
) -> None:
    chain = {f"d{i}": {"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(900)}
    deep = {"$defs": {**chain, "d900": True}, "$ref": "#/$defs/d0"}
    with pytest.raises(InvalidRequest, match="too much work"):
        compiler.matcher(schema(deep))
    assert compiler.matcher(schema({"type": "integer"}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Grammar.regex("(a{1000}){1000}", field="f"),
        lambda: Grammar.regex(r"x|((?:a[]b[c(]]\x{41}\pL){50}){50}|y", field="f"),
        lambda: Grammar.regex("(?x)(a{1000} #)\n){1000}", field="f"),
        lambda: Grammar.choice(["a", "b" * 10_001], field="f"),
        lambda: Grammar.gbnf('root ::= [a] b{100}\nb ::= ("xy" | "z"){51}', field="f"),
        lambda: Grammar.json_schema({"items": {"pattern": "^a{10001}"}}, field="f"),
        lambda: Grammar.json_schema({"patternProperties": {"a{200}{99}": {}}}, field="f"),
        lambda: Grammar.json_schema({"enum": [1, ["b" * 10_000]]}, field="f"),
        lambda: Grammar.json_schema({"const": "b" * 10_000}, field="f"),
        lambda: Grammar.json_schema({"properties": {"b" * 10_000: {}}}, field="f"),
    ],
)
def test_a_fixed_text_that_takes_too_much_work_is_refused(make: Callable[[], Grammar]) -> None:
    with pytest.raises(InvalidRequest, match="f cannot be honoured"):
        make()


@pytest.mark.parametrize(
    "pattern", ["[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "([a-z]{1000}x|y{9000}){1}", "(a)|b)"]
)
def test_repeats_that_stand_beside_each_other_are_not_multiplied(pattern: str) -> None:
    assert Grammar.regex(pattern, field="f")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("root ::= foo", "no rule foo"),
        ("foo ::= [a]", "no rule root"),
        ('root ::= "a', "does not end"),
        ("root ::= [b-a]", "ends before it begins"),
        ('root ::= "a"\nroot ::= "b"', "stands twice"),
        ("root ::= " + "(" * 99 + '"a"' + ")" * 99, "too deeply"),
        ('root ::= "a"{99999}', "repeated"),
        ('root ::= "\\q"', "escape"),
        ('root ::= "\ud800"', "surrogate"),
        ('root = "a"', "::= is missing"),
    ],
)
def test_a_grammar_that_cannot_be_read_says_where(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        Grammar.gbnf(text, field="grammar")
