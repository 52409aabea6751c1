"""Nash mirror prox: what cannot be meant is refused, with the name of what was wrong."""

import math

import pytest
import torch

from mdtheory.nlhf import mirror_prox as mp
from mdtheory.nlhf import nash_md as nash

F64 = torch.float64
CYCLE = torch.tensor([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]], dtype=F64)
EVEN = torch.full((3,), -math.log(3), dtype=F64)
SPACE = nash.SequenceSpace(3, 1)
TABLE = torch.zeros(1, 3, dtype=F64)
ONE = torch.ones((), dtype=F64)
GAME = nash.PreferenceGame(CYCLE, EVEN, 0.1)
PAIRS = nash.SequenceSpace(2, 1)
LOGITS = torch.zeros(1, 2, dtype=F64)


def nan(tensor):
    result = tensor.clone()
    result.view(-1)[0] = math.nan
    return result


def prox(preference=CYCLE, reference=EVEN, temperature=0.1, iterations=3, step_size=2.0):
    return mp.nash_mirror_prox(
        nash.PreferenceGame(preference, reference, temperature), iterations, step_size
    )


def single(preference=CYCLE, reference=EVEN, temperature=0.1, iterations=3, step_size=None):
    return mp.preference_mirror_descent(
        nash.PreferenceGame(preference, reference, temperature), iterations, step_size
    )


def with_error(error):
    return list(mp.nash_mirror_prox_iterates(GAME, 2, payoff_error=error))


def gradient(space=SPACE, preference=CYCLE, logits=TABLE, tau=0.1, step=2.0, **more):
    return mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(TABLE), tau),
        logits,
        TABLE,
        TABLE,
        step,
        **more,
    )


def practical(updates=2, **more):
    return mp.practical_mirror_prox(
        SPACE, nash.PreferenceGame(CYCLE, SPACE.log_probs(TABLE), 0.1), updates, **more
    )


def ascent(**more):
    return mp.proximal_ascent(
        SPACE,
        nash.PreferenceGame(CYCLE, SPACE.log_probs(TABLE), 0.1),
        TABLE,
        TABLE,
        2.0,
        **{"steps": 2, "learning_rate": 1.0} | more,
    )


