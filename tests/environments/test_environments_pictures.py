"""Frames of what is observed."""

import math

import pytest
import torch

from mdtheory.agents import Policy, film
from mdtheory.environments import CartPole, Pendulum, draw_cartpole, draw_pendulum


def source(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("environment", [CartPole(), Pendulum()], ids=["cartpole", "pendulum"])
def test_frames_show_what_is_observed(environment):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    policy = Policy(environment, 2, (4,), source())
    seen = film(policy, environment, source(3), 5)
    assert seen.shape == (6, 2, environment.observed)
    # The first frame is a start, the second what the greedy policy makes of it.
    world = environment.start(2, 1, source(3))
    first = world.reset()
    assert torch.equal(seen[0], first[:, 0])
    assert torch.equal(seen[1], world.step(policy.act(first)).observation[:, 0])
    figure, axes = pyplot.subplots()
    if environment.discrete:
        draw_cartpole(axes, torch.tensor([1.0, 0.0, math.pi / 2, 0.0]))
        tip = axes.lines[-1].get_xydata()[-1]
        assert tip.tolist() == pytest.approx([2.2, 0.0], abs=1e-6)  # fallen to the right
    else:
        draw_pendulum(axes, torch.tensor([1.0, 0.0, 0.0]))
        assert axes.lines[1].get_xydata()[-1].tolist() == pytest.approx([0, 1], abs=1e-6)
    pyplot.close(figure)
    with pytest.raises(ValueError, match=r"^steps: expected"):
        film(policy, environment, source(), 0)
