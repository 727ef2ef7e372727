"""The house rules: import direction, sizes, and what a notebook, an overlay and README may hold."""

import ast
import graphlib
import json
import re
import subprocess
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

from gmelib.config import PROJECT_ROOT, Config, parameters_cell

# A file imports only from files that stand above it. A new one gets its place here.
ORDER = """
namespace parameters fields config arguments lock record filters synthetic faces data degrade
gallery attention blocks model losses compute small_maps processes batches objective peers methods
schedule optimize history checkpoint train metrics evaluate experiment attribution variants paper
wording leaks estimate ablation comparison tables figures explore card export predict report
fer_package robustness index jobs grid listing readme published filing run launch worker
check overview batch
""".split()
SOURCES = sorted((PROJECT_ROOT / "gmelib").rglob("*.py"))
PYTHON = SOURCES + sorted((PROJECT_ROOT / "tests").rglob("*.py"))
NOTEBOOKS = sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))
OVERLAYS = sorted((PROJECT_ROOT / "params").glob("*.yaml"))
MACHINE_PATH = re.compile(
    r"(?<![\w.:/-])/(?:(?:home|Users)/(?!someone)|(?:root|work|opt|mnt|data|scratch)/)\w"
    r"|\b[A-Z]:\\\\"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT))


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=name_of)


# -- source files ---------------------------------------------------------------------------------


