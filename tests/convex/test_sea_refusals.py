"""The extended model: what cannot be meant is refused, with the name of what was wrong."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Simplex
from mdtheory.convex.sea import (
    SPECIAL_CASES,
    StochasticallyExtendedAdversary,
    corrupted,
    iid,
    label_shift,
    mini_batches,
    optimistic_ftrl,
    optimistic_mirror_descent,
    random_order,
    regret_bound,
    rotating,
    slow_shift,
    step_size_pool,
    switching,
    two_layer_ensemble,
)

F64 = torch.float64
BALL = Ball(1.0)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=F64)


def played(curvature=0.0):
    return iid(10, 4, 3, seeded(), curvature=curvature)


def descend(environment=None, initial=None, domain=BALL, rounds=5, **numbers):
    environment = played() if environment is None else environment
    initial = zeros(4, 3) if initial is None else initial
    numbers = {"gradient_bound": 2.0} | numbers
    return optimistic_mirror_descent(environment, initial, domain, rounds, **numbers)


def lead(**numbers):
    return optimistic_ftrl(played(), zeros(4, 3), BALL, 5, **numbers)


def gather(**numbers):
    numbers = {"gradient_bound": 2.0, "smoothness": 1.0} | numbers
    return two_layer_ensemble(played(), zeros(4, 3), BALL, 5, **numbers)


ADVERSARY = {
    "a list": (lambda: StochasticallyExtendedAdversary([[1.0]]), TypeError, "moves"),
    "whole numbers": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2).long()), TypeError, "moves"
    ),
    "no round": (lambda: StochasticallyExtendedAdversary(zeros(0, 3)), ValueError, "moves"),
    "no coordinate": (lambda: StochasticallyExtendedAdversary(zeros(3, 0)), ValueError, "moves"),
    "one axis": (lambda: StochasticallyExtendedAdversary(zeros(3)), ValueError, "moves"),
    "a NaN": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2) + math.nan), ValueError, "moves"
    ),
    "an infinity": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2) + math.inf), ValueError, "moves"
    ),
    "noise alone": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(3, 2)), ValueError, "variance"
    ),
    "variance alone": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), variance=zeros(3)),
        ValueError, "variance",
    ),
    "noise of more rounds": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(4, 2), zeros(4)),
        ValueError, "noise: expected 3 rounds",
    ),
    "noise of more coordinates": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(3, 5), zeros(3)),
        ValueError, "noise: expected 3 rounds and 2 coordinates",
    ),
    "noise of another batch": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 4, 2), zeros(3, 5, 2), zeros(3, 5)),
        ValueError, "noise: expected a batch",
    ),
    "noise in float32": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(3, 2).float(), zeros(3)),
        TypeError, "noise",
    ),
    "a NaN in the noise": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(3, 2) + math.nan, zeros(3)),
        ValueError, "noise",
    ),
    "variance of another shape": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(3, 5, 2), zeros(3)),
        ValueError, "variance: expected shape",
    ),
    "a negative variance": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(3, 2), zeros(3) - 1),
        ValueError, "variance",
    ),
    "an infinite variance": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(3, 2), zeros(3) + math.inf),
        ValueError, "variance",
    ),
    "variance in float32": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), zeros(3, 2), zeros(3).float()),
        TypeError, "variance",
    ),
    "offset of other coordinates": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), offset=zeros(3)),
        ValueError, "offset",
    ),
    "offset without coordinates": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), offset=zeros(1)[0]),
        ValueError, "offset",
    ),
    "offset in float32": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), offset=zeros(2).float()),
        TypeError, "offset",
    ),
    "a NaN in the offset": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), offset=zeros(2) + math.nan),
        ValueError, "offset",
    ),
    "offset of another batch": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 4, 2), offset=zeros(3, 2)),
        ValueError, "offset: expected a batch",
    ),
    "too few curvatures": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), curvature=[1.0]),
        ValueError, "curvature: expected 2 numbers",
    ),
    "a negative curvature": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), curvature=[1.0, -1.0]),
        ValueError, "curvature",
    ),
    "a curvature that is no number": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), curvature=torch.ones(2)),
        TypeError, "curvature",
    ),
    "a negative scale": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), noise_scale=-1.0),
        ValueError, "noise_scale",
    ),
    "a negative scale in a tensor": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), drift_scale=zeros(2) - 1),
        ValueError, "drift_scale",
    ),
    "a scale in float32": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 2), drift_scale=zeros(2).float()),
        TypeError, "drift_scale",
    ),
    "a scale of another batch": (
        lambda: StochasticallyExtendedAdversary(zeros(3, 4, 2), drift_scale=zeros(3)),
        ValueError, "drift_scale: expected a batch",
    ),
    "a negative radius": (lambda: played().gradient_bound(-1.0), ValueError, "radius"),
    "a comparator on the simplex": (
        lambda: played(1.0).best_comparator(Simplex()), TypeError, "domain"
    ),
    "rounds that are not there": (
        lambda: played(1.0).best_comparator(BALL, 11), ValueError, "rounds: expected at most 10"
    ),
    "losses of rounds that are not there": (
        lambda: played(1.0).loss_at(zeros(3), 11), ValueError, "rounds: expected at most 10"
    ),
    "no rounds": (lambda: played().loss_at(zeros(3), 0), ValueError, "rounds"),
    "half a round": (lambda: played().best_comparator(BALL, 1.5), TypeError, "rounds"),
}  # fmt: skip


def shrinking(t, x):
    return (x**2).sum(-1), 2 * x[..., :1] if t == 1 else 2 * x


def going_wrong(value, at=3):
    def environment(t, x):
        gradient = torch.full_like(x, value if t == at else 0.1)
        return (gradient * x).sum(-1), gradient

    return environment


DESCENT = {
    "a list": (lambda: descend(initial=[0.0]), TypeError, "initial"),
    "whole numbers": (lambda: descend(initial=zeros(4, 3).long()), TypeError, "initial"),
    "outside": (lambda: descend(initial=zeros(4, 3) + 9), ValueError, "initial"),
    "a NaN": (lambda: descend(initial=zeros(4, 3) + math.nan), ValueError, "initial"),
    "another dtype": (lambda: descend(initial=zeros(4, 3).float()), TypeError, "gradient"),
    "a batch that is too small, linear": (
        lambda: descend(initial=zeros(3)), ValueError, "loss: expected shape"
    ),
    "a batch that is too small, curved": (
        lambda: descend(played(1.0), initial=zeros(3)), ValueError, "loss: expected shape"
    ),
    "no domain": (lambda: descend(domain=None), TypeError, "domain"),
    "no rounds": (lambda: descend(rounds=0), ValueError, "rounds"),
    "half a round": (lambda: descend(rounds=1.5), TypeError, "rounds"),
    "rounds that are not there": (lambda: descend(rounds=11), ValueError, "at most 10"),
    "a regime": (lambda: descend(regime="stochastic"), ValueError, "regime"),
    "no bound": (lambda: descend(gradient_bound=None), ValueError, "gradient_bound"),
    "a negative bound": (lambda: descend(gradient_bound=-1.0), ValueError, "gradient_bound"),
    "a bound of 0": (
        lambda: descend(gradient_bound=0.0), ValueError, "gradient_bound: expected a positive"
    ),
    "a NaN bound": (lambda: descend(gradient_bound=math.nan), ValueError, "gradient_bound"),
    "a bound in words": (lambda: descend(gradient_bound="2"), TypeError, "gradient_bound"),
    "a bound that is too small": (
        lambda: descend(gradient_bound=0.1), ValueError, "gradient_bound: expected a bound on"
    ),
    "a bound of another batch": (
        lambda: descend(gradient_bound=torch.ones(3, dtype=F64)), ValueError, "gradient_bound"
    ),
    "a bound of a larger batch": (
        lambda: descend(gradient_bound=torch.ones(2, 4, dtype=F64)), ValueError, "gradient_bound"
    ),
    "a bound in float32": (
        lambda: descend(gradient_bound=torch.ones(4)), TypeError, "gradient_bound"
    ),
    "an infinite bound": (
        lambda: descend(gradient_bound=torch.full((4,), math.inf, dtype=F64)),
        ValueError, "gradient_bound",
    ),
    "a negative offset": (lambda: descend(offset=-1.0), ValueError, "offset"),
    "a step of 0": (lambda: descend(step_size=0.0), ValueError, "step_size"),
    "steps of 0": (lambda: descend(step_size=zeros(4)), ValueError, "step_size"),
    "a step and curvature": (
        lambda: descend(regime="strongly convex", step_size=0.1, curvature=1.0),
        ValueError, "step_size: expected None",
    ),
    "a step and a matrix": (
        lambda: descend(regime="exp-concave", step_size=0.1, gamma=1.0),
        ValueError, "step_size: expected None",
    ),
    "no curvature": (lambda: descend(regime="strongly convex"), ValueError, "curvature"),
    "a curvature of 0": (
        lambda: descend(regime="strongly convex", curvature=0.0), ValueError, "curvature"
    ),
    "no gamma": (lambda: descend(regime="exp-concave"), ValueError, "gamma"),
    "a negative gamma": (lambda: descend(regime="exp-concave", gamma=-1.0), ValueError, "gamma"),
    "no bound for the matrix": (
        lambda: descend(regime="exp-concave", gamma=1.0, gradient_bound=None),
        ValueError, "gradient_bound",
    ),
    "a box for the matrix": (
        lambda: descend(domain=Box(-1.0, 1.0), regime="exp-concave", gamma=1.0),
        ValueError, "domain",
    ),
    "a gradient of another shape": (
        lambda: descend(shrinking), ValueError, "gradient: expected shape"
    ),
    "a loss of another shape": (
        lambda: descend(lambda t, x: (x.sum(), x)), ValueError, "loss: expected shape"
    ),
    "a NaN in a later round": (lambda: descend(going_wrong(math.nan)), ValueError, "environment"),
    "an infinity later": (lambda: descend(going_wrong(math.inf)), ValueError, "environment"),
    "one long gradient": (
        lambda: descend(going_wrong(5.0), initial=zeros(4, 1)), ValueError, "got 5.0"
    ),
    "a long gradient in the last round": (
        lambda: descend(going_wrong(5.0, 5)), ValueError, "gradient_bound"
    ),
    "a NaN without a bound": (
        lambda: descend(going_wrong(math.nan), step_size=0.1, gradient_bound=None, keep=False),
        ValueError, "environment",
    ),
    "leader: a regime": (lambda: lead(regime="exp-concave"), ValueError, "regime"),
    "leader: no offset": (lambda: lead(), ValueError, "offset"),
    "leader: an offset of 0": (lambda: lead(offset=0.0), ValueError, "offset"),
    "leader: no curvature": (lambda: lead(regime="strongly convex"), ValueError, "curvature"),
    "ensemble: no bound": (lambda: gather(gradient_bound=None), ValueError, "gradient_bound"),
    "ensemble: a bound of 0": (lambda: gather(gradient_bound=0.0), ValueError, "gradient_bound"),
    "ensemble: a small bound": (lambda: gather(gradient_bound=0.1), ValueError, "gradient_bound"),
    "ensemble: a bound each": (
        lambda: gather(gradient_bound=torch.full((4,), 2.0, dtype=F64)),
        TypeError, "gradient_bound",
    ),
    "ensemble: no smoothness": (lambda: gather(smoothness=0.0), ValueError, "smoothness"),
    "ensemble: no step": (lambda: gather(step_sizes=[]), ValueError, "step_sizes"),
    "ensemble: a step of 0": (lambda: gather(step_sizes=[0.1, 0.0]), ValueError, "step_sizes"),
    "ensemble: a negative correction": (lambda: gather(correction=-1.0), ValueError, "correction"),
    "ensemble: an offset of 0": (lambda: gather(offset=0.0), ValueError, "offset"),
    "pool: no diameter": (lambda: step_size_pool(0.0, 1.0, 1.0, 9), ValueError, "diameter"),
    "pool: no bound": (lambda: step_size_pool(1.0, 0.0, 1.0, 9), ValueError, "gradient_bound"),
    "pool: no rounds": (lambda: step_size_pool(1.0, 1.0, 1.0, 0), ValueError, "rounds"),
    "pool: too flat": (lambda: step_size_pool(1.0, 1.0, 1e-310, 9), ValueError, "smoothness"),
    "pool: too bent": (lambda: step_size_pool(1.0, 1.0, 1e308, 9), ValueError, "smoothness"),
    "pool: too steep": (
        lambda: step_size_pool(1e-300, 1e300, 1.0, 9), ValueError, "smoothness"
    ),
}  # fmt: skip

CASES = {
    "rotation in one dimension": (lambda g: rotating(5, 2, 1, g), ValueError, "dimension"),
    "no period": (lambda g: rotating(5, 2, 2, g, period=0.0), ValueError, "period"),
    "corruption every 0 rounds": (lambda g: corrupted(5, 2, 2, g, every=0), ValueError, "every"),
    "a negative corruption": (lambda g: corrupted(5, 2, 2, g, size=-1.0), ValueError, "size"),
    "more switches than rounds": (
        lambda g: switching(5, 2, 2, g, switches=5), ValueError, "switches: expected at most 4"
    ),
    "negative switches": (lambda g: switching(5, 2, 2, g, switches=-1), ValueError, "switches"),
    "a fast slow shift": (lambda g: slow_shift(5, 2, 2, g, speed=1.5), ValueError, "speed"),
    "an empty batch": (lambda g: mini_batches(5, 2, 2, g, size=0), ValueError, "size"),
    "passes that do not divide": (
        lambda g: random_order(5, 2, 2, g, passes=2), ValueError, "passes: expected a divisor"
    ),
    "no passes": (lambda g: random_order(5, 2, 2, g, passes=0), ValueError, "passes"),
    "no samples": (lambda g: label_shift(5, 2, 2, g, samples=0), ValueError, "samples"),
    "a blind classifier": (lambda g: label_shift(5, 2, 2, g, accuracy=1 / 3), ValueError, "accu"),
    "better than perfect": (lambda g: label_shift(5, 2, 2, g, accuracy=1.1), ValueError, "accu"),
    "label shift without a period": (
        lambda g: label_shift(5, 2, 2, g, period=0.0), ValueError, "period"
    ),
    "negative noise": (lambda g: iid(5, 2, 2, g, noise=-1.0), ValueError, "noise_scale"),
}  # fmt: skip

FACTS = {
    "diameter": 2.0,
    "gradient_bound": 1.5,
    "smoothness": 1.0,
    "variance": 3.0,
    "variation": 4.0,
    "curvature": 0.2,
    "largest_variance": 0.4,
    "largest_variation": 0.3,
    "gamma": 0.1,
    "dimension": 5,
    "path_length": 3.0,
    "pool": 8,
}


@pytest.mark.parametrize("name", ADVERSARY)
def test_environments_that_cannot_be_are_refused(name):
    make, error, words = ADVERSARY[name]
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("name", DESCENT)
def test_runs_that_cannot_be_are_refused(name):
    make, error, words = DESCENT[name]
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("name", CASES)
def test_numbers_of_special_cases_out_of_range_are_refused(name):
    make, error, words = CASES[name]
    with pytest.raises(error, match=words):
        make(seeded())


@pytest.mark.parametrize("case", SPECIAL_CASES)
@pytest.mark.parametrize("counts", [(0, 2, 3), (5, 0, 3), (5, 2, 0)], ids=str)
def test_every_special_case_wants_rounds_seeds_and_dimensions(case, counts):
    with pytest.raises(ValueError, match=r"rounds|seeds|dimension"):
        SPECIAL_CASES[case](*counts, seeded())
    with pytest.raises(TypeError, match=r"rounds|seeds|dimension"):
        SPECIAL_CASES[case](*(float(count) for count in counts), seeded())


NEEDED = {
    "strongly convex": ["curvature", "largest_variance", "largest_variation"],
    "exp-concave": ["gamma", "dimension"],
    "dynamic": ["path_length", "pool"],
}


@pytest.mark.parametrize("regime", NEEDED)
def test_a_bound_names_the_number_that_it_misses(regime):
    for name in NEEDED[regime]:
        with pytest.raises(ValueError, match=f"{name}: expected a number for the {regime} regime"):
            regret_bound(regime, **(FACTS | {name: None}))
        with pytest.raises(ValueError, match=name):
            regret_bound(regime, **(FACTS | {name: -1.0}))


@pytest.mark.parametrize(
    ("regime", "name"),
    [("strongly convex", "curvature"), ("exp-concave", "gamma"), ("exp-concave", "dimension"),
     ("dynamic", "pool")],
)  # fmt: skip
def test_a_bound_does_not_divide_by_zero(regime, name):
    with pytest.raises(ValueError, match=f"{name}: expected values above 0"):
        regret_bound(regime, **(FACTS | {name: 0.0}))


def test_bounds_of_nothing_known_are_refused():
    with pytest.raises(ValueError, match="regime: expected 'convex'"):
        regret_bound("stochastic", **FACTS)
    for name in ("diameter", "gradient_bound", "smoothness", "variance", "variation", "offset"):
        for wrong in (-1.0, math.nan, math.inf, torch.tensor([1.0, -1.0], dtype=F64)):
            with pytest.raises(ValueError, match=name):
                regret_bound("convex", **(FACTS | {name: wrong}))
        with pytest.raises(TypeError, match=name):
            regret_bound("convex", **(FACTS | {name: "1"}))


def test_no_plays_leave_empty_records():
    environment = StochasticallyExtendedAdversary(zeros(3, 0, 2))
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, 3, gradient_bound=1.0
    )
    assert record.decisions.shape == (3, 0, 2)
    assert record.loss.shape == (0,)
