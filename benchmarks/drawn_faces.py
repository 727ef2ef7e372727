"""Faces drawn per second on one core: `python benchmarks/drawn_faces.py`. Aim: 500 at 112 px."""

import argparse
import statistics
import time

import torch

from gmelib.synthetic import draw_faces


def faces_per_second(count: int, repeats: int, *, clock=time.perf_counter, **options) -> float:
    """Median over `repeats` drawings of `count` faces, after one to warm up."""
    draw_faces(count, **options)
    seconds = []
    for seed in range(repeats):
        start = clock()
        draw_faces(count, seed=seed, **options)
        seconds.append(clock() - start)
    return count / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("size  masks  faces/s (wall)  faces/s (processor time)")
    for size, masks in ((48, False), (112, False), (112, True)):
        wall, cpu = (
            faces_per_second(arguments.count, arguments.repeats, clock=c, size=size, masks=masks)
            for c in (time.perf_counter, time.process_time)
        )
        print(f"{size:4d}  {masks!s:5}  {wall:14.0f}  {cpu:24.0f}")


if __name__ == "__main__":
    main()
