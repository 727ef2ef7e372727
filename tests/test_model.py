"""The modules against plain loops of the paper's equations, the network's shapes and its size."""

import re
from itertools import product

import numpy as np
import plain_loops
import pytest
import tiny
import torch

from gmelib.attention import CBAM, DBAM, DCAM, DSAM, NoAttention
from gmelib.blocks import MixedAttentionBlock, MixedChannelBlock
from gmelib.config import Config
from gmelib.evaluate import complexity
from gmelib.losses import distillation_loss
from gmelib.methods import build_model
from gmelib.model import GMENet, build_global_branch

SIDES = (7, 3, 4)  # 7 x 7 and 3 x 3 are the last stage's maps at 112 and 48 px
PAPER_PARAMETERS, PAPER_MACS = 18.75e6, 2.99e9  # Table 1


def weights(module):
    return {name: t.double().numpy() for name, t in module.state_dict().items()}


def pair(module, channels, side, *, wide=None):
    """The module shaken, in double precision, with two faces (2, C, side, wide or side)."""
    generator = torch.Generator().manual_seed(side)
    x = torch.randn(2, channels, side, wide or side, generator=generator, dtype=torch.float64)
    return tiny.shake(module).double(), x


def assert_close(tensor, array):
    np.testing.assert_allclose(tensor.detach().numpy(), array, rtol=1e-9, atol=1e-9)


# -- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("side", SIDES)
def test_dcam_is_equation_2(side, kernel_size):
    module, x = pair(DCAM(8, reduction=2, kernel_size=kernel_size), 8, side)
    gated, m_c = module(x)
    assert m_c.shape == (2, 8)
    for n in range(2):
        expected, expected_map = plain_loops.dcam(x[n].numpy(), weights(module))
        assert_close(m_c[n], expected_map)
        assert_close(gated[n], expected)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("side", SIDES)
def test_dsam_is_equation_3(side, kernel_size):
    module, x = pair(DSAM(6, kernel_size=kernel_size), 6, side)
    gated, m_s = module(x)
    assert m_s.shape == (2, 1, side, side)
    for n in range(2):
        expected, expected_map = plain_loops.dsam(x[n].numpy(), weights(module))
        assert_close(m_s[n], expected_map)
        assert_close(gated[n], expected)


@pytest.mark.parametrize("side", SIDES)
def test_cbam_is_woo_et_al(side):
    module, x = pair(CBAM(8, reduction=2), 8, side)
    attended = module(x)
    for n in range(2):
        for tensor, expected in zip(
            attended, plain_loops.cbam(x[n].numpy(), weights(module)), strict=True
        ):
            assert_close(tensor[n], expected)


def test_dbam_is_dcam_then_dsam_also_on_maps_that_are_no_squares():
    module, x = pair(DBAM(8, reduction=2), 8, 5, wide=6)
    attended = module(x)
    for n in range(2):
        for tensor, expected in zip(
            attended, plain_loops.dbam(x[n].numpy(), weights(module)), strict=True
        ):
            assert_close(tensor[n], expected)


@pytest.mark.parametrize("kind", [DBAM, CBAM])
def test_the_maps_are_those_before_the_sigmoid(kind):
    module, x = pair(kind(8, reduction=2), 8, 7)
    features, m_c, m_s = module(x)
    assert_close(features, (m_s.sigmoid() * (m_c.sigmoid()[:, :, None, None] * x)).detach())
    assert m_c.min() < 0 < m_c.max() or m_s.min() < 0 < m_s.max()  # no sigmoid gives these


def test_no_attention_lets_the_features_through():
    x = torch.randn(2, 8, 3, 3)
    features, m_c, m_s = NoAttention(8, reduction=16)(x)
    assert features is x and m_c is None and m_s is None


def test_the_channel_mlp_never_has_fewer_than_4_hidden_units():
    assert DCAM(8, reduction=16).mlp[0].out_features == 4
    assert DCAM(128, reduction=16).mlp[0].out_features == 8


