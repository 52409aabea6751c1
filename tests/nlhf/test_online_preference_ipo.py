"""Statements about losses of pairs and IPO."""

import pytest
import torch

from mdtheory.nlhf import online_preference as op
from mdtheory.nlhf.nash_md import (
    PreferenceGame,
    best_response,
    kl,
    magnetic_step,
    mixture,
    nash_md_iterates,
    regularized_nash,
    self_play_iterates,
    span,
)
from tests.nlhf.online_preference_cases import (
    CYCLE,
    F64,
    GAME,
    MU,
    PI,
    SMALL,
    TAU,
    UNIFORM,
    WEIGHTS,
    M,
    P,
    close,
    fails,
    pairs,
    scores,
    slope,
    variance,
    worth,
)

# --------------------------------------------------------------------------- lem-pair-gradient


def odd_loss(chosen, rejected, reference_chosen, reference_rejected, tau):
    """Neither convex nor one of the chapter's."""
    h = (chosen - reference_chosen) - (rejected - reference_rejected)
    return torch.cos(h) + tau * h**3


def pair_gradient(sampling, sign=1.0):
    h = (PI - MU)[..., :, None] - (PI - MU)[..., None, :]
    tau = TAU[:, None, None]
    forward = -torch.sin(h) + 3 * tau * h**2
    backward = -torch.sin(-h) + 3 * tau * h**2
    force = P * forward - sign * P.mT * backward
    force = (force * sampling.exp()[..., None, :]).sum(-1)
    return 2 * sampling.exp() * force


@pytest.mark.theorem("lem-pair-gradient", "equality")
@pytest.mark.parametrize("sampling", [PI, M], ids=["online", "offline"])
def test_any_loss_of_the_margin_has_this_gradient(sampling):
    exact = slope(lambda p: pairs(odd_loss, p, sampling))
    close(exact, pair_gradient(sampling))
    close(exact.sum(-1), torch.zeros(200, dtype=F64))
    close(slope(lambda p: op.expected_loss(GAME, odd_loss, p, sampling)), exact)


@pytest.mark.theorem("lem-pair-gradient", "mutant")
def test_the_label_that_is_turned_round_counts_with_a_minus():
    exact = slope(lambda p: pairs(odd_loss, p, M))
    fails(close, exact, pair_gradient(M, sign=-1.0), true=(exact, pair_gradient(M)))


@pytest.mark.theorem("lem-pair-gradient", "mutant")
def test_a_gradient_through_the_sampling_is_another():
    def leaking(policy):
        share = policy.exp()
        h = (policy - MU)[..., :, None] - (policy - MU)[..., None, :]
        weight = 2 * P * share[..., :, None] * share[..., None, :]
        return (weight * (torch.cos(h) + TAU[:, None, None] * h**3)).sum((-2, -1))

    held = slope(lambda p: pairs(odd_loss, p, PI))
    fails(close, slope(leaking), pair_gradient(PI), true=(held, pair_gradient(PI)))


# --------------------------------------------------------------------- thm-ipo-least-squares


def least_squares(sampling, factor=2.0, target=None):
    target = best_response(GAME, sampling) if target is None else target
    won = (P @ sampling.exp()[..., None])[..., 0]
    rest = 1 / (4 * TAU**2) - 2 / TAU**2 * variance(sampling, won)
    return factor * variance(sampling, PI - target) + rest


@pytest.mark.theorem("thm-ipo-least-squares", "equality")
@pytest.mark.parametrize("sampling", [PI, M], ids=["online", "offline"])
def test_the_loss_is_a_variance(sampling):
    close(pairs(op.ipo_loss, PI, sampling), least_squares(sampling))


@pytest.mark.theorem("thm-ipo-least-squares", "equality")
def test_the_offline_optimum_is_the_best_response_to_the_data():
    found = best_response(GAME, M)
    close(op.ipo_gradient(GAME, found, M), torch.zeros_like(found))
    # Linear regression of the labels on the margins, with the weights of the pairs.
    rows, columns = torch.triu_indices(5, 5, 1)
    design = torch.eye(5, dtype=F64)[rows] - torch.eye(5, dtype=F64)[columns]
    weight = (M.exp()[:, rows] * M.exp()[:, columns]).sqrt()
    wanted = (P[:, rows, columns] - 0.5) / TAU[:, None]
    solution = torch.linalg.pinv(weight[..., None] * design) @ (weight * wanted)[..., None]
    close(span(solution[..., 0] - (found - MU)), torch.zeros(200, dtype=F64))


