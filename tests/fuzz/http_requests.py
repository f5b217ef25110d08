"""HTTP requests with a value at a border in any field, for hypothesis to draw and to shrink.

The fields are those of the bodies' own classes, so that a new one is fuzzed without a line here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import strategies as st

from api.chat import ChatBody
from api.completions import CompletionBody
from api.schemas import GenerateBody

MAX_SHOWN = 2000
LITERAL = "literal:"
"""A text that stands for what JSON's encoder cannot write: the rest of it, as it is."""


@dataclass(frozen=True)
class Sent:
    """One request, and whether it is sent byte by byte as `body`, head included. Immutable."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    raw: bool = False

    def __repr__(self) -> str:
        head = "" if self.raw else f"{self.method} {self.target} {dict(self.headers)} "
        shown = self.body if len(self.body) <= MAX_SHOWN else self.body[:MAX_SHOWN] + b"..."
        return f"Sent({head}{len(self.body)} bytes: {shown!r})"


FLOATS = st.sampled_from(
    [
        *(0.0, -0.0, 5e-324, 1e-100, 7e-46, 1e-45, 1.1754943e-38, 1.1754944e-38, 1e-30, 1e-7),
        *(0.5, 1.0, 1.0000001, 1.9999999, 2.0, 2.0000001, 16777217.0, 3.4028235e38, 3.5e38),
        *(1e308, -1.0, -1e-45, -3.5e38),
    ]
) | st.floats(0, 2)
LITERALS = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1E-400", "1.0e0", "01", "-", "0x10"]
).map(LITERAL.__add__)
INTEGERS = st.sampled_from(
    [
        sign * (2**bits + more)
        for bits in (0, 7, 8, 15, 16, 24, 31, 32, 53, 63, 64, 128)
        for more in (-1, 0, 1)
        for sign in (1, -1)
    ]
) | st.just(10**400)
TEXTS = st.sampled_from(
    [
        *("", " ", "\0", "\ud800", "\udfff", "a\ud83d", "\U0001f600", "\uffff", "\U0010ffff"),
        *("\ufeff", "e\u0301" * 9, "\u202e", "<|im_start|>", "<|endoftext|>", "<|im_end|>\n", "%s"),
        *("{{ 1/0 }}", "../../etc/passwd", "'; --", "true", "null", "1e999", "tiny", "text"),
        *("a" * 300, "\n" * 300, " " * 3000, "\u6f22" * 90, "data: x\n\n", "\r\nX: y"),
    ]
) | st.text(st.characters(exclude_categories=()), max_size=12)
SCALARS = st.none() | st.booleans() | FLOATS | INTEGERS | TEXTS | LITERALS
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
) | st.sampled_from([10, 200, 700, 2000]).map(lambda deep: LITERAL + "[" * deep + "]" * deep)

TOKENS = st.lists(st.integers(0, 280) | INTEGERS, max_size=6)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "developer"]) | TEXTS
PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image_url", "refusal"]) | TEXTS},
        optional={"text": SCALARS, "image_url": ANYTHING},
    ),
    max_size=3,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": SCALARS,
            "type": st.just("function") | SCALARS,
            "function": st.dictionaries(st.sampled_from(["name", "arguments"]), ANYTHING),
        },
    ),
    max_size=2,
)
SCHEMAS = st.sampled_from(
    [
        {"type": "object"},
        {"type": "array", "items": {"$ref": "#"}},
        {"enum": []},
        {"pattern": "(a+)+$"},
        {"minimum": 1e308, "maximum": -1},
    ]
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES, "content": TEXTS | st.none() | PARTS | ANYTHING},
        optional={
            **dict.fromkeys(("name", "reasoning_content", "tool_call_id", "thinking"), ANYTHING),
            "tool_calls": CALLS | ANYTHING,
            "reasoning": ANYTHING,
            "prefix": st.booleans(),
        },
    ),
    max_size=4,
)
LIKELY: Mapping[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["tiny", "", "/", "gpt-4"]),
    "prompt": st.just("hello the") | TEXTS | TOKENS | st.lists(TEXTS | TOKENS, max_size=3),
    "messages": MESSAGES,
    "max_tokens": st.integers(0, 9),
    "max_completion_tokens": st.integers(-1, 9),
    "temperature": FLOATS,
    "top_p": FLOATS,
    "top_k": st.integers(-2, 300) | INTEGERS,
    "seed": INTEGERS,
    "stop": TEXTS | st.lists(TEXTS, max_size=20),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
    "ignore_eos": st.booleans(),
    "response_format": st.builds(
        lambda kind, schema: {"type": kind, "json_schema": schema}, TEXTS, SCHEMAS
    ),
    "chat_template_kwargs": st.dictionaries(TEXTS, ANYTHING, max_size=3),
    "logit_bias": st.dictionaries(INTEGERS.map(str), FLOATS, max_size=3),
    "tools": st.lists(CALLS | ANYTHING, max_size=2),
}
OTHERS = (
    *(
        "n",
        "best_of",
        "logprobs",
        "top_logprobs",
        "echo",
        "suffix",
        "min_p",
        "typical_p",
        "min_tokens",
    ),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty", "mirostat"),
    *("logit_bias", "grammar", "json_schema", "guided_json", "guided_regex", "structured_outputs"),
    *("stop_token_ids", "n_predict", "tool_choice", "reasoning_effort", "enable_thinking", "user"),
    *("continue_final_message", "add_generation_prompt", "parse_special", "cache_salt", "metadata"),
    *(
        "truncate_prompt_tokens",
        "prediction",
        "documents",
        "chat_template",
        "samplers",
        "max_tokns",
    ),
)
"""Fields that peers know, and one that nobody knows."""

BODIES: Mapping[str, tuple[str, ...]] = {
    "/generate": GenerateBody.__struct_fields__,
    "/generate/stream": GenerateBody.__struct_fields__,
    "/v1/completions": CompletionBody.__struct_fields__,
    "/v1/chat/completions": ChatBody.__struct_fields__,
}
ASKING = ("/requests", "/models", "/health", "/ready", "/metrics", "/traces", "/v1/models", "/")
TEXT_ROUTES = (
    *("/tokenize", "/detokenize", "/apply-template", "/v1/chat/completions/render"),
    "/v1/completions/render",
)
"""Routes that generate nothing; those that are not there answer 404."""
METHODS = st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"])
SEGMENTS = (INTEGERS.map(str) | TEXTS).map(
    lambda text: quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")
)
HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30)
HEADERS = st.lists(
    st.sampled_from(
        [
            ("Content-Type", "application/json"),
            ("Content-Type", "application/json; charset=utf-16"),
            ("Content-Type", "text/plain"),
            ("Content-Encoding", "gzip"),
            ("Accept", "text/event-stream"),
            ("Accept-Encoding", "gzip, br"),
            ("Expect", "100-continue"),
            ("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "a=b," * 40),
            ("baggage", "%ff=1"),
            ("Authorization", "Bearer x"),
            ("Origin", "null"),
        ]
    )
    | st.tuples(
        st.sampled_from(["X-Request-Id", "traceparent", "Content-Type", "Cookie", "Forwarded"]),
        HEADER_TEXT,
    ),
    max_size=2,
    unique_by=lambda header: header[0],
).map(tuple)


def encoded(fields: list[tuple[str, Any]]) -> bytes:
    """JSON of an object with those keys in that order, also one twice; literals as they stand."""
    pairs = (f"{json.dumps(name)}: {_written(value)}" for name, value in fields)
    return ("{" + ", ".join(pairs) + "}").encode()


def _written(value: Any) -> str:
    if isinstance(value, str) and value.startswith(LITERAL):
        return value.removeprefix(LITERAL)
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(name)}: {_written(one)}" for name, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    return json.dumps(value)


@st.composite
def posted(draw: st.DrawFn) -> Sent:
    """A body for a route that generates, most often with its prompt and few tokens asked for."""
    route = draw(st.sampled_from(sorted(BODIES)))
    names = BODIES[route]
    fields: dict[str, Any] = {}
    asked = "messages" if "messages" in names else "prompt"
    if draw(st.integers(0, 19)):
        fields[asked] = (
            [{"role": "user", "content": "hello"}] if asked == "messages" else "hello the"
        )
        fields["max_tokens"] = 4
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(names if draw(st.integers(0, 3)) else OTHERS))
        likely = LIKELY.get(name, ANYTHING)
        fields[name] = draw(likely if draw(st.integers(0, 3)) else ANYTHING)
    pairs = list(fields.items())
    if not draw(st.integers(0, 19)):
        pairs.append((draw(st.sampled_from(list(fields))), draw(ANYTHING)))
    return Sent("POST", route, draw(HEADERS), encoded(pairs))


@st.composite
def spoiled(draw: st.DrawFn) -> Sent:
    """A body that is cut, has other bytes inside, or another encoding."""
    sent = draw(posted())
    body, kind = bytearray(sent.body), draw(st.integers(0, 3))
    if kind == 0:
        del body[draw(st.integers(0, len(body))) :]
    elif kind == 1:
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    elif kind == 2:
        body = bytearray(
            sent.body.decode().encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])))
        )
    else:
        body = bytearray(draw(st.binary(max_size=40)))
    return Sent("POST", sent.target, sent.headers, bytes(body))


@st.composite
def asked(draw: st.DrawFn) -> Sent:
    """Any method on a route that generates nothing, with a query."""
    kind = draw(st.integers(0, 4))
    if kind == 0:
        target = draw(st.sampled_from(["/status/", "/v1/models/", "/"])) + draw(SEGMENTS)
    elif kind == 1:
        # Ids that no running request has.
        far = INTEGERS.filter(lambda number: not 0 < number < 2**31 - 1).map(str)
        target = "/cancel/" + draw(
            far
            | TEXTS.map(
                lambda text: quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")
            )
        )
        return Sent(draw(METHODS), target, draw(HEADERS))
    elif kind == 2:
        names = st.sampled_from(["limit", "clear", "format", "x"])
        pairs = draw(st.lists(st.tuples(names, SEGMENTS), max_size=3))
        target = "/traces?" + "&".join(f"{name}={value}" for name, value in pairs)
    else:
        target = draw(st.sampled_from([*ASKING, *TEXT_ROUTES, *BODIES]))
    body = draw(
        st.just(b"")
        | st.binary(max_size=9)
        | st.builds(encoded, st.lists(st.tuples(TEXTS, ANYTHING), max_size=2))
    )
    return Sent(draw(METHODS), target, draw(HEADERS), body)


@st.composite
def bytes_of_requests(draw: st.DrawFn) -> Sent:
    """A whole request on the wire with some of its bytes replaced; the connection then ends."""
    sent = draw(posted() | asked())
    head = f"{sent.method} {sent.target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    wire = bytearray(head.encode() + b"Content-Length: %d\r\n\r\n" % len(sent.body) + sent.body)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(wire)))
        wire[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return Sent(sent.method, sent.target, body=bytes(wire), raw=True)


REQUESTS = st.integers(0, 9).flatmap(
    lambda kind: (
        posted() if kind < 6 else (asked(), spoiled(), spoiled(), bytes_of_requests())[kind - 6]
    )
)
