"""Trains one network from the command line, by one process or by several that torchrun starts.

    torchrun --standalone --nproc-per-node 2 -m gmelib.launch teacher -f params/base.yaml -p seed 1
    python -m gmelib.launch student -f params/base.yaml -f params/fer2013.yaml -f params/cpu.yaml

The run is the one that 02_teacher or 03_student_distillation means by the same ``-f`` and ``-p``:
done is loaded, broken resumed, missing trained. The notebook, run afterwards, loads it and writes
the report. Exit status: 0 done, 1 failed, 2 nothing was started, 130 stopped; torchrun makes 1 of
any but 0. Of several processes, one alone says what went wrong.
"""

import argparse
import os
import sys
import time
import traceback
import warnings
from collections.abc import Sequence

from gmelib import processes
from gmelib.arguments import read_parameters
from gmelib.config import Config, InputError
from gmelib.data import load_faces
from gmelib.experiment import run_student, run_teacher

STAGES = {"teacher": run_teacher, "student": run_student}


def configuration(overlays: Sequence[str], pairs: Sequence[Sequence[str]]) -> Config:
    """What a notebook would make of the same ``-f`` and ``-p``; :class:`InputError` if nothing."""
    given = read_parameters(overlays, pairs) | {"batch": True}
    start = Config.files(given.setdefault("overlays", Config().overlays))
    return Config.load(*start, **given)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.launch", description="Train one network, by torchrun on many GPUs."
    )
    add = parser.add_argument
    add("stage", choices=STAGES)
    add("-f", dest="overlays", metavar="YAML", action="append", default=[], help="later ones win")
    add("-p", dest="pairs", metavar=("NAME", "VALUE"), nargs=2, action="append", default=[])
    return parser.parse_args(argv)


def _say(text: str) -> None:
    if processes.is_first_to_fail():
        print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    args, started = _arguments(argv), False
    try:
        with processes.joined():
            if not processes.is_first():
                warnings.simplefilter("ignore")  # the first says the same
            cfg = configuration(args.overlays, args.pairs)
            processes.claim_device(cfg.device)
            started = True
            faces = processes.first_then_others(load_faces, cfg)
            run = STAGES[args.stage](cfg, faces)
            if processes.is_first():
                print(f"run folder: {run.label}")
        return 0
    except InputError as error:
        _say(f"error: {error}")
        return 1 if started else 2
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from the last finished epoch")
        return 130
    except Exception:  # also of a process whose peer has ended
        _say(traceback.format_exc())
        return 1


def _end(status: int) -> None:
    """Ends a process whose peers may wait for it for ever: nothing at exit may wait for them."""
    if status and processes.world() > 1:
        if not processes.is_first():
            time.sleep(1)  # torchrun ends the others at once: the first tidies up
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    _end(main())