@pytest.mark.theorem("thm-ipo-least-squares", "equality")
def test_the_worked_point():
    law = torch.tensor([0.6, 0.3, 0.1], dtype=F64).log()
    odds = torch.tensor([1 / 9, -5 / 18, 1 / 6], dtype=F64)
    close(best_response(PreferenceGame(CYCLE, UNIFORM, 0.1), law), odds.log_softmax(-1))
    close(odds.softmax(-1), torch.tensor([0.3656, 0.2478, 0.3865], dtype=F64), 6e-5)


@pytest.mark.theorem("thm-ipo-least-squares", "mutant")
def test_half_the_variance_or_another_target_is_not_the_loss():
    exact = pairs(op.ipo_loss, PI, M)
    turned = best_response(PreferenceGame(P.mT.contiguous(), MU, TAU), M)
    for wrong in (
        least_squares(M, factor=1.0),
        least_squares(M, target=turned),
        least_squares(M, target=best_response(GAME, PI)),
    ):
        fails(close, exact, wrong, true=(exact, least_squares(M)))


# ------------------------------------------------------------------------------ thm-ipo-newton


def newton(policy, sampling, length):
    """Newton's step with the Hessian from automatic differentiation, game by game."""
    found = []
    for i in range(len(policy)):

        def loss(logits, i=i):
            return pairs(op.ipo_loss, logits.log_softmax(-1), sampling[i], P[i], MU[i], TAU[i])

        hessian = torch.autograd.functional.hessian(loss, policy[i])
        logits = policy[i].clone().requires_grad_()
        gradient = torch.autograd.grad(loss(logits), logits)[0]
        found.append(policy[i] - length * torch.linalg.pinv(hessian, rtol=1e-11) @ gradient)
    return torch.stack(found).log_softmax(-1)


@pytest.mark.theorem("thm-ipo-newton", "equality")
@pytest.mark.parametrize("length", [0.1, 0.5, 0.9])
def test_newtons_step_is_the_mirror_step(length):
    start, tau = PI[:5], TAU[:5]
    step = length / (tau * (1 - length))
    for law in (start, M[:5], mixture(start, MU[:5], length)):
        exact = newton(start, law, length)
        close(exact, magnetic_step(PreferenceGame(P[:5], MU[:5], tau), start, law, step), 1e-8)
    run = op.newton_iterates(PreferenceGame(P[:5], MU[:5], tau), 1, length, log_policy=start)
    close(run[1], newton(start, start, length), 1e-8)


@pytest.mark.theorem("thm-ipo-newton", "equality")
def test_the_runs_are_nash_md_and_self_play():
    for weight, theirs in ((0.3, nash_md_iterates), (0.0, self_play_iterates)):
        run = op.newton_iterates(GAME, 20, 0.3, weight)
        close(run, torch.stack(list(theirs(GAME, 20, 0.3 / TAU))))
    # And Nash-MD again, from its own equation.
    now, eta = MU, 0.3 / TAU[:, None]
    run = op.newton_iterates(GAME, 20, 0.3, 0.3)
    for t in range(20):
        mixed = mixture(now, MU, 0.3)
        now = (mixed + eta * (P @ mixed.exp()[..., None])[..., 0]).log_softmax(-1)
        close(run[t + 1], now)


@pytest.mark.theorem("thm-ipo-newton", "mutant")
def test_a_plain_gradient_step_or_a_wrong_length_is_no_mirror_step():
    start, tau = PI[:5], TAU[:5]
    step = 0.3 / (tau * 0.7)
    mirror = magnetic_step(PreferenceGame(P[:5], MU[:5], tau), start, start, step)
    gradient = op.online_ipo_gradient(PreferenceGame(P[:5], MU[:5], tau), start)
    true = newton(start, start, 0.3), mirror
    plain = (start - 0.3 / 4 * gradient).log_softmax(-1)
    for wrong in (plain, newton(start, start, 0.3 / 0.7)):
        fails(close, wrong, mirror, true=true, tolerance=1e-8)


# ------------------------------------------------------------------------------ thm-online-ipo


