"""API keys: which requests they let in, how they are kept, and how they are replaced."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from api.access import expect_guarded
from api.key_file import add_key, keys_in
from api.key_ring import KeyRing
from api.keys import Scope, digest_of, keys_of_text
from runtime.errors import SettingsError
from runtime.server_process import Capacity, rocmforge, started
from runtime.settings import Settings
from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.waiting import SECONDS

GIVEN = "an-operator-s-own-key"


@pytest.fixture
def file(settings: Settings) -> Path:
    """The key file of the tests' servers."""
    return settings.keys_path


def make(file: Path, name: str, *scopes: str, **limits: int) -> dict[str, str]:
    """Add a key to the file; the header of its requests."""
    secret = add_key(file, name, scopes=scopes or None, limits=limits)
    return {"Authorization": f"Bearer {secret}"}


def ask(serving: Serving, path: str = "/v1/completions", **options: Any) -> requests.Response:
    return serving.post(path, json={"prompt": "hello", "max_tokens": 1}, **options)


def test_without_keys_every_request_is_answered(serving: Serving) -> None:
    assert ask(serving).status_code == 200
    assert ask(serving, headers={"Authorization": "Bearer anything"}).status_code == 200


def test_a_key_is_taken_from_either_header(serve: Serve, file: Path) -> None:
    bearer = make(file, "alice")
    serving = serve()
    secret = bearer["Authorization"].removeprefix("Bearer ")
    for headers in (bearer, {"authorization": f"bearer {secret}"}, {"x-api-key": secret}):
        assert ask(serving, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"error": str, "status": "error"}),
        ("/v1/completions", {"error": {"code": "invalid_api_key", "message": str}}),
        ("/v1/messages", {"type": "error", "error": {"type": "authentication_error"}}),
        ("/api/chat", {"error": str}),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer rf-wrong"}, {"x-api-key": "é"}])
