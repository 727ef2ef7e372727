"""How many faces a second the degradation makes: python benchmarks/degrade.py [threads]

Prints milliseconds a batch and faces a second for batches of 64 grey faces, with Pillow's loop
over the same faces beside it. The training step pays for one low_resolution_view a batch.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image

from gmelib.degrade import low_resolution_view, restore, to_low_resolution

BATCH = 64


def seconds(call: Callable[[], object], repeats: int = 100) -> float:
    """Median time of one call, after a first one that fills the caches."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def pillow(faces: list[Image.Image], lr_size: int, input_size: int) -> None:
    for face in faces:
        low = face.resize((lr_size, lr_size), Image.Resampling.BICUBIC)
        low.resize((input_size, input_size), Image.Resampling.BICUBIC)


def main(threads: int) -> None:
    torch.set_num_threads(threads)
    print(f"{threads} thread(s), batch {BATCH}, bicubic, blur 1 px: ms a batch, faces a second")
    for native, lr_size, input_size in ((48, 12, 48), (48, 12, 112), (112, 12, 112)):
        shape = (BATCH, 1, native, native)
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        low = to_low_resolution(images, lr_size)
        faces = [Image.fromarray(face) for face in images[:, 0].numpy()]
        measured = {
            "to_low_resolution": seconds(partial(to_low_resolution, images, lr_size)),
            "restore": seconds(partial(restore, low, input_size)),
            "low_resolution_view": seconds(
                partial(low_resolution_view, images, input_size, lr_size)
            ),
            "Pillow, without blur": seconds(partial(pillow, faces, lr_size, input_size), 20),
        }
        for name, took in measured.items():
            sizes = f"{native} -> {lr_size} -> {input_size}"
            print(f"{sizes:18} {name:22} {1e3 * took:8.2f} {BATCH / took:10.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
