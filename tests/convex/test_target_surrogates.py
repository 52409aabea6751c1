"""Losses, models, surrogates and inner steps."""

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import (
    BinaryEntropy,
    Entropy,
    Euclidean,
    LogBarrier,
    PositiveEntropy,
)
from mdtheory.convex.target_surrogates import (
    Armijo,
    LinearModel,
    SquaredLoss,
    TorchModel,
    descend,
    descend_linear,
    draw_batches,
    half_step,
    majorize_minimize,
    surrogate,
    target_sgd,
    target_step,
)
from tests.convex.target_surrogates_run_cases import (
    F64,
    LINE,
    LOSSES,
    NET,
    ONE,
    SOFT,
    D,
    K,
    N,
    X,
    normal,
    same,
    seeded,
)

EVERY = pytest.mark.parametrize("name", LOSSES)


# Losses.


def reference(name: str, z: np.ndarray) -> np.ndarray:
    """Row losses by NumPy, for moderate targets."""
    y = LOSSES[name].data.numpy()
    if name == "squared":
        return ((z - y) ** 2).sum(-1) / 2
    if name == "softmax":
        return np.log(np.exp(z).sum(-1)) - (y * z).sum(-1)
    if name == "cost":
        return (y * z).sum(-1)
    ridge = 0.3 if name == "ridge" else 0.0
    return (np.log1p(np.exp(z)) - y * z + ridge / 2 * z**2).sum(-1)


@EVERY
def test_values_gradients_and_curvatures(name):
    loss, z = LOSSES[name], 2 * normal(6, N, K, seed=6)
    rows = reference(name, z.numpy())
    same(loss.row_values(z), rows)
    same(loss.value(z), rows.mean(-1))
    assert loss.rows == N
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss.row_values(leaf).sum(), leaf, create_graph=True)
    same(loss.gradient(z), gradient.detach())
    if name == "cost":
        same(loss.curvature(z), torch.zeros_like(z))
        return
    bend = torch.zeros_like(z)
    for j in range(K):
        (column,) = torch.autograd.grad(gradient[..., j].sum(), leaf, retain_graph=True)
        bend[..., j] = column[..., j]
    same(loss.curvature(z), bend)


@EVERY
def test_selected_rows(name):
    loss, z = LOSSES[name], normal(N, K, seed=7)
    for index in (torch.tensor([4, 0]), torch.tensor([[4, 0], [1, 9], [3, 3]])):
        part = loss.select(index)
        assert part.rows == 2
        assert type(part) is type(loss)
        assert (part.smoothness, part.strong_convexity) == (loss.smoothness, loss.strong_convexity)
        same(part.row_values(z[index]), loss.row_values(z)[index])
        same(part.gradient(z[index]), loss.gradient(z)[index])
    assert loss.rows == N  # and the whole is as it was


def test_selected_rows_of_instances():
    """One choice for all instances, or one for each."""
    data = normal(2, 3, N, K, seed=8)
    loss, model = SquaredLoss(data), LinearModel(data)
    both = torch.tensor([1, 5, 2])
    assert torch.equal(loss.select(both).data, data[..., both, :])
    each = torch.randint(N, (3, 4), generator=seeded())
    got = model.select(each).features
    assert got.shape == (2, 3, 4, K)
    for i in range(2):
        for j in range(3):
            assert torch.equal(got[i, j], data[i, j, each[j]])
    more = torch.randint(N, (5, 1, 1, 4), generator=seeded())
    assert loss.select(more).data.shape == (5, 2, 3, 4, K)


# Models.


def test_linear_models():
    w = normal(5, D, K, seed=9)
    same(LINE(w), X @ w)
    targets, pull = LINE.linearize(w)
    same(targets, X @ w)
    v = normal(5, N, K, seed=10)
    same(pull(v), X.T @ v / N)
    same((v * LINE(w)).sum((-2, -1)) / N, (pull(v) * w).sum((-2, -1)))  # the adjoint
    spectrum = np.linalg.eigvalsh((X.T @ X / N).numpy())
    same(LINE.lipschitz, spectrum[-1])
    same(LINE.row_bound, (X.numpy() ** 2).sum(-1).max())
    assert LINE.row_bound >= LINE.lipschitz
    many = LinearModel(normal(3, N, D, seed=11))
    assert many.lipschitz.shape == many.row_bound.shape == (3,)
    same(many.project(v[:3]), np.linalg.pinv(many.features.numpy()) @ v[:3].numpy(), 1e-10)


