"""How hard the drawn faces are: full size against low resolution, the same network, several seeds.

    python benchmarks/drawn_difficulty.py [--seeds 0 1 2] [--out-root outputs]

Trains with params/synthetic.yaml and cpu.yaml, without distillation (about 4 minutes a seed on two
cores; finished runs are loaded). Expected: full size ahead by 5 points or more, low resolution at
twice chance or better.
"""

import argparse

import pandas as pd

from gmelib.config import Config
from gmelib.data import load_faces
from gmelib.experiment import run_student, run_teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out-root", default="outputs")
    options = parser.parse_args()
    rows = {}
    for seed in options.seeds:
        cfg = Config.load(
            "params/synthetic.yaml", "params/cpu.yaml",
            seed=seed, kd_weight=0, out_root=options.out_root,
        )  # fmt: skip
        faces = load_faces(cfg)
        runs = {"full size": run_teacher(cfg, faces), f"{cfg.lr_size} px": run_student(cfg, faces)}
        rows[seed] = {
            name: 100 * run.facts()["metrics"]["all"]["accuracy"]["value"]
            for name, run in runs.items()
        }
    table = pd.DataFrame(rows).T.rename_axis("seed")
    table["gap"] = table.iloc[:, 0] - table.iloc[:, 1]
    print(table.round(1).to_string())
    print(f"chance: {100 / len(faces.classes):.1f} %, {len(faces.indices('train'))} training faces")


if __name__ == "__main__":
    main()
