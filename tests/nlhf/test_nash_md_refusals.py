"""Nash-MD: what cannot be meant is refused, with the name of what was wrong; extremes work."""

import math

import pytest
import torch

from mdtheory.nlhf import nash_md as nm

F64 = torch.float64
P = nm.cyclic_preference(0.3)
MU = torch.tensor([0.5, 0.3, 0.2], dtype=F64).log()
game = nm.PreferenceGame
GAME = game(P, MU, 0.1)
NAN = torch.full((3,), math.nan, dtype=F64)
SPACE = nm.SequenceSpace(3, 1)
LOGITS = torch.zeros(1, 3, dtype=F64)
TOKENS = SPACE.token_log_probs(LOGITS)
TEXT = game(P, SPACE.log_probs(LOGITS), 0.1)
SMALL = game(P[:2, :2], MU[:2].log_softmax(-1), 0.1)

REFUSALS = {
    "a list for preferences": (lambda: game([[0.5]], MU, 0.1), TypeError, "preference"),
    "no square": (lambda: game(P[:2], MU, 0.1), ValueError, "preference"),
    "nothing": (lambda: game(P[:0, :0], MU[:0], 0.1), ValueError, "preference"),
    "above 1": (lambda: game(P + 0.6, MU, 0.1), ValueError, "preference"),
    "pairs that add to less": (lambda: game(P / 2, MU, 0.1), ValueError, "preference"),
    "a NaN": (lambda: game(P * math.nan, MU, 0.1), ValueError, "preference"),
    "a reference of NaN": (lambda: game(P, NAN, 0.1), ValueError, "reference"),
    "probabilities": (lambda: game(P, MU.exp(), 0.1), ValueError, "reference"),
    "no full support": (
        lambda: nm.nash_md(game(P, torch.tensor([0.5, 0.5, 0.0], dtype=F64).log(), 0.1), 3),
        ValueError, "reference",
    ),
    "another size": (lambda: game(P, MU[:2], 0.1), ValueError, "reference"),
    "another dtype": (lambda: game(P, MU.float(), 0.1), TypeError, "reference"),
    "a negative temperature": (lambda: game(P, MU, -0.1), ValueError, "temperature"),
    "a temperature of NaN": (lambda: game(P, MU, math.nan), ValueError, "temperature"),
    "a matrix for a game": (lambda: nm.nash_md(P, 3), TypeError, "game"),
    "a matrix for a game: responses": (lambda: nm.best_response(P, MU), TypeError, "game"),
    "a matrix for a game: Nash": (lambda: nm.regularized_nash(P), TypeError, "game"),
    "a matrix for a game: steps": (lambda: nm.magnetic_step(P, MU, MU, 1.0), TypeError, "game"),
    "a matrix for a game: gains": (lambda: nm.exploitability(P, MU), TypeError, "game"),
    "a matrix for a game: text": (lambda: nm.nash_md_pg(SPACE, P, 3), TypeError, "game"),
    "no temperature with the schedule": (
        lambda: nm.nash_md(game(P, MU, 0.0), 3), ValueError, "temperature",
    ),
    "temperatures of another batch": (
        lambda: nm.nash_md(game(P.expand(2, 3, 3), MU, torch.ones(3, dtype=F64)), 3),
        ValueError, "temperature",
    ),
    "fewer than no iterations": (lambda: nm.nash_md(GAME, -1), ValueError, "iterations"),
    "iterations in parts": (lambda: nm.nash_md(GAME, 2.5), TypeError, "iterations"),
    "a step of 0": (lambda: nm.nash_md(GAME, 3, 0.0), ValueError, "step_size"),
    "a step in words": (lambda: nm.nash_md(GAME, 3, "long"), TypeError, "step_size"),
    "a mixture beyond the reference": (
        lambda: nm.nash_md(game(P, MU, 0.5), 3, 2.0), ValueError, "step_size",
    ),
    "steps beyond": (
        lambda: nm.nash_md(game(P, MU, 0.5), 3, torch.tensor(3.0, dtype=F64)),
        ValueError, "step_size",
    ),
    "steps of NaN": (
        lambda: nm.nash_md(game(P, MU, 0.5), 3, torch.tensor(math.nan, dtype=F64)),
        ValueError, "step_size",
    ),
    "iterates: at once, not at the first": (
        lambda: nm.nash_md_iterates(game(P, MU, 0.5), 3, 2.0), ValueError, "step_size",
    ),
    "self-play": (lambda: nm.self_play_iterates(GAME, 3, -1.0), ValueError, "step_size"),
    "a shift beyond": (lambda: nm.shifted_temperature(0.5, 2.0), ValueError, "step_size"),
    "a rate without a temperature": (lambda: nm.nash_md_rate(0.0, 3), ValueError, "temperature"),
    "a rate of no iterations": (lambda: nm.nash_md_rate(0.1, 0), ValueError, "iterations"),
    "Nash without a temperature": (
        lambda: nm.regularized_nash(game(P, MU, 0.0)), ValueError, "temperature",
    ),
    "Nash to no tolerance": (
        lambda: nm.regularized_nash(GAME, 0.0), ValueError, "tolerance",
    ),
    "a policy that sums to 2": (
        lambda: nm.exploitability(GAME, MU + math.log(2)), ValueError, "policy",
    ),
    "an opponent of NaN": (lambda: nm.best_response(GAME, NAN), ValueError, "opponent"),
    "no best response without a temperature": (
        lambda: nm.best_response(game(P, MU, 0.0), MU), ValueError, "temperature",
    ),
    "a magnetic step of 0": (
        lambda: nm.magnetic_step(GAME, MU, MU, 0.0), ValueError, "step_size",
    ),
    "an unknown credit": (
        lambda: nm.policy_gradient_surrogate(TOKENS, TOKENS, MU, 0.1, "half"),
        ValueError, "credit",
    ),
    "tokens of another length": (
        lambda: nm.policy_gradient_surrogate(TOKENS, TOKENS[:2], MU, 0.1),
        ValueError, "reference_token_log_probs",
    ),
    "sequences: other preferences": (
        lambda: nm.nash_md_pg(SPACE, SMALL, 3), ValueError, "game",
    ),
    "sequences: a weight of 2": (
        lambda: nm.nash_md_pg(SPACE, TEXT, 3, 2.0), ValueError, "mixture_weight",
    ),
    "sequences: a decay below 0": (
        lambda: nm.nash_ema_pg(SPACE, TEXT, 3, -0.1), ValueError, "decay",
    ),
    "sequences: no generator": (
        lambda: nm.nash_md_pg(SPACE, TEXT, 3, samples=4), ValueError, "generator",
    ),
    "sequences: no learning": (
        lambda: nm.nash_md_pg(SPACE, TEXT, 3, learning_rate=0.0),
        ValueError, "learning_rate",
    ),
    "sequences: other rewards": (
        lambda: nm.reward_pg(SPACE, MU[:2], LOGITS, 0.1, 3), ValueError, "reward",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_meant_is_refused(name):
    call, error, words = REFUSALS[name]
    with pytest.raises(error, match=words):
        call()


def test_probabilities_of_1e_300_and_extreme_steps_stay_finite():
    deep = torch.tensor([0.0, -690.0, -1000.0], dtype=F64).log_softmax(-1)
    for policy in (
        nm.nash_md(game(P, deep, 0.05), 200),
        nm.nash_md(game(P, deep, 1e-6), 50, 1e-3),
        nm.nash_md(game(P, MU, 1e-9), 50, 1e6),
        nm.nash_md(game(P, MU, 1e6), 50),
        nm.regularized_nash(game(P, deep, 0.05)),
        nm.best_response(game(P, deep, 1e-4), deep),
    ):
        assert bool(policy.isfinite().all())
        assert policy.logsumexp(-1).abs() < 1e-12
    nash = nm.regularized_nash(game(P, deep, 0.05))
    assert nm.exploitability(game(P, deep, 0.05), nash) < 1e-15


def test_what_may_be_zero_may_be_zero():
    corner = torch.tensor([1.0, 0.0, 0.0], dtype=F64).log()
    gain = nm.exploitability(GAME, corner)
    assert bool(gain.isfinite())
    plain = nm.exploitability(game(P, MU, 0.0), corner)
    assert plain.item() == pytest.approx(0.3)
    mixed = nm.exploitability(game(P, MU, torch.tensor([0.0, 0.1], dtype=F64)), corner)
    torch.testing.assert_close(mixed, torch.stack([plain, gain]))


def test_one_answer_and_no_iterations():
    alone = torch.full((1, 1), 0.5, dtype=F64)
    zero = torch.zeros(1, dtype=F64)
    torch.testing.assert_close(nm.nash_md(game(alone, zero, 0.1), 5), zero)
    torch.testing.assert_close(nm.regularized_nash(game(alone, zero, 0.1)), zero)
    torch.testing.assert_close(nm.nash_md(GAME, 0), MU)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_dtype_is_kept(dtype):
    preference, reference = P.to(dtype), MU.to(dtype)
    assert nm.nash_md(game(preference, reference, 0.1), 5).dtype == dtype
    assert nm.regularized_nash(game(preference, reference, 0.1)).dtype == dtype