def test_the_adjoint_of_a_network_is_its_jacobian():
    w, v = normal(35, seed=12), normal(N, K, seed=13)
    targets, pull = NET.linearize(w)
    same(targets, NET(w))
    assert not targets.requires_grad
    jacobian = torch.autograd.functional.jacobian(NET, w)
    same(pull(v), torch.einsum("nkp,nk->p", jacobian, v) / N)
    same(pull(2 * v), 2 * pull(v))  # more than once
    many = normal(4, 35, seed=14)
    same(NET.linearize(many)[1](v.expand(4, -1, -1))[2], NET.linearize(many[2])[1](v))
    with torch.no_grad():  # as outer loops are run
        same(NET.linearize(w)[1](v), pull(v))
    part = NET.select(torch.tensor([3, 1]))
    same(part(w), NET(w)[[3, 1]])
    same(part.linearize(w)[1](v[:2]), torch.einsum("nkp,nk->p", jacobian[[3, 1]], v[:2]) / 2)
    assert (part.rows, NET.rows) == (2, N)


# The surrogate.


@pytest.mark.parametrize(
    ("name", "mirror_map", "coordinates"),
    [
        ("squared", None, "primal"),
        ("logistic", Euclidean(), "primal"),
        ("logistic", BinaryEntropy(), "dual"),
        ("softmax", Entropy(), "dual"),
        ("cost", Entropy(), "primal"),
        ("cost", PositiveEntropy(), "primal"),
        ("cost", LogBarrier(), "primal"),
        ("cost", BinaryEntropy(), "primal"),
    ],
)
def test_gradient_of_the_surrogate_by_autograd(name, mirror_map, coordinates):
    """Through a model into the parameters: what one inner step moves by."""
    loss, w = LOSSES[name], normal(2, 35, seed=15) / 2
    points = coordinates == "primal" and mirror_map is not None
    softly = isinstance(mirror_map, (Entropy, LogBarrier))
    bend = (lambda z: z.softmax(-1)) if softly else (lambda z: z.sigmoid())
    model = TorchModel(lambda w, x: bend(NET.function(w, x)), X) if points else NET
    leaf = w.clone().requires_grad_()
    anchor = model(w[:1])
    value = surrogate(loss, model(leaf), anchor, 0.6, mirror_map, coordinates=coordinates)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    start = w[:1].expand(2, -1)
    slopes = loss.gradient(anchor)
    geometry = {"mirror_map": mirror_map, "coordinates": coordinates}
    first = descend(
        model, start, slopes, w.new_tensor(0.6), w.new_tensor(0.5), w.new_tensor(1.0), 1, **geometry
    )
    same(first.parameters, start - 0.3 * gradient[0], 1e-11)
    # Two steps, the second with the divergence in it.
    both = target_step(loss, model, w[0], 0.6, 2, inner_step=0.5, **geometry)
    leaf = first.parameters[0].clone().requires_grad_()
    value = surrogate(loss, model(leaf), anchor[0], 0.6, mirror_map, coordinates=coordinates)
    (gradient,) = torch.autograd.grad(value, leaf)
    same(both.parameters, first.parameters[0] - 0.3 * gradient, 1e-11)


def test_the_surrogate_is_computed_as_it_is_written():
    loss, z, anchor = LOSSES["softmax"], normal(7, N, K, seed=16), normal(N, K, seed=17)
    eta = 0.1 + torch.rand(5, 1, generator=seeded(), dtype=F64)
    u = (z - anchor).numpy()
    slopes = loss.gradient(anchor).numpy()
    by_hand = (
        reference("softmax", anchor.numpy()).mean()
        + (slopes * u).sum(-1).mean(-1)
        + (u**2).sum(-1).mean(-1) / (2 * eta.numpy())
    )
    got = surrogate(loss, z, anchor, eta)
    assert got.shape == (5, 7)
    same(got, by_hand)
    same(surrogate(loss, z, anchor, eta, Euclidean()), by_hand)
    same(surrogate(loss, z, anchor, eta, Euclidean(), coordinates="dual"), by_hand)


def test_nothing_flows_through_the_anchor():
    z, anchor = normal(N, 1).requires_grad_(), normal(N, 1, seed=1).requires_grad_()
    surrogate(ONE, z, anchor, 0.5).backward()
    assert anchor.grad is None
    assert z.grad is not None


