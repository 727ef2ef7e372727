"""Drives JupyterLab as a person does: opens a notebook, runs all cells, moves the widgets.

    with open_lab(folder) as lab:
        notebook = lab.open("07_explore.ipynb")
        notebook.run_all()
        assert not notebook.errors()
        notebook.choose("method", "occlusion")
        notebook.slide("lr size", 8)
        notebook.screenshot(path)

A JupyterLab of its own (own settings, a free port of localhost, a token) runs in a headless
Chromium that is installed already (`CHROMIUM` names another than the one on PATH). Notebooks are
never saved.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Locator, Page, sync_playwright

from gmelib.config import PROJECT_ROOT

# Without these Chromium tries to reach its maker at every start.
CHROMIUM_FLAGS = """
--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync
""".split()
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # all cells in the page
}
# What the notebook's model and its kernel say; LabApp.expose_app_in_browser brings jupyterapp.
STATE = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    const kernel = panel.sessionContext?.session?.kernel;
    return {cells: panel.content.model.toJSON().cells, kernel: kernel?.status ?? 'none',
            waiting: [...panel.content.widgets].filter(c => c.model.executionState === 'running'
                || c.node.querySelector('.jp-InputPrompt')?.textContent.includes('*')).length};
}"""

# Callbacks' errors never reach the notebook, so they are taken from the kernel's messages.
LISTEN = """() => {
    window.kernelErrors = [];
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    kernel.iopubMessage.connect((_, {header, content}) => {
        if (header.msg_type === 'error')
            window.kernelErrors.push(`${content.ename}: ${content.evalue}`);
    });
}"""

HEIGHT = """() => {
    const cells = [...document.querySelectorAll('.jp-Notebook .jp-Cell')];
    return cells.at(-1).getBoundingClientRect().bottom - cells[0].getBoundingClientRect().top;
}"""


def find_chromium() -> str | None:
    """The browser to drive, or None where there is none."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, map(shutil.which, filter(None, names))), None)


def wait_for(condition: Any, seconds: float, what: str) -> Any:
    """Asks every 0.1 s until the answer is true; AssertionError after ``seconds``."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if answer := condition():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:g} s")


@dataclass
class Notebook:
    """An open notebook in JupyterLab."""

    page: Page

    def state(self) -> dict[str, Any]:
        return self.page.evaluate(STATE)

    def is_idle(self) -> bool:
        now = self.state()
        return now["kernel"] == "idle" and not now["waiting"]

    def run_all(self, seconds: float = 120) -> None:
        """Run > Run All Cells; returns when all have run or one has failed."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        self.page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()

        def is_over() -> bool:
            now = self.state()
            code = [c for c in now["cells"] if c["cell_type"] == "code" and any(c["source"])]
            has_run = all(cell["execution_count"] for cell in code) or bool(self.errors())
            return has_run and now["kernel"] == "idle" and not now["waiting"]

        wait_for(is_over, seconds, "Run All Cells")

    def outputs(self) -> list[dict[str, Any]]:
        return [out for cell in self.state()["cells"] for out in cell.get("outputs", ())]

    def errors(self) -> list[str]:
        """What the kernel complained of since the notebook was opened, in cells and callbacks."""
        return self.page.evaluate("() => window.kernelErrors")

    def _widget(self, kind: str, label: str) -> Locator:
        name = self.page.locator(".widget-label").get_by_text(label, exact=True)
        return self.page.locator(kind).filter(has=name)

    def choose(self, label: str, option: str, seconds: float = 60) -> None:
        """Picks an option of a dropdown and waits until the kernel has answered."""
        self._widget(".widget-dropdown", label).locator("select").select_option(label=option)
        self.settle(seconds)

    def slide(self, label: str, value: float, seconds: float = 60) -> None:
        """Types a value into a slider's readout, as after a click on it."""
        readout = self._widget(".widget-hslider", label).locator(".widget-readout")
        readout.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(str(value))
        self.page.keyboard.press("Enter")
        self.settle(seconds)

    def press(self, text: str, seconds: float = 60) -> None:
        """Clicks a button."""
        self.page.locator(".jupyter-button").get_by_text(text, exact=True).click()
        self.settle(seconds)

    def settle(self, seconds: float = 60) -> None:
        """Waits until the kernel has nothing to do, seen twice: messages take a moment."""
        self.page.wait_for_timeout(300)
        wait_for(self.is_idle, seconds, "an idle kernel")
        self.page.wait_for_timeout(200)
        wait_for(self.is_idle, seconds, "an idle kernel")

    def screenshot(self, path: Path) -> None:
        """The whole notebook, however long, in one picture."""
        size = self.page.viewport_size
        height = self.page.evaluate(HEIGHT)
        self.page.set_viewport_size({"width": size["width"], "height": int(height) + 160})
        self.page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollTo(0, 0)")
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=path)
        self.page.set_viewport_size(size)


@dataclass
class Lab:
    """A running JupyterLab and a browser page on it."""

    page: Page
    url: str
    token: str

    def open(self, notebook: str, seconds: float = 60) -> Notebook:
        """Opens a notebook (path from the lab's folder) and waits for its kernel."""
        self.page.goto(f"{self.url}/lab/tree/{notebook}?token={self.token}&reset")
        opened = Notebook(self.page)

        def is_ready() -> bool:
            try:
                return bool(opened.state()["cells"]) and opened.is_idle()
            except Error:  # the application or the panel is not there yet
                return False

        wait_for(is_ready, seconds, f"{notebook} with a kernel")
        self.page.evaluate(LISTEN)
        return opened


@contextmanager
def _server(folder: Path, home: Path) -> Iterator[tuple[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    for name, content in SETTINGS.items():
        path = home / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    places = {"CONFIG": "config", "RUNTIME": "runtime", "DATA": "data"}
    environment = os.environ | {f"JUPYTER_{k}_DIR": str(home / v) for k, v in places.items()}
    environment |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.getenv("PYTHONPATH")])),
    }
    options = ["--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    options += ["--ServerApp.port_retries=0", "--ServerApp.allow_root=True"]
    options += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    options += ["--LabApp.expose_app_in_browser=True"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(url, token, process, home / "log"), 60, "JupyterLab")
        yield url, token
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str, token: str, process: subprocess.Popen, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        with urllib.request.urlopen(f"{url}/api/status?token={token}", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def open_lab(folder: Path, *, width: int = 1280, height: int = 1000) -> Iterator[Lab]:
    """JupyterLab over ``folder`` with a page in Chromium; both end with the block."""
    chromium = find_chromium()
    assert chromium, "no Chromium: install one or name it in CHROMIUM"
    with (
        tempfile.TemporaryDirectory() as home,
        _server(Path(folder).resolve(), Path(home)) as (url, token),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(60_000)
        try:
            yield Lab(page, url, token)
        finally:
            browser.close()