# -- blocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "in_channels, out_channels, stride, side, out_side",
    [(8, 8, 1, 7, 7), (8, 8, 2, 7, 4), (4, 8, 2, 6, 3), (4, 8, 1, 3, 3)],
)
def test_mab_is_equation_1(in_channels, out_channels, stride, side, out_side):
    block = MixedAttentionBlock(in_channels, out_channels, stride, DBAM)
    block, x = pair(block, in_channels, side)
    features, m_c, m_s = block(x)
    assert features.shape == (2, out_channels, out_side, out_side)
    assert m_c.shape == (2, out_channels) and m_s.shape == (2, 1, out_side, out_side)
    for n in range(2):
        expected = plain_loops.mab(x[n].numpy(), weights(block), stride)
        for tensor, array in zip((features, m_c, m_s), expected, strict=True):
            assert_close(tensor[n], array)


def test_a_mab_whose_convolutions_are_silent_gives_back_its_input():
    block, x = pair(MixedAttentionBlock(8, 8, 1, DBAM), 8, 7)
    last_norm = block.convs[-1]
    with torch.no_grad():
        last_norm.weight.zero_()
        last_norm.bias.zero_()
    assert_close(block(x).features, x)  # eq. 1: 0 + F


@pytest.mark.parametrize("order", ["equation", "prose"])
@pytest.mark.parametrize("side", SIDES)
def test_mcb_is_equations_4_to_8(side, order):
    block, x = pair(MixedChannelBlock(4, 8, order=order), 4, side)
    for n in range(2):
        assert_close(block(x)[n], plain_loops.mcb(x[n].numpy(), weights(block), order))


def test_the_two_orders_of_the_mcb_differ():
    one, x = pair(MixedChannelBlock(8, 8, order="equation"), 8, 4)
    other, _ = pair(MixedChannelBlock(8, 8, order="prose"), 8, 4)
    assert not torch.allclose(one(x), other(x))


def test_an_mcb_needs_a_multiple_of_4_channels():
    with pytest.raises(ValueError, match="multiple of 4 channels, got 10"):
        MixedChannelBlock(8, 10)


# -- network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side, out_side", [(28, 7), (12, 3), (8, 2)])
def test_the_global_branch_goes_from_a_quarter_of_the_input_to_a_sixteenth(side, out_side):
    branch = build_global_branch(4, (2, 1), "equation")
    assert branch(torch.randn(2, 8, side, side)).shape == (2, 32, out_side, out_side)
    kinds = [type(layer).__name__ for layer in branch]
    assert kinds == ["MixedChannelBlock"] * 2 + ["MaxPool2d", "MixedChannelBlock", "MaxPool2d"]


@pytest.mark.parametrize("input_size, sides", [(112, (56, 28, 14, 7)), (48, (24, 12, 6, 3))])
def test_the_output_has_one_channel_and_one_spatial_map_per_block(input_size, sides):
    blocks = (2, 1, 3, 1)
    model = GMENet(
        classes=7, input_size=input_size, width=4, blocks=blocks, global_blocks=(1, 1)
    ).eval()
    with torch.inference_mode():
        output = model(torch.randn(2, 3, input_size, input_size))
    assert output.logits.shape == (2, 7)
    assert model.stage_of_block == (1, 1, 2, 3, 3, 3, 4)
    channels = [4 * 2 ** (stage - 1) for stage in model.stage_of_block]
    assert [tuple(m.shape) for m in output.channel_maps] == [(2, c) for c in channels]
    expected = [(2, 1, sides[stage - 1], sides[stage - 1]) for stage in model.stage_of_block]
    assert [tuple(m.shape) for m in output.spatial_maps] == expected


def test_the_branches_are_added_before_the_head():
    model = tiny.shake(build_model(tiny.config(), 4))
    seen = []
    model.gradcam_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.global_branch.register_forward_hook(lambda *args: seen.append(args[2]))
    model.stages[3][-1].register_forward_hook(lambda *args: seen.append(args[2].features))
    model.stages[1][-1].register_forward_hook(lambda *args: seen.append(args[2].features))
    with torch.no_grad():
        model(torch.randn(2, 3, 32, 32))
        fork, local, broad, fused = seen
        assert torch.equal(fused, local + broad)
        assert torch.equal(model.global_branch(fork), broad)  # forks after stage 2


@pytest.mark.parametrize("input_size", [16, 40, 100])
def test_another_input_size_is_refused(input_size):
    with pytest.raises(ValueError, match=f"multiple of 16, at least 32, got {input_size}"):
        GMENet(classes=7, input_size=input_size)


