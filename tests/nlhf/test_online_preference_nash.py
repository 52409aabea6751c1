"""Statements about gradients, stationary points and estimators beside Nash-MD."""

import math

import pytest
import torch

from mdtheory.nlhf import online_preference as op
from mdtheory.nlhf.nash_md import (
    PreferenceGame,
    best_response,
    kl,
    mixture,
    regularized_nash,
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
    at_most,
    close,
    fails,
    pairs,
    scores,
    slope,
    variance,
    worth,
)

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
