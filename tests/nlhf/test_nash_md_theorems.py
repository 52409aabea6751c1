"""The labelled statements of the chapter 'Nash mirror descent': bound, equality, mutants."""

import itertools
import math

import pytest
import torch

from mdtheory.nlhf import nash_md as nm
from tests.refused import at_most, close, fails

F64 = torch.float64
ACTIONS = (3, 5, 12)
TEMPERATURES = torch.tensor([0.05, 0.2, 1.0], dtype=F64)[:, None]


def policies(n, *batch, seed=0, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(*batch, n, generator=generator, dtype=F64)).log_softmax(-1)


def setting(n, count=200, seed=0):
    """Preferences, references and two policies for each; the temperatures are a leading axis."""
    preference = nm.random_preference(n, torch.Generator().manual_seed(seed), (count,))
    return preference, *(policies(n, count, seed=seed + k) for k in (1, 2, 3))


def payoff(preference, p, q, reference, tau):
    """As the definition is written, with the divergences summed plainly."""

    def far(a):
        return (a.exp() * (a - reference)).sum(-1)

    won = torch.einsum("...i,...ij,...j->...", p.exp(), preference, q.exp())
    return won - tau * far(p) + tau * far(q)


# ------------------------------------------------------------------ prop-exploitability


@pytest.mark.theorem("prop-exploitability", "equality")
@pytest.mark.parametrize("n", ACTIONS)
def test_the_gain_of_a_best_response_in_closed_form(n):
    preference, reference, p, q = setting(n)
    tau = TEMPERATURES
    best = nm.best_response(nm.PreferenceGame(preference, reference, tau), q)
    gain = payoff(preference, best, q, reference, tau) - 0.5
    close(gain, nm.exploitability(nm.PreferenceGame(preference, reference, tau), q))
    # The third form, and the payoff of any policy.
    inner = reference + (preference @ q.exp()[..., None])[..., 0] / tau[..., None]
    third = tau * (inner.logsumexp(-1) + nm.kl(q, reference)) - 0.5
    close(gain, third)
    any_policy = 0.5 + tau * (nm.kl(q, best) - nm.kl(p, best))
    close(payoff(preference, p, q, reference, tau), any_policy)


@pytest.mark.theorem("prop-exploitability", "mutant")
def test_the_divergence_the_other_way_is_not_the_gain():
    preference, reference, _, q = setting(5)
    best = nm.best_response(nm.PreferenceGame(preference, reference, 0.2), q)
    gain = payoff(preference, best, q, reference, 0.2) - 0.5
    fails(close, gain, 0.2 * nm.kl(best, q), true=(gain, 0.2 * nm.kl(q, best)))
    swapped = nm.best_response(nm.PreferenceGame(preference.mT, reference, 0.2), q)
    fails(close, gain, 0.2 * nm.kl(q, swapped), true=(gain, 0.2 * nm.kl(q, best)))


@pytest.mark.theorem("prop-exploitability", "bound")
def test_no_policy_gains_more_than_the_best_response():
    preference, reference, p, q = setting(5)
    gain = payoff(preference, p, q, reference, TEMPERATURES) - 0.5
    at_most(gain, nm.exploitability(nm.PreferenceGame(preference, reference, TEMPERATURES), q))


# ------------------------------------------------------------------ thm-regularised-nash


@pytest.mark.theorem("thm-regularised-nash", "equality")
@pytest.mark.parametrize("n", ACTIONS)
def test_the_equilibrium_is_the_fixed_point_and_is_reached_from_elsewhere(n):
    preference, reference, *_ = setting(n, 50)
    found = nm.regularized_nash(nm.PreferenceGame(preference, reference, TEMPERATURES))
    best = nm.best_response(nm.PreferenceGame(preference, reference, TEMPERATURES), found)
    assert (TEMPERATURES * nm.span(found - best)).max() < 1e-12
    # A damped fixed point iteration, which knows of no Newton step.
    policy = policies(n, 3, 50, seed=9)
    for _ in range(6000):
        best = nm.best_response(nm.PreferenceGame(preference, reference, TEMPERATURES), policy)
        policy = nm.mixture(policy, best, 0.03)
    close(policy.exp(), found.exp(), tolerance=1e-9)


