"""Optimizers by name, and the sharpness-aware step against its definition."""

import pytest
import tiny
import torch
from torch import nn

from gmelib.optimize import descend, make_optimizer


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_an_optimizer_takes_its_settings_from_the_parameters(name):
    cfg = tiny.config(optimizer=name, learning_rate=0.03, weight_decay=0.02, momentum=0.7)
    optimizer = make_optimizer(cfg, nn.Linear(2, 2))
    group = optimizer.param_groups[0]
    assert type(optimizer).__name__.lower() == name
    assert group["lr"] == 0.03 and group["weight_decay"] == 0.02
    assert group.get("momentum", 0.7) == 0.7


def test_frozen_weights_are_left_out():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    (group,) = make_optimizer(tiny.config(), model).param_groups
    assert group["params"] == [model.weight]


def quadratic(w):
    """Value and gradient of sum(c w^2), by hand."""
    c = torch.tensor([1.0, 10.0])
    return (c * w**2).sum(), 2 * c * w


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_a_step_follows_the_gradient_at_the_perturbed_weights(rho):
    start = torch.tensor([3.0, -1.0])
    w = nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([w], 0.01)
    seen = []

    def backward():
        seen.append(w.detach().clone())
        value = quadratic(w)[0]
        value.backward()
        return value.detach()

    told = descend(optimizer, backward, sam_rho=rho)
    value, gradient = quadratic(start)
    climbed = start + rho * gradient / gradient.norm()
    assert torch.equal(told, value)  # of the weights themselves
    assert len(seen) == (2 if rho else 1)
    torch.testing.assert_close(seen[-1], climbed)
    torch.testing.assert_close(w.detach(), start - 0.01 * quadratic(climbed)[1])


def test_weights_without_a_gradient_do_not_move():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([used, unused], 0.1)
    descend(optimizer, lambda: used.square().sum().backward(), sam_rho=0.1)
    assert torch.equal(unused.detach(), torch.ones(2)) and (used < 1).all()


def test_the_weights_come_back_exactly_when_the_second_pass_fails():
    start = torch.tensor([0.1, 1e-7])
    w, calls = nn.Parameter(start.clone()), []

    def backward():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        w.square().sum().backward()

    with pytest.raises(KeyboardInterrupt):
        descend(torch.optim.SGD([w], 0.1), backward, sam_rho=0.3)
    assert torch.equal(w.detach(), start)
