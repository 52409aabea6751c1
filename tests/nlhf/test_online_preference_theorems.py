"""The labelled statements of 'Online preference optimisation': equality, bound, mutants.

Every identity is checked on the random games of ``games`` at once, by automatic differentiation of
the sum over all pairs, or by that sum itself. A mutant is the same check run on a plausible
mistake; it must fail.
"""

import math

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
from tests import refused

at_most, fails = refused.at_most, refused.fails
F64 = torch.float64
WEIGHTS = (0.0, 0.125, 0.5, 1.0)


def drawn(batch, n, seed=0, low=0.05):
    """Random games: preferences, references, policies, laws that sample, temperatures."""
    generator = torch.Generator().manual_seed(seed)

    def law():
        return torch.randn(batch, n, generator=generator, dtype=F64).log_softmax(-1)

    uniform = torch.rand(batch, n, n, generator=generator, dtype=F64)
    preference = (uniform + 1 - uniform.mT) / 2
    tau = low + torch.rand(batch, generator=generator, dtype=F64)
    return preference, law(), law(), law(), tau


P, MU, PI, M, TAU = drawn(200, 5)
GAME = PreferenceGame(P, MU, TAU)
SMALL = tuple(part[:20] for part in (P, MU, PI, M, TAU))
UNIFORM = torch.full((3,), 1 / 3, dtype=F64).log()
CYCLE = 0.5 + torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=F64) / 18


def close(left, right, tolerance=1e-10):
    refused.close(left, right, tolerance=tolerance)


def slope(function, policy=PI):
    """Gradient with respect to logits, by automatic differentiation."""
    logits = policy.clone().requires_grad_()
    return torch.autograd.grad(function(logits.log_softmax(-1)).sum(), logits)[0]


def pairs(loss, policy, sampling, preference=P, reference=MU, tau=TAU):
    """The expected loss written out: pairs, then the label of each."""
    share = sampling.detach().exp()
    total = torch.zeros_like(policy[..., 0])
    for a in range(policy.shape[-1]):
        for b in range(policy.shape[-1]):
            won = loss(policy[..., a], policy[..., b], reference[..., a], reference[..., b], tau)
            lost = loss(policy[..., b], policy[..., a], reference[..., b], reference[..., a], tau)
            first = preference[..., a, b]
            total = total + share[..., a] * share[..., b] * (first * won + (1 - first) * lost)
    return total


def variance(law, values):
    mean = (law.exp() * values).sum(-1, keepdim=True)
    return (law.exp() * (values - mean) ** 2).sum(-1)


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
    run = op.newton_iterates(PreferenceGame(P[:5], MU[:5], tau), 1, length, policy=start)
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


# --------------------------------------------------------------------- thm-ipo-md-gradient


def scores(law, worth):
    """Mean of the scores of the policy times a worth, under a law."""
    weight = law.exp() * worth
    return weight - PI.exp() * weight.sum(-1, keepdim=True)


def worth(law, centre=True):
    ratio = PI - MU
    if centre:
        ratio = ratio - (law.exp() * ratio).sum(-1, keepdim=True)
    return (P @ law.exp()[..., None])[..., 0] - 0.5 - TAU[:, None] * ratio


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


# ------------------------------------------------------------------------- prop-nash-md-pg


@pytest.mark.theorem("prop-nash-md-pg", "equality")
@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_gradient_of_nash_md_pg_needs_no_centring(weight):
    law = mixture(PI, MU, weight)

    def receives(policy):
        won = torch.einsum("ba,bac,bc->b", policy.exp(), P, law.exp())
        return won - TAU * kl(policy, MU)

    exact = slope(receives)
    close(exact, scores(PI, worth(law, centre=False)))
    close(exact, scores(PI, worth(law)))
    close(op.response_gradient(GAME, PI, law), exact)
    if weight == 0:
        close(op.response_gradient(GAME, PI), exact)


@pytest.mark.theorem("prop-nash-md-pg", "equality")
def test_both_stop_at_the_same_policies():
    preference, reference, _, _, tau = SMALL
    mixed = regularized_nash(PreferenceGame(preference, reference, tau / 0.5))
    end = best_response(PreferenceGame(preference, reference, tau), mixed)
    zero = torch.zeros_like(end)
    law = mixture(end, reference, 0.5)
    close(op.response_gradient(PreferenceGame(preference, reference, tau), end, law), zero)
    close(op.ipo_md_gradient(PreferenceGame(preference, reference, tau), end, 0.5), zero)


