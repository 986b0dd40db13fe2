"""Servers of JupyterLab and of Notebook 7 on free ports, and a page of headless Chromium that looks at them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import nbformat
import pytest

from dyhead_book import build as builder

from .explorers import EXPLORERS, look, notebook
from .lab import TOKEN, Lab, open_notebook, run_all, save, set_theme

START_SECONDS = 60
#: What Notebook 7 raises about its own shortcuts while it starts, whatever it opens.
NOT_OURS = {"Cannot read properties of undefined (reading 'schema')"}
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab that serves an empty folder and keeps its own settings elsewhere."""
    with served("jupyterlab", tmp_path_factory) as running:
        yield running


@pytest.fixture(scope="session")
def notebook_7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The same of Notebook 7, whose pages hold one notebook and no more."""
    pytest.importorskip("notebook", reason="Notebook 7 is not installed; pip install notebook")
    with served("notebook", tmp_path_factory) as running:
        yield running


@contextmanager
def served(module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """``python -m MODULE``, a server in a process of its own."""
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}', encoding="utf-8")
    environment = os.environ | {
        "DYHEAD_FAST": "1",
        "DYHEAD_READER": str(home / "reader"),
        "PYTHONPATH": builder.python_path(),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={TOKEN}",
    ]
    log_path = home / "server.log"
    with log_path.open("wb") as log:
        command = [sys.executable, "-m", module, *options]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api?token={TOKEN}", server, log_path)
        yield Lab(address, folder)
    finally:
        server.terminate()  # the server ends its kernels
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the server did not start; the end of its log:\n{log.read_text(encoding='utf-8')[-2000:]}")


@pytest.fixture(scope="session")
def new_page() -> Iterator[Callable]:
    """Opens pages in one headless Chromium. A JavaScript error on any of them fails the last test."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)

        def open_page():
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.set_default_timeout(15_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            return page

        yield open_page
        browser.close()
    ours = [error for error in errors if error not in NOT_OURS]
    assert not ours, "JavaScript errors:\n" + "\n".join(ours)


@dataclass(frozen=True)
class Explored:
    """A notebook with all explorers, freshly run and saved."""

    page: Any
    path: Path
    looks: dict[str, bytes]  # screenshots of the explorers, when nobody had touched them yet


@pytest.fixture(scope="session")
def explored(new_page: Callable, lab: Lab) -> Explored:
    page, path = new_page(), lab.folder / "explorers.ipynb"
    nbformat.write(notebook(), path)
    open_notebook(page, lab, path)
    run_all(page)
    set_theme(page, "Light")
    looks = {name: look(page, name) for name in EXPLORERS}
    save(page)
    return Explored(page, shutil.copy(path, lab.folder / "saved.ipynb"), looks)


@pytest.fixture
def page(explored: Explored):
    """The page with all explorers, in the state in which the last test left it."""
    return explored.page
