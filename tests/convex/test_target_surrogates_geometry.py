"""Statements about other geometries."""

import pytest
import torch

from mdtheory.convex.mirror_maps import BinaryEntropy, Entropy, mirror_step
from mdtheory.convex.target_surrogates import (
    LinearCost,
    LogisticLoss,
    SoftmaxLoss,
    TorchModel,
    half_step,
    surrogate,
    target_step,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.target_surrogates_cases import (
    F64,
    LINE,
    LOSSES,
    K,
    N,
    draw,
    hard_labels,
    normal,
    slope,
    square,
)
from tests.refused import bound, breaks, differ, fails, identity

# Relative smoothness.


def dual_cases():
    z, anchor = 4 * normal(200, N, 2, seed=29), 2 * normal(N, 2, seed=30)
    y = normal(N, 2, seed=31).sigmoid()
    yield "binary", BinaryEntropy(), LogisticLoss(y), z, anchor
    z, anchor = 4 * normal(200, N, K, seed=32), 2 * normal(N, K, seed=33)
    yield "softmax", Entropy(), SoftmaxLoss(normal(N, K, seed=34).softmax(-1)), z, anchor


DUAL = pytest.mark.parametrize(
    ("mirror_map", "loss", "z", "anchor"),
    [case[1:] for case in dual_cases()],
    ids=[case[0] for case in dual_cases()],
)


def chances(mirror_map, z):
    return z.sigmoid() if isinstance(mirror_map, BinaryEntropy) else z.softmax(-1)


@pytest.mark.theorem("prop-relative-smoothness", "equality")
@DUAL
def test_with_the_loss_own_geometry_the_surrogate_is_the_loss(mirror_map, loss, z, anchor):
    values = surrogate(loss, z, anchor, 1.0, mirror_map, coordinates="dual")
    check_identity("prop-relative-smoothness", values, loss.value(z))


@pytest.mark.theorem("prop-relative-smoothness", "equality")
@pytest.mark.parametrize("eta", [0.2, 0.9, 1.7])
@DUAL
def test_the_gap_is_a_divergence_with_exchanged_arguments(mirror_map, loss, z, anchor, eta):
    gap = surrogate(loss, z, anchor, eta, mirror_map, coordinates="dual") - loss.value(z)
    before, after = chances(mirror_map, anchor), chances(mirror_map, z)
    kl = mirror_map.divergence(before, after).mean(-1)
    check_identity("prop-relative-smoothness", gap, (1 / eta - 1) * kl, tolerance=1e-11)
    by_hand = torch.special.xlogy(before, before / after).sum(-1).mean(-1)
    if isinstance(mirror_map, BinaryEntropy):
        rest = torch.special.xlogy(1 - before, (1 - before) / (1 - after)).sum(-1).mean(-1)
        by_hand = by_hand + rest
    check_identity("prop-relative-smoothness", gap, (1 / eta - 1) * by_hand, tolerance=1e-9)
    reversed_kl = mirror_map.divergence(after, before).mean(-1)
    assert differ("prop-relative-smoothness", gap, (1 / eta - 1) * reversed_kl)


@pytest.mark.theorem("prop-relative-smoothness", "bound")
@DUAL
def test_a_smaller_step_majorises(mirror_map, loss, z, anchor):
    for eta in (0.01, 0.5, 1.0):
        upper = surrogate(loss, z, anchor, eta, mirror_map, coordinates="dual")
        check_bound("prop-relative-smoothness", loss.value(z), upper)


@pytest.mark.theorem("prop-relative-smoothness", "mutant")
@DUAL
def test_a_larger_step_or_another_loss_does_not(mirror_map, loss, z, anchor):
    value, right = loss.value(z), surrogate(loss, z, anchor, 1.0, mirror_map, coordinates="dual")
    lower = surrogate(loss, z, anchor, 1.1, mirror_map, coordinates="dual")
    fails(bound("prop-relative-smoothness"), value, lower, true=(value, right))
    # The divergence the wrong way round: of probabilities, not of logits.
    before, after = chances(mirror_map, anchor), chances(mirror_map, z)
    linear = (loss.gradient(anchor) * (z - anchor)).sum(-1).mean(-1)
    wrong = loss.value(anchor) + linear + mirror_map.divergence(after, before).mean(-1)
    fails(identity("prop-relative-smoothness"), wrong, value, true=(right, value), tolerance=1e-9)


@pytest.mark.theorem("prop-relative-smoothness", "mutant")
def test_a_ridge_is_not_in_the_geometry():
    loss, z, anchor = LogisticLoss(hard_labels(), ridge=0.5), normal(9, N, 1), normal(N, 1, seed=3)
    values = surrogate(loss, z, anchor, 1.0, BinaryEntropy(), coordinates="dual")
    assert breaks("prop-relative-smoothness", loss.value(z), values)
    gap = loss.value(z) - values
    check_identity("prop-relative-smoothness", gap, 0.25 * square(z - anchor), tolerance=1e-11)


@pytest.mark.theorem("prop-relative-smoothness", "equality")
def test_inner_steps_in_the_loss_own_geometry_are_gradient_descent_on_the_loss():
    loss, model = LOSSES["softmax"], LINE
    here = there = draw(LINE, "softmax", 3)
    done = target_step(
        loss, model, here, 1.0, 5, inner_step=0.3, mirror_map=Entropy(), coordinates="dual"
    )
    for _ in range(5):
        there = there - 0.3 * slope(loss, model, there)
    check_identity("prop-relative-smoothness", done.parameters, there)


# Probabilities as targets.


COST = LinearCost(normal(N, K, seed=35))
P, P0 = normal(300, N, K, seed=36).softmax(-1), normal(N, K, seed=37).softmax(-1)


def kl(p, q):
    return torch.special.xlogy(p, p / q).sum(-1).mean(-1)


@pytest.mark.theorem("prop-probability-targets", "equality")
@pytest.mark.parametrize("eta", [0.1, 1.0, 20.0])
def test_the_surrogate_of_a_cost_is_kl_to_the_mirror_step(eta):
    weights = P0 * (-eta * COST.data).exp()
    half = weights / weights.sum(-1, keepdim=True)
    ours = half_step(COST, P0, eta, Entropy())
    check_identity("prop-probability-targets", ours, half)
    step = mirror_step(Entropy(), P0, COST.data, eta)
    check_identity("prop-probability-targets", ours, step)
    values = eta * surrogate(COST, P, P0, eta, Entropy())
    constant = -weights.sum(-1).log().mean()
    check_identity("prop-probability-targets", values, kl(P, half) + constant, tolerance=1e-11)


@pytest.mark.theorem("prop-probability-targets", "equality")
def test_its_gap_is_kl_and_its_minimiser_the_mirror_step():
    gap = surrogate(COST, P, P0, 0.7, Entropy()) - COST.value(P)
    check_identity("prop-probability-targets", gap, kl(P, P0) / 0.7, tolerance=1e-11)
    half = half_step(COST, P0, 0.7, Entropy())
    least = surrogate(COST, half, P0, 0.7, Entropy())
    assert bool((surrogate(COST, P, P0, 0.7, Entropy()) >= least).all())


@pytest.mark.theorem("prop-probability-targets", "bound")
@pytest.mark.parametrize("eta", [0.01, 1.0, 100.0, 1e6])
def test_the_surrogate_of_a_cost_majorises_for_every_step(eta):
    upper = surrogate(COST, P, P0, eta, Entropy())
    check_bound("prop-probability-targets", COST.value(P), upper)


@pytest.mark.theorem("prop-probability-targets", "mutant")
def test_kl_the_wrong_way_round_is_another_surrogate():
    eta = 0.7
    values = eta * surrogate(COST, P, P0, eta, Entropy())
    half = half_step(COST, P0, eta, Entropy())

    def varies(distance):
        return differ("prop-probability-targets", *(values - distance)[[0, 1]].split(1))

    assert not varies(kl(P, half))
    assert varies(kl(half, P))
    assert varies(kl(P, half_step(COST, P0, 0.8, Entropy())))
    gradient = COST.data - 2 * COST.data  # an ascent step
    assert varies(kl(P, mirror_step(Entropy(), P0, gradient, eta)))


@pytest.mark.theorem("prop-probability-targets", "equality")
def test_inner_steps_on_softmax_policies_tend_to_the_mirror_step():
    """A table of logits can meet every probability: the inner loop finds the mirror step."""
    rows = torch.zeros(N, 1, dtype=F64)
    table = TorchModel(lambda w, x: w.unflatten(-1, (N, K)).softmax(-1), rows)
    start = P0.log().flatten()
    end = target_step(COST, table, start, 0.7, 2000, inner_step=20.0, mirror_map=Entropy())
    half = half_step(COST, P0, 0.7, Entropy())
    check_identity("prop-probability-targets", table(end.parameters), half, tolerance=1e-9)
