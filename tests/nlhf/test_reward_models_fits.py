"""Fits of rewards to comparisons: existence, order, error; the loss and its gradient."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mdtheory.nlhf import reward_models as rm
from mdtheory.nlhf.nash_md import cyclic_preference, random_preference
from mdtheory.nlhf.reward_models import bounds
from tests.nlhf.reward_models_cases import F64, draws, normal
from tests.refused import at_most, close, fails


def centred(reward):
    return reward - reward.mean(-1, keepdim=True)


# ------------------------------------------------------------------ prop-bradley-terry


@pytest.mark.theorem("prop-bradley-terry", "equality")
def test_a_reward_is_found_whatever_pairs_are_drawn():
    generator = draws(4)
    reward = centred(normal(generator, 20, 6))
    weights = torch.rand(20, 6, 6, generator=generator, dtype=F64)
    preference = rm.bradley_terry_preference(reward)
    for drawn in (None, weights):
        close(rm.bradley_terry(preference, drawn), reward, tolerance=1e-8)


@pytest.mark.theorem("prop-bradley-terry", "mutant")
def test_where_no_reward_is_true_the_answer_follows_the_pairs():
    weights = torch.tensor([[1.0, 1, 5], [1, 1, 1], [5, 1, 1]], dtype=F64)
    reward = torch.tensor([0.4, -0.1, -0.3], dtype=F64)

    def fits(preference):
        return rm.bradley_terry(preference), rm.bradley_terry(preference, weights)

    cycle = cyclic_preference(0.2)
    close(fits(cycle)[0], torch.zeros(3, dtype=F64))
    fails(close, *fits(cycle), true=fits(rm.bradley_terry_preference(reward)), tolerance=1e-9)


@pytest.mark.theorem("prop-bradley-terry", "equality")
def test_a_fit_exists_exactly_where_wins_connect_all_answers():
    """Every pattern of sure wins and losses on three drawn pairs of three answers."""
    for pattern in itertools.product((0.0, 0.5, 1.0), repeat=3):
        preference = torch.full((3, 3), 0.5, dtype=F64)
        wins = torch.eye(3, dtype=torch.bool)
        for value, (i, j) in zip(pattern, ((0, 1), (1, 2), (0, 2)), strict=True):
            preference[i, j], preference[j, i] = value, 1 - value
            wins[i, j], wins[j, i] = value > 0, value < 1
        # Warshall's closure, as a second way to say 'a path of wins'.
        for k in range(3):
            wins = wins | (wins[:, k : k + 1] & wins[k : k + 1])
        if bool(wins.all()):
            assert rm.bradley_terry(preference).isfinite().all()
        else:
            with pytest.raises(ValueError, match="path of wins"):
                rm.bradley_terry(preference)


# ------------------------------------------------------------------ prop-borda


def borda(preference):
    return preference.sum(-1)


@pytest.mark.theorem("prop-borda", "equality")
def test_the_fit_has_the_wins_of_the_data_and_their_order():
    preference = random_preference(6, draws(5), (300,))
    for noise in (0.0, 0.25, 0.45):
        noisy = (1 - 2 * noise) * preference + noise
        fit = rm.bradley_terry(noisy)
        close(rm.bradley_terry_preference(fit).sum(-1), borda(noisy), tolerance=1e-9)
        assert torch.equal(fit.argsort(-1), borda(preference).argsort(-1))


@pytest.mark.theorem("prop-borda", "mutant")
def test_with_pairs_drawn_unevenly_the_order_is_another():
    generator = draws(6)
    preference = random_preference(6, generator, (300,))
    order = lambda reward: reward.argsort(-1).double()  # noqa: E731
    weights = torch.rand(300, 6, 6, generator=generator, dtype=F64)
    even, uneven = rm.bradley_terry(preference), rm.bradley_terry(preference, weights)
    won = order(borda(preference))
    fails(close, order(uneven), won, true=(order(even), won))
    # Mutant: the order by victories over single rivals (Copeland).
    majority = order((preference > 0.5).double().sum(-1) + 1e-6 * borda(preference))
    fails(close, majority, order(even), true=(won, order(even)))


@pytest.mark.theorem("prop-borda", "equality")
def test_hard_labels_with_noise_have_finite_rewards():
    gold = normal(draws(7), 9).sort().values
    hard = (gold[:, None] > gold).double() + 0.5 * torch.eye(9, dtype=F64)
    for noise in (0.05, 0.25, 0.35):
        two = rm.bradley_terry(noise + (1 - 2 * noise) * hard[:2, :2])
        close(two.diff(), torch.tensor([math.log((1 - noise) / noise)], dtype=F64))
        fit = rm.bradley_terry(noise + (1 - 2 * noise) * hard)
        assert bool((fit.diff() > 0).all())
    assert rm.bradley_terry(0.25 + 0.5 * hard)[[0, -1]].diff().item() == pytest.approx(
        2.10, abs=0.01
    )


# ------------------------------------------------------------------ thm-fit-error


class Fits(NamedTuple):
    """Each seed's squared error over the pairs drawn, noise, and largest difference; pairs."""

    error: Tensor
    noise: Tensor
    reward_range: Tensor
    pairs: float


