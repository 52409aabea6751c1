"""Models of preferences: rewards and their fits, networks that compare two answers."""

from __future__ import annotations

import pytest
import torch

from mdtheory.nlhf.nash_md import cyclic_preference, random_preference
from mdtheory.nlhf.reward_models import (
    Comparisons,
    NeuralPreference,
    bradley_terry,
    bradley_terry_preference,
    fit_preference,
    require_preference,
)

F64 = torch.float64


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(61)


def test_rewards_come_back_whatever_the_pairs_drawn(generator):
    reward = 2 * torch.randn(30, 6, generator=generator, dtype=F64)
    reward = reward - reward.mean(-1, keepdim=True)
    weights = torch.rand(30, 6, 6, generator=generator, dtype=F64)
    for chosen in (None, weights):
        found = bradley_terry(bradley_terry_preference(reward), chosen)
        assert torch.allclose(found, reward, atol=1e-8)


def test_the_fit_is_the_maximum_that_a_plain_optimiser_finds(generator):
    preference = random_preference(5, generator)
    weights = torch.rand(5, 5, generator=generator, dtype=F64)
    found = bradley_terry(preference, weights)
    reward = torch.zeros(5, dtype=F64, requires_grad=True)
    optimizer = torch.optim.LBFGS([reward], max_iter=500, tolerance_grad=1e-12)
    both = ((weights + weights.T) / 2).fill_diagonal_(0)

    def loss():
        optimizer.zero_grad()
        ahead = reward[:, None] - reward[None, :]
        value = -(both * preference * torch.nn.functional.logsigmoid(ahead)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert torch.allclose(found, (reward - reward.mean()).detach(), atol=1e-5)


def test_the_best_reward_and_the_best_preference_differ_on_a_restricted_set():
    """Munos et al., appendix A: policies with twice as much of the first as of the second."""
    reward = torch.tensor([1.0, 9.0, 2.0], dtype=F64).log()
    matrix = bradley_terry_preference(reward)
    expected = torch.tensor([9 / 10, 2 / 3, 9 / 11], dtype=F64)
    found = torch.stack([matrix[1, 0], matrix[2, 0], matrix[1, 2]])
    assert torch.allclose(found, expected)
    share = torch.arange(0, 1001, dtype=F64) / 1000
    policies = torch.stack([share * 2 / 3, share / 3, 1 - share], -1)
    assert int((policies @ reward).argmax()) == 1000
    between = policies @ matrix @ policies.T
    assert int(between.amin(1).argmax()) == 0
    assert between[0, 1000].item() == pytest.approx(50 / 99)


def test_the_reward_depends_on_the_pairs_drawn_where_no_reward_explains_them():
    cyclic = cyclic_preference(0.3)
    explained = bradley_terry_preference(torch.tensor([0.0, 1.0, -0.5], dtype=F64))
    skewed = torch.tensor([[0.0, 9, 1], [9, 0, 1], [1, 1, 0]], dtype=F64)
    moved = bradley_terry(cyclic, skewed) - bradley_terry(cyclic)
    stays = bradley_terry(explained, skewed) - bradley_terry(explained)
    assert moved.abs().max() > 0.3
    assert stays.abs().max() < 1e-9


def test_a_network_is_antisymmetric_and_learns_a_circle(generator):
    model = NeuralPreference(2, 16, generator)
    angle = 2 * torch.pi * torch.arange(3) / 3
    answers = torch.stack([angle.cos(), angle.sin()], -1)
    before = model(answers)
    assert torch.allclose(before + before.mT, torch.ones(3, 3), atol=1e-6)
    truth = cyclic_preference(0.4).float()
    pairs = torch.randint(3, (2000, 2), generator=generator)
    won = torch.rand(2000, generator=generator) < truth[pairs[:, 0], pairs[:, 1]]
    data = Comparisons(answers[pairs[:, 0]], answers[pairs[:, 1]], won.float())
    losses = fit_preference(model, data, generator, steps=300)
    assert sum(losses[-20:]) / 20 < sum(losses[:20]) / 20 - 0.05
    learned = model(answers).detach()
    assert (learned - truth).abs().max() < 0.1
    # No reward can do that: the best one is constant.
    assert bradley_terry(cyclic_preference(0.4)).abs().max() < 1e-9


def nothing(n: int) -> torch.Tensor:
    return torch.full((n, n), 0.5, dtype=F64)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bradley_terry_preference(torch.tensor([1.0, torch.nan])), "reward: expected"),
        (lambda: bradley_terry(torch.eye(3, dtype=F64)), "preference: expected pairs"),
        (lambda: bradley_terry(nothing(3), -nothing(3)), "weights: expected finite weights"),
        (lambda: bradley_terry(nothing(3), nothing(2)), "weights: expected shape"),
        (lambda: bradley_terry(nothing(3), 0 * nothing(3)), "a path of wins"),
        (
            lambda: bradley_terry(torch.tensor([[0.5, 1.0], [0.0, 0.5]], dtype=F64)),
            "a path of wins",
        ),
        (lambda: require_preference("preference", 2 * nothing(2)), "preference: expected pairs"),
        (lambda: require_preference("preference", 3 * nothing(2)), "preference: expected prob"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_bad_labels_are_refused(generator):
    model = NeuralPreference(2, 4, generator)
    good = Comparisons(torch.zeros(5, 2), torch.zeros(5, 2), torch.ones(5))
    with pytest.raises(ValueError, match=r"data\.won: expected labels"):
        fit_preference(model, good._replace(won=2 * torch.ones(5)), generator)
    with pytest.raises(ValueError, match=r"data\.second: expected shape"):
        fit_preference(model, good._replace(second=torch.zeros(5, 3)), generator)
