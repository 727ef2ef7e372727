"""Runs notebooks from the command line and files what they made in their run folders.

    python -m gmelib.run notebooks/02_teacher.ipynb -f params/base.yaml -f params/cpu.yaml
    python -m gmelib.run notebooks/0[1236]*.ipynb -f params/base.yaml -p seed 1
    python -m gmelib.run --report executed.ipynb

Papermill executes, with the project root as working folder. What plain papermill leaves out is done
here: every parameter is checked before anything starts (papermill only logs a misspelt name), and
afterwards the executed notebook and a report.html without code lie in the run folder that the
notebook announced (:meth:`gmelib.record.Run.announce`). Later ``-f`` files win over earlier ones,
``-p`` over all. Exit status: 0 all done, 1 a notebook failed, 2 nothing was started, 130 stopped.
"""

import argparse
import difflib
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from papermill.exceptions import PapermillExecutionError, PapermillMissingParameterException
from papermill.parameterize import add_builtin_parameters, parameterize_path

from gmelib import record
from gmelib.arguments import existing, read_parameters
from gmelib.config import PROJECT_ROOT, Config, InputError, resolve
from gmelib.filing import file_away

UNFILLED = (AttributeError, IndexError, TypeError, ValueError)  # of str.format
UNFINISHED = ".unfinished"  # under out_root: notebooks being executed, failed or killed


class NotebookFailed(RuntimeError):
    """A notebook that stopped with an error: one line naming the error and the half notebook.

    ``name`` is the class of the error, as its kernel or papermill tells it.
    """

    def __init__(self, message: str, name: str):
        super().__init__(message)
        self.name = name


# -- parameters -----------------------------------------------------------------------------------


