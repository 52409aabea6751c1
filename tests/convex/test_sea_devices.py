"""The extended model on every device present against float64 on the CPU, and elsewhere."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mdtheory.convex import sea
from mdtheory.convex.mirror_maps import Ball, Box, Simplex, quadratic
from mdtheory.convex.online_learning import adaptive
from mdtheory.convex.sea import (
    SPECIAL_CASES,
    StochasticallyExtendedAdversary,
    bounds,
    optimistic_ftrl,
    optimistic_mirror_descent,
    regret_bound,
    step_size_pool,
    two_layer_ensemble,
)

B, D, T = 3, 4, 6
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def table(device, dtype, shift=0):
    """Numbers that are the same everywhere."""
    flat = torch.arange(shift, shift + T * B * D, dtype=dtype, device=device)
    return torch.cos(3 * flat).reshape(T, B, D)


def environment(device, dtype, curvature=(0.5, 1.0, 0.7, 2.0)):
    noise = table(device, dtype, 100)
    scales = torch.arange(1, B + 1, dtype=dtype, device=device) / B
    return StochasticallyExtendedAdversary(
        table(device, dtype), noise, noise.square().sum(-1), curvature=list(curvature),
        offset=table(device, dtype, 200)[0, 0], noise_scale=scales, drift_scale=0.5,
    )  # fmt: skip


def run(play, curvature=(0.5, 1.0, 0.7, 2.0)):
    def case(device, dtype):
        played = environment(device, dtype, curvature)
        record = play(played, torch.full_like(played.start(), 1 / D))
        return tuple(part for part in record if isinstance(part, torch.Tensor))

    return case


def ensemble(device, dtype):
    played = environment(device, dtype)
    result = two_layer_ensemble(
        played, played.start(), Ball(1.0), T, gradient_bound=9.0, smoothness=2.0
    )
    record, *rest = result
    parts = (*record, *rest)
    return tuple(part for part in parts if isinstance(part, torch.Tensor))


def facts(device, dtype):
    played = environment(device, dtype)
    point = played.start() + 0.1
    return (
        played.start(), played.variances, played.variations, played.gradient_bound(1.0),
        played.loss_at(point, T), *played(2, point), *played.expected(2, point),
        played.best_comparator(Ball(0.3)), played.best_comparator(Box(-0.2, 0.1)),
        environment(device, dtype, (0.0,) * D).best_comparator(Simplex()),
    )  # fmt: skip


def bound_values(device, dtype):
    square = table(device, dtype).square().sum(-1)
    some = square.sum(0)
    known = {"diameter": 2.0, "gradient_bound": 3.0, "smoothness": 1.0, "variance": some}
    return (
        bounds.convex_pathwise(2.0, 3.0, some, some, 1.0),
        bounds.expected_variation(3.0, 1.0, some, some, some),
        bounds.ftrl_pathwise(2.0, 1.0, 12.0, some, some),
        bounds.strongly_convex_pathwise(square, square[1:], 0.5),
        bounds.exp_concave_pathwise(2.0, 3.0, 0.1, D, some, some),
        bounds.dynamic_pathwise(2.0, 1.0, 0.3, some, some),
        bounds.front_loaded(some, 3.0),
        bounds.front_loaded(1.0, some),
        bounds.curved_leader_pathwise(square, square[1:], 0.5),
        bounds.curved_leader_bound(2.0, 3.0, 1.0, some, 1.0, 0.5, some, 1.0),
        bounds.random_order_variance(7, some, 2 * some),
        regret_bound("convex", variation=1.0, offset=1.0, **known),
        regret_bound(
            "strongly convex", variation=some, curvature=0.5, largest_variance=1.0,
            largest_variation=some, **known,
        ),
        regret_bound("exp-concave", variation=1.0, gamma=0.1, dimension=D, **known),
        regret_bound("dynamic", variation=1.0, path_length=some, pool=5, **known),
    )  # fmt: skip


CASES = {
    "convex": run(
        lambda e, x: optimistic_mirror_descent(
            e, x, Ball(1.0), T, gradient_bound=e.gradient_bound(1.0), offset=1.0
        )
    ),
    "linear": run(
        lambda e, x: optimistic_mirror_descent(e, x, Ball(1.0), T, gradient_bound=9.0), (0.0,) * D
    ),
    "strongly convex": run(
        lambda e, x: optimistic_mirror_descent(
            e, x, Box(-0.5, 0.5), T, regime="strongly convex", curvature=0.5
        )
    ),
    "exp-concave": run(
        lambda e, x: optimistic_mirror_descent(
            e, x, Ball(1.0), T, regime="exp-concave", gamma=0.1, gradient_bound=9.0
        )
    ),
    "exp-concave, simplex": run(
        lambda e, x: optimistic_mirror_descent(
            e, x, Simplex(), T, regime="exp-concave", gamma=0.1, gradient_bound=9.0
        )
    ),
    "constant": run(
        lambda e, x: optimistic_mirror_descent(
            e, x, Simplex(), T, step_size=x.new_full((B,), 0.2), hints=False
        )
    ),
    "leader": run(lambda e, x: optimistic_ftrl(e, x, Ball(1.0), T, offset=9.0)),
    "strong leader": run(
        lambda e, x: optimistic_ftrl(e, x, Ball(1.0), T, regime="strongly convex", curvature=0.5)
    ),
    "ensemble": ensemble,
    "facts": facts,
    "bounds": bound_values,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_results_agree_with_double_precision_on_the_cpu(name, dtype, device):
    case = CASES[name]
    for got, expected in zip(case(device, dtype), case("cpu", torch.float64), strict=True):
        assert got.dtype == dtype
        assert got.device.type == device
        tolerance = 1e-10 if dtype == torch.float64 else 2e-3
        torch.testing.assert_close(got.cpu().double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere, monkeypatch):
    for module in (quadratic, adaptive):  # iterations all run the same lines: two are enough
        monkeypatch.setattr(module, "range", lambda n: range(min(n, 2)), raising=False)
    with FakeTensorMode():
        for got in CASES[name](elsewhere, torch.float32):
            assert got.device.type == elsewhere
            assert got.dtype == torch.float32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", SPECIAL_CASES)
def test_special_cases_live_where_their_generator_does(case, device):
    generator = torch.Generator(device).manual_seed(0)
    drawn = SPECIAL_CASES[case](12, 3, D, generator, curvature=0.5)
    record = optimistic_mirror_descent(
        drawn, drawn.start(), Ball(1.0), 12, gradient_bound=drawn.gradient_bound(1.0)
    )
    for part in (record.decisions, drawn.variances, drawn.variations):
        assert part.device.type == device
        assert part.dtype == torch.float64


def test_every_public_function_has_been_on_its_way():
    cases = {function.__name__ for function in SPECIAL_CASES.values()}
    seen = {"SPECIAL_CASES", "bounds", "EnsembleRecord", "SeaRecord", "regret_bound"}
    seen |= {"StochasticallyExtendedAdversary", "optimistic_ftrl", "optimistic_mirror_descent"}
    seen |= {"two_layer_ensemble", "step_size_pool", "bounded_noise"} | cases
    assert set(sea.__all__) <= seen
    assert all(isinstance(size, float) for size in step_size_pool(2.0, 1.0, 1.0, 9))