@pytest.mark.parametrize(
    "mirror_map", [Entropy(), LogBarrier(), PositiveEntropy(), BinaryEntropy()]
)
def test_half_steps_of_many_step_sizes(mirror_map):
    points = SOFT if not isinstance(mirror_map, LogBarrier) else 0.5 * SOFT + 0.5 / K
    loss = LOSSES["cost"]
    eta = torch.tensor([[0.1], [0.5], [2.0]], dtype=F64)
    got = half_step(loss, points.expand(2, N, K), eta / 10, mirror_map)
    assert got.shape == (3, 2, N, K)
    for k in range(3):
        dual = mirror_map.to_dual(points) - eta[k] / 10 * loss.gradient(points)
        same(got[k, 0], mirror_map.to_primal(dual), 1e-11)
        same(half_step(loss, points, eta[k].item() / 10, mirror_map), got[k, 1], 1e-11)


# Inner loops.


def test_the_loop_and_the_closed_form_of_a_grid():
    loss, start = LOSSES["softmax"], normal(6, D, K, seed=18)
    m = torch.tensor([1.0, 2.0, 9.0], dtype=F64)[:, None, None].expand(3, 2, 6)
    eta = torch.tensor([0.3, 2.0], dtype=F64)[:, None].expand(2, 6)
    wide, slopes = start.expand(3, 2, 6, D, K), loss.gradient(LINE(start))
    a = 1.3 / LINE.lipschitz
    slow = descend(LINE, wide, slopes, eta, a, m, 9)
    fast = descend_linear(LINE, wide, slopes, eta, a, m)
    same(slow.parameters, fast.parameters, 1e-11)
    assert torch.equal(slow.products, m)
    assert torch.equal(fast.products, m)
    assert not slow.values.any()
    assert not fast.values.any()
    through = target_step(loss, LINE, start, eta, m, inner_step=a)
    assert torch.equal(through.parameters, fast.parameters)


def test_inner_steps_of_each_instance_have_their_own_shape():
    """A tensor of inner steps alone makes configurations."""
    start = normal(D, 1, seed=18)
    a = torch.tensor([0.1, 0.2, 0.3], dtype=F64) / LINE.lipschitz
    got = target_step(ONE, LINE, start, 1.0, 4, inner_step=a)
    for k in range(3):
        alone = target_step(ONE, LINE, start, 1.0, 4, inner_step=a[k].item())
        same(got.parameters[k], alone.parameters)
    record = majorize_minimize(ONE, LINE, start, 1.0, 2, 4, inner_step=a)
    assert record.losses.shape == (3, 3)
    batches = draw_batches(3, N, 2, seeded())
    record = target_sgd(ONE, LINE, start, 1.0, batches, 4, inner_step=a)
    assert record.losses.shape == (4, 3)


def plain_armijo(loss, model, start, eta, m, rule):
    """One instance, loops of Python numbers."""
    anchor = model(start)
    slopes = loss.gradient(anchor)
    here, trial, values = start, rule.start, 0

    def g(w):
        u = model(w) - anchor
        return ((slopes * u).sum() + (u * u).sum() / (2 * eta)).item() / N

    for _ in range(m):
        leaf = here.clone().requires_grad_()
        u = model(leaf) - anchor
        total = ((slopes * u).sum() + (u * u).sum() / (2 * eta)) / N
        (gradient,) = torch.autograd.grad(total, leaf)
        for _ in range(rule.tries):
            values += 1
            candidate = here - trial * eta * gradient
            enough = g(here) - rule.slope * trial * eta * (gradient * gradient).sum().item()
            if g(candidate) <= enough:
                here = candidate
                break
            trial *= rule.shrink
        trial *= rule.growth
    return here, values


@pytest.mark.parametrize("rule", [Armijo(), Armijo(start=0.5, slope=0.3, shrink=0.5, growth=1.2)])
@pytest.mark.parametrize("model", [LINE, NET], ids=["line", "net"])
def test_armijo_against_a_plain_loop(model, rule):
    loss = LOSSES["softmax"]
    start = normal(4, D, K, seed=19) if model is LINE else normal(4, 35, seed=19)
    m = torch.tensor([1.0, 2.0, 5.0, 8.0], dtype=F64)
    eta = torch.tensor([2.0, 0.5, 2.0, 1.0], dtype=F64)
    got = target_step(loss, model, start, eta, m, inner_step=rule)
    for k in range(4):
        here, values = plain_armijo(loss, model, start[k], eta[k].item(), int(m[k]), rule)
        same(got.parameters[k], here, 1e-10)
        assert got.values[k] == values
    assert torch.equal(got.products, m)


def test_armijo_that_finds_nothing_stays():
    start = normal(D, 1, seed=20)
    rule = Armijo(start=1e9, tries=3)
    got = target_step(ONE, LINE, start, 1.0, 2, inner_step=rule)
    assert torch.equal(got.parameters, start)
    assert got.values == 6
    assert got.products == 2
