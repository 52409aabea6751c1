"""Online preference optimisation: what cannot be meant is refused, with the name of what it was."""

import math

import pytest
import torch

from mdtheory.nlhf import online_preference as op
from mdtheory.nlhf.nash_md import PreferenceGame

F64 = torch.float64
P = 0.5 + torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=F64) / 4
MU = torch.full((3,), 1 / 3, dtype=F64).log()
NONE = torch.tensor([0.5, 0.5, 0.0], dtype=F64).log()  # one answer has no probability
ONE = torch.tensor([-1.0, -2.0], dtype=F64)
NAN = torch.tensor([math.nan, -2.0], dtype=F64)
PAIR = (ONE, ONE, ONE, ONE)
GAME = PreferenceGame(P, MU, 1.0)
MANY = PreferenceGame(P.expand(3, 3, 3), MU, 1.0)
FREE = MU.clone().requires_grad_()
YES = torch.tensor([True, False])


def refused(preference, policy, reference, temperature):
    return lambda: op.online_ipo_gradient(
        PreferenceGame(preference, reference, temperature), policy
    )


REFUSALS = {
    "a list": (lambda: op.ipo_loss([0.0], ONE, ONE, ONE, 1.0), TypeError, "chosen"),
    "whole numbers": (
        lambda: op.ipo_loss(torch.ones(2, dtype=torch.int64), ONE, ONE, ONE, 1.0),
        TypeError, "chosen",
    ),
    "two dtypes": (lambda: op.ipo_loss(ONE, ONE.float(), ONE, ONE, 1.0), TypeError, "rejected"),
    "shapes": (
        lambda: op.dpo_loss(ONE, ONE, torch.zeros(3, dtype=F64), ONE, 1.0),
        ValueError, "reference_chosen",
    ),
    "a NaN": (lambda: op.slic_loss(ONE, ONE, ONE, NAN, 1.0), ValueError, "reference_rejected"),
    "an infinity": (lambda: op.slic_loss(ONE / 0, ONE, ONE, ONE, 1.0), ValueError, "chosen"),
    "no temperature": (lambda: op.ipo_loss(*PAIR, 0.0), ValueError, "temperature"),
    "a negative one": (lambda: op.dpo_loss(*PAIR, -1.0), ValueError, "temperature"),
    "a word": (lambda: op.ipo_loss(*PAIR, "warm"), TypeError, "temperature"),
    "another dtype": (lambda: op.ipo_loss(*PAIR, torch.ones(2)), TypeError, "temperature"),
    "temperatures of 0": (
        lambda: op.ipo_contrast_loss(*PAIR, torch.zeros(2, dtype=F64)), ValueError, "temperature",
    ),
    "temperatures of another shape": (
        lambda: op.ipo_loss(*PAIR, torch.ones(3, dtype=F64)), ValueError, "temperature",
    ),
    "no margin": (lambda: op.slic_loss(*PAIR, 1.0, margin=0.0), ValueError, "margin"),
    "numbers for truth values": (
        lambda: op.kto_loss(ONE, ONE, ONE, 1.0), TypeError, "desirable",
    ),
    "no tensor of truth values": (
        lambda: op.kto_loss(ONE, ONE, True, 1.0), TypeError, "desirable",
    ),
    "other truth values": (
        lambda: op.kto_loss(ONE, ONE, YES[:, None, None].expand(2, 3, 3), 1.0),
        ValueError, "desirable",
    ),
    "a step of 0": (lambda: op.sppo_loss(ONE, ONE, ONE, 0.0), ValueError, "step_size"),
    "a step that is too long": (
        lambda: op.inpo_loss(*PAIR, 1.0, ONE, ONE, 2.0), ValueError, "step_size",
    ),
    "pessimism": (lambda: op.xpo_loss(*PAIR, 1.0, ONE, -1.0), ValueError, "optimism"),
    "a preference of 2": (
        lambda: op.soft_label(op.ipo_loss, -2 * ONE, *PAIR, 1.0), ValueError, "preferred",
    ),
    "game: no square": (refused(P[:2], MU, MU, 1.0), ValueError, "preference"),
    "game: no pairs": (refused(P**2, MU, MU, 1.0), ValueError, "preference"),
    "game: a NaN": (refused(P, MU * math.nan, MU, 1.0), ValueError, "policy"),
    "game: no logarithms": (refused(P, MU.exp(), MU, 1.0), ValueError, "policy"),
    "game: not normalised": (refused(P, MU - 1, MU, 1.0), ValueError, "policy"),
    "game: other answers": (refused(P, MU[:2], MU, 1.0), ValueError, "policy"),
    "game: a missing answer": (refused(P, NONE, MU, 1.0), ValueError, "policy"),
    "game: a reference without support": (refused(P, MU, NONE, 1.0), ValueError, "reference"),
    "game: another dtype": (refused(P, MU.float(), MU, 1.0), TypeError, "policy"),
    "game: no temperature": (refused(P, MU, MU, 0.0), ValueError, "temperature"),
    "game: temperatures of 0": (
        refused(P, MU, MU, torch.zeros((), dtype=F64)), ValueError, "temperature",
    ),
    "game: batches that do not fit": (
        refused(P.expand(2, 3, 3), MU.expand(5, 3), MU, 1.0), ValueError, "policy",
    ),
    "a matrix for a game": (lambda: op.online_ipo_gradient(P, MU), TypeError, "game"),
    "a matrix for a game, too": (lambda: op.newton_iterates(P, 3, 0.5), TypeError, "game"),
    "a law that is none": (
        lambda: op.ipo_gradient(GAME, MU, MU - 1), ValueError, "sampling",
    ),
    "an opponent that is none": (
        lambda: op.response_gradient(GAME, MU, MU - 1), ValueError, "opponent",
    ),
    "a second law that is none": (
        lambda: op.expected_loss(GAME, op.ipo_loss, MU, MU, MU - 1), ValueError, "opponent",
    ),
    "a weight of 2": (lambda: op.ipo_md_loss(GAME, MU, 2.0), ValueError, "weight"),
    "a weight below 0": (lambda: op.ipo_md_gradient(GAME, MU, -0.1), ValueError, "weight"),
    "weights outside": (
        lambda: op.ipo_md_loss(GAME, MU, torch.full((2,), 2.0, dtype=F64)), ValueError, "weight",
    ),
    "weights of another dtype": (
        lambda: op.ipo_md_loss(GAME, MU, torch.ones(2)), TypeError, "weight",
    ),
    "weights of another batch": (
        lambda: op.ipo_md_loss(MANY, MU, torch.ones(2, dtype=F64)), ValueError, "weight",
    ),
    "no graph": (
        lambda: op.score_gradient(GAME, MU, MU, MU), ValueError, "graph",
    ),
    "a whole Newton step": (lambda: op.newton_iterates(GAME, 3, 1.0), ValueError, "length"),
    "no Newton step": (lambda: op.newton_iterates(GAME, 3, 0.0), ValueError, "length"),
    "a run without temperature": (
        lambda: op.newton_iterates(PreferenceGame(P, MU, 0.0), 3, 0.5), ValueError, "temperature",
    ),
    "half a step": (lambda: op.newton_iterates(GAME, 1.5, 0.5), TypeError, "iterations"),
    "a start that is none": (
        lambda: op.newton_iterates(GAME, 3, 0.5, log_policy=MU - 1), ValueError, "policy",
    ),
    "data that are none": (
        lambda: op.newton_iterates(GAME, 3, 0.5, sampling=MU - 1), ValueError, "sampling",
    ),
    "descent: no step": (lambda: op.descend(torch.exp, MU, 0.0, 2), ValueError, "step_size"),
    "descent: a NaN": (
        lambda: op.descend(torch.exp, MU * math.nan, 1.0, 2), ValueError, "policy",
    ),
    "descent: no count": (lambda: op.descend(torch.exp, MU, 1.0, -1), ValueError, "iterations"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_meant_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_extreme_probabilities_are_no_reason_to_refuse():
    policy = torch.tensor([0.0, -700.0, -1500.0], dtype=F64)
    for function in (op.online_ipo_gradient, op.dpo_gradient, op.response_gradient):
        found = function(GAME.at(1e-3), policy)
        assert found.isfinite().all()
    assert op.ipo_md_loss(PreferenceGame(P, MU, 0.1), policy, 0.5).isfinite()
    run = op.newton_iterates(PreferenceGame(P, MU, 1e-4), 50, 0.01)
    assert run.isfinite().all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: op.ipo_loss(*(torch.zeros(k, dtype=F64) for k in (1, 2, 3, 1)), 1.0), "broadcast"),
        (lambda: op.sppo_loss(ONE, ONE, 7 * torch.ones_like(ONE), 0.5), "preferred: expected"),
        (lambda: op.kto_loss(ONE, ONE, ONE > 0, 1.0, math.nan), "baseline: expected"),
        (lambda: op.kto_loss(ONE, ONE, ONE > 0, 1.0, math.nan * ONE), "baseline: expected"),
    ],
)
def test_arguments_that_fit_one_by_one_but_not_together(call, words):
    with pytest.raises(ValueError, match=words):
        call()
