"""Exports a run's network: `python -m gmelib.export RUN [--out FOLDER]`."""

import argparse
import json
import sys

import torch

from gmelib.config import InputError, resolve
from gmelib.data.faceset import shown
from gmelib.export.bundle import RECORD, export_run, run_in, summary


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.threads:
            torch.set_num_threads(options.threads)
        place = export_run(
            run_in(resolve(options.run)),
            resolve(options.out) if options.out else None,
            size=options.size,
            channels=options.channels,
            flip_average=options.flip_average,
            data_root=options.data_root,
            int8=options.int8,
        )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(summary(json.loads((place / RECORD).read_text())))
    print(shown(place))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.export",
        description="Write a run's network as torch.export and ONNX files, checked and measured.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a finished teacher or student")
    add("--out", metavar="FOLDER", help="where to; else export/ in the run's folder in outputs")
    add("--size", type=_positive, default=0, help="side of the faces it will be given, px")
    add("--channels", type=int, choices=(1, 3), default=0, help="1 (grey) or 3 (RGB)")
    add("--data-root", metavar="FOLDER", help="of the data set, to check and calibrate on")
    add("--threads", type=_positive, default=0, help="of the CPU, for the latencies")
    flag = argparse.BooleanOptionalAction
    add("--flip-average", action=flag, default=None, help="as the run, if not given")
    add("--int8", action=flag, default=True, help="an 8-bit file too")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
