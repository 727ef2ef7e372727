"""Why a network decided as it did: Captum's attributions, and the attention maps over the face.

Attributions say which pixels moved a logit; attention maps (paper 3.2, eqs 2-3) say where the
blocks let features through, and their agreement is what distillation asks for (3.4, eqs 9-11).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn
from torch.nn import functional as F

from gmelib.config import InputError
from gmelib.model import Output

GREY = 0.0  # the uninformative face: mid-grey, once pixels are scaled to [-1, 1]
WINDOWS = 6  # occluding windows side by side across the face; they move by half their side


class LogitsModel(nn.Module):
    """The network as Captum wants it: images in, logits (N, K) out, no maps beside them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without parameter gradients inside; every flag as it was afterwards."""
    training = [(module, module.training) for module in model.modules()]
    learning = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.eval().requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, flag in learning:
            parameter.requires_grad_(flag)


# -- attributions: (model, inputs, targets, layer, batch) -> (N, S, S) ----------------------------


def _integrated_gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor, layer: nn.Module | None, batch: int
) -> Tensor:
    """Sundararajan et al. 2017: gradients summed on the way from grey; sums to the logit gained."""
    method = IntegratedGradients(LogitsModel(model))
    return method.attribute(
        inputs, baselines=GREY, target=targets, n_steps=64, internal_batch_size=batch
    ).sum(1)


def _grad_cam(
    model: nn.Module, inputs: Tensor, targets: Tensor, layer: nn.Module | None, batch: int
) -> Tensor:
    """Selvaraju et al. 2017: a layer's channels weighted by their mean gradient, positive part."""
    layer = model.gradcam_layer if layer is None else layer
    cam = LayerGradCam(LogitsModel(model), layer).attribute(
        inputs.requires_grad_(), targets, relu_attributions=True
    )
    return LayerAttribution.interpolate(cam, inputs.shape[-2:], "bilinear")[:, 0]


