"""Runs of target steps and of baselines beside plain loops; extremes."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import (
    BinaryEntropy,
    Entropy,
)
from mdtheory.convex.target_surrogates import (
    METHODS,
    SCHEDULES,
    Armijo,
    LinearCost,
    LinearModel,
    LogisticLoss,
    SoftmaxLoss,
    SquaredLoss,
    draw_batches,
    exact_projection,
    half_step,
    majorize_minimize,
    parameter_sgd,
    surrogate,
    target_sgd,
    target_step,
)
from tests.convex.target_surrogates_run_cases import (
    F64,
    HARD,
    LINE,
    LOSSES,
    NET,
    ONE,
    D,
    K,
    N,
    X,
    normal,
    same,
    seeded,
)

# Outer loops against plain ones.


def np_loss(z, y, ridge=0.05):
    return (np.logaddexp(0, z) - y * z + ridge / 2 * z * z).mean()


def np_chance(z):
    return np.exp(-np.logaddexp(0, -z))


def np_slope(z, y, ridge=0.05):
    return np_chance(z) - y + ridge * z


def plain_target_sgd(start, eta, batches, m, schedule, a):
    """One configuration of the logistic problem by NumPy."""
    x, y = X.numpy(), HARD.numpy()
    w, rounds, energy = start.numpy().copy(), len(batches), 0.0
    losses, steps, tried = [np_loss(x @ w, y)], [], 0
    for t, batch in enumerate(batches.tolist(), start=1):
        rows, labels, b = x[batch], y[batch], len(batch)
        anchor = rows @ w
        slopes = np_slope(anchor, labels)
        size = (slopes**2).mean()
        energy += size
        step, weight = eta, np.ones_like(anchor)
        if schedule == "sqrt":
            step = eta / np.sqrt(t)
        elif schedule == "exponential":
            step = eta * rounds ** (-t / rounds)
        elif schedule == "adagrad":
            step = eta / np.sqrt(energy)
        elif schedule == "line-search":
            tried += 1
            while np_loss(anchor - step * slopes, labels) > (
                np_loss(anchor, labels) - step * size / 2
            ):
                step *= 0.7
                tried += 1
        elif schedule == "newton":
            chance = np_chance(anchor)
            weight = chance * (1 - chance) + 0.05 + 1e-5
        inner = a / weight.max()
        for _ in range(m):
            bracket = slopes + weight * (rows @ w - anchor) / step
            w = w - inner * step * rows.T @ bracket / b
        steps.append(step)
        losses.append(np_loss(x @ w, y))
    return w, losses, steps, tried


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_mini_batches_against_a_plain_loop(schedule):
    batches = draw_batches(15, N, 3, seeded(21))
    start = normal(D, 1, seed=22)
    a = 1 / X.square().sum(-1).max().item()
    for m, eta in ((1, 3.0), (7, 1.0 if schedule == "newton" else 9.0)):
        got = target_sgd(ONE, LINE, start, eta, batches, m, schedule=schedule)
        w, losses, steps, tried = plain_target_sgd(start, eta, batches, m, schedule, a)
        same(got.parameters, w, 1e-10)
        same(got.losses, losses, 1e-10)
        same(got.step_sizes, steps, 1e-12)
        assert got.rounds.tolist() == list(range(16))
        assert got.oracle_calls.tolist() == list(range(16))
        assert got.products.tolist() == [m * t for t in range(16)]
        assert got.loss_values[-1] == tried
        assert not got.values.any()
        assert got.gradient_norms is None


def plain_parameter_sgd(start, eta, batches, method, schedule):
    x, y = X.numpy(), HARD.numpy()
    w, rounds, energy, tried = start.numpy().copy(), len(batches), 0.0, 0
    losses, lengths = [np_loss(x @ w, y)], []
    for t, batch in enumerate(batches.tolist(), start=1):
        rows, labels = x[batch], y[batch]
        gradient = rows.T @ np_slope(rows @ w, labels) / len(batch)
        size = (gradient**2).sum()
        energy += size
        step = eta
        if schedule == "sqrt":
            step = eta / np.sqrt(t)
        elif schedule == "exponential":
            step = eta * rounds ** (-t / rounds)
        if method == "adagrad":
            step = step / np.sqrt(energy)
        elif method == "line-search":
            tried += 1
            while np_loss(rows @ (w - step * gradient), labels) > (
                np_loss(rows @ w, labels) - step * size / 2
            ):
                step *= 0.7
                tried += 1
        w = w - step * gradient
        losses.append(np_loss(x @ w, y))
        lengths.append(step)
    return w, losses, lengths, tried


@pytest.mark.parametrize("schedule", ["constant", "sqrt", "exponential"])
@pytest.mark.parametrize("method", ["sgd", "line-search", "adagrad"])
def test_baselines_against_a_plain_loop(method, schedule):
    batches, start = draw_batches(15, N, 3, seeded(21)), normal(D, 1, seed=22)
    got = parameter_sgd(ONE, LINE, start, 4.0, batches, method=method, schedule=schedule)
    w, losses, lengths, tried = plain_parameter_sgd(start, 4.0, batches, method, schedule)
    same(got.parameters, w, 1e-10)
    same(got.losses, losses, 1e-10)
    same(got.step_sizes, lengths, 1e-10)
    assert got.loss_values[-1] == tried
    assert got.products.tolist() == got.oracle_calls.tolist() == list(range(16))


@pytest.mark.parametrize("model", [LINE, NET], ids=["line", "net"])
@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_baselines_against_torch_optim(method, model):
    loss = LOSSES["softmax"]
    batches = draw_batches(30, N, 4, seeded(23))
    start = normal(D, K, seed=24) if model is LINE else normal(35, seed=24)
    got = parameter_sgd(loss, model, start, 0.05, batches, method=method)
    leaf = start.clone().requires_grad_()
    optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[method]([leaf], lr=0.05)
    for index in batches:
        optimizer.zero_grad()
        loss.select(index).value(model.select(index)(leaf)).backward()
        optimizer.step()
    same(got.parameters, leaf.detach(), 1e-12)


def test_one_inner_step_is_sgd():
    batches = draw_batches(20, N, 3, seeded(25))
    start = normal(D, 1, seed=26)
    for schedule in ("constant", "sqrt", "exponential"):
        ours = target_sgd(ONE, LINE, start, 2.0, batches, 1, inner_step=0.1, schedule=schedule)
        theirs = parameter_sgd(ONE, LINE, start, 0.2, batches, schedule=schedule)
        same(ours.parameters, theirs.parameters)
        same(ours.losses, theirs.losses)
    net = normal(25, seed=27)
    ours = target_sgd(ONE, NET, net, 2.0, batches, 1, inner_step=0.1)
    same(ours.parameters, parameter_sgd(ONE, NET, net, 0.2, batches).parameters)
    default = target_sgd(ONE, LINE, start, 2.0, batches, 1)
    sgd = parameter_sgd(ONE, LINE, start, 2.0 / LINE.row_bound.item(), batches)
    same(default.parameters, sgd.parameters)


def test_all_rows_in_every_batch_is_the_full_loop():
    every = torch.arange(N).expand(12, N)
    start, a = normal(D, 1, seed=28), 1 / LINE.lipschitz.item()
    full = majorize_minimize(ONE, LINE, start, 3.0, 12, 6)
    for proximity in ("batch", "all"):
        part = target_sgd(ONE, LINE, start, 3.0, every, 6, inner_step=a, proximity=proximity)
        same(part.losses, full.losses)
        same(part.parameters, full.parameters, 1e-11)
    shuffled = torch.stack([torch.randperm(N, generator=seeded(t)) for t in range(12)])
    part = target_sgd(ONE, LINE, start, 3.0, shuffled, math.inf, proximity="all")
    same(part.losses, majorize_minimize(ONE, LINE, start, 3.0, 12, math.inf).losses, 1e-10)


def test_full_loop_of_exact_steps_projects_in_every_round():
    here = normal(D, 1, seed=29)
    record = majorize_minimize(ONE, LINE, here, 3.0, 5, math.inf, keep_targets=True)
    for t in range(5):
        same(record.targets[t], X @ here, 1e-10)
        here = exact_projection(ONE, LINE, here, 3.0)
    same(record.parameters, here, 1e-10)
    assert record.products.tolist() == [0, 1, 2, 3, 4, 5]
    assert record.step_sizes.tolist() == [3.0] * 5
    assert majorize_minimize(ONE, LINE, here, 3.0, 1, 1).targets is None


def test_monotone_descent_and_counts_of_a_network():
    start = normal(3, 25, seed=30)
    rule = Armijo()
    record = majorize_minimize(ONE, NET, start, 3.0, 6, 5, inner_step=rule)
    assert bool((record.losses.diff(dim=0) <= 1e-14).all())
    assert record.losses.shape == record.gradient_norms.shape == (7, 3)
    assert record.products[-1].tolist() == [30.0] * 3
    assert bool((record.values.diff(dim=0) >= 5).all())  # one value a try, one try at least
    assert not record.loss_values.any()


# A grid in one program is its configurations one by one.


def test_a_grid_of_target_steps_is_its_configurations():
    schedules = ("constant", "sqrt", "exponential", "adagrad", "line-search")
    m = torch.tensor([1.0, 5.0, math.inf], dtype=F64)[None, :, None, None]
    eta = torch.tensor([0.5, 4.0], dtype=F64)[:, None]
    shape = (len(schedules), 3, 2, 2)
    batches = draw_batches(6, N, 3, seeded(31), (2,))
    start = normal(D, 1, seed=32).expand(*shape, D, 1)
    got = target_sgd(ONE, LINE, start, eta, batches, m, schedule=schedules)
    assert got.losses.shape == (7, *shape)
    for i, j, k, s in np.ndindex(*shape):
        alone = target_sgd(
            ONE, LINE, start[0, 0, 0, 0], eta[k, 0].item(), batches[:, s],
            m[0, j, 0, 0].item() if j == 2 else int(m[0, j, 0, 0]), schedule=schedules[i],
        )  # fmt: skip
        at = (slice(None), i, j, k, s)
        same(got.losses[at], alone.losses)
        same(got.parameters[at[1:]], alone.parameters, 1e-10)
        same(got.step_sizes[at], alone.step_sizes)
        for name in ("oracle_calls", "products", "values", "loss_values"):
            assert torch.equal(getattr(got, name)[at], getattr(alone, name)), name


def test_a_grid_with_newton_and_with_armijo():
    batches = draw_batches(6, N, 3, seeded(31), (2,))
    start = normal(2, 2, D, 1, seed=32)
    got = target_sgd(ONE, LINE, start, 1.0, batches, 4, schedule=("newton", "constant"))
    searched = target_sgd(
        ONE, LINE, start, 1.0, batches, 4, schedule=("newton", "sqrt"), inner_step=Armijo()
    )
    for i, s in np.ndindex(2, 2):
        name = ("newton", "constant")[i]
        alone = target_sgd(ONE, LINE, start[i, s], 1.0, batches[:, s], 4, schedule=name)
        same(got.losses[:, i, s], alone.losses)
        name = ("newton", "sqrt")[i]
        alone = target_sgd(
            ONE, LINE, start[i, s], 1.0, batches[:, s], 4, schedule=name, inner_step=Armijo()
        )
        same(searched.losses[:, i, s], alone.losses)
        assert torch.equal(searched.values[:, i, s], alone.values)


def test_a_grid_of_baselines_is_its_configurations():
    eta = torch.tensor([0.1, 3.0], dtype=F64)[:, None]
    batches = draw_batches(6, N, 3, seeded(33), (2,))
    schedules = ("sqrt", "constant", "constant", "exponential")
    start = normal(4, 2, 2, D, 1, seed=34)
    got = parameter_sgd(ONE, LINE, start, eta, batches, method=METHODS, schedule=schedules)
    for i, k, s in np.ndindex(4, 2, 2):
        alone = parameter_sgd(
            ONE, LINE, start[i, k, s], eta[k, 0].item(), batches[:, s], method=METHODS[i],
            schedule=schedules[i],
        )  # fmt: skip
        same(got.losses[:, i, k, s], alone.losses)
        same(got.parameters[i, k, s], alone.parameters)
        same(got.step_sizes[:, i, k, s], alone.step_sizes)
        assert torch.equal(got.loss_values[:, i, k, s], alone.loss_values)
        assert torch.equal(got.products[:, i, k, s], alone.products)


def test_instances_with_their_own_data():
    data, labels = normal(3, N, D, seed=35), (normal(3, N, 1, seed=36) > 0).to(F64)
    start, batches = normal(D, 1, seed=37), draw_batches(5, N, 4, seeded(38), (3,))
    loss, model = LogisticLoss(labels), LinearModel(data)
    full = majorize_minimize(loss, model, start, 4.0, 5, 7)
    part = target_sgd(loss, model, start, 4.0, batches, 7)
    both = target_sgd(loss, model, start, 0.1, batches, 7, proximity="all")
    plain = parameter_sgd(loss, model, start, 0.3, batches)
    for k in range(3):
        one, line = LogisticLoss(labels[k]), LinearModel(data[k])
        same(full.losses[:, k], majorize_minimize(one, line, start, 4.0, 5, 7).losses)
        index = batches[:, k]
        same(part.losses[:, k], target_sgd(one, line, start, 4.0, index, 7).losses)
        alone = target_sgd(one, line, start, 0.1, index, 7, proximity="all")
        same(both.losses[:, k], alone.losses)
        same(plain.losses[:, k], parameter_sgd(one, line, start, 0.3, index).losses)


def test_entries_between_are_left_out():
    batches, start = draw_batches(11, N, 2, seeded(39)), normal(D, 1)
    for run in (
        lambda **e: target_sgd(ONE, LINE, start, 1.0, batches, 3, schedule="sqrt", **e),
        lambda **e: parameter_sgd(ONE, LINE, start, 0.1, batches, schedule="sqrt", **e),
    ):
        every, some = run(), run(every=4)
        assert some.rounds.tolist() == [0, 4, 8, 11]
        assert some.rounds.dtype == torch.int64
        for name in ("losses", "oracle_calls", "products", "loss_values", "values"):
            assert torch.equal(getattr(some, name), getattr(every, name)[[0, 4, 8, 11]])
        assert torch.equal(some.step_sizes, every.step_sizes[[3, 7, 10]])
        assert torch.equal(some.parameters, every.parameters)


def test_batches_are_uniform_subsets():
    got = draw_batches(4000, 5, 2, seeded(40), (2,))
    assert got.shape == (4000, 2, 2)
    assert got.dtype == torch.int64
    low, high = got.amin(-1), got.amax(-1)
    assert bool((low < high).all())
    count = torch.bincount((5 * low + high).flatten(), minlength=25)
    seen = count[count > 0]
    assert len(seen) == 10  # every pair
    expected = 8000 / 10
    assert ((seen - expected) ** 2 / expected).sum() < 33.7  # chi-square of 9, 1 in 10 000
    assert torch.equal(got, draw_batches(4000, 5, 2, seeded(40), (2,)))
    whole = draw_batches(3, 5, 5, seeded())
    assert torch.equal(whole.sort(-1).values, torch.arange(5).expand(3, 5))


def test_arguments_are_left_as_they_were():
    start = normal(D, 1).requires_grad_()
    kept = start.detach().clone()
    batches = draw_batches(4, N, 2, seeded())
    for record in (
        target_sgd(ONE, LINE, start, 1.0, batches, 3),
        parameter_sgd(ONE, LINE, start, 0.1, batches, method="adam"),
        majorize_minimize(ONE, LINE, start, 1.0, 2, 3),
    ):
        assert torch.equal(start.detach(), kept)
        assert not record.parameters.requires_grad
        assert not record.losses.requires_grad


# Extremes.


def test_losses_of_huge_logits():
    z = torch.tensor([[1e3, -1e3, 0.0], [-1e3, 1e3, 1e3]], dtype=F64)
    y = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=F64)
    logistic, softmax = LogisticLoss(y), SoftmaxLoss(y)
    same(logistic.row_values(z), [math.log(2), 3e3])
    same(logistic.gradient(z), [[0.0, 0.0, 0.5], [-1.0, 1.0, 1.0]])
    same(softmax.row_values(z), [0.0, 2e3 + math.log(2)])
    same(softmax.gradient(z), [[0.0, 0.0, 0.0], [-1.0, 0.5, 0.5]])
    for loss in (logistic, softmax):
        assert loss.curvature(z).isfinite().all()
        assert bool((loss.curvature(z) >= 0).all())
    for loss, mirror_map in ((logistic, BinaryEntropy()), (softmax, Entropy())):
        for anchor in (z, torch.zeros_like(z)):
            value = surrogate(loss, z.flip(0), anchor, 1.0, mirror_map, coordinates="dual")
            same(value, loss.value(z.flip(0)))
    small = torch.tensor([[-40.0], [-300.0]], dtype=F64)
    zero = LogisticLoss(torch.zeros(2, 1, dtype=F64))
    same(zero.row_values(small) / torch.exp(small)[:, 0], [1.0, 1.0])


def test_the_logistic_loss_is_smooth_where_the_softplus_changes_its_formula():
    z = torch.tensor([[39.999999], [40.0], [40.000001]], dtype=F64)
    loss = LogisticLoss(torch.zeros(3, 1, dtype=F64))
    same(loss.row_values(z), np.logaddexp(0, z.numpy())[:, 0], 1e-15)


def test_probabilities_near_zero():
    p = torch.tensor([[1e-300, 1 - 1e-16, 1e-16], [0.2, 0.3, 0.5]], dtype=F64)
    cost = LinearCost(torch.tensor([[-1.0, 0.0, 1.0], [2.0, 0.0, 1.0]], dtype=F64))
    half = half_step(cost, p, 2.0, Entropy())
    assert half[0, 0].item() == pytest.approx(1e-300 * math.exp(2.0), rel=1e-9)
    assert surrogate(cost, half, p, 2.0, Entropy()).isfinite()
    border = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=F64)
    value = surrogate(cost, border, p, 2.0, Entropy())
    same(value - cost.value(border), math.log(2) / 4)


def test_a_single_row_a_single_column():
    x, y = torch.tensor([[2.0]], dtype=F64), torch.tensor([[3.0]], dtype=F64)
    loss, model = SquaredLoss(y), LinearModel(x)
    zero = torch.zeros(1, 1, dtype=F64)
    same(exact_projection(loss, model, zero, 1.0), [[1.5]])
    one = torch.zeros(4, 1, dtype=torch.int64)
    for m in (1, 3, math.inf):
        same(target_sgd(loss, model, zero, 1.0, one, m).parameters, [[1.5]])
        same(majorize_minimize(loss, model, zero, 1.0, 4, m).losses, [4.5, 0.0, 0.0, 0.0, 0.0])
    soft = SoftmaxLoss(torch.ones(1, 1, dtype=F64))  # one class: nothing to learn
    same(majorize_minimize(soft, model, y, 1.0, 2, 3).losses, [0.0, 0.0, 0.0])


def test_features_of_zeros_move_nothing():
    model, start = LinearModel(torch.zeros(N, D, dtype=F64)), normal(D, 1)
    batches = draw_batches(3, N, 2, seeded())
    for m in (1, 5, math.inf):
        assert torch.equal(majorize_minimize(ONE, model, start, 1.0, 3, m).parameters, start)
        for proximity in ("batch", "all"):
            got = target_sgd(ONE, model, start, 1.0, batches, m, proximity=proximity)
            assert torch.equal(got.parameters, start)
    for method in METHODS:
        got = parameter_sgd(ONE, model, start, 1.0, batches, method=method)
        assert torch.equal(got.parameters, start)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_gradients_of_zero_stop_nothing(schedule):
    """At a perfect fit every schedule has a finite step and stays."""
    start = normal(D, 1, seed=41)
    loss, batches = SquaredLoss(X @ start), draw_batches(3, N, 2, seeded())
    got = target_sgd(loss, LINE, start, 1.0, batches, 3, schedule=schedule)
    same(got.parameters, start, 1e-14)
    assert got.step_sizes.isfinite().all()


def test_more_columns_than_rows_without_full_rank():
    x = normal(6, 15, seed=42)
    x[5] = x[0] - x[1]
    loss, model = SquaredLoss(normal(6, 1, seed=43)), LinearModel(x)
    start = normal(15, 1, seed=44)
    best = np.linalg.lstsq(x.numpy(), loss.data.numpy(), rcond=None)[0]
    got = majorize_minimize(loss, model, start, 1.0, 1, math.inf)
    same(x @ got.parameters, x.numpy() @ best, 1e-10)
    batches = draw_batches(30, 6, 4, seeded(45))
    for m in (1, 30, math.inf):
        got = target_sgd(loss, model, start, 0.3, batches, m)
        assert got.losses.isfinite().all()
        unseen = torch.from_numpy(np.eye(15) - np.linalg.pinv(x.numpy()) @ x.numpy())
        same(unseen @ got.parameters, unseen @ start, 1e-9)


def test_a_million_inner_steps_of_a_tiny_direction():
    """Where 1 - (1 - as)^m would lose all digits."""
    x = torch.diag(torch.tensor([1.0, 1e-9], dtype=F64))
    loss, model = SquaredLoss(torch.ones(2, 1, dtype=F64)), LinearModel(x)
    got = target_step(loss, model, torch.zeros(2, 1, dtype=F64), 1.0, 10**6, inner_step=1.0)
    # K = diag(1, 1e-18)/2, the gradient of h is -(1, 1e-9)/2.
    assert got.parameters[1].item() == pytest.approx(1e6 * 1e-9 / 2, rel=1e-9)
    assert got.parameters[0].item() == pytest.approx(1.0, rel=1e-12)


def test_single_precision_stays_single():
    x, y = X.float(), HARD.float()
    loss, model, start = LogisticLoss(y, ridge=0.05), LinearModel(x), normal(D, 1).float()
    batches = draw_batches(5, N, 3, seeded())
    m = torch.tensor([1, 5, 50])
    pairs = [
        (majorize_minimize(loss, model, start, 3.0, 5, m),
         majorize_minimize(ONE, LINE, start.double(), 3.0, 5, m)),
        (target_sgd(loss, model, start, 3.0, batches, m, schedule="line-search"),
         target_sgd(ONE, LINE, start.double(), 3.0, batches, m, schedule="line-search")),
        (parameter_sgd(loss, model, start, 0.3, batches, method="adam"),
         parameter_sgd(ONE, LINE, start.double(), 0.3, batches, method="adam")),
    ]  # fmt: skip
    for single, double in pairs:
        for name, value in single._asdict().items():
            if value is not None and name != "rounds":
                assert value.dtype == torch.float32, name
        same(single.losses.double(), double.losses, 1e-4)


def test_a_search_that_finds_nothing_ends():
    """Half the squared error of a step 1e20 too long: 60 tries reach 1e11 only."""
    batches, start = draw_batches(2, N, 3, seeded()), torch.zeros(D, 1, dtype=F64)
    loss = SquaredLoss(normal(N, 1))
    got = target_sgd(loss, LINE, start, 1e20, batches[:1], 1, schedule="line-search")
    assert got.loss_values[-1] == 60
    assert got.step_sizes[0].item() == pytest.approx(1e20 * 0.7**60, rel=1e-9)
    got = parameter_sgd(loss, LINE, start, 1e20, batches[:1], method="line-search")
    assert got.loss_values[-1] == 60