REFUSALS = {
    "a list": (lambda: prox([[0.5]]), TypeError, "preference"),
    "whole numbers": (lambda: prox(CYCLE.long()), TypeError, "preference"),
    "not square": (lambda: prox(CYCLE[:2]), ValueError, "preference"),
    "a vector": (lambda: prox(EVEN), ValueError, "preference"),
    "empty": (lambda: prox(torch.zeros(0, 0, dtype=F64)), ValueError, "preference"),
    "pairs of another sum": (lambda: prox(CYCLE / 2), ValueError, "preference"),
    "beyond 1": (lambda: prox(2 * CYCLE - 0.5), ValueError, "preference"),
    "a NaN preference": (lambda: prox(nan(CYCLE)), ValueError, "preference"),
    "probabilities for logarithms": (lambda: prox(reference=EVEN.exp()), ValueError, "reference"),
    "unnormalised": (lambda: prox(reference=EVEN - 1), ValueError, "reference"),
    "no full support": (
        lambda: prox(reference=torch.eye(3, dtype=F64)[0].log()), ValueError, "reference",
    ),
    "a NaN reference": (lambda: prox(reference=nan(EVEN)), ValueError, "reference"),
    "another length": (lambda: prox(reference=EVEN[:2]), ValueError, "reference"),
    "another dtype": (lambda: prox(reference=EVEN.float()), TypeError, "reference"),
    "a negative temperature": (lambda: prox(temperature=-0.1), ValueError, "temperature"),
    "an infinite temperature": (lambda: prox(temperature=math.inf), ValueError, "temperature"),
    "a NaN temperature": (lambda: prox(temperature=nan(ONE)), ValueError, "temperature"),
    "a temperature in words": (lambda: prox(temperature="cold"), TypeError, "temperature"),
    "temperatures of another batch": (
        lambda: prox(CYCLE.expand(2, 3, 3), temperature=ONE.expand(3)), ValueError, "temperature",
    ),
    "minus one iteration": (lambda: prox(iterations=-1), ValueError, "iterations"),
    "half an iteration": (lambda: prox(iterations=0.5), TypeError, "iterations"),
    "a step of 0": (lambda: prox(step_size=0.0), ValueError, "step_size"),
    "a negative step": (lambda: prox(step_size=-1.0), ValueError, "step_size"),
    "an infinite step": (lambda: prox(step_size=math.inf), ValueError, "step_size"),
    "a NaN step": (lambda: prox(step_size=nan(ONE)), ValueError, "step_size"),
    "a step of float32": (lambda: prox(step_size=ONE.float()), TypeError, "step_size"),
    "steps of another batch": (
        lambda: prox(CYCLE.expand(2, 3, 3), step_size=ONE.expand(3)), ValueError, "step_size",
    ),
    "more steps than games": (lambda: prox(step_size=ONE.expand(3)), ValueError, "step_size"),
    "iterates: refused at once": (
        lambda: mp.nash_mirror_prox_iterates(GAME, -1), ValueError, "iterations",
    ),
    "iterates: a bad step, at once": (
        lambda: mp.nash_mirror_prox_iterates(GAME, 3, 0.0), ValueError, "step_size",
    ),
    "single: refused at once": (
        lambda: mp.preference_mirror_descent_iterates(GAME, -1), ValueError,
        "iterations",
    ),
    "single: no temperature and no step": (
        lambda: single(temperature=0.0), ValueError, "step_size",
    ),
    "single: a word": (lambda: single(temperature="cold"), TypeError, "temperature"),
    "single: none": (lambda: single(temperature=None), TypeError, "temperature"),
    "single: a bad reference": (lambda: single(reference=EVEN - 1), ValueError, "reference"),
    "a matrix for a game": (lambda: mp.nash_mirror_prox(CYCLE, 3), TypeError, "game"),
    "single: a matrix for a game": (
        lambda: mp.preference_mirror_descent(CYCLE, 3), TypeError, "game",
    ),
    "gradient: a matrix for a game": (
        lambda: mp.proximal_gradient(SPACE, CYCLE, TABLE, TABLE, TABLE, 2.0), TypeError, "game",
    ),
    "errors of another shape": (
        lambda: with_error(lambda exact: exact[:2]), ValueError, "payoff_error",
    ),
    "errors that are numbers": (lambda: with_error(lambda exact: 0.1), ValueError, "payoff_error"),
    "errors that are NaN": (lambda: with_error(nan), ValueError, "payoff_error"),
    "gradient: another table": (lambda: gradient(logits=EVEN), ValueError, "logits"),
    "gradient: a NaN": (lambda: gradient(logits=nan(TABLE)), ValueError, "logits"),
    "gradient: another space": (
        lambda: mp.proximal_gradient(PAIRS, GAME, LOGITS, LOGITS, LOGITS, 2.0), ValueError, "game",
    ),
    "gradient: other preferences": (
        lambda: gradient(preference=CYCLE / 2), ValueError, "preference",
    ),
    "gradient: a negative temperature": (lambda: gradient(tau=-1.0), ValueError, "temperature"),
    "gradient: a step of 0": (lambda: gradient(step=0.0), ValueError, "step_size"),
    "gradient: a NaN step": (lambda: gradient(step=math.nan), ValueError, "step_size"),
    "gradient: samples without chance": (lambda: gradient(samples=3), ValueError, "generator"),
    "gradient: no samples": (
        lambda: gradient(samples=0, generator=torch.Generator()), ValueError, "samples",
    ),
    "ascent: minus one step": (lambda: ascent(steps=-1), ValueError, "steps"),
    "ascent: a rate of 0": (lambda: ascent(learning_rate=0.0), ValueError, "learning_rate"),
    "practical: a decay of 1": (lambda: practical(decay=1.0), ValueError, "decay"),
    "practical: a decay of -1": (lambda: practical(decay=-1.0), ValueError, "decay"),
    "practical: minus one update": (lambda: practical(-1), ValueError, "updates"),
    "practical: a start that does not fit": (
        lambda: practical(start=(TABLE, EVEN)), ValueError, "start",
    ),
    "practical: a NaN rate": (
        lambda: practical(learning_rate=math.nan), ValueError, "learning_rate",
    ),
    "bounds: no temperature": (lambda: mp.bounds.start_distance(0.0), ValueError, "temperature"),
    "bounds: a negative temperature": (
        lambda: mp.largest_step(-ONE), ValueError, "temperature",
    ),
    "bounds: a word": (lambda: mp.largest_step("1"), TypeError, "temperature"),
    "bounds: a negative distance": (
        lambda: mp.bounds.kl_rate(-ONE, 0.1, 2.0, 3), ValueError, "start",
    ),
    "bounds: a step of 0": (lambda: mp.bounds.kl_rate(ONE, 0.1, 0.0, 3), ValueError, "step_size"),
    "bounds: minus one iteration": (
        lambda: mp.bounds.kl_rate(ONE, 0.1, 2.0, -1), ValueError, "iterations",
    ),
    "bounds: three calls": (
        lambda: mp.bounds.cycle_modulus(0.1, 2.0, 3), ValueError, "calls",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_meant_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
