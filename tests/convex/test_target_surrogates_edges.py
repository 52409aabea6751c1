"""Losses of targets at infinite logits, NumPy's numbers, and whose memory a record is."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import BinaryEntropy, Entropy, Tsallis
from mdtheory.convex.target_surrogates import (
    Armijo,
    LinearCost,
    LinearModel,
    LogisticLoss,
    SoftmaxLoss,
    SquaredLoss,
    TorchModel,
    draw_batches,
    exact_projection,
    half_step,
    majorize_minimize,
    parameter_sgd,
    surrogate,
    target_sgd,
    target_step,
)
from mdtheory.convex.target_surrogates.surrogates import surrogate_slope

F64, INF = torch.float64, math.inf
N, D, K = 4, 3, 2


def double(*values):
    return torch.tensor(values, dtype=F64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def slope(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


# ------------------------------------------------------------------------------ infinite logits


def test_a_class_with_the_logit_minus_infinity_and_without_a_label_is_not_there():
    labels, logits = double(1.0, 0.0, 0.0), double(0.3, -0.5, -INF)
    loss, short = SoftmaxLoss(labels[None]), SoftmaxLoss(labels[None, :2])
    for function in ("value", "row_values", "gradient", "curvature"):
        ours = getattr(loss, function)(logits[None])
        wanted = getattr(short, function)(logits[None, :2])
        if function in ("gradient", "curvature"):
            assert ours[0, 2].item() == 0.0
            ours = ours[:, :2]
        torch.testing.assert_close(ours, wanted)
    found = slope(loss.value, logits[None])
    torch.testing.assert_close(found, loss.gradient(logits[None]))
    # Soft labels, and a label where the probability is 0: the loss is infinite, not a NaN.
    assert SoftmaxLoss(double(0.5, 0.2, 0.3)[None]).value(logits[None]).item() == INF
    for bad in (math.nan, INF):
        with pytest.raises(ValueError, match="targets: expected"):
            loss.value(double(0.0, bad, 0.0)[None])
    with pytest.raises(ValueError, match="rows with a finite largest logit"):
        loss.value(double(-INF, -INF, -INF)[None])


@pytest.mark.parametrize(
    ("label", "logit", "value", "gradient"),
    [
        (0.0, -INF, 0.0, 0.0), (1.0, INF, 0.0, 0.0), (0.0, INF, INF, 1.0), (1.0, -INF, INF, -1.0),
        (0.3, INF, INF, 0.7), (0.3, -INF, INF, -0.3), (0.0, 0.0, math.log(2), 0.5),
        (1.0, 50.0, math.exp(-50), -math.exp(-50)), (0.0, -50.0, math.exp(-50), math.exp(-50)),
        (1.0, 800.0, 0.0, 0.0), (0.0, 800.0, 800.0, 1.0),
    ],
)  # fmt: skip
def test_the_logistic_loss_keeps_its_digits_and_its_limits(label, logit, value, gradient):
    loss, z = LogisticLoss(double(label)[None]), double(logit)[None]
    torch.testing.assert_close(loss.value(z), torch.tensor(value, dtype=F64), rtol=1e-14, atol=0)
    torch.testing.assert_close(loss.gradient(z), double(gradient)[None], rtol=1e-14, atol=0)
    torch.testing.assert_close(slope(loss.value, z), loss.gradient(z), rtol=1e-14, atol=0)
    assert loss.curvature(z).isfinite().all()


def test_surrogates_of_masked_logits_are_those_without_the_class():
    labels = normal(N, 3).softmax(-1)
    labels[:, 2] = 0
    labels = labels / labels.sum(-1, keepdim=True)
    anchor, targets = normal(N, 3), normal(N, 3, seed=1)
    anchor[:, 2] = targets[:, 2] = -INF
    loss, short = SoftmaxLoss(labels), SoftmaxLoss(labels[:, :2])
    for geometry, coordinates in ((None, "primal"), (Entropy(), "dual")):
        options = {"mirror_map": geometry, "coordinates": coordinates}
        ours = surrogate(loss, targets, anchor, 0.7, **options)
        wanted = surrogate(short, targets[:, :2], anchor[:, :2], 0.7, **options)
        torch.testing.assert_close(ours, wanted)
        found = slope(lambda z, o=options: surrogate(loss, z, anchor, 0.7, **o), targets)
        assert found.isfinite().all()


# -------------------------------------------------------------------------------- differentiable


def test_losses_surrogates_and_steps_are_differentiable():
    check = torch.autograd.gradcheck
    z, anchor = normal(N, K).requires_grad_(), normal(N, K, seed=1)
    chances = normal(N, K, seed=2).softmax(-1)
    losses = [
        SquaredLoss(chances), LogisticLoss(chances, 0.1), LogisticLoss(chances),
        SoftmaxLoss(chances), LinearCost(chances),
    ]  # fmt: skip
    step = torch.tensor(0.7, dtype=F64).requires_grad_()
    for loss in losses:
        check(loss.row_values, z)
        check(loss.value, z)
        check(loss.gradient, z)
        torch.testing.assert_close(slope(loss.value, z.detach()) * N, loss.gradient(z.detach()))
        check(lambda t, s, f=loss: surrogate(f, t, anchor, s), (z, step))
        check(lambda t, s, f=loss: half_step(f, t, s), (z, step))
    dual = {"mirror_map": BinaryEntropy(), "coordinates": "dual"}
    check(lambda t: surrogate(losses[2], t, anchor, 0.7, **dual), z)
    model = LinearModel(normal(N, D))
    parameters = normal(D, K).requires_grad_()
    check(lambda w: exact_projection(losses[0], model, w, 0.5), parameters)
    vmap = torch.func.vmap
    many = normal(5, N, K)
    for loss in losses:
        torch.testing.assert_close(vmap(loss.value)(many), loss.value(many))
        torch.testing.assert_close(
            vmap(lambda t, f=loss: surrogate(f, t, anchor, 0.7))(many),
            surrogate(loss, many, anchor, 0.7),
        )


# -------------------------------------------------------------------------------------- numbers


def test_numbers_of_numpy_are_numbers_and_arrays_are_refused_by_name():
    loss, model, start = SquaredLoss(normal(N, K)), LinearModel(normal(N, D)), normal(D, K)
    batches = draw_batches(3, N, np.int64(2), torch.Generator().manual_seed(0))
    for number in (np.float64(0.5), np.float32(0.5)):
        majorize_minimize(loss, model, start, number, np.int64(2), np.int64(3))
        target_step(loss, model, start, number, np.float64(INF))
        parameter_sgd(loss, model, start, number, batches, every=np.int64(1))
    Armijo(np.float32(1.0))
    array = np.array(0.5)
    refused = [
        ("step_size", lambda: majorize_minimize(loss, model, start, array, 2, 3)),
        ("rounds", lambda: majorize_minimize(loss, model, start, 0.5, np.array(2), 3)),
        ("inner_steps", lambda: majorize_minimize(loss, model, start, 0.5, 2, np.array(3))),
        ("inner_steps", lambda: target_step(loss, model, start, 0.5, np.array([1.0, INF]))),
        ("inner_step", lambda: target_step(loss, model, start, 0.5, 1, inner_step=array)),
        ("parameters", lambda: target_step(loss, model, np.zeros((D, K)), 0.5, 1)),
        ("batches", lambda: target_sgd(loss, model, start, 0.5, np.zeros((2, 2), int), 1)),
        ("step_size", lambda: parameter_sgd(loss, model, start, array, batches)),
        ("targets", lambda: loss.value(np.zeros((N, K)))),
        ("anchor", lambda: half_step(loss, np.zeros((N, K)), 0.5)),
        ("step_size", lambda: surrogate(loss, normal(N, K), normal(N, K), array)),
        ("labels", lambda: SquaredLoss(np.zeros((N, K)))),
        ("cost", lambda: LinearCost(np.zeros((N, K)))),
        ("ridge", lambda: LogisticLoss(torch.zeros(N, K).double(), array)),
        ("features", lambda: LinearModel(np.zeros((N, D)))),
        ("inputs", lambda: TorchModel(lambda w, x: x, np.zeros((N, D)))),
        ("start", lambda: Armijo(array)),
    ]  # fmt: skip
    for name, call in refused:
        with pytest.raises(TypeError, match=rf"^{name}: expected .*ndarray"):
            call()


# --------------------------------------------------------------------------------------- memory


def test_records_own_their_memory_also_where_a_model_fills_one_tensor():
    features, loss, start = normal(N, D), SquaredLoss(normal(N, 1)), normal(D)
    buffer = torch.empty(N, 1, dtype=F64)

    def filled(parameters, inputs):
        targets = inputs @ parameters[..., None]
        if targets.requires_grad:
            return targets
        return buffer.copy_(targets)

    record = majorize_minimize(
        loss, TorchModel(filled, features), start, 0.5, 3, 2, inner_step=0.1, keep_targets=True
    )
    right = majorize_minimize(
        loss, TorchModel(lambda w, x: x @ w[..., None], features), start, 0.5, 3, 2,
        inner_step=0.1, keep_targets=True,
    )  # fmt: skip
    buffer.fill_(math.nan)
    for ours, theirs in zip(record, right, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs)
    for part in right:
        if part is not None:
            part.fill_(0)
    assert torch.equal(start, normal(D))


def test_infinitely_many_steps_and_none_of_the_data_in_a_unit():
    """Targets in another unit: the answer in that unit."""
    features, labels, start = normal(N, D), normal(N, K), normal(D, K)
    plain = target_step(SquaredLoss(labels), LinearModel(features), start, 0.5, 3).parameters
    for unit in (1e-100, 1e-14, 1e14, 1e100):
        scaled = target_step(
            SquaredLoss(unit * labels), LinearModel(features), unit * start, 0.5, 3
        ).parameters
        torch.testing.assert_close(scaled / unit, plain)
        turned = target_step(
            SquaredLoss(labels), LinearModel(unit * features), start / unit, 0.5, 3
        ).parameters
        torch.testing.assert_close(turned * unit, plain)


@pytest.mark.parametrize("order", [1 - 1e-12, 1 + 1e-12])
def test_slopes_near_order_1_are_those_of_the_entropy(order):
    targets, anchor = normal(20, N, K, seed=41).softmax(-1), normal(20, N, K, seed=42).softmax(-1)
    gradient, step = normal(20, N, K, seed=43), torch.full((20,), 0.5, dtype=F64)
    found = surrogate_slope(targets, anchor, gradient, step, Tsallis(order))
    right = surrogate_slope(targets, anchor, gradient, step, Entropy())
    torch.testing.assert_close(found, right, rtol=0, atol=1e-9)
