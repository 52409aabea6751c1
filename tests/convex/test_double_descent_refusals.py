"""Double descent: what cannot be meant is refused, with the name of what was wrong."""

import math

import pytest
import torch

from mdtheory.convex import double_descent as dd
from mdtheory.convex.double_descent import bounds
from mdtheory.convex.mirror_maps import Euclidean, Simplex

F64 = torch.float64
S = torch.tensor([1.0, 0.5], dtype=F64)
Z = torch.eye(3, 4, dtype=F64)
Y = torch.ones(3, dtype=F64)
ONES, ROWS, LABELS = torch.ones(3, dtype=F64), torch.ones(4, 2), torch.ones(4, 1)
NAN = torch.tensor([math.nan, 1.0], dtype=F64)


def descend(singular_values=S, step_size=0.5, steps=3):
    return dd.gradient_descent_filter(singular_values, step_size, steps)


def ball(step_size=0.5, momentum=0.5, steps=3):
    return dd.heavy_ball_filter(S, step_size, momentum, steps)


def solve(features=Z, targets=Y, step_size=0.5, steps=3, initial=None):
    return dd.gradient_descent_solution(features, targets, step_size, steps, initial)


def walk(mirror_map=None, steps=2, step_size=0.1):
    return dd.descent_iterates(Z, Y, step_size, steps, mirror_map=mirror_map)


def whiten(metric):
    return dd.preconditioned_solution(Z, Y, metric, 0.5, 3)


def peak(widths=(1, 2, 3), errors=ONES, threshold=2):
    return dd.peak_height(widths, errors, threshold)


def train(inputs=ROWS, targets=LABELS, widths=(3,), **more):
    options = {"optimizer": "adam", "step_size": 0.1, "steps": 2, "marks": (2,)} | more
    return dd.train_two_layer(
        inputs, targets, widths, generator=torch.Generator().manual_seed(0), **options
    )