@pytest.mark.theorem("thm-regularised-nash", "mutant")
def test_preferences_that_do_not_add_to_one_may_have_several_fixed_points():
    """The proof needs a skew matrix: a game of coordination has more than one fixed point."""
    even = torch.full((2,), 0.5, dtype=F64).log()

    def ends(payoffs):
        found = []
        for start in (0.9, 0.1):
            policy = torch.tensor([start, 1 - start], dtype=F64).log()
            for _ in range(200):
                best = (even + (payoffs @ policy.exp()) / 0.1).log_softmax(-1)
                policy = nm.mixture(policy, best, 0.2)
            assert nm.span(policy - best) < 1e-9  # a fixed point either way
            found.append(policy.exp())
        return found

    coordination = torch.eye(2, dtype=F64)
    skew = torch.tensor([[0.5, 0.9], [0.1, 0.5]], dtype=F64)
    fails(close, *ends(coordination), true=ends(skew), tolerance=1e-9)


@pytest.mark.theorem("thm-regularised-nash", "equality")
def test_newtons_jacobian_is_the_derivative_and_invertible():
    preference, reference, policy, _ = setting(5, 20)

    def residual(theta):
        return 0.1 * (theta - reference[0]) - preference[0] @ theta.softmax(-1)

    p = policy[0].exp()
    found = torch.autograd.functional.jacobian(residual, policy[0])
    close(found, 0.1 * torch.eye(5, dtype=F64) - preference[0] @ (p.diag() - torch.outer(p, p)))
    # <D d, J d> = tau <D d, d> for every d of mean 0.
    d = policies(5, 100, seed=7)
    d = d - (p * d).sum(-1, keepdim=True)
    close((p * d * (d @ found.mT)).sum(-1), 0.1 * (p * d * d).sum(-1))


# ------------------------------------------------------------------ prop-nash-gap


@pytest.mark.theorem("prop-nash-gap", "equality")
@pytest.mark.parametrize("n", ACTIONS)
def test_what_the_equilibrium_receives_is_a_divergence(n):
    preference, reference, _, q = setting(n)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, TEMPERATURES))
    left = payoff(preference, nash, q, reference, TEMPERATURES)
    close(left, 0.5 + TEMPERATURES * nm.kl(q, nash), tolerance=1e-10)
    both = nm.kl(nash, reference) + nm.kl(reference, nash)
    won = torch.einsum("...i,...ij,...j->...", nash.exp(), preference, reference.exp())
    close(TEMPERATURES * both, won - 0.5, tolerance=1e-10)


@pytest.mark.theorem("prop-nash-gap", "bound")
def test_the_equilibrium_is_near_and_distance_is_at_most_exploitability():
    preference, reference, _, q = setting(5)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, TEMPERATURES))
    at_most(nm.kl(nash, reference), 1 / (2 * TEMPERATURES))
    gain = nm.exploitability(nm.PreferenceGame(preference, reference, TEMPERATURES), q)
    at_most(TEMPERATURES * nm.kl(q, nash), gain)


@pytest.mark.theorem("prop-nash-gap", "mutant")
def test_the_reversed_divergence_and_another_policy_fail():
    preference, reference, p, q = setting(5)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, 0.2))
    left = payoff(preference, nash, q, reference, 0.2)
    true = left, 0.5 + 0.2 * nm.kl(q, nash)
    fails(close, left, 0.5 + 0.2 * nm.kl(nash, q), true=true, tolerance=1e-10)
    other = payoff(preference, p, q, reference, 0.2)
    fails(close, other, 0.5 + 0.2 * nm.kl(q, p), true=true, tolerance=1e-10)


# ------------------------------------------------------------------ prop-smoothness


@pytest.mark.theorem("prop-smoothness", "bound")
def test_preferences_move_by_at_most_half():
    for n in ACTIONS:
        preference, p, q, _ = setting(n)
        change = (preference @ (p.exp() - q.exp())[..., None])[..., 0].abs().amax(-1)
        at_most(change, (p.exp() - q.exp()).abs().sum(-1) / 2)


@pytest.mark.theorem("prop-smoothness", "equality")
def test_a_sure_cycle_attains_the_half():
    preference = nm.cyclic_preference(0.5)
    p, q = torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.4, 0.4]], dtype=F64)
    change = (preference @ (p - q)).abs().max()
    close(change, (p - q).abs().sum() / 2)


@pytest.mark.theorem("prop-smoothness", "mutant")
def test_a_smaller_constant_fails():
    preference = nm.cyclic_preference(0.5)
    p, q = torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.4, 0.4]], dtype=F64)
    change = (preference @ (p - q)).abs().max()
    true = change, (p - q).abs().sum() / 2
    # The Euclidean length, or half of the largest entry, in the place of half the sum.
    fails(at_most, change, (p - q).norm() / 2, true=true)
    fails(at_most, change, (p - q).abs().max() / 2, true=true)


