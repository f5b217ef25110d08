"""Requests with something wrong in them, for hypothesis."""

import json

from hypothesis import strategies as st

from tests.api.raw_http import post, with_headers

BODY = json.dumps({"prompt": "hello", "max_tokens": 1, "temperature": 0}).encode()
CHAT = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}).encode()
CHUNKED = with_headers("/v1/completions", "Host: x", "Transfer-Encoding: chunked")
VALID = [
    post(BODY),
    post(BODY, "X-Request-Id: abc", "traceparent: 00-1-1-01", path="/v1/completions"),
    post(CHAT, "Expect: 100-continue", path="/v1/chat/completions"),
    post(BODY, "Content-Encoding: identity", path="/generate/stream"),
    CHUNKED + b"%x;a=b\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY), BODY),
    CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
]
PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"%", b"\xff", b"\xef\xbb\xbf"),
    *(b"0", b"9" * 30, b"-", b"+", b"e400", b"NaN", b"[" * 200, b'"\\ud800"', b"{}", b"null", b'"'),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"X:  \x01\r\n"),
    *(
        b"HTTP/1.0",
        b"HTTP/1.2",
        b"HTTP/3.0",
        b"Connection: close\r\n",
        b"Content-Encoding: gzip\r\n",
    ),
    *(b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid request, changed in one to four places."""
    data = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4) | st.just(data[start:end]))
        rest = draw(st.sampled_from([start, end]))
        data = data[:start] + piece + data[rest:]
    return data
