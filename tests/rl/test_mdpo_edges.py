"""MDPO at the edges: overflow behind a clip, weights of 0, whose memory a rollout is."""

import math

import numpy as np
import pytest
import torch

from mdtheory.agents import film
from mdtheory.agents.policies import Policy
from mdtheory.convex import mirror_maps as mm
from mdtheory.environments import CartPole, Environment, TimeStep, World
from mdtheory.rl.mdpo import (
    OffPolicySettings,
    OnPolicySettings,
    Pendulum,
    log_q,
    mdpo_loss,
    off_policy_actor_loss,
    ppo_loss,
    train_off_policy,
    train_on_policy,
    tsallis_divergence,
)
from tests.refused import close

float64 = torch.float64
INF = math.inf


def source(seed=3):
    return torch.Generator().manual_seed(seed)


def test_one_tsallis_divergence_for_the_library():
    assert tsallis_divergence is mm.tsallis_divergence
    assert log_q is mm.log_q


# ----------------------------------------------------------------------------------------- losses


def test_nothing_flows_back_from_behind_the_clip():
    for change, advantage in ((200.0, 1.0), (-200.0, -1.0), (0.5, 1.0), (200.0, 0.0)):
        log_prob = torch.full((1,), change, requires_grad=True)
        loss = ppo_loss(log_prob, torch.zeros(1), torch.full((1,), advantage))
        edge = 1.2 if advantage >= 0 else 0.8
        assert loss.item() == pytest.approx(-edge * advantage)
        assert torch.autograd.grad(loss, log_prob)[0].item() == 0


def losses(parts, weight):
    log_prob, old, advantage, divergence = parts
    return {
        "mdpo": lambda: mdpo_loss(log_prob, old, advantage, divergence, 0.5, weight=weight),
        "ppo": lambda: ppo_loss(log_prob, old, advantage, weight=weight),
        "off": lambda: off_policy_actor_loss(log_prob, old, advantage, 1.0, 0.2, weight=weight),
        "tsallis": lambda: off_policy_actor_loss(
            log_prob, old, advantage, 1.0, 0.2, order=1.5, weight=weight
        ),
    }


@pytest.mark.parametrize("name", ["mdpo", "ppo", "off", "tsallis"])
@pytest.mark.parametrize("bad", [math.nan, INF, -INF, 1e4])
@pytest.mark.parametrize("slot", range(4))
def test_a_weight_of_zero_silences_whatever_the_sample_holds(name, bad, slot):
    parts = [torch.randn(2, 6, generator=source(k)) for k in range(4)]
    right = [part[:, :5].clone().requires_grad_() for part in parts]
    parts[slot][:, 5] = bad
    parts = [part.requires_grad_() for part in parts]
    weight = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0, 0.0])
    mine = losses(parts, weight)[name]()
    theirs = losses(right, weight[:5])[name]()
    close(mine, theirs, tolerance=1e-6)
    slopes = torch.autograd.grad(mine.sum(), parts, allow_unused=True)
    expected = torch.autograd.grad(theirs.sum(), right, allow_unused=True)
    for slope, other in zip(slopes, expected, strict=True):
        if other is not None:
            close(slope[:, :5], other, tolerance=1e-6)
            assert (slope[:, 5] == 0).all()


@pytest.mark.parametrize("name", ["mdpo", "ppo", "off"])
@pytest.mark.parametrize("unit", [1e-40, 1e-14, 1e14, 1e38])
def test_weights_have_no_unit(name, unit):
    parts = [torch.randn(6, generator=source(k)) for k in range(4)]
    weight = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0, 0.0])
    close(losses(parts, weight * unit)[name](), losses(parts, weight)[name](), tolerance=1e-4)


@pytest.mark.parametrize("name", ["mdpo", "ppo", "off"])
@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (
            torch.tensor([1.0, -1.0, 1.0]),
            ValueError,
            "weight: expected finite weights >= 0",
        ),
        (torch.tensor([1.0, math.nan, 1.0]), ValueError, "weight: expected finite weights"),
        (torch.tensor([1.0, INF, 1.0]), ValueError, "weight: expected finite weights"),
        (torch.zeros(3), ValueError, "weight: expected a weight > 0"),
        (torch.ones(2), ValueError, "weight: expected 3 samples"),
        (torch.ones(3, 1), ValueError, "weight: expected 3 samples"),
        (torch.ones(2, 3), ValueError, "weight: expected a shape that broadcasts to"),
        (torch.ones(3, dtype=float64), TypeError, "weight"),
        (np.ones(3), TypeError, "weight"),
        (torch.ones(3, dtype=torch.bool), TypeError, "weight"),
    ],
)
def test_weights_are_checked(name, weight, error, words):
    with pytest.raises(error, match=words):
        losses([torch.zeros(3) for _ in range(4)], weight)[name]()


