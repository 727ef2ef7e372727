"""Reads outputs/index.html back as a table, for the tests of it."""

from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup

from gmelib.index import write_index

STUDENT, PLAIN = "synthetic/student/*kd5*", "synthetic/student/*nokd*"


def rows_of(out_root: Path) -> list[dict[str, str]]:
    """The page's table: column -> text, with the page's own names and the row's links."""
    page = BeautifulSoup(write_index(out_root).read_text(), "html.parser")
    names = [cell.get_text() for cell in page.select("thead th")]
    rows = []
    for line in page.select("tbody tr"):
        cells = line.find_all(["th", "td"], recursive=False)
        assert len(cells) == len(names)
        row = {n: cell.get_text(" ", strip=True) for n, cell in zip(names, cells, strict=True)}
        row["links"] = {a.get_text(): a["href"] for a in line.select("a")}
        for href in row["links"].values():
            assert (out_root / unquote(href)).is_file(), f"{href} leads nowhere"
        rows.append(row | {"hidden": line.has_attr("hidden")})
    return rows


def row_of(out_root: Path, text: str) -> dict:
    (row,) = [row for row in rows_of(out_root) if text in row["run"]]
    return row


def only(root: Path, pattern: str) -> Path:
    (folder,) = root.glob(pattern)
    return folder