def test_a_network_depends_on_the_random_state_alone():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_model(tiny.config(), 4).state_dict())
    assert tiny.states_equal(*states)


VARIANTS = list(
    product(("dbam", "cbam", "none"), (True, False), ("flatten", "gap"), ("equation", "prose"))
)


@pytest.mark.parametrize("attention, global_branch, head, mcb_order", VARIANTS)
def test_every_parameter_of_every_variant_gets_a_gradient(
    attention, global_branch, head, mcb_order
):
    _assert_all_learn(
        attention=attention, global_branch=global_branch, head=head, mcb_order=mcb_order
    )


@pytest.mark.parametrize("dbam_kernel", [3, 5])
@pytest.mark.parametrize("global_branch", [True, False])
def test_wider_dbam_kernels_learn_too(dbam_kernel, global_branch):
    _assert_all_learn(dbam_kernel=dbam_kernel, global_branch=global_branch)


def silent(cfg):
    """Biases that shift a whole channel just before a BatchNorm takes every such shift out again.

    Their gradient is zero by construction. After stage 2 the global branch's padded convolution
    sees the shift, and attention sees the one inside a block: those biases do learn.
    """
    inside = r"\.(first|second|copy_convs\.\d|split_convs\.\d)\.1\.bias$"  # within a DWConv
    stages = "023" if cfg.global_branch else "0123"
    ends = r"shortcut\.1|convs\.5" if cfg.attention == "none" else r"shortcut\.1"
    patterns = [inside, rf"^stages\.[{stages}]\.\d+\.({ends})\.bias$"]
    patterns += [r"^head\.3\.bias$"] if cfg.head == "flatten" else []
    return re.compile("|".join(patterns))


def _assert_all_learn(**values):
    """Every parameter gets a gradient, and none but the silent biases one of zero."""
    cfg = tiny.config(**values)
    torch.manual_seed(0)
    student, teacher = build_model(cfg, 4).double().train(), build_model(cfg, 4).double().eval()
    x, labels = torch.randn(4, 3, 32, 32).double(), torch.tensor([0, 1, 2, 3])
    output = student(x)
    assert output.logits.shape == (4, 4)
    guide = None
    if cfg.attention != "none":
        with torch.no_grad():
            guide = teacher(x)
    distillation_loss(student=output, teacher=guide, labels=labels)["loss"].backward()
    gradients = {name: p.grad for name, p in student.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all()] == []
    without = {name for name, g in gradients.items() if g.abs().max() < 1e-12}
    assert without == {name for name in gradients if silent(cfg).search(name)}


# -- size -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paper_costs():
    return complexity(build_model(Config.load("params/paper.yaml"), 7), 112)


def test_the_paper_preset_has_the_papers_parameters(paper_costs):
    assert paper_costs["parameters"] == 18_587_415  # pinned: a change of the network shows here
    assert abs(paper_costs["parameters"] / PAPER_PARAMETERS - 1) < 0.01


def test_the_paper_preset_costs_the_papers_macs_by_thops_counting(paper_costs):
    pytest.importorskip("thop", exc_type=ImportError, reason="pip install .[complexity]")
    assert abs(paper_costs["macs_thop"] / PAPER_MACS - 1) < 0.05
    assert paper_costs["parameters_thop"] == paper_costs["parameters"]


def test_torchs_counter_is_pinned(paper_costs):
    assert paper_costs["macs"] == 2_805_071_686


def test_macs_are_those_of_convolutions_and_matrix_products_added_up_by_hand():
    cfg = tiny.config(attention="dbam", head="flatten")
    model = build_model(cfg, 4).eval()
    total = []

    def count(module, _, out):
        if isinstance(module, torch.nn.Conv2d):
            size = module.kernel_size[0] * module.kernel_size[1]
            total.append(out[0].numel() * size * module.in_channels // module.groups)
        elif isinstance(module, torch.nn.Linear):
            total.append(out[0].numel() * module.in_features)

    for module in model.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert complexity(build_model(cfg, 4), 32)["macs"] == sum(total)


def test_counting_leaves_no_trace_on_the_network():
    model = build_model(tiny.config(), 4).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    complexity(model, 32)
    assert model.training
    assert tiny.states_equal(before, dict(model.state_dict()))
