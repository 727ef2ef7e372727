"""Predicts the expressions of faces in pictures from the command line.

    python -m gmelib.predict RUN PATH... [--out results.csv]
    python -m gmelib.predict gmenet-12px-kd5-s0-7912f4ca photographs/ --detector mtcnn --out x.csv

RUN is the folder of a finished run or its id; a PATH is an image, a folder or an .npz file. Without
``--out`` the table goes to the standard output. With it the rows stand in ``results.csv.part``
until all is done, and the same command continues after a kill. Exit status: 0 all done, 1 some
pictures could not be read, or it broke off, 2 nothing was started, 130 stopped.
"""

import argparse
import csv
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from gmelib.config import InputError
from gmelib.predict.network import VIEWS, load_predictor
from gmelib.predict.pictures import count_pictures, find_pictures
from gmelib.predict.stream import (
    BLOCK,
    DETECTORS,
    Row,
    answers,
    check_how,
    columns,
    make_detector,
)
from gmelib.predict.table import TEXT, Table, made_by, text_of

Blocks = Iterator[list[Row]] | None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.predict", description="Read expressions off faces in pictures."
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a finished run, or its id")
    add("paths", nargs="+", metavar="PATH", help="image, folder (with all below it), or .npz file")
    add("--out", metavar="results.csv", help="table to write; continued if it is unfinished")
    add("--detector", choices=DETECTORS, default="none", help="none: every picture is a face")
    add("--margin", type=float, default=0.0, help="around a detected face, share of its side")
    add("--batch-size", type=int, default=BLOCK, help="pictures, and faces, at once")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    add("--view", choices=VIEWS, default="auto", help="resolution the network is given")
    return parser.parse_args(argv)


class Printed:
    """A table on the standard output; see :class:`gmelib.predict.table.Table`."""

    def __init__(self, classes: tuple[str, ...]):
        self.classes, self.errors = classes, 0
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(**TEXT)
        self._write([columns(classes)])

    def append(self, rows: Sequence[Row]) -> None:
        self._write([text_of(row, self.classes) for row in rows])
        self.errors += sum(1 for row in rows if row.error)

    def finish(self) -> None:
        """Nothing is left to do."""

    def _write(self, lines: list[list[str]]) -> None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
        sys.stdout.flush()


def _begin(args: argparse.Namespace, held: ExitStack) -> tuple[Table | Printed, Blocks]:
    """Where the rows go, and those that are still to come; None of them where all stand.

    Raises InputError for whatever can be known to be wrong before any picture is read.
    """
    predictor = load_predictor(args.run, view=args.view, device=args.device)
    detect = make_detector(args.detector)
    total, stand = count_pictures(args.paths), 0
    pictures = find_pictures(args.paths)
    how = {"detect": detect, "margin": args.margin, "batch_size": args.batch_size}
    check_how(**how)
    if args.out:
        made = made_by(predictor, args.detector, args.margin, args.batch_size)
        sink = Table(Path(args.out), made, predictor.classes)
        held.enter_context(sink.locked())
        stand = sink.resume(pictures, args.batch_size)
        if stand is None:
            print(f"{args.out}: is finished already", file=sys.stderr)
            return sink, None
    else:
        sink = Printed(predictor.classes)
    bar = tqdm(pictures, total=total, initial=stand, unit="picture", mininterval=1, delay=1)
    return sink, answers(predictor, held.enter_context(bar), **how)


def _go_on(sink: Table | Printed, blocks: Blocks) -> int:
    """Writes all rows; the exit status."""
    if blocks is not None:
        for block in blocks:
            sink.append(block)
        sink.finish()
    if sink.errors:
        print(f"{sink.errors} picture(s) could not be read: see the column error", file=sys.stderr)
    return 1 if sink.errors else 0


def _stop(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    args, status = _arguments(argv), 2
    try:
        with ExitStack() as held:
            held.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _stop))
            sink, blocks = _begin(args, held)
            status = 1
            return _go_on(sink, blocks)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return status
    except BrokenPipeError:  # who read the standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        again = f"; the same command goes on from {args.out}.part" if args.out else ""
        print(f"stopped{again}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
