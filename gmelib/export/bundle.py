"""A run's export as a folder: made beside its place, checked, measured, and only then named."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import torch
from tqdm.auto import tqdm

from gmelib.card import FILES, facts_of_network, input_text, write_card
from gmelib.compute import device_name
from gmelib.config import Config, InputError
from gmelib.data import native_faces
from gmelib.data.faceset import shown
from gmelib.export.checks import (
    BATCHES,
    TOLERANCE,
    Predict,
    by_onnx,
    by_torch,
    cost_of_eight_bits,
    greatest_differences,
    in_batches,
    noise,
)
from gmelib.export.graphs import (
    BATCH,
    INPUT,
    OPSET,
    OUTPUT,
    quantize,
    require_onnx,
    session,
    to_program,
    write_onnx,
)
from gmelib.export.latency import latency
from gmelib.export.module import Deployable, Signature, deployable, signature
from gmelib.export.sample import Sample, find_faces, take
from gmelib.methods import title_of
from gmelib.record import Run, now, unwritable, versions, write_json

PROGRAM, ONNX, INT8, RECORD = "model.pt2", "model.onnx", "model-int8.onnx", "export.json"
ABOUT = "about.json"  # inside model.pt2: what model.onnx has as its metadata
EAGER, EXPORTED, RUNTIME, RUNTIME_INT8 = (
    "PyTorch", "torch.export", "ONNX Runtime", "ONNX Runtime, int8"
)  # fmt: skip
MADE = {PROGRAM, ONNX, INT8, RECORD, *FILES}  # all that an export holds
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def run_in(folder: Path) -> Run:
    """The finished teacher or student that lies in a folder; :class:`InputError` for another."""
    facts = facts_of_network(folder)
    return Run(Config.make(**facts["config"]), facts["stage"], folder)


def export_run(
    run: Run,
    place: Path | None = None,
    *,
    size: int = 0,
    channels: int = 0,
    flip_average: bool | None = None,
    data_root: str | None = None,
    int8: bool = True,
) -> Path:
    """Writes a run's network out and returns the folder, which appears when all is checked.

    It holds model.pt2 (torch.export), model.onnx, model-int8.onnx, export.json and the model card.

    Args:
        place: the folder; by default export/ where the run's reports are written.
        size, channels: of the faces it will be given, px; see :func:`gmelib.export.signature`.
        flip_average: average over the mirrored face; None is as the run does.
        data_root: where its data set lies. Without one it is looked for in the usual folder, and
            drawn faces stand in.
        int8: write the 8-bit file too.

    Raises:
        InputError: missing packages, weights or data; a folder that holds anything else; a file
            that does not say what the network says, in which case nothing is written.
    """
    require_onnx()
    place = place or run.workplace / "export"
    refuse_other_content(place)
    faces = find_faces(run, data_root)
    native = native_faces(run.cfg, run.facts()) if faces is None else faces.images.shape[1::2]
    taken = signature(run.cfg, run.stage, size=size, channels=channels, native=native)
    is_greyed = (native[0], taken.channels) == (1, 3)
    module, classes = deployable(run, flip_average=flip_average, grey=is_greyed)
    sample = take(faces, run.cfg, taken)
    facts = _about(run, module, classes, taken, native[0])
    with _made_beside(place) as folder, tqdm(total=6, desc="export") as bar:
        backends = _write(folder, module, taken, facts, bar)
        facts |= _checked(module, backends, sample, taken)
        _step(bar, "8 bit")
        if int8:
            backends[RUNTIME_INT8], facts["int8"] = _smaller(folder, backends[RUNTIME], sample)
        _step(bar, "latency")
        facts["latency"] = latency(backends, sample.test).to_dict("records")
        write_card(run.folder, folder, remarks=_remarks(run.cfg, module))
        write_json(folder / RECORD, facts | _circumstances(folder))
        _step(bar, "done")
    return place


def _about(
    run: Run, module: Deployable, classes: tuple[str, ...], taken: Signature, channels: int
) -> dict[str, Any]:
    """What an exported file is and takes; written into each of them.

    Args:
        channels: of the faces that the network was trained on.
    """
    return {
        "schema": 1,
        "run": run.id,
        "model": f"{title_of(run.cfg)}, {run.stage}",
        "classes": list(classes),
        "input": {"name": INPUT, "dtype": "uint8", "shape": [BATCH, *taken, taken.size]},
        "preprocessing": input_text(run.cfg, run.stage, channels),
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [BATCH, len(classes)]},
        "flip_average": module.flip_average,
        "opset": OPSET,
    }


def _remarks(cfg: Config, module: Deployable) -> list[str]:
    """In what the files are not the network that the card's figures are of."""
    if module.flip_average == cfg.flip_average:
        return []
    does, did = ("averages", "do not") if module.flip_average else ("does not average", "do")
    return [f"What is exported here {does} with the mirrored face; the figures above {did}."]


def _step(bar: tqdm, name: str) -> None:
    bar.set_postfix_str(name)
    bar.update()


