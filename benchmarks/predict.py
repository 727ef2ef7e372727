"""Prediction against a plain loop, in pictures a second and peak memory.

    python benchmarks/predict.py [--threads 1] [--pictures 10000] [--run FOLDER]

Makes pictures of drawn faces (JPEG and PNG, 48 to 112 px) in a temporary folder and predicts them
with a student (a published one, or --run), streamed as `python -m gmelib.predict`
does, and one by one as a plain loop would: open, shrink, restore, network, with the mirrored face.
Prints pictures a second of both, and the peak memory of the command for a tenth of the pictures and
for all of them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from gmelib.batches import make_view
from gmelib.checkpoint import load_weights
from gmelib.config import PROJECT_ROOT
from gmelib.predict import load_predictor
from gmelib.predict.pictures import find_pictures
from gmelib.predict.stream import answers
from gmelib.synthetic import draw_faces

RUN = PROJECT_ROOT / "outputs/published/fer2013/student/gmenet-12px-kd5-s0-7912f4ca"
DISTINCT = 50
PLAIN = 300  # pictures are enough to time the loop
SIDES = (48, 64, 80, 100, 112)


def write_pictures(folder: Path, count: int) -> None:
    """Pictures in sub-folders of a tenth of them each."""
    drawn = draw_faces(DISTINCT, size=112, seed=0).images.permute(0, 2, 3, 1).numpy()
    faces = [Image.fromarray(face) for face in drawn]
    for number in range(count):
        part = folder / str(number * 10 // count)
        part.mkdir(exist_ok=True)
        side = SIDES[number % len(SIDES)]
        face = faces[number % DISTINCT].resize((side, side), Image.Resampling.BICUBIC)
        face.save(part / f"{number:06}.{'jpg' if number % 2 else 'png'}")


def plain_loop(run: Path, paths: list[Path]) -> np.ndarray:
    """Probabilities (N, K), a picture at a time."""
    model, cfg, _ = load_weights(run / "model.safetensors")
    view = make_view(cfg, "student")
    found = []
    with torch.inference_mode():
        for path in paths:
            pixels = np.array(Image.open(path).convert("L"))
            face = torch.from_numpy(pixels)[None, None]
            both = [model(view(f)).logits.log_softmax(1) for f in (face, face.flip(-1))]
            found.append(((both[0] + both[1]) / 2).softmax(1)[0].numpy())
    return np.stack(found)


def peak(run: Path, place: Path, threads: int) -> float:
    """Peak memory in MiB of the command on a folder."""
    command = [sys.executable, "-m", "gmelib.predict", str(run), str(place), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment)
        watched, most = psutil.Process(process.pid), 0
        while process.poll() is None:
            try:
                most = max(most, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
    assert process.wait() == 0, f"ended with exit status {process.returncode}"
    return most / 2**20


def main(threads: int, count: int, run: Path) -> None:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, count)
        predictor = load_predictor(run, device="cpu")
        list(answers(predictor, list(find_pictures([folder]))[:64]))  # fills the caches
        start = time.perf_counter()
        rows = [row for rows in answers(predictor, find_pictures([folder])) for row in rows]
        streamed = len(rows) / (time.perf_counter() - start)
        some = rows[:: max(1, len(rows) // PLAIN)]
        start = time.perf_counter()
        expected = plain_loop(run, [Path(row.name) for row in some])
        plain = len(some) / (time.perf_counter() - start)
        furthest = np.abs(np.stack([row.probabilities for row in some]) - expected).max()
        print(f"{count} pictures, {threads} thread(s), pictures a second")
        print(f"streamed {streamed:8.1f}\nplain    {plain:8.1f}\nratio    {streamed / plain:8.1f}")
        print(f"furthest probabilities differ by {furthest:.1e}")
        for place, pictures in ((folder / "0", count // 10), (folder, count)):
            print(f"peak memory for {pictures:6} pictures: {peak(run, place, threads):6.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--run", type=Path, default=RUN, help="folder of a student")
    options = parser.parse_args()
    main(options.threads, options.pictures, options.run)
