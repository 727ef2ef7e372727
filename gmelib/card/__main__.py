"""Writes model cards: `python -m gmelib.card RUN ...` puts one into each run's folder."""

import argparse
import sys

from gmelib.card import write_card
from gmelib.config import InputError, resolve
from gmelib.data.faceset import shown


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.card", description="Write the model cards of finished runs."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of teachers or students")
    options = parser.parse_args(arguments)
    try:
        for folder in options.runs:
            print(shown(write_card(resolve(folder))))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