REFUSALS = {
    "a list": (lambda: descend([1.0]), TypeError, "singular_values"),
    "whole values": (lambda: descend(torch.ones(2).long()), TypeError, "singular_values"),
    "no axis": (lambda: descend(S[0]), ValueError, "singular_values"),
    "a negative value": (lambda: descend(-S), ValueError, "singular_values"),
    "a NaN value": (lambda: descend(NAN), ValueError, "singular_values"),
    "a negative step": (lambda: descend(step_size=-0.1), ValueError, "step_size"),
    "an infinite step": (lambda: descend(step_size=math.inf), ValueError, "step_size"),
    "a step in words": (lambda: descend(step_size="long"), TypeError, "step_size"),
    "steps of another batch": (lambda: descend(steps=S), ValueError, "steps"),
    "negative steps": (lambda: descend(steps=-1), ValueError, "steps"),
    "NaN steps": (lambda: descend(steps=math.nan), ValueError, "steps"),
    "half a step that overshoots": (lambda: descend(step_size=1.5, steps=2.5), ValueError, "steps"),
    "a limit that does not exist": (
        lambda: descend(step_size=2.0, steps=math.inf), ValueError, "steps",
    ),
    "a negative penalty": (lambda: dd.ridge_filter(S, -1.0), ValueError, "penalty"),
    "no penalty": (lambda: dd.ridge_solution(Z, Y, 0.0), ValueError, "penalty"),
    "momentum 1": (lambda: ball(momentum=1.0), ValueError, "momentum"),
    "half a step of the ball": (lambda: ball(steps=2.5), ValueError, "steps"),
    "the tuning of nothing": (
        lambda: dd.heavy_ball_tuning(0 * S), ValueError, "singular_values",
    ),
    "features in a vector": (lambda: solve(Y), ValueError, "features"),
    "a NaN feature": (lambda: solve(Z * math.nan), ValueError, "features"),
    "too few targets": (lambda: solve(targets=Y[:2]), ValueError, "targets"),
    "targets of another dtype": (lambda: solve(targets=Y.float()), TypeError, "targets"),
    "an infinite target": (lambda: solve(targets=Y / 0), ValueError, "targets"),
    "a start of another length": (lambda: solve(initial=Y), ValueError, "initial"),
    "a start of another dtype": (
        lambda: solve(initial=torch.ones(4)), TypeError, "initial",
    ),
    "batches that do not fit": (
        lambda: solve(Z.expand(2, 3, 4), Y.expand(3, 3)), ValueError, "targets",
    ),
    "steps that do not fit": (
        lambda: solve(Z.expand(2, 3, 4), steps=torch.ones(3)), ValueError, "steps",
    ),
    "no map": (lambda: walk("euclidean"), TypeError, "mirror_map"),
    "a map that is anchored again": (
        lambda: walk(Euclidean(Simplex())), ValueError, "mirror_map",
    ),
    "minus one step": (lambda: walk(steps=-1), ValueError, "steps"),
    "a metric of another size": (lambda: whiten(torch.eye(3, dtype=F64)), ValueError, "metric"),
    "a metric that is not positive": (
        lambda: whiten(-torch.eye(4, dtype=F64)), ValueError, "metric",
    ),
    "a batch that does not divide": (
        lambda: dd.cyclic_solution(Z, Y, 0.1, 2, 2), ValueError, "batch",
    ),
    "minus one pass": (lambda: dd.cyclic_solution(Z, Y, 0.1, -1, 3), ValueError, "passes"),
    "weights of another size": (
        lambda: dd.random_features(Z, Z, "tanh"), ValueError, "weights",
    ),
    "an unknown activation": (
        lambda: dd.random_features(Z, Z.mT, "step"), ValueError, "activation",
    ),
    "no activation": (lambda: dd.random_features(Z, Z.mT, None), TypeError, "activation"),
    "the condition of nothing": (lambda: dd.effective_condition(0 * Z), ValueError, "features"),
    "a threshold that is no width": (lambda: peak(threshold=2.5), ValueError, "threshold"),
    "a threshold at the end": (lambda: peak(threshold=3), ValueError, "threshold"),
    "widths and errors that do not fit": (lambda: peak((1, 2)), ValueError, "widths"),
    "an error of 0": (lambda: peak(errors=torch.zeros(3, dtype=F64)), ValueError, "errors"),
    "no seeds": (
        lambda: dd.teacher_problem(0, torch.Generator()), ValueError, "seeds",
    ),
    "negative noise": (
        lambda: dd.teacher_problem(1, torch.Generator(), noise=-1.0), ValueError, "noise",
    ),
    "tolerance 1": (lambda: dd.steps_to_fit(S, 0.5, 1.0), ValueError, "tolerance"),
    "a step that overshoots": (lambda: dd.steps_to_fit(S, 1.5, 0.1), ValueError, "step_size"),
    "a condition below 1": (lambda: bounds.fit_range(0.5, 0.1), ValueError, "condition"),
    "no steps": (lambda: bounds.noise_constant(0), ValueError, "steps"),
    "half a step of noise": (lambda: bounds.noise_constant(1.5), ValueError, "steps"),
    "a negative variance": (lambda: dd.noise_bound(2, 0.1, 3, -1.0), ValueError, "variance"),
    "a negative excess": (
        lambda: bounds.norm_floor(Z, Y, torch.tensor(-1.0, dtype=F64)), ValueError, "excess",
    ),
    "no rows": (lambda: bounds.gaussian_noise_risk(0, 3), ValueError, "rows"),
    "an unknown optimiser": (lambda: train(optimizer="newton"), ValueError, "optimizer"),
    "no widths": (lambda: train(widths=()), ValueError, "widths"),
    "marks beyond the end": (lambda: train(marks=(3,)), ValueError, "marks"),
    "marks out of order": (lambda: train(marks=(2, 1)), ValueError, "marks"),
    "a rate of 0": (lambda: train(step_size=0.0), ValueError, "step_size"),
    "a batch of 0": (lambda: train(batch=0), ValueError, "batch"),
    "rows that do not fit": (lambda: train(targets=torch.ones(3, 1)), ValueError, "targets"),
    "networks of two dtypes": (
        lambda: train(targets=torch.ones(4, 1).double()), TypeError, "targets",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused(name):
    call, error, argument = REFUSALS[name]
    with pytest.raises(error, match=argument):
        call()
