"""The plain baselines: torchvision's networks behind the workbook's input and output."""

import pytest
import tiny
import torch
import torchvision

from gmelib.attribution import attribute
from gmelib.evaluate import complexity
from gmelib.objective import Options
from gmelib.peers.plain import build_mobilenet_v3_small, build_resnet18

BUILDERS = {"resnet18": build_resnet18, "mobilenet_v3_small": build_mobilenet_v3_small}
# measured at 224 with 7 classes; ResNet-18 is Ada-CM's trunk, whose row at 112 is 11.18 M, 0.49 G
COSTS = {"resnet18": (11_180_103, 1_823_525_376), "mobilenet_v3_small": (1_525_031, 61_461_112)}
CHANNELS = {"resnet18": 512, "mobilenet_v3_small": 576}
both = pytest.mark.parametrize("name", BUILDERS)


def build(name: str, input_size: int = 48, classes: int = 7):
    torch.manual_seed(0)
    return BUILDERS[name](tiny.config(input_size=input_size, method=name), Options(), classes)


def faces(count: int = 2, side: int = 48) -> torch.Tensor:
    shape = (count, 3, side, side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@both
def test_costs(name):
    pytest.importorskip("thop", exc_type=ImportError, reason="pip install .[complexity]")
    parameters, macs = COSTS[name]
    costs = complexity(build(name, 224), 224)
    assert (costs["parameters"], costs["parameters_thop"]) == (parameters, parameters)
    assert costs["macs_thop"] == macs


@both
def test_logits_are_torchvisions_of_normalized_faces(name):
    model = build(name).eval()
    reference = getattr(torchvision.models, name)(weights=None, num_classes=7).eval()
    reference.load_state_dict(model.network.state_dict())
    x = faces()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    rgb = (x + 1) / 2  # what torchvision's ToTensor gives
    expected = reference((rgb - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(model(x).logits, expected, rtol=1e-4, atol=1e-6)


@both
@pytest.mark.parametrize("side, last", [(32, 1), (48, 2), (112, 4)])
def test_small_inputs_train_all_weights(name, side, last):
    model, seen = build(name, side), []
    model.gradcam_layer.register_forward_hook(lambda *call: seen.append(call[2].shape))
    output = model(faces(4, side))
    assert output.logits.shape == (4, 7) and output.extras == {} and output.channel_maps == ()
    assert seen == [(4, CHANNELS[name], last, last)]
    torch.nn.functional.cross_entropy(output.logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert float(next(model.parameters()).grad.abs().max()) > 0


@both
def test_grad_cam_reads_a_map(name):
    model = build(name, 64).eval()
    assert attribute(model, faces(2, 64), [0, 1], "grad_cam").shape == (2, 64, 64)


@both
@pytest.mark.parametrize("side", [16, 40])
def test_an_input_size_that_does_not_suit_is_refused(name, side):
    cfg = tiny.config(method=name).model_copy(update={"input_size": side})
    message = tiny.refusal(BUILDERS[name], cfg, Options(), 7)
    assert message.startswith(f"parameter input_size = {side}: ") and "multiple of 16" in message