def self_play(policy, sign=1.0, held=True):
    """What a policy receives against itself, the opponent held still."""
    other = policy.detach() if held else policy
    won = torch.einsum("ba,bac,bc->b", policy.exp(), P, other.exp())
    penalty = kl(policy, MU) if sign > 0 else kl(MU, policy)
    return won - TAU * penalty


@pytest.mark.theorem("thm-online-ipo", "equality")
def test_online_ipo_is_self_play():
    exact = slope(lambda p: pairs(op.ipo_loss, p, p))
    play = slope(self_play)
    close(exact, -4 / TAU[:, None] * play)
    close(op.online_ipo_gradient(GAME, PI), exact)
    close(slope(lambda p: pairs(op.ipo_contrast_loss, p, p)), -4 * play)


@pytest.mark.theorem("thm-online-ipo", "equality")
def test_gradient_descent_on_online_ipo_ends_at_the_regularised_nash():
    preference, reference, start, _, _ = SMALL
    tau = torch.full((20,), 0.5, dtype=F64)
    end = op.descend(
        lambda p: op.online_ipo_gradient(PreferenceGame(preference, reference, tau), p),
        start,
        0.2,
        2500,
    )[-1]
    close(
        span(end - regularized_nash(PreferenceGame(preference, reference, tau))),
        torch.zeros(20, dtype=F64),
        1e-8,
    )


@pytest.mark.theorem("thm-online-ipo", "mutant")
@pytest.mark.parametrize("factor", [-2.0, 4.0], ids=["half", "sign"])
def test_another_factor_is_not_the_gradient(factor):
    exact, play = slope(lambda p: pairs(op.ipo_loss, p, p)), slope(self_play)
    fails(close, exact, factor / TAU[:, None] * play, true=(exact, -4 / TAU[:, None] * play))


@pytest.mark.theorem("thm-online-ipo", "mutant")
def test_neither_is_the_reversed_divergence_or_an_opponent_that_moves():
    exact = slope(lambda p: pairs(op.ipo_loss, p, p))
    true = exact, -4 / TAU[:, None] * slope(self_play)
    for change in ({"sign": -1.0}, {"held": False}):
        other = slope(lambda p, change=change: self_play(p, **change))
        fails(close, exact, -4 / TAU[:, None] * other, true=true)


@pytest.mark.theorem("thm-ipo-md-gradient", "equality")
@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_gradient_of_ipo_md_is_centred(weight):
    law = mixture(PI, MU, weight)
    exact = slope(lambda p: pairs(op.ipo_loss, p, law))
    close(exact, -4 / TAU[:, None] * scores(law, worth(law)))
    close(op.ipo_md_gradient(GAME, PI, weight), exact)
    close(slope(lambda p: op.ipo_md_loss(GAME, p, weight)), exact)
    close(op.ipo_md_loss(GAME, PI, weight), pairs(op.ipo_loss, PI, law))
    # What the form without the centring misses.
    mean = (law.exp() * (PI - MU)).sum(-1, keepdim=True)
    missed = -4 / TAU[:, None] * scores(law, worth(law, centre=False)) - exact
    close(missed, 4 * mean * (law.exp() - PI.exp()))


@pytest.mark.theorem("thm-ipo-md-gradient", "mutant")
@pytest.mark.parametrize("weight", WEIGHTS[1:])
def test_the_form_without_the_centring_is_not_the_gradient(weight):
    law = mixture(PI, MU, weight)
    found = op.ipo_md_gradient(GAME, PI, weight)
    centred, uncentred = (
        -4 / TAU[:, None] * scores(law, worth(law, centre=centre)) for centre in (True, False)
    )
    fails(close, found, uncentred, true=(found, centred))


@pytest.mark.theorem("thm-ipo-md-gradient", "mutant")
def test_without_the_centring_the_limit_is_another():
    """At the fixed point of IPO-MD the form without the centring does not vanish."""
    preference, reference, _, _, _ = SMALL
    mixed = regularized_nash(PreferenceGame(preference, reference, 0.2 / 0.7))
    end = best_response(PreferenceGame(preference, reference, 0.2), mixed)
    exact = op.ipo_md_gradient(PreferenceGame(preference, reference, 0.2), end, 0.3)
    mean = (mixed.exp() * (end - reference)).sum(-1, keepdim=True)
    missed = 4 * mean * (mixed.exp() - end.exp())
    assert missed.abs().amax(-1).min() > 1e-5
    zero = torch.zeros_like(missed)
    fails(close, exact + missed, zero, true=(exact, zero))