@contextmanager
def _in_one_line(what: str, advice: str) -> Iterator[None]:
    """Errors of torch and onnxruntime, whose many kinds share no base, as an InputError."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"export: {what} of this network ({reason}); {advice}") from error


def _write(
    folder: Path, module: Deployable, taken: Signature, facts: dict[str, Any], bar: tqdm
) -> dict[str, Predict]:
    """The two float32 files; what runs them, read back from the disk."""
    newer = "another version of torch may, see constraints.txt"
    _step(bar, EXPORTED)
    with _in_one_line(f"torch makes no {PROGRAM}", newer):
        program = to_program(module, noise(2, taken))
        torch.export.save(program, folder / PROGRAM, extra_files={ABOUT: json.dumps(facts)})
        loaded = torch.export.load(folder / PROGRAM).module()
    _step(bar, "ONNX")
    with _in_one_line(f"torch makes no {ONNX}", newer):
        write_onnx(program, folder / ONNX, facts)
        runtime = session(folder / ONNX, torch.get_num_threads())
    _step(bar, "check")
    return {EAGER: by_torch(module), EXPORTED: by_torch(loaded), RUNTIME: by_onnx(runtime)}


def _checked(
    module: Deployable, backends: dict[str, Predict], sample: Sample, taken: Signature
) -> dict[str, Any]:
    """How far the backends are from the network, on faces and on noise."""
    kinds = {sample.told: sample.test, "noise": noise(max(BATCHES), taken)}
    found = {told: greatest_differences(module, backends, faces) for told, faces in kinds.items()}
    return {
        "tolerance": TOLERANCE,
        "checked_batches": list(BATCHES),
        "greatest_differences": found,
    }


def _smaller(folder: Path, full: Predict, sample: Sample) -> tuple[Predict, dict[str, Any]]:
    """The 8-bit file: what runs it, and what it loses on the test faces."""
    with _in_one_line(f"onnxruntime makes no {INT8}", "leave it out with --no-int8"):
        quantize(folder / ONNX, folder / INT8, sample.calibration)
        small = by_onnx(session(folder / INT8, torch.get_num_threads()))
    results = (in_batches(predict, sample.test) for predict in (full, small))
    cost = cost_of_eight_bits(*results, sample.labels)
    told = {"calibrated_on": len(sample.calibration), "measured_on": sample.told}
    return small, told | cost


def _circumstances(folder: Path) -> dict[str, Any]:
    """The files as they are, and where the figures were measured."""
    files = {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.iterdir())
    }
    return {
        "files": files,
        "device": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "made": now(),
        "versions": versions() | {name: version(name) for name in PACKAGES},
    }


# -- the folder -----------------------------------------------------------------------------------


def refuse_other_content(place: Path) -> None:
    """:class:`InputError` where a folder holds anything but an earlier export."""
    if not place.exists():
        return
    found = {path.name for path in place.iterdir()} if place.is_dir() else {place.name}
    others = sorted(found - MADE)
    if others or (found and RECORD not in found):
        reason = f"holds {others[0]}" if others else f"has no {RECORD}"
        raise InputError(
            f"{shown(place)}: exists and is not just an earlier export (it {reason}); give another "
            "folder, as --out FOLDER"
        )


@contextmanager
def _made_beside(place: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name, and an earlier export's place, at the end."""
    temporary = place.with_name(f".{place.name}-{uuid4().hex[:12]}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        before = temporary.with_suffix(".before")
        if place.exists():
            os.rename(place, before)
        os.rename(temporary, place)
        shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        raise unwritable(place, error, advice="give another --out") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# -- shown ----------------------------------------------------------------------------------------


def summary(facts: dict[str, Any]) -> str:
    """export.json for people."""
    lines = [
        f"{name}: {file['bytes'] / 1e6:.2f} MB"
        for name, file in facts["files"].items()
        if name in (PROGRAM, ONNX, INT8)
    ]
    for told, found in facts["greatest_differences"].items():
        gaps = ", ".join(f"{name} {gap:.1e}" for name, gap in found.items())
        lines.append(f"greatest difference of a probability on {told}: {gaps}")
    if "int8" in facts:
        lines.append(_eight_bits(facts["int8"]))
    table = pd.DataFrame(facts["latency"]).pivot(index="backend", columns="batch")
    table = table[["milliseconds", "cpu_milliseconds", "faces_per_second"]].round(1)
    return "\n".join([*lines, f"{facts['device']}:", table.to_string()])


def _eight_bits(cost: dict[str, Any]) -> str:
    text = f"int8 agrees with float32 on {cost['agreement']:.2%} of {cost['faces']:,} faces"
    if "accuracy_loss" not in cost:
        return f"{text} ({cost['measured_on']}: its accuracy is not known)"
    return (
        f"{text}; accuracy {cost['accuracy_int8']:.2%} against {cost['accuracy_float32']:.2%} "
        f"({cost['measured_on']})"
    )