def _occlusion(
    model: nn.Module, inputs: Tensor, targets: Tensor, layer: nn.Module | None, batch: int
) -> Tensor:
    """Zeiler and Fergus 2014: the logit lost, on average, to the grey windows over a pixel."""
    window = max(inputs.shape[-1] // WINDOWS, 2)
    with torch.no_grad():
        lost = Occlusion(LogitsModel(model)).attribute(
            inputs,
            sliding_window_shapes=(inputs.shape[1], window, window),
            strides=(inputs.shape[1], window // 2, window // 2),
            baselines=GREY,
            target=targets,
            perturbations_per_eval=max(1, batch // len(inputs)),
        )
    return lost[:, 0]  # a window covers all channels, so they are equal


METHODS: dict[str, Callable[..., Tensor]] = {
    "integrated_gradients": _integrated_gradients,
    "grad_cam": _grad_cam,
    "occlusion": _occlusion,
}


def attribute(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | Sequence[int],
    method: str = "integrated_gradients",
    *,
    layer: nn.Module | None = None,
    batch_size: int = 32,
) -> Tensor:
    """How much every pixel speaks for a class.

    The model is put into evaluation mode and comes back as it was, gradients included.

    Args:
        model: any network of the workbook (returns an ``Output``).
        inputs: network inputs (N, 3, S, S), in [-1, 1], on the model's device.
        targets: the class to explain for each face, (N,).
        method: ``"integrated_gradients"`` (signed; a face sums to its logit minus that of a grey
            one), ``"grad_cam"`` (0 or more; as fine as the layer's map) or ``"occlusion"``
            (signed; logit lost when a grey window covers the pixel).
        layer: Grad-CAM's layer, a module whose output is one (N, C, H, W) tensor; by default
            ``model.gradcam_layer``, where both branches have been added.
        batch_size: images in the network at once.

    Returns:
        (N, S, S) float32 on the CPU, in logits (Grad-CAM: without a unit).

    Raises:
        InputError: unknown method, or not one target per face.
    """
    if method not in METHODS:
        raise InputError(f"attribution method {method!r}: expected one of {', '.join(METHODS)}")
    if len(targets) != len(inputs):
        raise InputError(
            f"attribution targets: expected one class per face, {len(inputs)} in all,"
            f" got {len(targets)}"
        )
    maps = []
    with undisturbed(model):
        # copies, for Captum marks its input, and autograd refuses tensors of inference mode
        inputs = inputs.detach().clone()
        targets = torch.as_tensor(targets, device=inputs.device).clone()
        for faces, wanted in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            found = METHODS[method](model, faces, wanted, layer, batch_size)
            maps.append(found.detach().float().cpu())
    return torch.cat(maps)


def explain(model: nn.Module, inputs: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Every method's answer for the class that the network predicts.

    Args:
        inputs: network inputs (N, 3, S, S).
        classes: names of the classes.

    Returns:
        ``maps`` (method -> (N, S, S)), ``predicted`` (N names) and ``probability`` (N,), as
        :func:`gmelib.figures.attribution_grid` takes them.
    """
    with torch.inference_mode():
        guess = model.eval()(inputs).logits.softmax(1).cpu()
    return {
        "maps": {method: attribute(model, inputs, guess.argmax(1), method) for method in METHODS},
        "predicted": [classes[k] for k in guess.argmax(1)],
        "probability": guess.amax(1).tolist(),
    }


# -- attention maps -------------------------------------------------------------------------------


@torch.inference_mode()
def outputs(
    model: nn.Module, images: Tensor, view: Callable[[Tensor], Tensor], *, batch_size: int = 128
) -> Output:
    """Logits and maps of many faces, in eval mode, joined on the CPU.

    Args:
        images: native faces (N, C, H, W) uint8.
        view: makes the network's input of them (:func:`gmelib.batches.make_view`).
    """
    device = next(model.parameters()).device
    model.eval()
    parts = [model(view(batch.to(device))) for batch in images.split(batch_size)]

    def joined(maps: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return tuple(torch.cat(block).cpu() for block in zip(*maps, strict=True))

    return Output(
        torch.cat([p.logits for p in parts]).cpu(),
        joined(p.channel_maps for p in parts),
        joined(p.spatial_maps for p in parts),
    )


def attention_over_face(output: Output, stage_of_block: Sequence[int], size: int) -> Tensor:
    """Where each stage looks: sigmoid(M_s), averaged over the stage's blocks, enlarged to the face.

    Enlarged as is usual, as if cells stood in the middle of their share of the face. Convolutions
    of stride 2 centre them further up and left: by 7.5 px of 48 in stage 4, 3.5 in stage 3.

    Args:
        output: of a network with attention.
        stage_of_block: the stage of every map, ``model.stage_of_block``.
        size: side of the face, S px.

    Returns:
        (N, stages, S, S) float32 in (0, 1), stages in ascending order; bilinear.

    Raises:
        InputError: the network has no attention maps (attention = none).
    """
    _require_maps(output, stage_of_block)
    stages = []
    for stage in sorted(set(stage_of_block)):
        maps = [
            torch.sigmoid(m.float())
            for m, s in zip(output.spatial_maps, stage_of_block, strict=True)
            if s == stage
        ]
        stages.append(F.interpolate(torch.stack(maps).mean(0), size=(size, size), mode="bilinear"))
    return torch.cat(stages, 1)


def class_mean_maps(maps: Tensor, labels: Tensor, classes: Sequence[str]) -> Tensor:
    """Mean map of each class: (N, stages, S, S) and (N,) -> (K, stages, S, S), K = len(classes).

    A class without faces is NaN.
    """
    labels = labels.to(maps.device)
    totals = maps.new_zeros(len(classes), *maps.shape[1:]).index_add_(0, labels, maps)
    return totals / torch.bincount(labels, minlength=len(classes)).view(-1, 1, 1, 1)


def agreement(teacher: Output, student: Output, stage_of_block: Sequence[int]) -> pd.DataFrame:
    """How alike the two networks' maps are: cosine similarity of M per face, averaged over faces.

    Distillation minimizes 1 minus it (eqs 9-10), on the same maps before the sigmoid. A face for
    which a map is zero everywhere, so that nothing can be like it, is left out.

    Args:
        teacher, student: outputs for the same faces in the same order; equal architectures.
        stage_of_block: ``model.stage_of_block``.

    Returns:
        One row a block: ``block`` (from 1), ``stage``, ``channel`` and ``spatial`` in [-1, 1], NaN
        where no face is left, and ``channel_compared`` and ``spatial_compared``, the share of the
        faces that are.

    Raises:
        InputError: no maps, or maps of different architectures or numbers of faces.
    """
    _require_maps(teacher, stage_of_block)
    _require_maps(student, stage_of_block)
    columns: dict[str, list[float]] = {}
    for name in ("channel", "spatial"):
        pairs = zip(getattr(teacher, f"{name}_maps"), getattr(student, f"{name}_maps"), strict=True)
        found = [_cosine(t, s) for t, s in pairs]
        columns[name], columns[f"{name}_compared"] = map(list, zip(*found, strict=True))
    blocks = range(1, len(stage_of_block) + 1)
    return pd.DataFrame({"block": blocks, "stage": list(stage_of_block), **columns})


def _cosine(teacher: Tensor, student: Tensor) -> tuple[float, float]:
    """Mean similarity of the faces' maps, and of how many of them."""
    if teacher.shape != student.shape:
        raise InputError(
            f"teacher's map {tuple(teacher.shape)} beside student's {tuple(student.shape)}:"
            " expected the same faces and one architecture (width, blocks, input_size)"
        )
    pair = [maps.float().flatten(1) for maps in (teacher, student)]
    is_compared = pair[0].any(1) & pair[1].any(1)
    alike = F.cosine_similarity(*pair)[is_compared]
    return alike.mean().item(), is_compared.float().mean().item()


def _require_maps(output: Output, stage_of_block: Sequence[int]) -> None:
    if not output.spatial_maps:
        raise InputError("this network has no attention maps; expected attention = dbam or cbam")
    if len(output.spatial_maps) != len(stage_of_block):
        raise InputError(
            f"{len(output.spatial_maps)} attention maps but {len(stage_of_block)} blocks in"
            " stage_of_block: expected one a block; pass the same model's"
        )