@pytest.mark.theorem("prop-nash-md-pg", "bound")
def test_both_climb_for_the_natural_gradient():
    """A step along either raises what is received, measured along the dual."""
    for weight in WEIGHTS:
        law = mixture(PI, MU, weight)
        direction = worth(law)
        ipo = (-op.ipo_md_gradient(GAME, PI, weight) * direction).sum(-1)
        play = (op.response_gradient(GAME, PI, law) * direction).sum(-1)
        close(ipo, 4 / TAU * variance(law, direction))
        close(play, variance(PI, direction))
        at_most(-ipo, torch.zeros(200, dtype=F64))
        at_most(-play, torch.zeros(200, dtype=F64))


@pytest.mark.theorem("prop-nash-md-pg", "mutant")
def test_the_two_gradients_differ_where_the_reference_samples():
    for weight in WEIGHTS[1:]:
        law = mixture(PI, MU, weight)
        play = 4 / TAU[:, None] * op.response_gradient(GAME, PI, law)
        exact = 4 / TAU[:, None] * scores(PI, worth(law))
        fails(
            close,
            play,
            -op.ipo_md_gradient(GAME, PI, weight),
            true=(play, exact),
        )


# --------------------------------------------------------------------- thm-ipo-md-stationary


@pytest.mark.theorem("thm-ipo-md-stationary", "equality")
@pytest.mark.parametrize("weight", [0.0, 0.125, 0.3, 0.6])
def test_the_mixture_of_ipo_md_is_the_nash_of_a_higher_temperature(weight):
    preference, reference, start, _, _ = SMALL
    tau = torch.full((20,), 0.4, dtype=F64)
    end = op.descend(
        lambda p: op.ipo_md_gradient(PreferenceGame(preference, reference, tau), p, weight),
        start,
        0.2,
        2500,
    )[-1]
    mixed = mixture(end, reference, weight)
    zero = torch.zeros(20, dtype=F64)
    close(
        span(mixed - regularized_nash(PreferenceGame(preference, reference, tau / (1 - weight)))),
        zero,
        1e-7,
    )
    close(span(end - best_response(PreferenceGame(preference, reference, tau), mixed)), zero, 1e-7)


@pytest.mark.theorem("thm-ipo-md-stationary", "equality")
def test_the_extreme_weight_answers_the_reference():
    end = best_response(GAME, MU)
    close(op.ipo_md_gradient(GAME, end, 1.0), torch.zeros_like(end))


@pytest.mark.theorem("thm-ipo-md-stationary", "mutant")
def test_the_iterate_itself_is_no_nash_of_either_temperature():
    preference, reference, _, _, tau = SMALL
    mixed = regularized_nash(PreferenceGame(preference, reference, tau / 0.7))
    end = best_response(PreferenceGame(preference, reference, tau), mixed)
    zero = torch.zeros(20, dtype=F64)
    true = span(mixture(end, reference, 0.3) - mixed), zero
    for temperature in (tau, tau / 0.7):
        nash = regularized_nash(PreferenceGame(preference, reference, temperature))
        fails(close, span(end - nash), zero, true=true, tolerance=1e-9)


# ---------------------------------------------------------------------------- prop-two-actions


def _all_close(answers):
    for answer in answers[1:]:
        close(answers[0], answer)


def two(p):
    return torch.stack([torch.stack([0 * p + 0.5, p]), torch.stack([1 - p, 0 * p + 0.5])])