def test_a_request_without_a_known_key_is_refused_in_its_dialect(
    serve: Serve, file: Path, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    make(file, "alice")
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = ask(serve(), path, headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert fits(answer.json(), body), answer.text


def fits(found: Any, expected: Any) -> bool:
    """Whether an answer has the expected fields: their values, or values of these types."""
    if isinstance(expected, dict):
        return all(fits(found.get(name), value) for name, value in expected.items())
    return isinstance(found, expected) if isinstance(expected, type) else bool(found == expected)


def test_probes_and_preflights_need_no_key(serve: Serve, file: Path) -> None:
    make(file, "alice")
    serving = serve()
    assert serving.get("/health").status_code == 200
    assert serving.get("/ready").status_code == 200
    assert requests.options(f"{serving.url}/generate", timeout=SECONDS).status_code == 200


def test_a_scope_opens_its_routes_alone(serve: Serve, file: Path) -> None:
    writer, watcher = make(file, "writer"), make(file, "watcher", "metrics")
    serving = serve()
    assert ask(serving, headers=writer).status_code == 200
    assert serving.get("/metrics", headers=watcher).status_code == 200
    refused = ask(serving, headers=watcher)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    assert "generate" in refused.json()["error"]["message"]
    for path in ("/metrics", "/traces"):
        assert serving.get(path, headers=writer).status_code == 403


def test_a_key_of_the_environment_may_do_everything(serve: Serve) -> None:
    serving = serve(api_keys=f"operator={GIVEN}")
    headers = {"x-api-key": GIVEN}
    assert ask(serving, headers=headers).status_code == 200
    assert serving.get("/metrics", headers=headers).status_code == 200
    assert ask(serving).status_code == 401


def test_a_changed_file_counts_from_the_next_request(serve: Serve, file: Path) -> None:
    serving = serve()
    first = make(file, "first")
    assert ask(serving).status_code == 401
    assert ask(serving, headers=first).status_code == 200
    file.write_text("")
    second = make(file, "second")
    assert ask(serving, headers=first).status_code == 401
    assert ask(serving, headers=second).status_code == 200


@pytest.mark.parametrize("content", ["[alice", "[alice]\nsha256 = 'short'", None])
def test_a_file_that_is_damaged_or_gone_lets_nobody_else_in(
    serve: Serve, file: Path, content: str | None
) -> None:
    alice = make(file, "alice")
    serving = serve()
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert ask(serving, headers=alice).status_code == 200
    assert ask(serving).status_code == 401


def test_an_empty_file_lets_nobody_in(serve: Serve, file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.touch()
    assert ask(serve()).status_code == 401


def test_a_key_has_two_secrets_while_it_is_replaced(serve: Serve, file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(f'[alice]\nsha256 = ["{digest_of("old")}", "{digest_of("new")}"]\n')
    serving = serve()
    for secret in ("old", "new"):
        assert ask(serving, headers={"x-api-key": secret}).status_code == 200


def test_a_file_holds_no_secret_and_is_its_owner_s(file: Path) -> None:
    secret = add_key(file, "alice", scopes=["admin"], limits={"requests_per_minute": 3})
    assert secret not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    (key,) = keys_in(file)
    assert key.fits(digest_of(secret))
    assert (key.name, key.requests_per_minute) == ("alice", 3)
    assert key.scopes == frozenset({Scope.ADMIN})


def test_adding_a_key_keeps_what_the_file_says(file: Path) -> None:
    add_key(file, "alice", limits={})
    file.write_text("# of the team\n" + file.read_text())
    before = file.read_text()
    add_key(file, "bob", limits={})
    assert file.read_text().startswith(before)
    assert [key.name for key in keys_in(file)] == ["alice", "bob"]
    with pytest.raises(SettingsError, match="has a key alice already"):
        add_key(file, "alice", limits={})


@pytest.mark.parametrize(
    "content",
    [
        "[",
        "alice = 1",
        "[alice]",
        "[alice]\nsha256 = 'ab'",
        f"[alice]\nsha256 = '{digest_of('x')}'\nscopes = ['everything']",
        f"[alice]\nsha256 = '{digest_of('x')}'\nrequests_per_minute = 0",
        f"[alice]\nsha256 = '{digest_of('x')}'\nunknown = 1",
        f"['a b']\nsha256 = '{digest_of('x')}'",
    ],
)
def test_a_wrong_file_is_named_at_the_start(settings: Settings, file: Path, content: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"keys\.toml"):
        KeyRing(settings)


def test_a_key_file_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not there"):
        KeyRing(Settings(home=tmp_path, key_file=tmp_path / "none.toml"))


def test_one_name_means_one_key(settings: Settings, file: Path) -> None:
    add_key(file, "alice", limits={})
    with pytest.raises(SettingsError, match="alice is in"):
        KeyRing(Settings(home=settings.home, api_keys=f"alice={GIVEN}"))


@pytest.mark.parametrize("text", ["alice", "alice=short", "=a-key-without-a-name"])
def test_keys_of_the_environment_that_do_not_fit(text: str) -> None:
    with pytest.raises(SettingsError):
        keys_of_text(text, "ROCMFORGE_API_KEYS")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "some.host"])
def test_other_machines_are_served_only_with_keys(tmp_path: Path, host: str) -> None:
    plain = Settings(home=tmp_path, host=host)
    with pytest.raises(SettingsError, match="--insecure"):
        expect_guarded(plain, KeyRing(plain))
    for guarded in (
        Settings(home=tmp_path, host=host, insecure=True),
        Settings(home=tmp_path, host=host, api_keys=f"alice={GIVEN}"),
    ):
        expect_guarded(guarded, KeyRing(guarded))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine_is_served_without_keys(tmp_path: Path, host: str) -> None:
    settings = Settings(home=tmp_path, host=host)
    expect_guarded(settings, KeyRing(settings))


def test_a_server_that_is_checked_or_measured_asks_for_no_key(
    prepared: Path, settings: Settings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started with the user's home and environment, in which there may be keys."""
    add_key(file, "alice", limits={})
    monkeypatch.setenv("ROCMFORGE_API_KEYS", f"operator={GIVEN}")
    monkeypatch.setenv("ROCMFORGE_ALIASES", "gpt-4o=another")
    with started(rocmforge(str(prepared), settings, ""), Capacity(1, 20)) as server:
        body: dict[str, Any] = {"prompt": "hello", "max_tokens": 1}
        assert requests.post(f"{server.url}/generate", json=body, timeout=SECONDS).ok


def test_keys_that_are_never_asked_for_guard_no_address(settings: Settings, file: Path) -> None:
    add_key(file, "alice", limits={})
    wide = Settings(home=settings.home, host="0.0.0.0", ask_for_keys="never")
    with pytest.raises(SettingsError, match="--insecure"):
        expect_guarded(wide, KeyRing(wide))


def test_the_command_makes_and_lists_keys_and_shows_no_secret_later(tmp_path: Path) -> None:
    def run(*arguments: str, **environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "rocmforge", *arguments, "--home", str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            env=environment or None,
        ).stdout

    secret = run("keys", "alice", "--tokens-per-minute", "500").strip()
    assert KeyRing(Settings(home=tmp_path)).find(secret) is not None
    assert run("keys") == "alice: generate, 500 tokens per minute\n"
    shown = run("settings", ROCMFORGE_API_KEYS=f"operator={GIVEN}", HOME=str(tmp_path))
    assert "ROCMFORGE_API_KEYS=(not shown)" in shown
    assert GIVEN not in shown


def test_tokens_are_counted_by_key_and_those_of_a_prompt_once(serve: Serve) -> None:
    serving = serve(api_keys=f"operator={GIVEN}")
    headers = {"x-api-key": GIVEN}
    answer = serving.post(
        "/v1/completions", json={"prompt": "hello", "max_tokens": 3, "n": 2}, headers=headers
    )
    prompt = answer.json()["usage"]["prompt_tokens"]
    text = serving.get("/metrics", headers=headers).text
    assert f'rocmforge_key_tokens_total{{key="operator",kind="prompt"}} {prompt}\n' in text
    assert 'rocmforge_key_tokens_total{key="operator",kind="generated"} 6\n' in text
