"""outputs/index.html as a page: notebooks that failed, odd names, no network, a browser."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import tiny
from bs4 import BeautifulSoup
from index_rows import STUDENT, only, row_of, rows_of

from gmelib import index
from gmelib.index import write_index


@pytest.fixture(autouse=True)
def nothing_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PUBLISHED", tmp_path / "published")


# -- notebooks ------------------------------------------------------------------------------------


def write_notebook(root: Path, name: str, *outputs: dict) -> None:
    about = {"parameters": {"dataset": "fer2013", "seed": 3}}
    cells = [{"cell_type": "code", "outputs": list(outputs)}, {"cell_type": "markdown"}]
    (root / ".unfinished").mkdir(exist_ok=True)
    text = json.dumps({"metadata": {"papermill": about}, "cells": cells})
    (root / ".unfinished" / name).write_text(text)


def test_a_failed_notebook_is_a_row_with_its_error(root):
    error = {"output_type": "error", "ename": "InputError", "evalue": "first\nno <teacher> & so on"}
    write_notebook(root, "02_teacher-20260131-120000-1.ipynb", {"output_type": "stream"}, error)
    row = rows_of(root)[0]
    assert (row["state"], row["data set"], row["seed"]) == ("failed", "fer2013", "3")
    assert "02_teacher " in row["run"] and "InputError: no <teacher> & so on" in row["run"]


def test_a_notebook_without_an_error_runs_while_its_process_lives(root):
    me, host = os.getpid(), socket.gethostname()
    write_notebook(root, f"a-29990131-120000-{me}-{host}.ipynb")
    write_notebook(root, f"b-20000131-120000-{me}-{host}.ipynb")  # a number given anew
    write_notebook(root, "c.ipynb")
    (root / ".unfinished" / "d.ipynb").write_text("{")
    write_notebook(root, f"e-29990131-120000-{me}-other-{host}.ipynb")  # the same number elsewhere
    write_notebook(root, f"f-29990131-120000-{me}.ipynb")
    rows = {row["run"].split()[0]: row["state"] for row in rows_of(root)[:6]}
    unfinished = dict.fromkeys("bcef", "unfinished")
    assert rows == {"a": "running", "d": "damaged"} | unfinished


# -- the page -------------------------------------------------------------------------------------


def test_names_are_escaped(root):
    odd = root / 'a<b>&"c' / "student" / "x#y?-s0-0123abcd"
    shutil.copytree(only(root, STUDENT), odd)
    row = row_of(root, odd.name)
    assert row["data set"] == 'a<b>&"c' and len(row["links"]) == 1
    assert not set(row["links"]["record"]) & set('#?<&"')  # a browser would read them as more
    page = BeautifulSoup((root / "index.html").read_text(), "html.parser")
    assert not page.select("tbody b b") and len(page.select("tbody b")) == 4
    (choice,) = page.select("select[name=dataset]")
    assert [option.get_text() for option in choice.select("option")] == [
        "all", 'a<b>&"c', "synthetic",
    ]  # fmt: skip


def test_the_page_asks_the_network_for_nothing_and_shows_all_without_javascript(root):
    text = write_index(root).read_text()
    page = BeautifulSoup(text, "html.parser")
    assert "://" not in text and not page.select("[src], link")
    assert page.form.has_attr("hidden") and not any(row["hidden"] for row in rows_of(root))


def test_no_run_yet(tmp_path):
    assert rows_of(tmp_path / "outputs") == []
    assert "make run" in (tmp_path / "outputs" / "index.html").read_text()


def test_a_page_that_cannot_be_written_leaves_the_old_one(root, monkeypatch):
    path = write_index(root)
    before = path.read_bytes()
    shutil.rmtree(only(root, STUDENT))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert "No space left" in tiny.refusal(write_index, root)
    assert path.read_bytes() == before and not list(root.glob(".index*"))


def test_from_the_command_line(root, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["index", str(root)])
    assert index.main() == 0
    assert capsys.readouterr().out.strip() == str(root / "index.html")
    (root / "file").touch()
    monkeypatch.setattr("sys.argv", ["index", str(root / "file")])
    assert index.main() == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.browser
def test_rows_are_filtered_and_sorted_in_a_browser(root):
    pytest.importorskip("playwright", reason="playwright is not installed")
    from browser.jupyterlab import CHROMIUM_FLAGS, find_chromium
    from playwright.sync_api import sync_playwright

    if not find_chromium():
        pytest.skip("no Chromium found on PATH or in CHROMIUM")
    write_notebook(root, "02_teacher-20260131-120000-1.ipynb")
    shown = {"25.00", "50.00", "100.00"}  # as text, 0.25 comes after 0.5 and 1 before both
    for accuracy, record in zip((0.25, 0.5, 1.0), root.glob("*/*/*/run.json"), strict=True):
        facts = json.loads(record.read_text()) | {"validation": {"best_accuracy": accuracy}}
        record.write_text(json.dumps(facts))
    path = write_index(root)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=CHROMIUM_FLAGS
        )
        page, problems = browser.new_page(), []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path.as_uri())
        rows = page.locator("tbody tr:visible")
        assert rows.count() == 4
        page.get_by_label("data set").select_option("synthetic")
        assert rows.count() == 3 and page.get_by_text("3 of 4 shown").is_visible()
        page.get_by_label("stage").select_option("student")
        page.get_by_label("text").fill("Dbam+gm synth")
        assert rows.count() == 1 and "nokd" in rows.inner_text()
        page.get_by_label("text").fill("")
        page.get_by_label("data set").select_option("")
        page.get_by_label("stage").select_option("")
        seen = {}
        for order in ("descending", "ascending"):
            page.get_by_role("button", name="validation").click()
            texts = page.locator("tbody td:nth-child(10)").all_inner_texts()
            assert page.locator(f"th[aria-sort={order}]").count() == 1
            assert texts[-1] == "", "what has no figure comes last"
            assert set(texts[:-1]) == shown
            seen[order] = [float(text) for text in texts[:-1]]
        assert seen["descending"] == sorted(seen["ascending"], reverse=True)
        assert seen["ascending"] == sorted(seen["ascending"])
        page.keyboard.press("Enter")  # the header is a button: the keyboard sorts, too
        assert page.locator("th[aria-sort=descending]").count() == 1
        assert not problems
        browser.close()