# ------------------------------------------------------------------ lem-mixture, lem-mirror-step


def one_step(n, weight=0.3, seed=0):
    preference, reference, policy, p = setting(n, seed=seed)
    mixed = nm.mixture(policy, reference, weight)
    return preference, reference, policy, p, mixed


@pytest.mark.theorem("lem-mixture", "equality")
@pytest.mark.theorem("lem-mixture", "bound")
@pytest.mark.parametrize("weight", [0.0, 0.1, 0.7, 1.0])
def test_divergence_to_a_mixture(weight):
    _, reference, policy, p, mixed = one_step(5, weight)
    left = nm.kl(p, mixed)
    loose = weight * (nm.kl(p, reference) - nm.kl(mixed, reference))
    loose = loose + (1 - weight) * nm.kl(p, policy)
    close(left, loose - (1 - weight) * nm.kl(mixed, policy))
    at_most(left, loose)


@pytest.mark.theorem("lem-mixture", "mutant")
def test_swapped_weights_break_the_lemma():
    _, reference, policy, p, _ = one_step(5)

    def sides(mixed, weight):
        near, far = nm.kl(p, policy), nm.kl(p, reference)
        bound = weight * (far - nm.kl(mixed, reference)) + (1 - weight) * near
        return nm.kl(p, mixed), bound, bound - (1 - weight) * nm.kl(mixed, policy)

    mixed = nm.mixture(policy, reference, 0.7)
    left, right, exact = sides(mixed, 0.7)
    _, swapped, _ = sides(mixed, 0.3)
    fails(at_most, left, swapped, true=(left, right))
    arithmetic = (0.3 * policy.exp() + 0.7 * reference.exp()).log()
    other, _, wrong = sides(arithmetic, 0.7)
    fails(close, other, wrong, true=(left, exact), tolerance=1e-10)


def step_sides(eta, n=5):
    preference, _, _, p, mixed = one_step(n)
    gain = (preference @ mixed.exp()[..., None])[..., 0]
    after = (mixed + eta * gain).log_softmax(-1)
    plain = nm.kl(p, mixed) + eta * ((mixed.exp() - p.exp()) * gain).sum(-1)
    tilt = (mixed + eta * gain).logsumexp(-1) - eta * (mixed.exp() * gain).sum(-1)
    return nm.kl(p, after), plain, tilt


@pytest.mark.theorem("lem-mirror-step", "equality")
@pytest.mark.theorem("lem-mirror-step", "bound")
@pytest.mark.parametrize("eta", [0.01, 0.5, 3.0, 40.0])
def test_one_mirror_step(eta):
    left, plain, tilt = step_sides(eta)
    close(left, plain + tilt)
    at_most(left, plain + eta**2 / 8)
    at_most(tilt, torch.full_like(tilt, eta**2 / 8))


@pytest.mark.theorem("lem-mirror-step", "equality")
def test_an_even_coin_needs_the_eighth():
    eta = 0.01
    mixed, gain = torch.tensor([0.5, 0.5], dtype=F64).log(), torch.tensor([0.0, 1.0], dtype=F64)
    tilt = (mixed + eta * gain).logsumexp(-1) - eta * 0.5
    assert abs(tilt.item() / (eta**2 / 8) - 1) < 1e-4


@pytest.mark.theorem("lem-mirror-step", "mutant")
def test_a_step_the_other_way_breaks_the_lemma():
    preference, _, _, p, mixed = one_step(5)
    gain = (preference @ mixed.exp()[..., None])[..., 0]
    right = nm.kl(p, mixed) + 2 * ((mixed.exp() - p.exp()) * gain).sum(-1) + 0.5
    ways = [nm.kl(p, (mixed + eta * gain).log_softmax(-1)) for eta in (-2, 2)]
    fails(at_most, ways[0], right, true=(ways[1], right))


# ------------------------------------------------------------------ thm-nash-md


@pytest.mark.theorem("thm-nash-md", "bound")
@pytest.mark.theorem("thm-nash-md", "equality")
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_one_step_of_nash_md(share):
    preference, reference, policy, _ = setting(5)
    tau = TEMPERATURES
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, tau))
    eta = share / tau
    mixed = nm.mixture(policy, reference, share)
    gain = (preference @ mixed.exp()[..., None])[..., 0]
    after = (mixed + eta[..., None] * gain).log_softmax(-1)
    left, kept = nm.kl(nash, after), (1 - share) * nm.kl(nash, policy)
    tilt = (mixed + eta[..., None] * gain).logsumexp(-1) - eta * (mixed.exp() * gain).sum(-1)
    close(
        left,
        kept - (1 - share) * nm.kl(mixed, policy) - share * nm.kl(mixed, nash) + tilt,
        tolerance=1e-9,
    )
    at_most(left, kept - share * nm.kl(mixed, nash) + eta**2 / 8)
    at_most(left, kept + 2 * eta**2)