def module_of(path: Path) -> str:
    parts = path.relative_to(PROJECT_ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imported_modules(path: Path) -> set[str]:
    """Modules of gmelib that a file imports, anywhere in it."""
    modules = {module_of(source) for source in SOURCES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import; expected `from gmelib...`"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in modules else node.module for name in full}
    return {name for name in found if name.split(".")[0] == "gmelib"}


@each(SOURCES)
def test_imports_point_upwards(path):
    own = module_of(path)
    if own == "gmelib":
        return
    place = own.split(".")[1]
    assert place in ORDER, f"{name_of(path)}: give {place} its place in tests/test_layout.py, ORDER"
    for module in imported_modules(path) - {"gmelib"}:
        other = module.split(".")[1]
        assert ORDER.index(other) <= ORDER.index(place), f"imports {module}, which stands below it"


def test_no_module_imports_itself_around_corners():
    graph = {module_of(path): imported_modules(path) - {module_of(path)} for path in SOURCES}
    graphlib.TopologicalSorter(graph).prepare()


@each(PYTHON)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 320, "split it by noun into a sub-package"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 50, f"{node.name}: {length} lines"


@each(PYTHON)
def test_habits(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert path.name == "__init__.py" or ast.get_docstring(tree), "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), "star import"
        if isinstance(node, ast.Attribute):
            assert node.attr != "cuda" or not is_call_of(tree, node), "use .to(device)"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not MACHINE_PATH.search(node.value), f"path of one machine: {node.value!r}"


def is_call_of(tree: ast.AST, attribute: ast.Attribute) -> bool:
    return any(isinstance(n, ast.Call) and n.func is attribute for n in ast.walk(tree))


def test_machine_paths_are_recognised():
    for path in ("/home" + "/ann/x", "see /root" + "/x", "C:" + "\\\\Users"):
        assert MACHINE_PATH.search(path)
    for text in ("outputs/data/x", "https://x.org/data/y", "a/home/b", "images and/or data/faces"):
        assert not MACHINE_PATH.search(text)


def test_lr_means_low_resolution():
    assert "lr" not in Config.model_fields
    assert all("resolution" in Config.model_fields[n].description or "px" in
               Config.model_fields[n].description for n in Config.model_fields if n[:3] == "lr_")


# -- notebooks ------------------------------------------------------------------------------------


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]


def python_of(cell: nbformat.NotebookNode) -> str:
    """The cell as plain Python: IPython's magics are no syntax."""
    return re.sub(r"^\s*%.*$", "", cell.source, flags=re.M)


@each(NOTEBOOKS)
def test_notebook_is_valid_and_clean(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata and "papermill" not in notebook.metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "strip its outputs"


@each(NOTEBOOKS)
def test_cell_ids_are_names_and_not_random(path):
    ids = [cell.id for cell in read(path).cells]
    assert len(set(ids)) == len(ids)
    for name in ids:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", name), f"{name}: expected cell-01 or a slug"
        assert not re.fullmatch(r"[0-9a-f]{8}", name), f"{name}: expected cell-01 or a slug"


@each(NOTEBOOKS)
def test_notebook_opens_with_its_title_and_question(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert "?" in first.source


@each(NOTEBOOKS)
def test_parameters_are_the_configuration(path):
    (cell,) = tagged(read(path), "parameters")
    defaults = Config().model_dump(mode="json")
    for line in cell.source.splitlines():
        assert re.match(r"# |[a-z_]+: \w+ = .+  # \S", line), line  # name: type = default  # what
    values = {}
    exec(cell.source, values)
    for name in values.keys() - {"__builtins__", "__annotations__"}:
        assert name in defaults, f"{name} is no field of Config"
        assert values[name] == defaults[name], f"{name}: another default than Config's"
        assert type(values[name]) is type(defaults[name]), name
    assert cell.source == parameters_cell(), "made by gmelib.config.parameters_cell()"


@each(NOTEBOOKS)
def test_papermill_knows_type_and_meaning_of_every_parameter(path):
    for name, about in papermill.inspect_notebook(str(path)).items():
        assert about["inferred_type_name"] not in ("", "None"), name
        assert about["help"].strip(), name


@each(NOTEBOOKS)
def test_notebook_is_thin(path):
    for cell in read(path).cells:
        if cell.cell_type != "code" or "parameters" in cell.metadata.get("tags", ()):
            continue
        assert len(cell.source.splitlines()) <= 15, cell.id
        assert not re.search(r"^\s*[!]|^\s*%(cd|pip|conda)", cell.source, flags=re.M), cell.id
        for node in ast.walk(ast.parse(python_of(cell))):
            forbidden = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            assert not isinstance(node, forbidden), f"{cell.id}: move it to gmelib"


@each(NOTEBOOKS)
def test_notebook_names_no_path_of_one_machine(path):
    assert not MACHINE_PATH.search("\n".join(cell.source for cell in read(path).cells))


# -- overlays, README, repository -----------------------------------------------------------------


@each(OVERLAYS)
def test_overlay_holds_fields_of_config(path):
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict) and content
    assert set(content) <= set(Config.model_fields)
    Config.load(path)


def test_commands_in_readme_exist():
    readme = (PROJECT_ROOT / "README.md").read_text()
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", readme, flags=re.M))
    assert named and named <= targets, named - targets
    for path in re.findall(r"(?<![\w/])(?:notebooks|params|gmelib|tests)/[\w./-]+\.\w+", readme):
        assert (PROJECT_ROOT / path).is_file(), f"README names {path}, which is not there"
    for module in re.findall(r"python3? -m (gmelib\.\w+)", readme):
        place = PROJECT_ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module


def test_published_records_name_no_path_of_one_machine():
    folder = PROJECT_ROOT / "outputs" / "published"
    for path in sorted(folder.rglob("*.json")) + sorted(folder.rglob("*.ipynb")):
        text = json.dumps(json.loads(path.read_text()))
        assert not MACHINE_PATH.search(text), name_of(path)


def test_nothing_generated_is_tracked():
    command = ["git", "-C", str(PROJECT_ROOT), "ls-files"]
    try:
        tracked = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git work tree")
    generated = re.compile(
        r"(^|/)(__pycache__|\.venv|\.ipynb_checkpoints|[\w.]+\.egg-info)/|^data/|^outputs/(?!published/)"
    )
    assert not [path for path in tracked if generated.search(path)]
