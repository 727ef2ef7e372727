"""RAF-DB (Li, Deng and Du, CVPR 2017), basic expressions: 15,339 colour faces of 100 x 100 px.

Two layouts are read: the published one, of lists and annotations, and Kaggle's mirror, of one
folder a class beside csv files. Both give the same faces in the same order. There is no validation
split: a stratified share of train is held out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gmelib.config import EXPRESSIONS, Config, InputError
from gmelib.data import rafdb_photographs as photographs
from gmelib.data.cache import cached_faces, file_stamp
from gmelib.data.faceset import FaceSet, MissingData, make_faces, shown, spelt
from gmelib.data.folder import Entry, read_face, split_of, stack, visible

SIDE = 100  # px
LABELS = (
    "surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral",
)  # published 1-7  # fmt: skip
LABEL_OF = {str(number): name for number, name in enumerate(LABELS, start=1)}
LIST = "EmoLabel/list_patition_label.txt"  # spelt so
MIRROR = "DATASET"
SPLITS = ("train", "test")  # published
ROOTS = ("rafdb", "RAF-DB", "rafdb/basic", "RAF-DB/basic", "")  # under data_root
LAYOUT = (
    f"data_root/rafdb/{LIST} with Image/aligned (rafdb_faces = original: Image/original and "
    f"Annotation), or Kaggle's mirror data_root/rafdb/{MIRROR}/<train|test>/<1-7>"
)
SOURCE = "whdeng.cn/RAF/model1.html, by e-mail to its authors"


def read_labels(path: Path) -> dict[str, str]:
    """Image name -> expression, of a list (`name label` lines) or a csv (columns image,label).

    Raises InputError naming file and line for a label other than 1-7, a name that stands twice, a
    line that is neither, and text that is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{shown(path)}: not UTF-8 text; download the file again") from None
    is_csv = path.suffix == ".csv"
    if is_csv and "".join(lines[:1]).replace('"', "").replace(" ", "").lower() != "image,label":
        raise InputError(f"{shown(path)}: no header image,label; download the file again")
    labels, seen = {}, {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (is_csv and number == 1):
            continue
        where = f"{shown(path)}, line {number}"
        name, *rest = (part.strip(' "') for part in line.strip().rsplit("," if is_csv else None, 1))
        if not rest or rest[0] not in LABEL_OF:
            told = f"unknown label {rest[0]!r}" if rest else f"no label in {line.strip()[:60]!r}"
            raise InputError(f"{where}: {told}; expected an image name and 1-7")
        if name in seen:
            raise InputError(
                f"{where}: {name} stands in line {seen[name]} already; expected every image once: "
                "remove one of the lines, or download the file again"
            )
        labels[name], seen[name] = LABEL_OF[rest[0]], number
    return labels


def _match(file: Path, labelled: set[str], folder: Path, present: set[str]) -> None:
    """InputError unless a label file and an image folder name the same images."""
    missing, unknown = sorted(labelled - present), sorted(present - labelled)
    if missing:
        raise InputError(
            f"{shown(folder)}: {len(missing)} of the {len(labelled)} images of {shown(file)} are "
            f"missing, such as {spelt(missing[0])}; expected all of them: unzip or download them "
            "again"
        )
    if unknown:
        raise InputError(
            f"{shown(file)}: no label for {len(unknown)} files in {shown(folder)}, such as "
            f"{spelt(unknown[0])}; expected one for every image: remove the files or add their "
            "labels"
        )


def _published(root: Path, kind: str) -> list[Entry]:
    """The images of the published list; kind: aligned or original."""
    file, folder, entries = root / LIST, root / "Image" / kind, []
    if not folder.is_dir():
        raise InputError(
            f"{shown(folder)}: no such folder; expected the images of {shown(file)}: unzip "
            f"Image/{kind}.zip (rafdb_faces = {kind})"
        )
    for name, expression in read_labels(file).items():
        split = name.partition("_")[0]
        if split not in SPLITS:
            raise InputError(f"{shown(file)}: image {name}: expected train_<...> or test_<...>")
        path = folder / name
        if kind == "aligned":
            path = path.with_stem(f"{path.stem}_aligned")
        entries.append(Entry(path, split, expression))
    present = {path.name for path in visible(folder)}
    _match(file, {entry.path.name for entry in entries}, folder, present)
    return entries


def _mirrored_split(root: Path, split: str) -> list[Entry]:
    folder = root / split
    if not folder.is_dir():
        raise InputError(f"{shown(root)}: no folder {split}; expected {LAYOUT}")
    found: dict[str, Entry] = {}
    for place in filter(Path.is_dir, visible(folder)):
        if place.name not in LABEL_OF:
            raise InputError(
                f"{shown(place)}: unknown class; expected 1-7: for folders that are named by their "
                "class set dataset = folder"
            )
        for path in visible(place):
            if path.name in found:
                raise InputError(
                    f"{shown(path)}: lies in {found[path.name].path.parent.name}, too; expected "
                    "every image once: remove one of the two"
                )
            found[path.name] = Entry(path, split, LABEL_OF[place.name])
    for file in (place / f"{split}_labels.csv" for place in (root, root.parent)):
        if file.is_file():
            _compare(file, folder, found)
            break
    return list(found.values())


def _compare(file: Path, folder: Path, found: dict[str, Entry]) -> None:
    """InputError where a csv says other than the folders."""
    labels = read_labels(file)
    _match(file, set(labels), folder, set(found))
    wrong = [name for name, entry in found.items() if labels[name] != entry.expression]
    if wrong:
        entry = found[wrong[0]]
        raise InputError(
            f"{shown(file)}: {labels[wrong[0]]} for {spelt(wrong[0])}, but it lies in "
            f"{shown(entry.path.parent)}, {entry.expression} ({len(wrong)} such images); expected "
            "one label: correct either, or download both again"
        )


def published_name(path: Path) -> str:
    """The name that the published list gives an image, aligned or not."""
    return path.stem.removesuffix("_aligned") + path.suffix


def _is_mirror(folder: Path) -> bool:
    return any((folder / split / label).is_dir() for split in SPLITS for label in LABEL_OF)


def _find(data_root: Path, kind: str) -> tuple[Path, list[Entry]]:
    """The first layout under data_root, in its folder; InputError names the places."""
    roots = [data_root / name for name in ROOTS]
    for root in roots:
        if (root / LIST).is_file():
            return root, _published(root, kind)
    for folder in (place for root in roots for place in (root / MIRROR, root)):
        if not _is_mirror(folder):
            continue
        if kind == "original":
            raise InputError(
                "parameter rafdb_faces = 'original': photographs and annotations are in the "
                f"published files only, and {shown(folder)} is Kaggle's mirror; set rafdb_faces "
                "= 'aligned'"
            )
        return folder, [entry for split in SPLITS for entry in _mirrored_split(folder, split)]
    is_there = any((data_root / name).is_dir() for name in ROOTS if name)
    raise (InputError if is_there else MissingData)(
        f"{LIST} is missing, and so is {MIRROR}: looked in {', '.join(map(shown, roots))}; "
        f"expected {LAYOUT}; ask for the data at {SOURCE}"
    )


def _aligned_face(path: Path, face_size: int) -> np.ndarray:
    face = read_face(path, face_size)
    if not face_size and len(face) != SIDE:
        raise InputError(
            f"{shown(path)}: {len(face)} px; expected {SIDE} x {SIDE}, as published: download it "
            "again, or set face_size to resize all faces to it"
        )
    return face


def _read(root: Path, entries: list[Entry], cfg: Config) -> FaceSet:
    paths, size = [entry.path for entry in entries], cfg.face_size
    notes = [f"layout: {'published' if (root / LIST).is_file() else 'Kaggle mirror'}"]
    if cfg.rafdb_faces == "original":
        images = stack(paths, lambda path: photographs.face_in(root, path, size or SIDE))
        boxed = sum(not photographs.landmarks_file(root, path).is_file() for path in paths)
        notes += [f"faces cropped by their boxes, for want of landmarks: {boxed}"] * (boxed > 0)
    else:
        images = stack(paths, lambda path: _aligned_face(path, size))
    return make_faces(
        name="rafdb",
        images=images,
        expressions=np.array([entry.expression for entry in entries]),
        split=split_of(entries, cfg.val_fraction),
        ids=np.array([spelt(published_name(path)) for path in paths]),
        classes=EXPRESSIONS[:7],
        extras={"notes": notes},
    )


def load_rafdb(cfg: Config) -> FaceSet:
    """RAF-DB from data_root/rafdb/ (or another of ROOTS); ids are the published image names.

    `rafdb_faces` = aligned: the published faces, or resized to `face_size` px; original: made from
    the photographs, `face_size` px (0: 100). Decoded once, then memory-mapped. Raises InputError
    naming the file that is missing, damaged, without its label, or contradicts another.
    """
    root, entries = _find(cfg.path("data_root"), cfg.rafdb_faces)
    if not entries:
        raise InputError(f"{shown(root)}: no image in the lists or folders; expected {LAYOUT}")
    entries.sort(key=lambda entry: published_name(entry.path))
    files = [entry.path for entry in entries]
    if cfg.rafdb_faces == "original":
        files += photographs.annotation_files(root, files)
    labels = [entry.expression for entry in entries]
    key = [cfg.rafdb_faces, cfg.face_size, cfg.val_fraction, labels, [*map(file_stamp, files)]]
    return cached_faces(cfg.cache_dir, "rafdb", key, lambda: _read(root, entries, cfg))
