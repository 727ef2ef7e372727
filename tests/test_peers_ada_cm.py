"""Ada-CM: its network against torchvision's, its losses against plain loops."""

import math

import pytest
import tiny
import torch
from torch.nn import functional as F
from torchvision.models import resnet18

from gmelib.batches import Batch, training_view
from gmelib.evaluate import complexity
from gmelib.model import Output
from gmelib.peers import ada_cm
from gmelib.peers.ada_cm import AdaCM, AdaCMObjective, AdaCMOptions, build_ada_cm

CLASSES, SIZE = 4, 32


def objective(**options):
    cfg = tiny.config(method="ada_cm", kd_weight=0)
    options = AdaCMOptions(**({"labels": 0} | options))
    return AdaCMObjective(cfg, options, CLASSES, training_view(cfg, "student"))


def batch(labelled, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = len(labelled)
    images = torch.randint(0, 256, (count, 1, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return Batch(images, labels, torch.zeros(count, dtype=torch.bool), torch.tensor(labelled))


class Told:
    """Stands for the network: says what it was told to, and keeps what it was shown."""

    def __init__(self, logits, features):
        self.logits, self.features = logits.requires_grad_(), features.requires_grad_()

    def __call__(self, x):
        self.shown = x
        return Output(logits=self.logits, extras={"feature": self.features})


def told(labelled, unlabelled, sure=()):
    """For L labelled faces and U others; of those in ``sure`` both weak views say class 1."""
    generator = torch.Generator().manual_seed(3)
    rows = labelled + 3 * unlabelled
    logits = torch.randn(rows, CLASSES, generator=generator)
    for u in sure:
        logits[[labelled + u, labelled + unlabelled + u], 1] = 9.0
    return Told(logits, F.normalize(torch.randn(rows, 5, generator=generator), dim=1))


# -- the network ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AdaCM(classes=7, input_size=112)


def test_it_costs_what_table_1_says(network):
    pytest.importorskip("thop", exc_type=ImportError, reason="pip install .[complexity]")
    costs = complexity(network, 112)
    assert costs["parameters"] == costs["parameters_thop"] == 11_180_103
    assert round(costs["macs_thop"] / 1e9, 4) == 0.4874
    assert round(costs["parameters"] / 1e6, 2) == 11.18  # Table 1: 11.18 M, 0.49 G
    assert round(costs["macs_thop"] / 1e9, 2) == 0.49


def test_the_trunk_is_torchvisions_resnet_18():
    ours, theirs = AdaCM(classes=7), resnet18(weights=None)
    tiny.shake(theirs, seed=1)
    for tensor in theirs.parameters():
        tensor.data.mul_(0.2)  # so that 18 layers do not overflow
    weights = {n: t for n, t in theirs.state_dict().items() if not n.startswith("fc.")}
    assert ours.trunk.state_dict().keys() == weights.keys()
    ours.trunk.load_state_dict(weights)
    ours.eval()
    theirs.fc = torch.nn.Identity()
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    with torch.no_grad():
        pooled = theirs(((x + 1) / 2 - mean) / std)
        output = ours(x)
        feature = pooled / pooled.norm(dim=1, keepdim=True)
        logits = feature @ ours.classifier.weight.T + ours.classifier.bias
    assert torch.allclose(output.extras["feature"], feature, atol=1e-5)
    assert torch.allclose(output.logits, logits, atol=1e-5)


def test_dropout_comes_before_the_unit_length(network):
    kept = []
    hook = network.dropout.register_forward_hook(lambda _, given, result: kept.append(result))
    network.train()
    with torch.no_grad():
        feature = network(torch.rand(4, 3, 32, 32)).extras["feature"]
    hook.remove()
    lengths = kept[0].norm(dim=1, keepdim=True)
    assert kept[0].shape == (4, 512) and (lengths - 1).abs().min() > 0.1
    assert torch.allclose(feature, kept[0] / lengths, atol=1e-6)


def test_random_weights_are_kaimings_fan_out(network):
    convolution = network.trunk.layer3[0].conv2
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)


@pytest.mark.parametrize("size", [32, 48])
def test_small_faces_train(size):
    cfg = tiny.config(input_size=size)
    small = build_ada_cm(cfg, AdaCMOptions(), CLASSES)
    small(torch.rand(2, 3, size, size)).logits.sum().backward()
    assert all(p.grad is not None for p in small.parameters())
    assert small.gradcam_layer is small.trunk.layer4


@pytest.mark.parametrize("size", [40, 16])
def test_another_input_size_is_refused(size):
    message = tiny.refusal(AdaCM, classes=7, input_size=size)
    assert f"input_size = {size}" in message and "multiple of 16" in message


def test_the_options_are_the_authors():
    options = AdaCMOptions()
    assert (options.ce_weight, options.pseudo_weight, options.contrastive_weight) == (0.5, 1.0, 0.1)
    assert (options.temperature, options.threshold, options.labels) == (0.07, 0.8, 4000)
    assert AdaCM(classes=7, dropout=options.dropout).dropout.p == 0.5
    assert options.augmentation == "authors" and not options.is_reduced


# -- a step ---------------------------------------------------------------------------------------

MIXED = [True, False, True, False, False, False, False]
SURE = (0, 3)  # of the five unlabelled faces


def plain_loss(step, labels, forward, thresholds, temperature=0.07):
    """The step's losses by loops over faces; step: (L, U)."""
    known, unknown = step
    logits, features = forward.logits.detach().double(), forward.features.detach().double()
    probabilities = logits.softmax(1)
    ce = sum(-probabilities[i, labels[i]].log() for i in range(known)) / known
    pseudo, others = 0.0, []
    for u in range(unknown):
        p = (probabilities[known + u] + probabilities[known + unknown + u]) / 2
        c = int(p.argmax())
        if p[c] >= thresholds[c]:
            pseudo += -probabilities[known + 2 * unknown + u, c].log() / unknown
        else:
            others.append(u)
    views = [features[known + v * unknown + u] for v in (0, 1) for u in others]
    contrastive = 0.0
    for i in range(len(views)):
        likeness = [math.exp(views[i] @ view / temperature) for view in views]
        partner = likeness[(i + len(others)) % len(views)]
        contrastive -= math.log(partner / (sum(likeness) - likeness[i])) / len(views)
    return float(ce), float(pseudo), float(contrastive), 1 - len(others) / unknown


def test_the_losses_are_those_of_plain_loops():
    given, forward = batch(MIXED), told(2, 5, SURE)
    method = objective()
    terms = method.terms(forward, given)
    labels = given.labels[given.labelled]
    ce, pseudo, contrastive, share = plain_loss((2, 5), labels, forward, method.thresholds)
    assert share == pytest.approx(2 / 5)
    assert terms.named["ce"].item() == pytest.approx(ce, rel=1e-4)
    assert terms.named["pseudo"].item() == pytest.approx(pseudo, rel=1e-4)
    assert terms.named["contrastive"].item() == pytest.approx(contrastive, rel=1e-4)
    assert terms.named["confident"].item() == pytest.approx(share)
    assert terms.loss.item() == pytest.approx(0.5 * ce + pseudo + 0.1 * contrastive, rel=1e-4)
    assert torch.equal(terms.logits, forward.logits[:2])
    assert torch.equal(terms.labels, labels)


def test_the_weights_and_the_temperature_are_options():
    given, forward = batch(MIXED), told(2, 5, SURE)
    weights = {"ce_weight": 2.0, "pseudo_weight": 3.0, "contrastive_weight": 5.0}
    method = objective(temperature=0.5, **weights)
    terms = method.terms(forward, given)
    labels = given.labels[given.labelled]
    ce, pseudo, contrastive, _ = plain_loss((2, 5), labels, forward, method.thresholds, 0.5)
    assert terms.loss.item() == pytest.approx(2 * ce + 3 * pseudo + 5 * contrastive, rel=1e-4)


def test_a_class_has_its_own_threshold():
    given, forward = batch(MIXED), told(2, 5, SURE)
    method = objective()
    method.thresholds = torch.tensor([0.0, 0.9999, 0.0, 0.0])
    confident = method.terms(forward, given).named["confident"]
    probabilities = forward.logits.detach()[2:].softmax(1)
    guesses = ((probabilities[:5] + probabilities[5:10]) / 2).argmax(1)
    assert 0 < (guesses != 1).sum() < 5
    assert confident == pytest.approx((guesses != 1).float().mean().item())


def test_gradients_reach_the_views_they_are_meant_for():
    given, forward = batch(MIXED), told(2, 5, SURE)
    objective().terms(forward, given).loss.backward()
    moved = forward.logits.grad.abs().sum(1) > 0
    expected = [True] * 2 + [False] * 10 + [u in SURE for u in range(5)]
    assert moved.tolist() == expected  # labelled, then the strong views of confident faces
    moved = forward.features.grad.abs().sum(1) > 0
    weak = [u not in SURE for u in range(5)]
    assert moved.tolist() == [False] * 2 + weak * 2 + [False] * 5


@pytest.mark.parametrize("sure", [(), (0, 1, 2), (0, 1)], ids=["none", "all", "all but one"])
def test_any_number_of_confident_faces_gives_a_finite_loss(sure):
    given, forward = batch([True, False, False, False]), told(1, 3, sure)
    terms = objective().terms(forward, given)
    terms.loss.backward()
    assert terms.loss.isfinite() and forward.logits.grad.isfinite().all()
    assert forward.features.grad.isfinite().all()
    assert (terms.named["pseudo"] > 0) == (len(sure) > 0)
    assert (terms.named["contrastive"] > 0) == (len(sure) < 2)  # one face alone has no others


def test_without_unlabelled_faces_it_is_cross_entropy():
    given, forward = batch([True] * 4), told(4, 0)
    terms = objective().terms(forward, given)
    expected = F.cross_entropy(forward.logits, given.labels)
    assert terms.loss.item() == pytest.approx(0.5 * expected.item())
    terms.loss.backward()
    assert forward.logits.grad.isfinite().all()
    assert terms.named["confident"] == 0


def test_without_labelled_faces_the_other_losses_remain():
    given, forward = batch([False] * 5), told(0, 5, SURE)
    terms = objective().terms(forward, given)
    assert terms.named["ce"] == 0 and terms.loss > 0
    named = terms.named
    assert terms.loss.item() == pytest.approx((named["pseudo"] + 0.1 * named["contrastive"]).item())
    terms.loss.backward()
    assert forward.logits.grad.isfinite().all() and len(terms.labels) == 0


def test_one_forward_pass_shows_labelled_weak_and_strong_views(monkeypatch):
    monkeypatch.setattr(ada_cm, "random_shift", lambda x, *, flip: x + (0.25 if flip else 0.125))
    monkeypatch.setattr(ada_cm, "strong_view", lambda x: x + 0.5)
    given, forward = batch(MIXED), told(2, 5)
    objective().terms(forward, given)
    x = training_view(tiny.config(), "student")(given.images, given.high)
    known, unknown = x[given.labelled], x[~given.labelled]
    views = [known + 0.125, unknown + 0.25, unknown + 0.25, unknown + 0.5 + 0.25]
    assert torch.equal(forward.shown, torch.cat(views))
    objective(augmentation="plain").terms(forward, given)
    assert torch.equal(forward.shown, torch.cat([known, *views[1:]]))
    assert len(forward.shown) / len(MIXED) == pytest.approx((2 + 3 * 5) / 7)


def test_each_view_is_drawn_anew_and_by_the_seed():
    given, forward = batch([False] * 6), told(0, 6)
    shown = []
    for seed in (1, 1):
        torch.manual_seed(seed)
        objective().terms(forward, given)
        shown.append(forward.shown)
    assert torch.equal(*shown)
    one, other, strong = shown[0].split(6)
    assert not torch.equal(one, other) and not torch.equal(one, strong)


def test_a_step_in_half_of_each_costs_two_passes():
    given = batch([True, False] * 4)
    forward = told(4, 4)
    objective().terms(forward, given)
    assert len(forward.shown) / len(given.images) == AdaCMObjective.views == 2.0


def test_a_step_reaches_every_parameter():
    torch.manual_seed(0)
    network = AdaCM(classes=CLASSES, input_size=SIZE)
    terms = objective().terms(network, batch([True, False] * 4))
    terms.loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())


def test_label_smoothing_is_of_the_labelled_faces():
    given, forward = batch(MIXED), told(2, 5, SURE)
    plain, method = objective(), objective()
    method.cfg = method.cfg.replace(label_smoothing=0.1)
    before, after = (o.terms(forward, given).named for o in (plain, method))
    labels = given.labels[given.labelled]
    expected = F.cross_entropy(forward.logits[:2], labels, label_smoothing=0.1)
    assert after["ce"].item() == pytest.approx(expected.item()) != before["ce"].item()
    assert after["pseudo"] == before["pseudo"]


def test_it_refuses_a_teacher():
    cfg = tiny.config(method="ada_cm")
    message = tiny.refusal(
        AdaCMObjective, cfg, AdaCMOptions(), 7, training_view(cfg, "student"), teacher=lambda x: x
    )
    assert "kd_weight" in message
