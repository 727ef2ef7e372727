"""What an expression is: FACS action units, the prototypes that mix them, and where they show.

Prototypes follow the EMFACS table (Friesen and Ekman, EMFACS-7, 1983) as printed with CK+ (Lucey et
al., CVPR-W 2010, table 1), turned into a probability per unit, because people seldom show a whole
prototype.
"""

import numpy as np

from gmelib.config import EXPRESSIONS

ACTION_UNITS = (
    "AU1", "AU2", "AU4", "AU5", "AU6", "AU7", "AU9", "AU10", "AU12", "AU14", "AU15", "AU16",
    "AU17", "AU20", "AU23", "AU24", "AU25", "AU26",
)  # fmt: skip
AU_NAMES = dict(
    zip(
        ACTION_UNITS,
        (
            "inner brow raiser", "outer brow raiser", "brow lowerer", "upper lid raiser",
            "cheek raiser", "lid tightener", "nose wrinkler", "upper lip raiser",
            "lip corner puller", "dimpler (one side)", "lip corner depressor",
            "lower lip depressor", "chin raiser", "lip stretcher", "lip tightener",
            "lip presser", "lips part", "jaw drop",
        ),
        strict=True,
    )
)  # fmt: skip

REGIONS = ("forehead", "brows", "eyes", "nose", "cheeks", "mouth", "jaw")

# The regions in which each unit changes pixels; tests/test_synthetic.py holds the drawing to it.
AU_REGION = {
    "AU1": ("forehead", "brows"),
    "AU2": ("forehead", "brows"),
    "AU4": ("brows", "eyes"),
    "AU5": ("eyes", "brows"),
    "AU6": ("eyes", "cheeks"),
    "AU7": ("eyes",),
    "AU9": ("nose", "eyes", "brows", "cheeks", "mouth"),
    "AU10": ("mouth", "cheeks", "nose"),
    "AU12": ("mouth", "cheeks"),
    "AU14": ("mouth", "cheeks"),
    "AU15": ("mouth", "jaw"),
    "AU16": ("mouth",),
    "AU17": ("mouth", "jaw"),
    "AU20": ("mouth", "cheeks"),
    "AU23": ("mouth",),
    "AU24": ("mouth",),
    "AU25": ("mouth",),
    "AU26": ("mouth", "jaw", "cheeks"),
}

# Probability that a face of the class shows the unit. 1 = the unit that makes the class.
PROTOTYPES: dict[str, dict[str, float]] = {
    "anger": {"AU4": 1.0, "AU5": 0.55, "AU7": 0.7, "AU10": 0.2, "AU17": 0.25, "AU23": 0.6,
              "AU24": 0.45, "AU25": 0.15},
    "disgust": {"AU9": 1.0, "AU4": 0.3, "AU7": 0.3, "AU10": 0.6, "AU15": 0.4, "AU16": 0.4,
                "AU17": 0.4, "AU25": 0.3},
    "fear": {"AU1": 1.0, "AU2": 0.75, "AU4": 0.75, "AU5": 0.8, "AU7": 0.3, "AU20": 0.8,
             "AU25": 0.7, "AU26": 0.45},
    "happiness": {"AU12": 1.0, "AU6": 0.8, "AU25": 0.55, "AU26": 0.15},
    "sadness": {"AU1": 1.0, "AU4": 0.7, "AU15": 0.85, "AU17": 0.45, "AU6": 0.1, "AU7": 0.1},
    "surprise": {"AU1": 0.9, "AU2": 0.9, "AU5": 0.75, "AU25": 0.6, "AU26": 1.0},
    "neutral": {},
    "contempt": {"AU14": 1.0, "AU12": 0.25, "AU10": 0.1},
}  # fmt: skip
STRENGTH = (0.5, 1.0)  # how strongly a face shows its expression
STRAY_CHANCE, STRAY_STRENGTH = 0.07, 0.35  # a unit outside the prototype: how often, at most


def prototype_matrix() -> np.ndarray:
    """PROTOTYPES as a (8, A) float32 array, rows in the order of EXPRESSIONS."""
    rows = [[PROTOTYPES[e].get(unit, 0.0) for unit in ACTION_UNITS] for e in EXPRESSIONS]
    return np.array(rows, np.float32)


def sample_action_units(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Intensities (N, A) in [0, 1] for labels (N,) that index EXPRESSIONS.

    A face has one strength; each unit of its prototype is present by chance and varies around that
    strength. A few stray units are weakly active on every face, the neutral one included.
    """
    chance = prototype_matrix()[labels]
    present, vary, stray, stray_level = rng.random((4, *chance.shape), np.float32)
    low, high = STRENGTH
    strength = low + (high - low) * rng.random((len(labels), 1), np.float32)
    shown = (present < chance) * strength * (0.75 + 0.5 * vary)
    strays = (stray < STRAY_CHANCE) * stray_level * STRAY_STRENGTH
    return np.clip(np.maximum(shown, strays), 0, 1).astype(np.float32)
