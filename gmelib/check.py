"""Which data sets are here, and are they what was published?

    python -m gmelib.check data                        every data set under the folder data
    python -m gmelib.check data --dataset fer2013      that one alone
    python -m gmelib.check data --exact                no search for near copies (seconds)

For each: the layout found, faces of every class and split beside the published numbers, class
balance, copies across splits (exact, and near ones by perceptual hash) and files that cannot be
read. Exit status: 0 all that is here is well, 1 something is damaged or unlike what was published,
2 nothing is here.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from gmelib.config import Config, InputError
from gmelib.data import DATASETS, DataReport, FaceSet, check_dataset
from gmelib.data.decode import open_image
from gmelib.data.duplicates import copies_between, find_copies, leaked
from gmelib.data.faceset import shown
from gmelib.predict.pictures import SUFFIXES

LISTED = 20  # unreadable files that are named
NAMED = ("fer2013", "ferplus", "rafdb", "expw")
OTHER_PLACES = {"raf-db", "dataset"}  # of RAF-DB; all other folders hold one's own faces


@dataclass(frozen=True)
class Examination:
    """What is known of a data set that is here."""

    report: DataReport
    copies: pd.DataFrame | None  # as copies_between; None where nothing could be loaded
    sentences: list[str]  # on copies and class balance
    unreadable: list[str]  # one line a file

    @property
    def is_well(self) -> bool:
        return not self.report.problems and not self.unreadable

    def __str__(self) -> str:
        parts = [str(self.report), *self.sentences]
        if self.copies is not None and self.copies.to_numpy().any():
            parts.append(self.copies.to_string())
        if self.unreadable:
            parts.append(f"{len(self.unreadable)} files cannot be read:")
            parts += [f"  {line}" for line in self.unreadable[:LISTED]]
            if len(self.unreadable) > LISTED:
                parts.append(f"  and {len(self.unreadable) - LISTED} more")
        return "\n".join(parts)


def examine(cfg: Config, *, near: bool = True) -> Examination:
    """Looks at ``cfg.dataset`` without ever failing.

    Args:
        near: also search for near copies; False finds exact ones alone.
    """
    report = check_dataset(cfg)
    if report.faces is None:
        bad = [] if report.is_missing else list(unreadable_files(place_of(cfg)))
        return Examination(report, None, [], bad)
    copies = find_copies(report.faces, near=near, progress=True)
    sentences = [_balance(report.faces), *(_near_copies(report.faces, copies) if near else ())]
    table = copies_between(copies)
    if not near:
        table = table.drop(columns="exact or near")
    return Examination(report, table, sentences, [])


def place_of(cfg: Config) -> Path:
    """The folder whose files may belong to a data set."""
    root = cfg.path("data_root")
    own = root / (cfg.folder_name if cfg.dataset == "folder" else cfg.dataset)
    return own if own.is_dir() else root


def unreadable_files(root: Path) -> Iterator[str]:
    """A line for every image file under a folder that cannot be decoded."""
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in tqdm(files, desc="files", unit="file", disable=len(files) < 1000):
        try:
            open_image(path)
        except InputError as error:
            yield str(error)


def _balance(faces: FaceSet) -> str:
    train = faces.counts()["train"]
    if not train.min():
        return f"training faces of {', '.join(train.index[train == 0])}: none"
    ratio = train.max() / train.min()
    return (
        f"class balance: {train.idxmax()} {train.max():,} training faces, {train.idxmin()} "
        f"{train.min():,} ({ratio:.1f} to 1)"
    )


def _near_copies(faces: FaceSet, copies: pd.DataFrame) -> Iterator[str]:
    for split, part in leaked(copies, near=True).groupby("split", sort=False):
        yield (
            f"{split} faces with an exact or near copy in train: {len(part):,} of "
            f"{(faces.split == split).sum():,}; drop_duplicates = near trains without those"
        )


# -- a whole folder -------------------------------------------------------------------------------


def configurations(data_root: str, only: Sequence[str] = ()) -> Iterator[Config]:
    """What may lie under a folder: the data sets by name, then sub-folders of one's own faces."""
    for dataset in NAMED:
        if dataset in DATASETS and (not only or dataset in only):
            yield Config.make(dataset=dataset, data_root=data_root)
    if only and "folder" not in only:
        return
    root = Config.make(data_root=data_root).path("data_root")
    for place in sorted(path for path in root.iterdir() if path.is_dir()):
        own = place.name.lower() not in {*NAMED, *OTHER_PLACES}
        if own and (place / "train").is_dir():
            yield Config.make(dataset="folder", data_root=data_root, folder_name=place.name)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.check", description="What is in a folder of data sets."
    )
    add = parser.add_argument
    add("data_root", nargs="?", default="data", help="the folder that holds the data sets")
    add("--dataset", action="append", default=[], choices=[*NAMED, "folder"], help="look at it")
    add("--exact", action="store_true", help="search for exact copies alone, not for near ones")
    args = parser.parse_args(argv)
    root = Config.make(data_root=args.data_root).path("data_root")
    if not root.is_dir():
        print(f"error: {shown(root)}: no such folder; name the one that holds the data sets",
              file=sys.stderr)  # fmt: skip
        return 2
    found: list[Examination] = []
    missing: list[DataReport] = []
    for cfg in configurations(args.data_root, args.dataset):
        examined = examine(cfg, near=not args.exact)
        if examined.report.is_missing:
            missing.append(examined.report)
            continue
        found.append(examined)
        print(examined, end="\n\n", flush=True)
    for report in missing:
        print(f"{report.dataset}: not here; expected {report.layout}; ask at {report.source}")
    if not found:
        return 2
    return int(not all(examined.is_well for examined in found))


if __name__ == "__main__":
    sys.exit(main())
