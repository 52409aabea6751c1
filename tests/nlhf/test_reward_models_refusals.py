"""Arguments that are refused by their names."""

import math

import pytest
import torch

from mdtheory.nlhf import reward_models as rm
from mdtheory.nlhf.reward_models import bounds

F64 = torch.float64
HALF = torch.full((2,), 0.5, dtype=F64).log()
SCORES = torch.tensor([0.0, 1.0], dtype=F64)
PAIRS = torch.zeros(4, 2)
WON = torch.ones(4)
GENERATOR = torch.Generator()


def train(first=PAIRS, second=PAIRS, won=WON, **options):
    usual = {"members": 2, "epochs": 1, "step_size": 0.1, "generator": GENERATOR, "hidden": (4,)}
    return rm.train_reward_ensemble(first, second, won, **(usual | options))


def climb(**options):
    usual = {"kl_weight": 0.0, "steps": 2, "step_size": 0.1, "samples": 2, "generator": GENERATOR}
    return rm.climb_objective(lambda x: x[..., 0], torch.zeros(3), **(usual | options))


def net():
    return train(PAIRS[None].expand(3, -1, -1), PAIRS, WON)


VALUES = [
    (lambda: rm.bradley_terry_loss(SCORES, 2 * SCORES), "labels: expected labels in"),
    (lambda: rm.bradley_terry_loss(SCORES, torch.ones(3, dtype=F64)), "labels: expected"),
    (lambda: rm.ensemble_objective(SCORES, "best"), "kind: expected 'mean', 'WCO' or 'UWO'"),
    (lambda: rm.ensemble_objective(SCORES, "UWO", -1.0), "weight: expected"),
    (lambda: rm.ensemble_objective(SCORES, "mean", dim=1), "dim: expected an axis"),
    (lambda: rm.ensemble_objective(torch.zeros(0, 3), "mean"), "dim: expected|rewards: expected"),
    (lambda: rm.best_of_n_estimate(SCORES, SCORES, 3), "n: expected a whole number from 1 to 2"),
    (lambda: rm.best_of_n_estimate(SCORES, SCORES, 0), "n: expected"),
    (lambda: rm.best_of_n_estimate(SCORES, SCORES * math.inf, 1), "gold: expected finite"),
    (lambda: rm.best_of_n_estimate(SCORES / 0, SCORES, 1), "proxy: expected finite"),
    (lambda: rm.best_of_n_estimate(SCORES, torch.ones(3), 1), "gold: expected"),
    (lambda: rm.best_of_n_divergence(0.5), "n: expected"),
    (lambda: rm.best_of_n_divergence(2, SCORES + 1), "probabilities: expected"),
    (lambda: rm.best_of_n_win_rate(math.nan), "n: expected"),
    (lambda: rm.best_of_n_policy(HALF.exp(), SCORES, 2), "log_policy: expected log-prob"),
    (lambda: rm.best_of_n_policy(HALF, SCORES / 0, 2), "scores: expected finite"),
    (lambda: rm.rank(HALF, torch.ones(3, dtype=F64)), "scores: expected"),
    (lambda: rm.tilted_policy(HALF, SCORES, -1.0), "step_size: expected"),
    (lambda: rm.tilted_policy(HALF, SCORES / 0, 1.0), "reward: expected finite"),
    (
        lambda: rm.tilt_of_divergence(HALF, SCORES, torch.tensor(0.7, dtype=F64)),
        "divergence: expected at least 0, and less",
    ),
    (lambda: rm.tilt_of_reward(HALF, SCORES, torch.tensor(1.0, dtype=F64)), "mean: expected"),
    (lambda: rm.tilt_of_reward(HALF, SCORES, torch.tensor(0.4, dtype=F64)), "mean: expected"),
    (lambda: rm.rank_tilt(torch.zeros(2)), "step_size: expected positive"),
    (lambda: rm.rank_tilt_of(), "win_rate, divergence: expected exactly one"),
    (lambda: rm.rank_tilt_of(win_rate=torch.ones(1)), "win_rate: expected"),
    (lambda: rm.rank_tilt_of(divergence=torch.zeros(1)), "divergence: expected"),
    (lambda: rm.kl_estimates(SCORES / 0), "log_ratio: expected finite"),
    (lambda: rm.best_of_n_curves(SCORES, SCORES, [1], {}), "rewards: expected shape"),
    (lambda: train(won=2 * WON), "labels: expected labels in"),
    (lambda: train(first=PAIRS / 0), "first: expected finite"),
    (lambda: train(second=torch.zeros(4, 3)), "second: expected shape"),
    (lambda: train(won=torch.ones(3)), "labels: expected shape"),
    (lambda: train(first=torch.zeros(4)), "first: expected shape"),
    (lambda: train(members=0), "members: expected"),
    (lambda: train(members=3, shared=False), "members: expected a divisor"),
    (lambda: train(epochs=0), "epochs: expected"),
    (lambda: train(step_size=0.0), "step_size: expected"),
    (lambda: train(batch=0), "batch: expected"),
    (lambda: train(hidden=(0,)), "hidden: expected"),
    (lambda: train(first_weights=0.0), "first_weights: expected"),
    (lambda: net()(torch.zeros(2, 4, 2)), "answers: expected a shape that broadcasts to"),
    (lambda: net()(torch.zeros(3, 4, 5)), "answers: expected shape"),
    (lambda: climb(samples=1), "samples: expected"),
    (lambda: climb(kl_weight=-1.0), "kl_weight: expected"),
    (lambda: climb(every=3), "every: expected a divisor"),
    (lambda: climb(step_size=0.0), "step_size: expected"),
    (lambda: rm.AnswerWorld(0, GENERATOR), "seeds: expected"),
    (lambda: rm.AnswerWorld(1, GENERATOR, odd=2.0), "odd: expected"),
    (lambda: rm.AnswerWorld(1, GENERATOR, stretch=0.5), "stretch: expected"),
    (lambda: rm.AnswerWorld(2, GENERATOR).gold(torch.zeros(1, 16)), "answers: expected shape"),
    (lambda: rm.AnswerWorld(1, GENERATOR).compare(4, GENERATOR, noise=[1.5]), "noise: expected"),
    (lambda: bounds.fit_error_bound(1, 10, 1.0), "answers: expected"),
    (lambda: bounds.fit_error_bound(3, 0.0, 1.0), "comparisons: expected"),
    (lambda: bounds.fit_error_bound(3, 10, 0.0), "reward_range: expected"),
    (lambda: bounds.regret_factor(0.5), "n: expected"),
    (lambda: bounds.log_mean_tail(SCORES, 0, 0.5), "members: expected"),
    (lambda: bounds.log_worst_case_tail(SCORES, 2, -0.5), "correlation: expected"),
    (lambda: bounds.log_worst_case_floor(SCORES, 2, 1.5), "correlation: expected"),
]
TYPES = [
    (lambda: rm.bradley_terry_loss([1.0]), "margins: expected"),
    (lambda: rm.bradley_terry_loss(SCORES, SCORES.float()), "labels: expected"),
    (lambda: rm.ensemble_objective(SCORES, 3), "kind: expected"),
    (lambda: rm.ensemble_objective(SCORES, "mean", dim=0.0), "dim: expected"),
    (lambda: rm.best_of_n_estimate(SCORES, SCORES, 1.5), "n: expected"),
    (lambda: rm.best_of_n_divergence("4"), "n: expected"),
    (lambda: rm.tilted_policy(HALF, SCORES.float(), 1.0), "reward: expected"),
    (lambda: net()(torch.zeros(3, 4, 2, dtype=F64)), "answers: expected"),
    (lambda: train(members=1.5), "members: expected"),
    (lambda: rm.drop_from_peak([1.0]), "curve: expected"),
]


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_values_out_of_range_are_refused_by_name(number):
    call, words = VALUES[number]
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("number", range(len(TYPES)))
def test_wrong_types_are_refused_by_name(number):
    call, words = TYPES[number]
    with pytest.raises(TypeError, match=words):
        call()