@pytest.mark.theorem("thm-nash-md", "bound")
def test_the_last_policy_of_the_schedule():
    preference, reference, *_ = setting(5, 100)
    tau = TEMPERATURES.expand(3, 100)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, tau))
    run = list(nm.nash_md_iterates(nm.PreferenceGame(preference, reference, tau), 200))
    far = torch.stack([nm.kl(nash, policy) for policy in run[1:]])
    at_most(far, nm.nash_md_rate(tau, 200))
    at_most(far, nm.nash_md_rate(tau, 200) / 16)


@pytest.mark.theorem("thm-nash-md", "mutant")
def test_self_play_without_a_mixture_and_a_wrong_equilibrium_break_the_rate():
    preference, reference, *_ = setting(5, 100)
    tau = torch.full((100,), 1.0, dtype=F64)
    nash = nm.regularized_nash(nm.PreferenceGame(preference, reference, tau))
    policy, far, wrong = reference, [], []
    other = nm.regularized_nash(nm.PreferenceGame(preference.mT.contiguous(), reference, tau))
    for t in range(2000):
        eta = 2 / (t + 2)
        gain = (preference @ policy.exp()[..., None])[..., 0]
        policy = (policy + eta * gain).log_softmax(-1)  # the pull to the reference is forgotten
        far.append(nm.kl(nash, policy))
    right = []
    for regular in nm.nash_md_iterates(nm.PreferenceGame(preference, reference, tau), 2000):
        wrong.append(nm.kl(other, regular))
        right.append(nm.kl(nash, regular))
    rate = nm.nash_md_rate(tau, 2000) / 16
    true = torch.stack(right[1:]), rate
    fails(at_most, torch.stack(far), rate, true=true)
    fails(at_most, torch.stack(wrong[1:]), rate, true=true)


# ------------------------------------------------------------------ thm-equivalence


@pytest.mark.theorem("thm-equivalence", "equality")
@pytest.mark.parametrize("n", [3, 20, 100])
def test_the_mixtures_are_magnetic_mirror_descent_at_another_temperature(n):
    preference, reference, *_ = setting(n, 10)
    tau, eta = torch.tensor([[0.05], [0.4]], dtype=F64).expand(2, 10), 0.7
    shifted = nm.shifted_temperature(tau, eta)
    ours = nm.mixture(reference, reference, 0.5).expand(2, 10, n)
    for policy in itertools.islice(
        nm.nash_md_iterates(nm.PreferenceGame(preference, reference, tau), 300, eta), 0, None
    ):
        mixed = nm.mixture(policy, reference, (eta * tau)[..., None])
        assert nm.span(mixed - ours).max() < 1e-12
        ours = nm.magnetic_step(nm.PreferenceGame(preference, reference, shifted), ours, ours, eta)


@pytest.mark.theorem("thm-equivalence", "bound")
def test_the_mixture_contracts():
    preference, reference, *_ = setting(5, 100)
    for tau, eta in ((0.1, 0.3), (0.5, 1.0), (0.05, 0.2), (1.0, 0.9)):
        shifted = nm.shifted_temperature(tau, eta)
        assert eta <= 4 * shifted
        limit = nm.regularized_nash(nm.PreferenceGame(preference, reference, shifted))
        policies_ = nm.nash_md_iterates(nm.PreferenceGame(preference, reference, tau), 60, eta)
        far = torch.stack(
            [nm.kl(limit, nm.mixture(policy, reference, eta * tau)) for policy in policies_]
        )
        at_most(far[1:], (1 - eta * tau) * far[:-1])


