"""An executed notebook as one HTML page to read: prose, tables and figures, no code.

The page needs no network and no JavaScript: images are embedded, formulas are drawn, widgets (which
need a kernel) and progress bars are left out.
"""

import base64
import copy
import html
import io
import re
from typing import Any

import nbformat
from nbconvert import HTMLExporter

WIDGET = "application/vnd.jupyter.widget-view+json"
_STYLE = "<style>main { max-width: 64rem; margin: 0 auto; padding: 0 1rem; }</style>"
_PROGRESS_BAR = re.compile(r"\d+%\|.*\||\d+it \[")  # as tqdm draws it
_CODE_OR_MATH = re.compile(  # groups: code, display formula, inline formula
    r"(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])", re.S
)


def draw_formula(tex: str, *, size: float = 11) -> str:
    """A TeX formula as an ``<img>`` with its source as alternative text, at ``size`` points.

    What matplotlib's mathtext cannot draw is returned as code.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    tex, buffer = " ".join(tex.split()), io.BytesIO()
    try:
        depth = math_to_image(
            f"${tex}$", buffer, prop=FontProperties(size=size), dpi=72, format="svg"
        )
    except ValueError:
        return f"<code>{html.escape(tex)}</code>"
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img alt="{html.escape(tex)}" style="display: inline; vertical-align: {-depth:.1f}pt" '
        f'src="data:image/svg+xml;base64,{data}">'
    )


def _with_formulas(markdown: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code, display, inline = match.groups()
        if code:
            return code
        if display:
            return f'<p style="text-align: center">{draw_formula(display, size=13)}</p>'
        return draw_formula(inline)

    return _CODE_OR_MATH.sub(replace, markdown)


def _without_bars(text: str) -> str:
    """What a terminal would show after carriage returns, less the progress bars."""
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    return "\n".join(line for line in lines if not _PROGRESS_BAR.search(line)).strip("\n")


def _readable(outputs: list[Any]) -> list[Any]:
    kept = []
    for output in outputs:
        if WIDGET in output.get("data", ()):
            continue
        if output.output_type == "stream":
            output.text = _without_bars(output.text)
            if not output.text:
                continue
        kept.append(output)
    return kept


def _prepared(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _with_formulas(cell.source)
        elif cell.cell_type == "code":
            cell.outputs = _readable(cell.outputs)
    notebook.cells = [c for c in notebook.cells if c.cell_type != "code" or c.outputs]
    return notebook


def _title(notebook: nbformat.NotebookNode) -> str:
    for cell in notebook.cells:
        heading = re.match(r"#\s+(.+)", cell.source)
        if cell.cell_type == "markdown" and heading:
            return heading[1].strip()
    return ""


def to_html(notebook: nbformat.NotebookNode, *, source: str) -> str:
    """Renders an executed notebook; ``source`` is the notebook's name, kept in the page's head."""
    exporter = HTMLExporter(
        exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True
    )
    resources = {"metadata": {"name": _title(notebook) or source}}
    page, _ = exporter.from_notebook_node(_prepared(notebook), resources)
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.S)  # MathJax, Mermaid, RequireJS
    head = f'<meta name="notebook" content="{html.escape(source)}">\n{_STYLE}\n</head>'
    return page.replace("</head>", head, 1)
