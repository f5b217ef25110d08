"""A server that speaks the Hugging Face Hub's protocol, over a socket of this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """Repositories and how the server is to fail; a test changes them between requests."""

    repos: dict[str, dict[str, bytes]]
    url: str = ""
    gated: bool = False
    token: str | None = None
    """Needed for files, if set."""
    cut: int | None = None
    """Bytes of a body after which the connection is closed, once."""
    refuse_after_cut: bool = False
    """Whether files are forbidden from then on."""
    wrong_bytes: bool = False
    claimed_size: int | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Range of each request."""

    def ranges(self) -> list[str | None]:
        """The Range of each request for the content of a file."""
        return [
            each for method, path, each in self.requests if method == "GET" and "/resolve/" in path
        ]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range")))
            if path == "/api/models":
                owner = dict(each.split("=") for each in urlsplit(self.path).query.split("&"))
                names = [name for name in hub.repos if name.startswith(f"{owner['author']}/")]
                self._json([{"id": name, "modelId": name, "tags": ["gguf"]} for name in names])
            elif path.startswith("/api/models/"):
                self._model(path.removeprefix("/api/models/"))
            else:
                self._file(path.lstrip("/"))

        def _model(self, path: str) -> None:
            repo, _, revision = path.partition("/revision/")
            if repo not in hub.repos:
                self._refuse(404, "RepoNotFound")
            elif revision not in ("", "main", COMMIT):
                self._refuse(404, "RevisionNotFound")
            else:
                siblings = [
                    {
                        "rfilename": name,
                        "size": hub.claimed_size or len(content),
                        "lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 1},
                    }
                    for name, content in hub.repos[repo].items()
                ]
                self._json({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings})

        def _file(self, path: str) -> None:
            repo, _, rest = path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            content = hub.repos.get(repo, {}).get(name)
            if hub.gated:
                return self._refuse(403, "GatedRepo")
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self._refuse(401, None)
            if content is None or revision not in ("main", COMMIT):
                return self._refuse(404, "EntryNotFound")
            whole, start = len(content), 0
            if (asked := self.headers.get("Range")) is not None:
                start = int(asked.removeprefix("bytes=").partition("-")[0])
            body = content[start:]
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{sha256(content)}"')
            self.send_header("X-Linked-Etag", f'"{sha256(content)}"')
            self.send_header("X-Linked-Size", str(whole))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return None
            if hub.wrong_bytes:
                body = bytes(len(body))
            if hub.cut is not None and len(body) > hub.cut:
                self.wfile.write(body[: hub.cut])
                hub.cut, self.close_connection = None, True
                hub.gated = hub.refuse_after_cut
                return None
            self.wfile.write(body)
            return None

        def _json(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _refuse(self, status: int, code: str | None) -> None:
            self.send_response(status)
            if code is not None:
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