@pytest.mark.parametrize("shape", [(4, 1), (1,), (3, 1)])
def test_samples_do_not_broadcast_silently(shape):
    x, other = torch.zeros(4), torch.zeros(shape)
    for call, name in (
        (lambda: mdpo_loss(x, other, x, x, 1.0), "old_log_prob"),
        (lambda: mdpo_loss(x, x, x, other, 1.0), "divergence"),
        (lambda: ppo_loss(x, x, other), "advantage"),
        (lambda: off_policy_actor_loss(x, x, other, 1.0, 0.1), "value"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected 4 samples"):
            call()


def test_numbers_of_numpy_and_infinite_steps():
    x = torch.randn(5, generator=source())
    far = torch.tensor([1.0, INF, 2.0, 3.0, 4.0])
    surrogate = mdpo_loss(x, x, x, torch.zeros(5), 1.0)
    close(mdpo_loss(x, x, x, far, np.float64(INF)), surrogate)
    close(mdpo_loss(x, x, x, far, torch.tensor(INF)), surrogate)
    close(mdpo_loss(x, x, x, x, np.float32(0.5)), mdpo_loss(x, x, x, x, 0.5))
    for value in (np.array(0.5), np.array([0.5, 0.5])):
        with pytest.raises(TypeError, match="step_size"):
            mdpo_loss(x, x, x, x, value)
        with pytest.raises(TypeError, match="clip_range"):
            ppo_loss(x, x, x, value)
        with pytest.raises(TypeError, match="order"):
            off_policy_actor_loss(x, x, x, 1.0, 0.1, order=value)
    # A coefficient of 0 takes an infinite logarithm away.
    close(off_policy_actor_loss(x, -far, x, 0.2, 0.2), off_policy_actor_loss(x, x, x, 0.2, 0.2))


# ---------------------------------------------------------------------------------------- memory


class Reusing(Environment):
    """A world that writes every step into the same tensors."""

    def __init__(self, inner):
        self.inner = inner
        self.observed, self.actions, self.discrete = inner.observed, inner.actions, inner.discrete

    def start(self, seeds, copies, generator):
        return ReusingWorld(self.inner.start(seeds, copies, generator))


class ReusingWorld(World):
    def __init__(self, inner):
        self.inner, self.memory = inner, None

    def reset(self):
        observation = self.inner.reset()
        if self.memory is None:
            none = torch.zeros(observation.shape[:-1], dtype=torch.bool)
            reward = torch.zeros(observation.shape[:-1])
            self.memory = TimeStep(observation.clone(), reward, none, none.clone())
        self.memory.observation.copy_(observation)
        return self.memory.observation

    def step(self, action):
        for mine, part in zip(self.memory, self.inner.step(action), strict=True):
            mine.copy_(part)
        return self.memory


def test_rollouts_own_their_memory():
    small = OnPolicySettings(copies=2, horizon=8, hidden=(4,), critic_epochs=1)
    tiny = OffPolicySettings(batch=4, warm_up=5, hidden=(4,), record_every=10, capacity=20)
    for train, inner, settings, steps in (
        (train_on_policy, CartPole(), small, 48),
        (train_off_policy, Pendulum(), tiny, 30),
    ):
        records = [
            train(world, steps, source(), seeds=2, settings=settings)
            for world in (inner, Reusing(inner))
        ]
        observation = torch.randn(2, 5, inner.observed, generator=source())
        actions = [record.policy.act(observation) for record in records]
        assert torch.equal(*actions)
        for mine, theirs in zip(records[0], records[1], strict=True):
            if isinstance(mine, torch.Tensor) and mine.dtype == torch.int64:
                assert torch.equal(mine, theirs)
    policy = Policy(CartPole(), 1, (4,), source())
    films = [film(policy, world, source(), 6) for world in (CartPole(), Reusing(CartPole()))]
    assert torch.equal(*films)
