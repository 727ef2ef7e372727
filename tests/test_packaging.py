"""pyproject.toml, constraints.txt, environment.yml, the Makefile and .ci/run say the same."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gmelib.config import PROJECT_ROOT

X86 = {"platform_machine": "x86_64", "sys_platform": "linux"}
ARM = {"platform_machine": "aarch64", "sys_platform": "linux"}
PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def parse(lines) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def pins(machine: dict[str, str]) -> dict[str, str]:
    """Name to version in constraints.txt, on a machine."""
    lines = (PROJECT_ROOT / "constraints.txt").read_text().splitlines()
    found: dict[str, str] = {}
    for entry in parse(line for line in lines if line and not line.startswith("#")):
        if entry.marker is None or entry.marker.evaluate(machine):
            (spec,) = entry.specifier
            name = canonicalize_name(entry.name)
            assert spec.operator == "==" and name not in found, entry
            found[name] = spec.version
    return found


def declared(*extras: str) -> list[Requirement]:
    found = parse(PROJECT["dependencies"] + [line for extra in extras for line in EXTRAS[extra]])
    return [entry for entry in found if entry.name != PROJECT["name"]]


@pytest.mark.parametrize("machine", [X86, ARM], ids=["x86_64", "aarch64"])
def test_every_range_has_a_pin_inside_it(machine):
    pinned = pins(machine)
    for entry in declared(*EXTRAS):
        assert entry.specifier.contains(pinned[canonicalize_name(entry.name)]), entry


def test_torch_and_torchvision_are_the_pair_of_each_machine():
    assert (pins(X86)["torch"], pins(X86)["torchvision"]) == ("2.14.1", "0.29.1")
    assert (pins(ARM)["torch"], pins(ARM)["torchvision"]) == ("2.9.1", "0.24.1")
    assert not [name for name in pins(ARM) if name.startswith(("nvidia", "cuda", "triton"))]


def test_dependencies_of_dependencies_are_pinned():
    """Walks the installed packages' own requirements."""
    pinned, seen = pins({}), set()
    todo = [(canonicalize_name(e.name), frozenset(e.extras)) for e in declared(*EXTRAS)]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        assert name in pinned, f"{name}: no line in constraints.txt"
        try:
            needs = parse(requires(name) or ())
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        for entry in needs:
            wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if entry.marker is None or any(map(entry.marker.evaluate, wanted)):
                todo.append((canonicalize_name(entry.name), frozenset(entry.extras)))


def test_every_import_is_declared():
    """At the top of a file: a dependency. Inside a function: a dependency or an extra."""
    owners = packages_distributions()
    core = {canonicalize_name(e.name) for e in declared()}
    some = {canonicalize_name(e.name) for e in declared(*EXTRAS)}
    for path in sorted((PROJECT_ROOT / "gmelib").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for top in {name.split(".")[0] for name in names}:
                if top in sys.stdlib_module_names or top == "gmelib":
                    continue
                owner = set(map(canonicalize_name, owners.get(top, ()))) | IMPLIED.get(top, set())
                if top in UNDECLARED and node not in tree.body:
                    continue
                assert owner & (core if node in tree.body else some), f"{path.name}: {top}"


# Its own pins forbid the versions that this project needs, so no extra can name it; the line that
# installs it without them stands in the error that its absence raises.
UNDECLARED = {"facenet_pytorch"}
# Modules that come with a declared package by that package's own promise, and those of extras
# that the tests may do without.
IMPLIED = {
    "IPython": {"ipykernel"}, "jupyter_client": {"ipykernel"}, "scipy": {"scikit-learn"},
    "ai_edge_litert": {"ai-edge-litert"}, "skimage": {"scikit-image"},
}  # fmt: skip


def test_environment_yml_brings_this_project_with_its_pins():
    content = yaml.safe_load((PROJECT_ROOT / "environment.yml").read_text())
    python, pip, installed = content["dependencies"]
    assert content["name"] == PROJECT["name"] and pip == "pip"
    assert python == "python" + PROJECT["requires-python"]
    assert installed == {"pip": ["-c constraints.txt", "-e .[dev]"]}


def make(*arguments: str, folder: Path = PROJECT_ROOT) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, env=clean
    )  # the surrounding make's flags and variables would count here, too


needs_make = pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")


@needs_make
def test_make_alone_is_help_and_lists_every_target():
    shown = make().stdout
    for target in ("run", "test", "lab", "index", "lint", "verify-published", "clean", "help"):
        assert f"make {target} " in shown
    assert shown == make("help").stdout


@needs_make
def test_run_and_test_set_up_first(tmp_path):
    for target in ("run", "test", "lab", "index", "lint", "verify-published"):
        plan = make("-n", target, f"VENV={tmp_path / 'venv'}").stdout
        assert plan.index("-m venv") < plan.index("pip install") < plan.rindex("/bin/python -m ")
        assert "-c constraints.txt -e '.[dev]'" in plan


def copy_of_the_front_door(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT_ROOT / name, tmp_path)


@needs_make
def test_set_up_is_repeated_only_when_pins_change(tmp_path):
    """With a python that does nothing, so that only the Makefile's bookkeeping is run."""
    copy_of_the_front_door(tmp_path)
    fake = tmp_path / "python"
    fake.write_text(
        '#!/bin/sh\nif [ "$2" = venv ]; then mkdir -p .venv/bin; cp "$0" .venv/bin/python; fi\n'
        'if [ "$3" = install ]; then echo install >> log; [ ! -e broken ]; fi\n'
    )
    fake.chmod(0o755)

    def set_up():
        done = make("setup", "PYTHON=./python", folder=tmp_path)
        return done.returncode == 0, len((tmp_path / "log").read_text().splitlines())

    (tmp_path / "broken").write_text("")
    assert set_up() == (False, 1)
    assert not list((tmp_path / ".venv").glob(".ready*")), "a failed set-up left its stamp"
    (tmp_path / "broken").unlink()
    assert set_up() == (True, 2)
    assert set_up() == (True, 2)
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert set_up() == (True, 3)


@needs_make
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("[ $1 = -V ] && echo Python 3.9.2 && exit; exit 1", "is Python 3.9.2; expected 3.11"),
        ("case $2 in *ensurepip*) exit 1; esac", "has no venv module"),
    ],
)
def test_unfit_python_is_named(tmp_path, script, said):
    copy_of_the_front_door(tmp_path)
    (tmp_path / "old").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "old").chmod(0o755)
    done = make("run", "PYTHON=./old", folder=tmp_path)
    assert done.returncode and said in done.stderr
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_missing_python_is_named(tmp_path):
    copy_of_the_front_door(tmp_path)
    done = make("run", "PYTHON=./none", folder=tmp_path)
    assert done.returncode and "./none: not found; install Python 3.11" in done.stderr


@needs_make
def test_clean_keeps_runs_and_published(tmp_path):
    copy_of_the_front_door(tmp_path)
    kept = ["outputs/published/fer2013/run.json", "outputs/synthetic/teacher/a/run.json"]
    gone = ["outputs/.cache/x", "gmelib/__pycache__/a.pyc", ".ruff_cache/x"]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert not make("clean", folder=tmp_path).returncode
    assert all((tmp_path / name).is_file() for name in kept)
    assert not any((tmp_path / name).exists() for name in gone)


def test_ci_makes_the_tests_and_recomputes_what_is_published():
    path = PROJECT_ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK)
    text = path.read_text()
    assert "set -euo pipefail" in text and text.endswith("\nmake test\nmake verify-published\n")
