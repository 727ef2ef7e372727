"""JupyterLab in a headless Chromium: notebooks run as they are, widgets answer."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[browser]'")

from browser.jupyterlab import find_chromium, open_lab  # noqa: E402

from gmelib.config import PROJECT_ROOT  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not find_chromium(), reason="no Chromium found on PATH or in CHROMIUM"),
]
WIDGETS = """\
import ipywidgets as widgets
size = widgets.IntSlider(12, min=4, max=48, description="size", continuous_update=False)
kernel = widgets.Dropdown(options=["bicubic", "box"], description="kernel")
go = widgets.Button(description="Go")
shown = widgets.HTML("nothing yet")
fail = widgets.Button(description="Fail")
fail.on_click(lambda _: {}["key"])
go.on_click(lambda _: setattr(shown, "value", f"{size.value} by {kernel.value}"))
widgets.VBox([size, kernel, go, fail, shown])
"""


def write(path, *code):
    cells = [new_markdown_cell("# Widgets"), *map(new_code_cell, code)]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": spec}), path)


@pytest.mark.slow
def test_a_notebook_runs_and_its_widgets_answer(tmp_path):
    write(tmp_path / "widgets.ipynb", WIDGETS, "print('the', 'end')")
    write(tmp_path / "bad.ipynb", "1 / 0", "print('never')")
    before = (tmp_path / "widgets.ipynb").read_bytes()
    with open_lab(tmp_path) as lab:
        notebook = lab.open("widgets.ipynb")
        notebook.run_all()
        assert not notebook.errors()
        assert "the end\n" in [out.get("text") for out in notebook.outputs()]

        notebook.slide("size", 8)
        notebook.choose("kernel", "box")
        notebook.press("Go")
        assert notebook.page.get_by_text("8 by box", exact=True).is_visible()
        notebook.screenshot(tmp_path / "widgets.png")

        assert not notebook.errors()
        notebook.press("Fail")
        assert notebook.errors() == ["KeyError: 'key'"]

        bad = lab.open("bad.ipynb")
        bad.run_all()
        assert bad.errors() == ["ZeroDivisionError: division by zero"]
    assert (tmp_path / "widgets.png").stat().st_size > 10_000
    assert (tmp_path / "widgets.ipynb").read_bytes() == before


@pytest.mark.slow
def test_the_explorer_answers(tmp_path, smoke_root):
    notebook = load_notebook_node(str(PROJECT_ROOT / "notebooks" / "07_explore.ipynb"))
    overlays = [f"params/{name}.yaml" for name in ("synthetic", "smoke")]
    given = {"out_root": str(smoke_root), "overlays": overlays}
    adapted = parameterize_notebook(notebook, given)
    nbformat.write(adapted, tmp_path / "explore.ipynb")
    with open_lab(tmp_path) as lab:
        explore = lab.open("explore.ipynb")
        explore.run_all()
        assert not explore.errors()
        text, pictures = explore.page.locator(".widget-html"), explore.page.locator(".widget-image")

        def seen():
            return [pictures.nth(i).get_attribute("src") for i in range(pictures.count())]

        assert "trained at 14 px and sees 14 px" in text.inner_text()
        first = seen()
        assert len(first) == 3 and all(first)
        explore.slide("LR size, px", 8)
        assert "sees 8 px" in text.inner_text()
        for label, option in {
            "kernel": "nearest", "expression": "surprise", "attribution": "occlusion",
        }.items():  # fmt: skip
            before = seen()
            explore.choose(label, option)
            assert seen()[2] != before[2], f"{label}: the attribution did not change"
        explore.slide("blur, px", 2)
        runs = explore.page.locator(".widget-dropdown select").first
        other = runs.locator("option").all_inner_texts()[1]
        explore.choose("run", other)
        assert "trained at 14 px and sees 14 px" in text.inner_text()
        assert not explore.errors()
        explore.screenshot(tmp_path / "explore.png")