def fitted(reward, weights, each, seeds, generator):
    """Fits to ``each * weights`` judged pairs of every two answers."""
    n = reward.shape[-1]
    first, second = torch.triu_indices(n, n, 1)
    true = reward[first] - reward[second]
    counts = (each * weights).round()
    coins = torch.rand(seeds, len(true), int(counts.max()), generator=generator, dtype=F64)
    used = torch.arange(coins.shape[-1]) < counts[:, None]
    share = ((coins < true.sigmoid()[:, None]) & used).sum(-1) / counts
    preference = torch.full((seeds, n, n), 0.5, dtype=F64)
    preference[:, first, second], preference[:, second, first] = share, 1 - share
    drawn = torch.zeros(n, n, dtype=F64)
    drawn[first, second] = counts
    fit = rm.bradley_terry(preference, drawn)
    found = fit[:, first] - fit[:, second]
    law = counts / counts.sum()
    edges = torch.eye(n, dtype=F64)[first] - torch.eye(n, dtype=F64)[second]
    laplacian = edges.T @ (law[:, None] * edges)
    gradient = (law * (true.sigmoid() - share)) @ edges
    noise = torch.einsum("sa,ab,sb->s", gradient, torch.linalg.pinv(laplacian), gradient)
    largest = torch.maximum(found.abs().amax(-1), true.abs().amax())
    error = (law * (found - true).square()).sum(-1)
    return Fits(error, noise, largest, counts.sum().item())


def slope(x):
    return x.sigmoid() * (-x).sigmoid()


@pytest.mark.theorem("thm-fit-error", "bound")
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_the_error_of_a_fit_goes_down_with_the_pairs(spread):
    generator = draws(8)
    reward = spread * centred(normal(generator, 5))
    weights = torch.rand(10, generator=generator, dtype=F64) + 0.5
    for each in (200, 2000):
        fits = fitted(reward, weights, each, 400, generator)
        at_most(fits.error, fits.noise / slope(fits.reward_range).square())
        # The fit over all rewards is the fit over the box where it lies in the box.
        largest = fits.reward_range.amax().item()
        at_most(fits.error.mean(), bounds.fit_error_bound(5, fits.pairs, largest))


@pytest.mark.theorem("thm-fit-error", "equality")
def test_the_bound_is_attained_for_equal_answers_and_many_pairs():
    fits = fitted(torch.zeros(4, dtype=F64), torch.ones(6, dtype=F64), 4000, 500, draws(9))
    right = fits.noise / slope(fits.reward_range).square()
    at_most(fits.error, right)
    assert (fits.error / right).min() > 0.98
    # The noise's mean is exact for equal answers: over all outcomes of one pair each, n = 3.
    edges = torch.tensor([[1.0, -1, 0], [0, 1, -1], [1, 0, -1]], dtype=F64)
    laplacian = edges.T @ edges / 3
    coins = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=F64)] * 3) @ edges / 3
    mean = torch.einsum("sa,ab,sb->s", coins, torch.linalg.pinv(laplacian), coins).mean()
    close(mean, torch.tensor(2 / (4 * 3), dtype=F64))
    close(bounds.fit_error_bound(3, 3, 1e-9), 16 * mean)


@pytest.mark.theorem("thm-fit-error", "mutant")
def test_the_slope_at_zero_and_another_norm_are_too_little():
    generator = draws(10)
    reward = torch.tensor([2.0, -2.0, 2.0, -2.0], dtype=F64)
    fits = fitted(reward, torch.ones(6, dtype=F64), 500, 300, generator)
    true = fits.error, fits.noise / slope(fits.reward_range).square()
    # Mutants: the curvature of the logistic loss at 0, as if rewards were small; and that at the
    # mean difference of the pairs.
    flat = fits.noise / slope(torch.zeros(())) ** 2
    fails(at_most, fits.error, flat, true=true,
          scaled="the curvature away from 0 is what the statement is about")  # fmt: skip
    mean = fits.noise / slope(fits.reward_range / 3) ** 2
    fails(at_most, fits.error, mean, true=true)


# ------------------------------------------------------------------ the loss


def test_the_loss_of_judged_pairs():
    generator = draws(11)
    margins = 3 * normal(generator, 2, 5, 40)
    labels = torch.rand(2, 1, 40, generator=generator, dtype=F64)
    plain = -(labels * margins.sigmoid().log() + (1 - labels) * (-margins).sigmoid().log())
    close(rm.bradley_terry_loss(margins, labels), plain.mean(-1))
    close(rm.bradley_terry_loss(margins), -margins.sigmoid().log().mean(-1))
    hard = (labels > 0.5).double()
    sign = 2 * hard - 1
    close(rm.bradley_terry_loss(margins, hard), rm.bradley_terry_loss(sign * margins))
    far = torch.tensor([-1e4, 1e4], dtype=F64)
    close(rm.bradley_terry_loss(far), torch.tensor(5000.0, dtype=F64))
    close(rm.bradley_terry_loss(far, torch.tensor([0.0, 1.0], dtype=F64)), torch.zeros(1).double())


def test_its_gradient_is_the_surprise_and_members_do_not_dilute_it():
    margins = normal(draws(12), 5, 8).requires_grad_()
    labels = (normal(draws(13), 5, 8) > 0).double()
    rm.bradley_terry_loss(margins, labels).sum().backward()
    close(margins.grad, (margins.detach().sigmoid() - labels) / 8)
    alone = margins.detach()[2].clone().requires_grad_()
    rm.bradley_terry_loss(alone, labels[2]).backward()
    close(margins.grad[2], alone.grad)


def test_the_fit_to_a_table_is_the_least_loss():
    reward = rm.bradley_terry(random_preference(4, draws(14)))
    preference = random_preference(4, draws(14))
    i, j = torch.triu_indices(4, 4, 1)
    nearby = reward + 0.1 * normal(draws(15), 100, 4)
    at_best = rm.bradley_terry_loss(reward[i] - reward[j], preference[i, j])
    at_most(at_best, rm.bradley_terry_loss(nearby[:, i] - nearby[:, j], preference[i, j]))
