"""Discriminators, DAC and ValueDICE on tables: equality, mutant, bound, tight instance."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import softplus

from mdtheory.rl import imitation as im
from mdtheory.rl.imitation import bounds
from mdtheory.rl.policy_mirror_descent import TabularMDP
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, fails, identity
from tests.rl.imitation_cases import F64, draws, law, pairs, processes

KINDS = ("reverse_kl", "logistic")


def tables(seed=0, spread=1.5):
    mdp, expert, initial = processes(30, seed=seed, spread=spread)
    return mdp, expert, pairs(mdp, initial, draws(seed + 1), spread), initial


def loss(g, expert, d, kind):
    weights = {"expert_weight": expert.flatten(-2), "learner_weight": d.flatten(-2)}
    return im.discriminator_loss(g.flatten(-2), g.flatten(-2), kind, **weights)


# The variational form.


@pytest.mark.theorem("prop-discriminator", "equality")
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_discriminator_is_the_log_ratio(kind):
    _, expert, d, _ = tables()
    g = im.fit_discriminator(expert, d, kind)
    assert (g - (expert / d).log()).abs().max() < 1e-6
    check_identity("prop-discriminator", g, (expert / d).log(), tolerance=1e-9)
    least = loss(g, expert, d, kind)
    if kind == "reverse_kl":
        check_identity("prop-discriminator", least, 1 - im.occupancy_divergence(d, expert))
    else:
        middle = (expert + d) / 2
        shannon = sum(im.occupancy_divergence(side, middle) for side in (expert, d)) / 2
        check_identity("prop-discriminator", least, 2 * math.log(2) - 2 * shannon)


@pytest.mark.theorem("prop-discriminator", "equality")
def test_samples_and_a_table_give_one_loss():
    """Every pair as often as its law says: the mean over samples is the mean over the table."""
    counts = torch.tensor([[3, 1], [2, 4]]), torch.tensor([[1, 1], [7, 1]])
    expert, d = (c.double() / 10 for c in counts)
    g = torch.tensor([[0.3, -2.0], [1.5, 0.1]], dtype=F64)
    each = [g.flatten().repeat_interleave(c.flatten()) for c in counts]
    for kind in KINDS:
        check_identity("prop-discriminator", im.discriminator_loss(*each, kind),
                       loss(g, expert, d, kind))  # fmt: skip


@pytest.mark.theorem("prop-discriminator", "mutant")
@pytest.mark.parametrize("kind", KINDS)
def test_expert_and_learner_exchanged(kind):
    _, expert, d, _ = tables()
    ratio = (expert / d).log()
    fails(identity("prop-discriminator"), im.fit_discriminator(d, expert, kind), ratio,
          true=[im.fit_discriminator(expert, d, kind), ratio])  # fmt: skip


@pytest.mark.theorem("prop-discriminator", "bound")
@pytest.mark.theorem("prop-discriminator", "mutant")
def test_bounded_outputs_see_less():
    _, expert, d, _ = tables(spread=0.4)
    whole = im.occupancy_divergence(d, expert)
    ratio, seen = (expert / d).log(), []
    for limit in (0.1, 0.5, 1.0, 2.0, 8.0):
        g = im.fit_discriminator(expert, d, bound=limit)
        check_identity("prop-discriminator", g, ratio.clamp(-limit, limit), tolerance=1e-9)
        seen.append(1 - loss(g, expert, d, "reverse_kl"))
    check_bound("prop-discriminator", torch.stack(seen), whole)
    assert (torch.stack(seen).diff(dim=0) >= 0).all()
    # Tight: where no ratio is cut off, all is seen.
    inside = ratio.abs().amax((-2, -1)) <= 1
    assert inside.any()
    assert not inside.all()
    check_identity("prop-discriminator", seen[2][inside], whole[inside])
    assert (seen[2][~inside] < whole[~inside]).all()
    # Mutant: the divergence the other way round.
    other = im.occupancy_divergence(expert, d)
    fails(bound("prop-discriminator"), seen[4], other, true=[seen[4], whole])


def test_a_tanh_that_is_exceeded_would_be_seen():
    """The optimum of the bounded problem is at the bound, not beyond it."""
    _, expert, d, _ = tables(spread=3.0)
    assert im.fit_discriminator(expert, d, bound=1.0).abs().max() == 1.0


# DAC.


def learner_of(kind, judged, expert):
    """The exact oracle behind an exact discriminator of its own."""

    def learn(shown, policy):
        d = expert * (-shown.reward).exp()
        g = im.fit_discriminator(expert, d, kind)
        return im.best_learner(TabularMDP(shown.transition, judged(g), shown.discount), policy)

    return learn


@pytest.mark.theorem("prop-dac", "equality")
@pytest.mark.theorem("prop-dac", "mutant")
def test_dac_is_boosting_with_equal_weights():
    mdp, expert, _, _ = tables(spread=1.0)
    step, rounds = (lambda t: 1 / (t + 2)), 8
    plain = im.boost_occupancies(mdp, expert, im.best_learner, step, rounds)
    dac = im.boost_occupancies(
        mdp, expert, learner_of("logistic", lambda g: g, expert), step, rounds
    )
    # Mutant: the reward -log(1 - D), which is positive everywhere.
    other = im.boost_occupancies(
        mdp, expert, learner_of("logistic", softplus, expert), step, rounds
    )
    fails(identity("prop-dac"), plain.learners, other.learners,
          true=[plain.learners, dac.learners], tolerance=1e-9)  # fmt: skip
    equal = torch.full_like(dac.weights(), 1 / (rounds + 1))
    check_identity("prop-dac", dac.weights(), equal)
    check_identity("prop-dac", dac.mixture[-1], dac.learners.mean(0))


# ValueDICE.


@pytest.mark.theorem("thm-value-dice", "bound")
@pytest.mark.theorem("thm-value-dice", "equality")
@pytest.mark.theorem("thm-value-dice", "mutant")
def test_the_objective_is_the_divergence_at_its_best():
    mdp, expert, d, _ = tables()
    policy = im.policy_of_occupancy(d)
    whole = im.occupancy_divergence(d, expert)
    best = im.dice_values(mdp, policy, (d / expert).log())
    check_identity("thm-value-dice", im.dice_objective(mdp, policy, best, expert), whole,
                   tolerance=1e-10)  # fmt: skip
    # A constant added to nu changes nothing.
    shifted = im.dice_objective(mdp, policy, best + 3, expert)
    check_identity("thm-value-dice", shifted, whole, tolerance=1e-10)
    # The telescope, for any nu.
    nu = torch.randn(d.shape, generator=draws(4), dtype=F64)
    x = nu - mdp.discount * (mdp.transition @ (policy * nu).sum(-1)[..., None, :, None])[..., 0]
    start = (im.initial_law(mdp, expert) * (policy * nu).sum(-1)).sum(-1)
    check_identity("thm-value-dice", (d * x).sum((-2, -1)), (1 - mdp.discount) * start,
                   tolerance=1e-10)  # fmt: skip
    values = im.dice_objective(mdp, policy, nu, expert)
    check_bound("thm-value-dice", values.clamp(min=0), whole)
    assert (values <= whole).all()
    # Gradient ascent gets there from anywhere.
    climbed = nu.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [climbed], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        lost = -im.dice_objective(mdp, policy, climbed, expert).sum()
        lost.backward()
        return lost

    optimizer.step(closure)
    reached = im.dice_objective(mdp, policy, climbed.detach(), expert)
    torch.testing.assert_close(reached, whole, rtol=1e-4, atol=1e-5)
    # Mutant: the first states' share without its factor.
    wrong = im.dice_objective(mdp, policy, best, expert) + mdp.discount * (
        im.initial_law(mdp, expert) * (policy * best).sum(-1)
    ).sum(-1)
    fails(identity("thm-value-dice"), wrong, whole,
          true=[im.dice_objective(mdp, policy, best, expert), whole], tolerance=1e-10)  # fmt: skip


def log_mean(values, chances, n):
    """Expectation of the logarithm of a mean of ``n`` draws of two values, by the binomial."""
    total = 0.0
    for k in range(n + 1):
        chance = math.comb(n, k) * chances[0] ** k * chances[1] ** (n - k)
        total += chance * math.log((k * values[0] + (n - k) * values[1]) / n)
    return total


@pytest.mark.theorem("thm-dice-bias", "equality")
@pytest.mark.theorem("thm-dice-bias", "mutant")
def test_the_bias_of_a_minibatch_exactly():
    """exp(x) with x in {1, -1/2}: eight draws, by the binomial and by all 2^8 batches."""
    values, chances, n = (math.exp(1.0), math.exp(-0.5)), (0.3, 0.7), 8
    every = 0.0
    for batch in itertools.product((0, 1), repeat=n):
        chance = math.prod(chances[k] for k in batch)
        every += chance * math.log(sum(values[k] for k in batch) / n)
    mean = sum(v * c for v, c in zip(values, chances, strict=True))
    bias = log_mean(values, chances, n) - math.log(mean)
    assert abs(bias + 0.03996) < 1e-5
    one = torch.tensor(bias, dtype=F64)
    check_identity("thm-dice-bias", one, torch.tensor(every - math.log(mean), dtype=F64))
    # To second order it is minus the variance of u over 2 n.
    u = [v / mean for v in values]
    variance = sum(c * (v - 1) ** 2 for v, c in zip(u, chances, strict=True))
    many = 4000
    error = math.log(mean) - log_mean(values, chances, 200)
    assert abs(error / (variance / 400) - 1) < 0.01
    check_bound("thm-dice-bias", -one, bounds.log_mean_bias_bound(min(u), variance, n))
    # Mutant: no 1/n in the bound's place of a batch, that is, a batch of many.
    fails(bound("thm-dice-bias"), -one, bounds.log_mean_bias_bound(min(u), variance, many),
          true=[-one, bounds.log_mean_bias_bound(min(u), variance, n)])  # fmt: skip


@pytest.mark.theorem("thm-dice-bias", "bound")
def test_the_bias_of_a_minibatch_is_bounded_and_the_bound_is_attained():
    generator = draws(6)
    for n in (1, 2, 8, 64):
        x = torch.randn(40, 2, generator=generator, dtype=F64)
        chance = torch.rand(40, generator=generator, dtype=F64)
        left, right = [], []
        for pair, c in zip(x.exp().tolist(), chance.tolist(), strict=True):
            mean = c * pair[0] + (1 - c) * pair[1]
            u = [v / mean for v in pair]
            variance = c * (u[0] - 1) ** 2 + (1 - c) * (u[1] - 1) ** 2
            left.append(math.log(mean) - log_mean(pair, (c, 1 - c), n))
            right.append(bounds.log_mean_bias_bound(min(u), variance, n))
        left = torch.tensor(left, dtype=F64)
        assert (left > 0).all()
        check_bound("thm-dice-bias", left, torch.stack(right))
    near = (math.exp(0.01), math.exp(-0.01))
    mean = sum(near) / 2
    u = [v / mean for v in near]
    variance = ((u[0] - 1) ** 2 + (u[1] - 1) ** 2) / 2
    left = torch.tensor(math.log(mean) - log_mean(near, (0.5, 0.5), 4), dtype=F64)
    assert (
        check_bound("thm-dice-bias", left, bounds.log_mean_bias_bound(min(u), variance, 4)) > 0.97
    )


@pytest.mark.theorem("thm-dice-bias", "bound")
@pytest.mark.theorem("thm-dice-bias", "equality")
@pytest.mark.theorem("thm-dice-bias", "mutant")
def test_one_sampled_next_state_costs_up_to_its_spread():
    mdp, expert, d, _ = tables()
    policy, gamma = im.policy_of_occupancy(d), mdp.discount
    nu = torch.randn(d.shape, generator=draws(4), dtype=F64)
    value = (policy * nu).sum(-1)
    inside = nu[..., None] - gamma * value[..., None, None, :]
    # The objective with the expectation over the next state outside of the exponential.
    sampled = (expert[..., None] * mdp.transition * inside.exp()).sum((-3, -2, -1)).log()
    start = (im.initial_law(mdp, expert) * value).sum(-1)
    low = (1 - gamma) * start - sampled
    whole = im.dice_objective(mdp, policy, nu, expert)
    spread = torch.where(mdp.transition > 0, value[..., None, None, :], torch.nan)
    far = spread.nan_to_num(nan=-torch.inf).amax(-1) - spread.nan_to_num(nan=torch.inf).amin(-1)
    most = far.amax((-2, -1))
    assert (low <= whole).all()
    true = bounds.single_sample_bound(most, gamma)
    check_bound("thm-dice-bias", whole - low, true)
    # Mutant: the least spread of a pair in place of the largest.
    least = bounds.single_sample_bound(far.amin((-2, -1)), gamma)
    fails(bound("thm-dice-bias"), whole - low, least, true=[whole - low, true])
    # Without chance in the next state there is no bias.
    sure = torch.nn.functional.one_hot(mdp.transition.argmax(-1), 6).double()
    same = im.dice_objective(TabularMDP(sure, mdp.reward, gamma), policy, nu, expert)
    again = (expert[..., None] * sure * inside.exp()).sum((-3, -2, -1)).log()
    first = (im.initial_law(TabularMDP(sure, mdp.reward, gamma), expert) * value).sum(-1)
    check_identity("thm-dice-bias", same, (1 - gamma) * first - again, tolerance=1e-10)
    # Tight: two next states that are near each other, half of the time each.
    step = torch.tensor(0.02, dtype=F64)
    exact = (gamma * step / 2).cosh().log()
    assert check_bound("thm-dice-bias", exact, bounds.single_sample_bound(step, gamma)) > 0.999


def test_the_loss_of_boosting_has_no_minibatch_bias():
    """Its mean over all batches is the loss itself: it is linear in both laws."""
    _, expert, d, _ = tables()
    e, p = expert[0].flatten(), d[0].flatten()
    g = torch.randn(18, generator=draws(2), dtype=F64)
    total = 0.0
    for i, j in itertools.product(range(18), repeat=2):
        batch = torch.tensor([i, j])
        nobody = torch.zeros(2, dtype=F64)
        value = im.discriminator_loss(g[batch], g[batch], "reverse_kl", learner_weight=nobody)
        total += e[i] * e[j] * value
    exact = im.discriminator_loss(g, g, "reverse_kl", expert_weight=e, learner_weight=0 * p)
    torch.testing.assert_close(total, exact)


def test_policy_of_a_law():
    mdp, _, _, _ = tables()
    assert law(mdp, draws(0)).sum(-1).allclose(torch.ones(30, 6, dtype=F64))
