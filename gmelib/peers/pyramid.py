"""Pyramid cross-fusion transformer (Zheng et al. 2023, arXiv 2204.04083).

Two streams of T tokens each, image and landmarks, stand one after the other in (N, 2 T, D). Every
level holds them at another width D; between levels it is the features that are down- and upsampled,
with the 2 T tokens as the channels of a one-dimensional convolution. Details as in POSTER's
repository (zczcwh/POSTER at ba2e3e9), its network for RAF-DB.
"""

import torch
from torch import Tensor, nn

NORM_EPS = 1e-6  # LayerNorm's, in place of torch's 1e-5
MLP_RATIO = 2


class CrossAttention(nn.Module):
    """Multi-head attention: keys and values of one stream, queries of the other.

    Queries are the other stream's tokens as they are: no projection.

    Args:
        width: D, a multiple of ``heads``.
        heads: number of attention heads.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.key_value = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(width, width)

    def split_heads(self, x: Tensor) -> Tensor:  # (N, T, D) -> (N, heads, T, D / heads)
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(N, T, D) twice -> (N, T, D): for every query a mixture of ``tokens``."""
        keys, values = map(self.split_heads, self.key_value(tokens).chunk(2, -1))
        queries = self.split_heads(queries)
        scores = queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5
        mixed = scores.softmax(-1) @ values
        return self.projection(mixed.transpose(1, 2).flatten(2))


class DropPath(nn.Module):
    """Leaves a residual branch out for a face with ``probability`` (stochastic depth).

    What remains is scaled so that the expectation stays; in eval mode nothing is left out.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        kept = x.new_empty(len(x), *(1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * kept / keep


def mlp(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width)
    )


class StreamUpdate(nn.Module):
    """One stream's share of a cross-fusion block: attention and MLP, both residual, norms before.

    The norm before the attention serves the queries of the other stream too.
    """

    def __init__(self, width: int, heads: int, drop_path: float):
        super().__init__()
        self.norm = nn.LayerNorm(width, NORM_EPS)
        self.attention = CrossAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, NORM_EPS)
        self.mlp = mlp(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """(N, T, D) twice -> ``own`` updated, (N, T, D)."""
        attended = self.attention(self.norm(other), self.norm(own))
        own = own + self.drop_path(attended)
        return own + self.drop_path(self.mlp(self.mlp_norm(own)))


class CrossFusionBlock(nn.Module):
    """Both streams updated from each other's old state, then mixed by a linear map over 2 T tokens.

    Args:
        tokens: T, of one stream.
        width: D.
        heads: number of attention heads.
        drop_path: probability of every residual branch to be left out, in [0, 1).
    """

    def __init__(self, tokens: int, width: int, heads: int, drop_path: float):
        super().__init__()
        self.image = StreamUpdate(width, heads, drop_path)
        self.landmarks = StreamUpdate(width, heads, drop_path)
        self.mix = nn.Conv1d(2 * tokens, 2 * tokens, 1)

    def forward(self, x: Tensor) -> Tensor:  # (N, 2 T, D) -> (N, 2 T, D)
        image, landmarks = x.chunk(2, 1)
        updated = self.image(image, landmarks), self.landmarks(landmarks, image)
        return self.mix(torch.cat(updated, 1))


class PyramidBlock(nn.Module):
    """A cross-fusion block on every level, then each level added, upsampled, to the next wider one.

    Args:
        tokens: T, of one stream.
        widths: D of the levels, widest first, each half of the one before.
        heads, drop_path: see :class:`CrossFusionBlock`.
    """

    def __init__(self, tokens: int, widths: list[int], heads: int, drop_path: float):
        super().__init__()
        self.fusions = nn.ModuleList(
            CrossFusionBlock(tokens, width, heads, drop_path) for width in widths
        )
        self.upsamplings = nn.ModuleList(
            nn.ConvTranspose1d(2 * tokens, 2 * tokens, 2, 2) for _ in widths[1:]
        )

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Tensors (N, 2 T, D), one a level, widest first -> the same shapes."""
        levels = [fusion(x) for fusion, x in zip(self.fusions, levels, strict=True)]
        for i in reversed(range(len(self.upsamplings))):
            levels[i] = levels[i] + self.upsamplings[i](levels[i + 1])
        return levels


class FusionPyramid(nn.Module):
    """The whole transformer: mean tokens, levels, pyramid blocks, and the image's mean token out.

    Args:
        tokens: tokens of one stream before its mean token is put in front, so T - 1.
        width: D of the widest level, a multiple of ``heads * 2 ** (levels - 1)``.
        depth: number of pyramid blocks.
        levels: widths D, D / 2, D / 4, or fewer of them.
        heads: number of attention heads.
        drop_path: of the last pyramid block; rises linearly from 0 at the first.
    """

    def __init__(
        self,
        *,
        tokens: int,
        width: int,
        depth: int,
        levels: int = 3,
        heads: int = 8,
        drop_path: float = 0.1,
    ):
        super().__init__()
        count = tokens + 1
        # nothing reads it, yet the published count of parameters has it
        self.class_token = nn.Parameter(torch.zeros(1, 1, width), requires_grad=False)
        self.position = nn.Parameter(torch.zeros(1, count, width))
        self.downsamplings = nn.ModuleList(
            nn.Conv1d(2 * count, 2 * count, 2**level, 2**level) for level in range(1, levels)
        )
        widths = [width // 2**level for level in range(levels)]
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(PyramidBlock(count, widths, heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, NORM_EPS)

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """(N, tokens, D) twice -> (N, D)."""
        image, landmarks = (torch.cat([x.mean(1, keepdim=True), x], 1) for x in (image, landmarks))
        x = torch.cat([image + self.position, landmarks], 1)
        levels = [x, *(downsampling(x) for downsampling in self.downsamplings)]
        for block in self.blocks:
            levels = block(levels)
        return self.norm(levels[0])[:, 0]
