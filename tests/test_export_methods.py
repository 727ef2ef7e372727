"""Every registered method leaves the workbook whole, by torch.export and as ONNX."""

from pathlib import Path

import pytest
import tiny
import torch

from gmelib.batches import make_view
from gmelib.export import Deployable, Signature
from gmelib.export.checks import (
    TOLERANCE,
    by_onnx,
    by_torch,
    greatest_differences,
    noise,
    reference,
)
from gmelib.export.graphs import OPSET, session, to_program, write_onnx
from gmelib.methods import METHODS, build_model

onnx = pytest.importorskip("onnx", reason="pip install .[export]")
pytest.importorskip("onnxruntime", reason="pip install .[export]")
pytest.importorskip("onnxscript", reason="pip install .[export]")

OPTIONS = {
    "ma_net": {"width": 16},
    "diversified": {"width": 16},
    "eac": {"depth": 18},
    "poster": {"size": "small", "levels": 3, "width": 16, "resize": 0,
               "trunk_blocks": [1, 1, 1], "landmark_blocks": [1, 1, 1]},
}  # fmt: skip
TAKEN = Signature(1, 8)


def settled(method: str, flip_average: bool) -> Deployable:
    """A network with random weights that tells faces apart: its statistics are those of faces."""
    cfg = tiny.config(method=method, method_options=OPTIONS.get(method, {}), kd_weight=0)
    torch.manual_seed(0)
    model, view = build_model(cfg, 7), make_view(cfg, "student")
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean of all that is seen
    with torch.no_grad():
        for _ in range(2):
            model.train()(view(noise(64, TAKEN)))
    return Deployable(model, view, flip_average=flip_average)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_both_files_say_what_the_network_says(method: str, tmp_path: Path) -> None:
    module, faces = settled(method, flip_average=method in ("poster", "gmenet")), noise(64, TAKEN)
    spread = reference(module, faces).std(0).max()
    assert spread > 30 * TOLERANCE, "it gives all faces one answer, so nothing would be compared"
    program = to_program(module, faces[:2])
    path = tmp_path / "model.onnx"
    write_onnx(program, path, {"run": "made", "classes": ["a", "b"]})
    runs = {"program": by_torch(program.module()), "onnx": by_onnx(session(path, 1))}
    assert max(greatest_differences(module, runs, faces).values()) <= TOLERANCE
    model = onnx.load(path)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
