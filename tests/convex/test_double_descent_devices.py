"""Double descent on every device present against float64 on the CPU, and elsewhere."""

import math

import pytest
import torch

from mdtheory.convex import double_descent as dd
from mdtheory.convex.double_descent import bounds
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays

B, N, P = 2, 4, 5


def spectrum(device, dtype):
    return torch.linspace(1, 0.2, 2 * B * N, dtype=dtype, device=device).reshape(2, B, N)


def batch(device, dtype):
    return (1 + torch.arange(B, dtype=dtype, device=device)) / 4


def filters(device, dtype):
    s, each = spectrum(device, dtype), batch(device, dtype)
    return (
        dd.gradient_descent_filter(s, each, 7), dd.gradient_descent_filter(s, 0.5, 40 * each),
        dd.gradient_descent_filter(s, 1.5, 3), dd.gradient_descent_filter(s, 0.5, math.inf),
        dd.ridge_filter(s, each), dd.heavy_ball_filter(s, each, each, 8 * each),
        dd.heavy_ball_filter(s, 0.5, 0.3, 5), *dd.heavy_ball_tuning(s),
        dd.steps_to_fit(s, 0.5, 0.1), bounds.noise_norm(s, each, 5), bounds.noise_peak(4 * each)[1],
        bounds.ridge_gap(4 * each), dd.noise_bound(3, each, 4 * each),
    )  # fmt: skip


def features(device, dtype):
    return dd.random_features(numbers(device, dtype, B, N, 3), numbers(device, dtype, 3, P), "tanh")


def solutions(device, dtype):
    z, y = features(device, dtype), numbers(device, dtype, B, N)
    each, start = batch(device, dtype) / 10, numbers(device, dtype, P)
    metric = torch.diag(1 + numbers(device, dtype, P).abs())
    *_, end = dd.descent_iterates(z, y, 0.1, 3, start)
    return (
        z, end, dd.gradient_descent_solution(z, y, each, 9, start),
        dd.gradient_descent_solution(z, y, 0.1, 40 * each[:, None]),
        dd.ridge_solution(z, y, each), dd.heavy_ball_solution(z, y, 0.1, 0.5, 4),
        dd.preconditioned_solution(z, y, metric, each, 9), dd.cyclic_solution(z, y, each, 3, 2),
        bounds.norm_floor(z, y, each),
    )  # fmt: skip


def measures(device, dtype):
    errors = 2 + numbers(device, dtype, B, 3)
    wide = numbers(device, dtype, B, 2, 7)
    return dd.effective_condition(wide), *dd.peak_height((1, 2, 3), errors, 2)


CASES = {"filters": filters, "solutions": solutions, "measures": measures}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_results_agree_with_double_precision_on_the_cpu(name, dtype, device):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", ["filters", "solutions"])
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)


def trained(device, dtype, **more):
    return dd.train_two_layer(
        numbers(device, dtype, B, N, 3), numbers(device, dtype, B, N, 2), (2, 3), step_size=0.1,
        steps=3, marks=(0, 3), generator=torch.Generator(device).manual_seed(0), **more,
    )  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["descent", "momentum", "adam"])
def test_networks_live_where_their_inputs_do(optimizer, device):
    for dtype in (torch.float64, torch.float32):
        for normalize, rows in ((False, None), (True, 2)):
            record = trained(device, dtype, optimizer=optimizer, normalize=normalize, batch=rows)
            for part in (record.train_losses, *(x for one in record.networks for x in one)):
                assert part.device.type == device
                assert part.dtype == dtype
    drawn = dd.teacher_problem(2, torch.Generator(device).manual_seed(0))
    assert all(part.device.type == device for part in drawn)
