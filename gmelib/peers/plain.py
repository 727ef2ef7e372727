"""Plain baselines: torchvision's ResNet-18 and MobileNetV3-small, from random weights.

They stand for what a network gives that was made for neither faces nor low resolution. They are
trained like the baseline of the ablation: cross-entropy alone, or with a teacher's logits.
"""

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18

from gmelib.config import Config, InputError
from gmelib.model import Output
from gmelib.objective import Options
from gmelib.peers.normalize import Normalize


class Plain(nn.Module):
    """A classifier of faces normalised by ImageNet's statistics.

    Args:
        network: (N, 3, S, S) -> (N, classes).
        gradcam_layer: the part of it whose output Grad-CAM reads.
    """

    def __init__(self, network: nn.Module, gradcam_layer: str):
        super().__init__()
        self.normalize = Normalize("imagenet")
        self.network = network
        self._gradcam_layer = gradcam_layer

    @property
    def gradcam_layer(self) -> nn.Module:
        """The last layer with a spatial extent, (N, C, ceil(S / 32), ceil(S / 32))."""
        return self.network.get_submodule(self._gradcam_layer)

    def forward(self, x: Tensor) -> Output:
        """(N, 3, S, S) in [-1, 1] -> Output."""
        return Output(self.network(self.normalize(x)))


def build_resnet18(cfg: Config, options: Options, classes: int) -> Plain:
    """ResNet-18 of ``cfg.input_size``; :class:`InputError` where that does not suit."""
    require_input_size(cfg.input_size)
    return Plain(resnet18(weights=None, num_classes=classes), "layer4")


def build_mobilenet_v3_small(cfg: Config, options: Options, classes: int) -> Plain:
    """MobileNetV3-small of ``cfg.input_size``; :class:`InputError` where that does not suit."""
    require_input_size(cfg.input_size)
    return Plain(mobilenet_v3_small(weights=None, num_classes=classes), "features")


def require_input_size(input_size: int) -> None:
    """:class:`InputError` unless a multiple of 16, at least 32: the last map is 1/32 of it."""
    if input_size % 16 or input_size < 32:
        raise InputError(
            f"parameter input_size = {input_size}: this method's last map has 1/32 of its side, so "
            "expected a multiple of 16, at least 32; 224 is usual"
        )