@pytest.mark.theorem("prop-two-actions", "equality")
def test_two_actions_do_not_care_who_samples():
    for p in torch.linspace(0.05, 0.95, 7, dtype=F64):
        preference = two(p)
        reference = torch.tensor([0.3, 0.7], dtype=F64).log()
        answers = [regularized_nash(PreferenceGame(preference, reference, 0.1))]
        for share in (0.1, 0.5, 0.99):
            law = torch.tensor([share, 1 - share], dtype=F64).log()
            answers.append(best_response(PreferenceGame(preference, reference, 0.1), law))
        for answer in answers:
            odds = (answer - reference)[0] - (answer - reference)[1]
            close(odds, (p - 0.5) / 0.1)
        # The fit of Bradley and Terry, and the policy of its reward.
        rlhf = (reference + torch.stack([p.logit(), 0 * p]) / 0.1).log_softmax(-1)
        law = torch.tensor([0.4, 0.6], dtype=F64).log()
        close(
            op.dpo_gradient(PreferenceGame(preference, reference, 0.1), rlhf, law),
            torch.zeros(2, dtype=F64),
        )
        close(
            op.dpo_gradient(PreferenceGame(preference, reference, 0.1), rlhf),
            torch.zeros(2, dtype=F64),
        )


@pytest.mark.theorem("prop-two-actions", "equality")
def test_the_two_numbers_of_the_page():
    even = torch.full((2,), 0.5, dtype=F64).log()
    nash = regularized_nash(PreferenceGame(two(torch.tensor(0.7, dtype=F64)), even, 0.1))
    assert nash[0].exp().item() == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-10)
    assert pytest.approx(0.99979, abs=1e-5) == 1 / (1 + (3 / 7) ** 10)


@pytest.mark.theorem("prop-two-actions", "mutant")
def test_with_three_actions_the_law_that_samples_matters():
    laws = M, PI

    def answers(preference, reference, laws):
        return [best_response(PreferenceGame(preference, reference, TAU), law) for law in laws]

    # The first two answers of the same games and laws, as games of their own.
    pair = [law[:, :2].log_softmax(-1) for law in (MU, *laws)]
    fails(_all_close, answers(P, MU, laws), true=(answers(P[:, :2, :2], pair[0], pair[1:]),))


# ----------------------------------------------------------------------------- prop-online-dpo


def bradley_terry(reward):
    return (reward[..., :, None] - reward[..., None, :]).sigmoid()


def dpo_condition(preference, nash):
    """The two sides of the condition under which online DPO stays at the regularised Nash."""
    won = (preference @ nash.exp()[..., None])[..., 0]
    model = (won[..., :, None] - won[..., None, :]).sigmoid()
    return won, (model @ nash.exp()[..., None])[..., 0]


@pytest.mark.theorem("prop-online-dpo", "equality")
@pytest.mark.parametrize("sampling", [None, M], ids=["online", "offline"])
def test_the_gradient_of_dpo(sampling):
    law = PI if sampling is None else sampling
    exact = slope(lambda p: pairs(op.dpo_loss, p, law))
    close(op.dpo_gradient(GAME, PI, sampling), exact)


@pytest.mark.theorem("prop-online-dpo", "equality")
def test_the_condition_decides_at_the_nash():
    nash = regularized_nash(GAME)
    left, right = dpo_condition(P, nash)
    gradient = op.dpo_gradient(GAME, nash)
    close(gradient, -2 * TAU[:, None] * nash.exp() * (left - right))
    assert gradient.abs().amax(-1).min() > 1e-5
    # Where it holds: even games, of which the cycle is one.
    even = regularized_nash(PreferenceGame(CYCLE, UNIFORM, 0.1))
    close(op.dpo_gradient(PreferenceGame(CYCLE, UNIFORM, 0.1), even), torch.zeros(3, dtype=F64))


@pytest.mark.theorem("prop-online-dpo", "equality")
def test_under_a_reward_the_policy_of_the_reward_is_stationary():
    reward = PI
    found = (MU + reward / TAU[:, None]).log_softmax(-1)
    zero = torch.zeros_like(found)
    close(op.dpo_gradient(PreferenceGame(bradley_terry(reward), MU, TAU), found), zero)
    close(op.dpo_gradient(PreferenceGame(bradley_terry(reward), MU, TAU), found, M), zero)