def check_parameters(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters to hand to ``notebook``: the given ones, and ``batch`` where it knows that.

    Raises:
        InputError: the notebook is missing or unreadable, has no parameter of a given name, or a
            value is one that :class:`~gmelib.config.Config` or the method refuses.
    """
    if not notebook.is_file():
        raise InputError(f"{notebook}: no such notebook; expected one of notebooks/*.ipynb")
    try:
        known = papermill.inspect_notebook(str(notebook))
    except Exception as error:  # json, nbformat and papermill each have their own
        raise InputError(
            f"{notebook}: not readable as a notebook ({_last_line(error)}); restore it"
        ) from None
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]!r}?" if near else "it has no parameters"
            raise InputError(f"{notebook.name}: unknown parameter {name!r}: {hint}")
    if set(known) <= set(Config.model_fields):
        rest = {name: value for name, value in given.items() if name != "overlays"}
        cfg = Config.load(*Config.files(given.get("overlays")), **rest)
        if cfg.method_options:
            from gmelib.methods import options_of  # brings torch, which takes seconds to load

            options_of(cfg)
    return dict(given) | ({"batch": True} if "batch" in known else {})


def check_kernel(name: str) -> None:
    """Raises :class:`InputError` unless Jupyter knows the kernel."""
    try:
        KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        raise InputError(
            f"--kernel {name}: Jupyter knows no such kernel; expected python3, that of the "
            "environment that runs this command (jupyter kernelspec list shows all)"
        ) from None


# -- execution ------------------------------------------------------------------------------------


@contextmanager
def _kernel_environment() -> Iterator[None]:
    """Kernels inherit it: gmelib importable without being installed, no debugger warnings."""
    before = dict(os.environ)
    paths = [str(PROJECT_ROOT), *filter(None, [before.get("PYTHONPATH")])]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    kernel: str = "python3",
    progress: bool = True,
) -> None:
    """Executes ``notebook`` into ``output``, which is saved cell by cell.

    Raises:
        NotebookFailed: a cell raised, or the kernel died.
    """
    target = str(output).replace("{", "{{").replace("}", "}}")  # papermill would fill it in again
    try:
        with _kernel_environment():
            papermill.execute_notebook(
                notebook,
                target,
                parameters=dict(parameters),
                kernel_name=kernel,
                cwd=PROJECT_ROOT,
                progress_bar=progress,
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # else: TCP warnings
            )
    except PapermillExecutionError as error:
        reason = f"cell [{error.exec_count}]: {error.ename}: {_last_line(error.evalue)}"
        message = f"{notebook.name} failed in {reason}; see {_short(output)}"
        raise NotebookFailed(message, error.ename) from error
    except Exception as error:  # a kernel that died, a full disk: still one line
        reason = f"{type(error).__name__}: {_last_line(error)}"
        message = f"{notebook.name} failed: {reason}; see {_short(output)}"
        raise NotebookFailed(message, type(error).__name__) from error


def run(
    notebook: Path,
    parameters: Mapping[str, Any],
    *,
    output: Path | None = None,
    kernel: str = "python3",
    progress: bool = True,
) -> Path:
    """Executes one notebook with checked parameters and files it; returns the report's path.

    Args:
        output: where the executed notebook goes besides its run folder; None: nowhere.
        progress: show a bar over the cells.

    Raises:
        NotebookFailed: the half-executed notebook is kept, and the line names it.
        InputError: a folder cannot be written.
    """
    out_root = resolve(parameters.get("out_root", "outputs"))
    owner = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{socket.gethostname()}"
    executed = output or out_root / UNFINISHED / f"{notebook.stem}-{owner}.ipynb"
    try:
        executed.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise record.unwritable(executed.parent, error) from error
    execute(notebook, executed, parameters, kernel=kernel, progress=progress)
    return file_away(executed, notebook.stem, out_root=out_root, keep=output is not None)


# -- command line ---------------------------------------------------------------------------------


def _last_line(error: Any) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _filled(output: str, parameters: Mapping[str, Any]) -> Path:
    """The path of ``-o``: ``{name}`` in it is a parameter's value, as in plain papermill."""
    try:
        return Path(parameterize_path(output, add_builtin_parameters(parameters))).resolve()
    except (PapermillMissingParameterException, *UNFILLED) as error:
        raise InputError(
            f"-o {output}: cannot be filled in ({_last_line(error)}); expected in braces the name "
            "of a parameter given with -f or -p, such as {dataset}, and other braces doubled"
        ) from None


def _short(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT) if PROJECT_ROOT in path.parents else path)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.run", description="Run notebooks and write their reports."
    )
    add = parser.add_argument
    add("notebooks", nargs="*", metavar="NOTEBOOK", help="run in this order")
    add("-f", dest="overlays", metavar="YAML", action="append", default=[], help="later ones win")
    add("-p", dest="pairs", metavar=("NAME", "VALUE"), nargs=2, action="append", default=[])
    add("-o", dest="output", metavar="OUT.ipynb", help="keep the executed notebook here, too")
    add("--kernel", default="python3")
    add("--report", metavar="EXECUTED.ipynb", help="only file and convert an executed notebook")
    args = parser.parse_args(argv)
    if bool(args.notebooks) == bool(args.report):
        parser.error("expected notebooks to run, or --report with an executed one")
    if args.output and len(args.notebooks) != 1:
        parser.error("-o OUT.ipynb: expected exactly one notebook")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args, reports = _arguments(argv), []
    try:
        given = read_parameters(args.overlays, args.pairs)
        if args.report:
            executed = existing(args.report)
            if not executed.is_file():
                raise InputError(f"{args.report}: no such notebook; expected an executed one")
            out_root = resolve(given.get("out_root", "outputs"))
            reports.append(file_away(executed, executed.stem, out_root=out_root, keep=True))
        check_kernel(args.kernel)
        jobs = [(path, check_parameters(path, given)) for path in map(existing, args.notebooks)]
        output = _filled(args.output, jobs[0][1]) if args.output else None
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        for path, parameters in jobs:
            print(f"{path.name} ...", file=sys.stderr, flush=True)
            reports.append(run(path, parameters, output=output, kernel=args.kernel))
        status = 0
    except (NotebookFailed, InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        # nbclient leaves coroutines behind, of which Python would complain under this line
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        print("stopped; the same command goes on from the last finished epoch", file=sys.stderr)
        status = 130
    if reports:
        print("reports:", *(f"  {_short(report)}" for report in reports), sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
