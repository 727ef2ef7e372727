"""Which data sets are here, and are they what was published?

    python -m gmelib.check data                        every data set under the folder data
    python -m gmelib.check data --dataset fer2013      that one alone
    python -m gmelib.check data --exact                no search for near copies (seconds)
    python -m gmelib.check -f params/expw.yaml -p expw_align boxes     read as a notebook would

For each: the layout found, faces of every class and split beside the published numbers, class
balance, copies across splits (exact, and near ones by perceptual hash) and files that cannot be
read. No face of ExpW is cut out: where that is not done yet, its lists and photographs are looked
at. Exit status: 0 all that is here is well, 1 something is damaged or unlike what was published, 2
nothing is here, or a parameter is wrong.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from gmelib.arguments import read_parameters
from gmelib.config import Config, InputError
from gmelib.data import DATASETS, DataReport, FaceSet, check_dataset
from gmelib.data.check import check_photographs
from gmelib.data.decode import open_image
from gmelib.data.duplicates import copies_between, find_copies, leaked
from gmelib.data.faceset import shown
from gmelib.predict.pictures import SUFFIXES

LISTED = 20  # unreadable files that are named
NAMED = ("fer2013", "ferplus", "rafdb", "expw")
OTHER_PLACES = {"raf-db", "dataset"}  # of RAF-DB; all other folders hold one's own faces
# Where the images of a data set lie: in a folder of its own, or else in these.
PLACES = {
    "fer2013": (("fer2013",), ("train", "validation", "val", "test")),
    "ferplus": ((), ()),  # a csv file holds them
    "rafdb": (("rafdb", "RAF-DB"), ("DATASET", "Image", "train", "test")),
}


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
    bad: list[str] = []
    if cfg.dataset == "expw":
        report, bad = check_photographs(cfg)
    else:
        report = check_dataset(cfg)
        if report.faces is None and not report.is_missing:
            bad = [line for place in places_of(cfg) for line in unreadable_files(place)]
    if report.faces is None:
        train = None if report.counts.empty else report.counts["train"].drop("all")
        return Examination(report, None, [] if train is None else [_balance(train)], bad)
    copies = find_copies(report.faces, near=near, progress=True)
    sentences = [
        _balance(report.faces.counts()["train"]),
        *(_near_copies(report.faces, copies) if near else ()),
    ]
    table = copies_between(copies)
    if not near:
        table = table.drop(columns="exact or near")
    return Examination(report, table, sentences, bad)


def places_of(cfg: Config) -> list[Path]:
    """The folders whose image files may belong to a data set."""
    root = cfg.path("data_root")
    if cfg.dataset == "folder":
        return [root / cfg.folder_name]
    own, loose = ([root / name for name in names] for names in PLACES[cfg.dataset])
    return [place for place in own if place.is_dir()] or [p for p in loose if p.is_dir()]


def unreadable_files(root: Path) -> Iterator[str]:
    """A line for every image file under a folder that cannot be decoded."""
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in tqdm(files, desc="files", unit="file", disable=len(files) < 1000):
        try:
            open_image(path)
        except InputError as error:
            yield str(error)


def _balance(train: pd.Series) -> str:
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


def _made(given: Mapping[str, Any], **more: str) -> Config:
    values = dict(given) | more
    return Config.load(*values.pop("overlays", ()), **values)


def configurations(given: Mapping[str, Any], only: Sequence[str] = ()) -> Iterator[Config]:
    """What may lie under a folder: the data sets by name, then sub-folders of one's own faces.

    Args:
        given: parameters; ``data_root`` is that folder.
        only: data sets; empty means all.
    """
    for dataset in NAMED:
        if dataset in DATASETS and (not only or dataset in only):
            yield _made(given, dataset=dataset)
    if only and "folder" not in only:
        return
    if "folder_name" in given:
        yield _made(given, dataset="folder")
        return
    root = _made(given).path("data_root")
    for place in sorted(path for path in root.iterdir() if path.is_dir()):
        own = place.name.lower() not in {*NAMED, *OTHER_PLACES}
        if own and (place / "train").is_dir():
            yield _made(given, dataset="folder", folder_name=place.name)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gmelib.check", description="What is in a folder of data sets."
    )
    add = parser.add_argument
    add("data_root", nargs="?", help="the folder that holds the data sets; by default data")
    add("--dataset", action="append", default=[], choices=[*NAMED, "folder"], help="look at it")
    add("--exact", action="store_true", help="search for exact copies alone, not for near ones")
    add("-f", dest="overlays", metavar="YAML", action="append", default=[], help="later ones win")
    add("-p", dest="pairs", metavar=("NAME", "VALUE"), nargs=2, action="append", default=[])
    return parser.parse_args(argv)


def _chosen(args: argparse.Namespace) -> list[Config]:
    """The configurations to look at; InputError for a wrong parameter and for no folder."""
    given = read_parameters(args.overlays, args.pairs)
    named = given.pop("dataset", None)
    if named not in (None, *NAMED, "folder"):
        raise InputError(
            f"parameter dataset = {named!r}: expected one of {', '.join(NAMED)}, folder, whose "
            "files can be looked at"
        )
    if args.data_root is not None:
        given["data_root"] = args.data_root
    root = _made(given).path("data_root")
    if not root.is_dir():
        raise InputError(f"{shown(root)}: no such folder; name the one that holds the data sets")
    return list(configurations(given, args.dataset or ([named] if named else [])))


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    try:
        chosen = _chosen(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found: list[Examination] = []
    missing: list[DataReport] = []
    for cfg in chosen:
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