@pytest.mark.theorem("prop-online-dpo", "mutant")
def test_under_a_reward_the_nash_is_another_policy():
    preference = bradley_terry(PI)
    nash = regularized_nash(PreferenceGame(preference, MU, TAU))
    found = (MU + PI / TAU[:, None]).log_softmax(-1)
    zero = torch.zeros_like(nash)
    gradients = [op.dpo_gradient(PreferenceGame(preference, MU, TAU), law) for law in (nash, found)]
    fails(close, gradients[0], zero, true=(gradients[1], zero))
    assert (nash - found).abs().max() > 1e-2
    even = torch.full((2,), 0.5, dtype=F64).log()
    preference = two(torch.tensor(0.7, dtype=F64))
    nash = regularized_nash(PreferenceGame(preference, even, 0.3))
    gradient = op.dpo_gradient(PreferenceGame(preference, even, 0.3), nash)
    assert gradient[0].item() == pytest.approx(-gradient[1].item())
    assert abs(gradient[0].item()) == pytest.approx(0.0202, abs=1e-4)


# ------------------------------------------------------------------------------- prop-contrast


def estimators(sign=1.0):
    """Both estimators on every pair, with the weight of the pair."""
    eye = torch.eye(5, dtype=F64)
    score = eye - PI.exp()[..., None, :]
    ratio = TAU[:, None] * (PI - MU)
    force = P - 0.5 - (ratio[..., :, None] - ratio[..., None, :])
    first = score[..., :, None, :] * force[..., None]
    second = -sign * score[..., None, :, :] * force[..., None]
    weight = PI.exp()[..., :, None] * PI.exp()[..., None, :]
    return first, second, weight, force


def spread(values, weight):
    mean = (weight[..., None] * values).sum((1, 2))
    return (weight[..., None] * values**2).sum((1, 2, 3)) - (mean**2).sum(-1)


@pytest.mark.theorem("prop-contrast", "equality")
def test_both_estimators_have_the_mean_of_self_play_and_these_variances():
    first, second, weight, _ = estimators()
    mean = op.response_gradient(GAME, PI)
    close((weight[..., None] * first).sum((1, 2)), mean)
    close((weight[..., None] * second).sum((1, 2)), mean)
    found = op.contrastive_variance(GAME, PI)
    close(found.single, spread(first, weight))
    close(found.contrast, spread((first + second) / 2, weight))


@pytest.mark.theorem("prop-contrast", "equality")
def test_at_the_uniform_policy_the_variances_are_explicit():
    n = 5
    even = torch.full((200, n), 1 / n, dtype=F64).log()
    found = op.contrastive_variance(PreferenceGame(P, even, TAU), even)
    force = ((P - 0.5) ** 2).mean((-2, -1))
    mean = op.response_gradient(PreferenceGame(P, even, TAU), even).square().sum(-1)
    close(found.single, (1 - 1 / n) * force - mean)
    close(found.contrast, force / 2 - mean)
    # The sufficient condition of the source fails there.
    score = torch.eye(n, dtype=F64) - 1 / n
    products = ((P - 0.5) ** 2 * (score @ score.mT)).mean((-2, -1))
    close(products, -force / n)
    assert (products < 0).all()


@pytest.mark.theorem("prop-contrast", "bound")
def test_the_contrast_never_hurts_and_halves_where_scores_agree():
    first, second, weight, _ = estimators()
    found = op.contrastive_variance(GAME, PI)
    at_most(found.contrast, found.single)
    cross = (weight * (first * second).sum(-1)).sum((1, 2))
    agree = cross <= 0
    assert not agree.all()
    at_most(found.contrast[agree], found.single[agree] / 2)


@pytest.mark.theorem("prop-contrast", "mutant")
def test_it_need_not_halve_with_two_actions_it_does_nothing():
    even = torch.full((2,), 0.5, dtype=F64).log()
    found = op.contrastive_variance(
        PreferenceGame(two(torch.tensor(0.7, dtype=F64)), even, 0.3), even
    )
    close(found.contrast, found.single)
    assert found.single.item() / 2 == pytest.approx(0.0025)  # of each of two coordinates
    true = found.contrast, found.single
    fails(at_most, found.contrast, found.single / 2, true=true)


@pytest.mark.theorem("prop-contrast", "mutant")
def test_the_sum_of_the_scores_is_no_estimator():
    means = []
    for sign in (-1.0, 1.0):
        first, second, weight, _ = estimators(sign)
        means.append((weight[..., None] * (first + second) / 2).sum((1, 2)))
    exact = op.response_gradient(GAME, PI)
    fails(close, means[0], exact, true=(means[1], exact))