@pytest.mark.theorem("thm-equivalence", "mutant")
def test_the_temperature_itself_and_too_long_a_step_fail():
    preference, reference, *_ = setting(3, 10)
    policy = nm.nash_md(nm.PreferenceGame(preference, reference, 0.4), 3, 0.7)
    mixed = nm.mixture(policy, reference, 0.28)

    def magnetic(tau):
        ours = reference
        for _ in range(3):
            ours = nm.magnetic_step(nm.PreferenceGame(preference, reference, tau), ours, ours, 0.7)
        return ours

    true = mixed, magnetic(nm.shifted_temperature(0.4, 0.7))
    fails(close, mixed, magnetic(0.4), true=true)
    # A sure cycle with a step of 96 b, where the proof stops at 4 b: no contraction.
    cycle = nm.cyclic_preference(0.5)
    start = torch.tensor([0.6, 0.3, 0.1], dtype=F64).log()

    def sides(tau, eta):
        limit = nm.regularized_nash(
            nm.PreferenceGame(cycle, start, nm.shifted_temperature(tau, eta))
        )
        run = nm.nash_md_iterates(nm.PreferenceGame(cycle, start, tau), 100, eta)
        far = torch.stack([nm.kl(limit, nm.mixture(p, start, eta * tau)) for p in run])
        return far[1:], (1 - eta * tau) * far[:-1]

    fails(at_most, *sides(0.02, 2.0), true=sides(0.02, 0.08))


@pytest.mark.theorem("cor-constant-bias", "equality")
def test_where_the_constant_step_ends():
    preference, reference, *_ = setting(5, 50)
    tau, eta = 0.2, 0.5
    last = nm.nash_md(nm.PreferenceGame(preference, reference, tau), 600, eta)
    mixed = nm.regularized_nash(
        nm.PreferenceGame(preference, reference, nm.shifted_temperature(tau, eta))
    )
    limit = nm.best_response(nm.PreferenceGame(preference, reference, tau), mixed)
    assert nm.span(last - limit).max() < 1e-11
    assert nm.span(nm.mixture(limit, reference, eta * tau) - mixed).max() < 1e-11


@pytest.mark.theorem("cor-constant-bias", "mutant")
def test_it_does_not_end_at_the_equilibrium():
    preference, reference, *_ = setting(5, 50)
    last = nm.nash_md(nm.PreferenceGame(preference, reference, 0.2), 600, 0.5)
    mixed = nm.regularized_nash(
        nm.PreferenceGame(preference, reference, nm.shifted_temperature(0.2, 0.5))
    )
    true = last, nm.best_response(nm.PreferenceGame(preference, reference, 0.2), mixed)
    fails(
        close, last, nm.regularized_nash(nm.PreferenceGame(preference, reference, 0.2)), true=true
    )


# ------------------------------------------------------------------ prop-reward-to-go


def sequence_case(seed, length=3):
    space = nm.SequenceSpace(3, length)
    generator = torch.Generator().manual_seed(seed)
    logits, reference, opponent = torch.randn(3, space.prefixes, 3, generator=generator, dtype=F64)
    preference = nm.random_preference(space.count, generator)
    preferred = preference @ space.log_probs(opponent).exp()
    return space, logits, reference, preferred


@pytest.mark.theorem("prop-reward-to-go", "equality")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("credit", ["to-go", "sequence"])
def test_the_estimates_have_the_gradient_as_their_mean(seed, credit):
    space, logits, reference, preferred = sequence_case(seed)
    exact = nm.objective_gradient(space, logits, reference, preferred, 0.7)
    found = nm.expected_gradient(space, logits, reference, preferred, 0.7, credit)
    close(found, exact, tolerance=1e-13)
    # And finite differences of the objective know nothing of either.
    step = 1e-6

    def value(x):
        policy = space.log_probs(x)
        return (policy.exp() * preferred).sum() - 0.7 * nm.kl(policy, space.log_probs(reference))

    bump = torch.zeros_like(logits)
    bump[0, 1] = step
    slope = (value(logits + bump) - value(logits - bump)) / (2 * step)
    assert math.isclose(slope.item(), exact[0, 1].item(), abs_tol=1e-8)


@pytest.mark.theorem("prop-reward-to-go", "mutant")
def test_the_token_local_shortcut_is_biased():
    space, logits, reference, preferred = sequence_case(1)
    exact = nm.objective_gradient(space, logits, reference, preferred, 0.7)
    local = nm.expected_gradient(space, logits, reference, preferred, 0.7, "local")
    togo = nm.expected_gradient(space, logits, reference, preferred, 0.7)
    fails(close, local, exact, true=(togo, exact))
    # The last token has nothing after it.
    close(local[-9:], exact[-9:], tolerance=1e-13)
    space, logits, reference, preferred = sequence_case(1, length=1)
    exact = nm.objective_gradient(space, logits, reference, preferred, 0.7)
    local = nm.expected_gradient(space, logits, reference, preferred, 0.7, "local")
    close(local, exact, tolerance=1e-13)
