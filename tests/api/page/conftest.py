"""Headless Chromium, and pages of served models in it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runtime.settings import Settings
from tests.api.serving import Serving
from tests.waiting import SECONDS

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = "axe-core@4.14.1"
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
"""What lets root run it, and keeps it from asking anyone but the server."""

LIKELIEST = '{"temperature": "0"}'
"""Settings of a page that shows what a test's model says."""

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of a process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: make setup")
    if CHROMIUM is None:
        pytest.skip("no Chromium; on Debian: apt install chromium")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, fetched from npm once."""
    if shutil.which("npm") is None:
        pytest.skip("no npm, which axe-core comes from")
    folder = Settings.from_environment().cache_folder / AXE
    script = folder / "package" / "axe.min.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True
        )
        if packed.returncode != 0:
            pytest.skip(f"npm has no {AXE}: {packed.stderr[-200:]}")
        archive = packed.stdout.strip().splitlines()[-1]
        subprocess.run(["tar", "-xzf", archive], cwd=folder, check=True)
    return script.read_text()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens pages; at the end nothing may have failed in them, nor been asked of others."""
    contexts: list[Any] = []
    faults: list[str] = []

    def open_page(serving: Serving, **options: Any) -> Any:
        kept = [{"name": "rocmforge.options", "value": LIKELIEST}]
        state = {"origins": [{"origin": serving.url, "localStorage": kept}]}
        context = browser.new_context(storage_state=state, **options)
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.extend(foreign(request.url, serving.url)))
        page.on("console", lambda message: faults.extend(policy_faults(message.text)))
        page.goto(serving.url)
        page.wait_for_selector("body[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def foreign(url: str, server: str) -> list[str]:
    return [] if url.startswith(f"{server}/") else [f"asked of another: {url}"]


def policy_faults(text: str) -> list[str]:
    return [text] if "Content Security Policy" in text or "Trusted" in text else []
