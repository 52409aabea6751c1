"""The labelled statements of the chapter 'Nash mirror prox': bound, equality, mutants.

A mutant is the same check run on a plausible mistake; it must fail.
"""

import math

import pytest
import torch

from mdtheory.nlhf import mirror_prox as mp
from mdtheory.nlhf import nash_md as nash
from mdtheory.nlhf.mirror_prox import bounds
from tests import refused

fails = refused.fails
F64 = torch.float64
SIZES = (3, 4, 8, 12, 20)
COUNT = 200


def at_most(left, right, tolerance=1e-11):
    refused.at_most(left, torch.as_tensor(right, dtype=F64), tolerance=tolerance)


def close(left, right, tolerance=1e-11):
    refused.close(left, right, tolerance=tolerance)


class Games:
    """Random intransitive preferences, with random references and temperatures."""

    def __init__(self, actions, count=COUNT, seed=51, spread=1.0):
        generator = torch.Generator().manual_seed(seed + actions)
        upper = torch.rand(count, actions, actions, generator=generator, dtype=F64).triu(1)
        lower = (1 - upper.mT).tril(-1)
        self.preference = upper + lower + 0.5 * torch.eye(actions, dtype=F64)
        draws = spread * torch.randn(count, actions, generator=generator, dtype=F64)
        self.reference = draws.log_softmax(-1)
        self.temperature = torch.linspace(0.05, 1, count, dtype=F64)
        self.generator = generator
        self.play()

    def play(self):
        self.game = nash.PreferenceGame(self.preference, self.reference, self.temperature)
        self.star = nash.regularized_nash(self.game)

    def policy(self, spread=2.0):
        draws = torch.randn(self.star.shape, generator=self.generator, dtype=F64)
        return (spread * draws).log_softmax(-1)

    def step(self, policy, opponent, gamma):
        gamma = torch.as_tensor(gamma, dtype=F64)
        return self.game.step(policy, opponent, gamma[..., None])


def cycle(strength=0.5):
    turn = torch.tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=F64)
    return 0.5 + strength * turn, torch.full((3,), -math.log(3), dtype=F64)


def inner(payoff, first, second):
    return (payoff * (first.exp() - second.exp())).sum(-1)


def distance(first, second):
    return (first.exp() - second.exp()).abs().sum(-1)


@pytest.fixture(params=SIZES)
def games(request):
    return Games(request.param)


# Three points.


def three_points(games, policy, opponent, comparator, gamma, after):
    tau = games.temperature
    payoff = games.game.preferred(opponent)
    left = gamma * inner(payoff, comparator, after) - gamma * tau * (
        nash.kl(comparator, games.reference) - nash.kl(after, games.reference)
    )
    right = (
        nash.kl(comparator, policy)
        - (1 + gamma * tau) * nash.kl(comparator, after)
        - nash.kl(after, policy)
    )
    close(left, right, 1e-10)


@pytest.mark.theorem("lem-magnetic-three-points", "equality")
@pytest.mark.theorem("lem-magnetic-three-points", "mutant")
@pytest.mark.parametrize("gamma", [0.1, 2.0, 30.0])
def test_three_points(gamma):
    games = Games(6)
    policy, opponent, comparator = (games.policy() for _ in range(3))
    after = games.step(policy, opponent, gamma)
    three_points(games, policy, opponent, comparator, gamma, after)
    bare = games.game.preferred(opponent) * gamma + policy  # without the magnet
    true = games, policy, opponent, comparator, gamma, after
    for wrong in (bare.log_softmax(-1), games.step(policy, comparator, gamma)):
        fails(three_points, *true[:-1], wrong, true=true)


# The account of one iteration.


def account(games, policy, half, after, gamma):
    tau = games.temperature
    swing = games.game.preferred(half) - games.game.preferred(policy)
    left = (1 + gamma * tau) * nash.kl(games.star, after)
    right = (
        nash.kl(games.star, policy)
        - gamma * tau * nash.kl(half, games.star)
        - gamma * inner(swing, half, after)
        - (1 + gamma * tau) * nash.kl(after, half)
        - nash.kl(half, policy)
    )
    close(left, right, 1e-9)


@pytest.mark.theorem("prop-mirror-prox-account", "equality")
@pytest.mark.theorem("prop-mirror-prox-account", "mutant")
@pytest.mark.parametrize("gamma", [0.5, 2.0, 9.0])
def test_account_of_one_iteration(gamma):
    games = Games(7)
    policy = games.policy()
    half = games.step(policy, policy, gamma)
    after = games.step(policy, half, gamma)
    true = games, policy, half, after, gamma
    wrong = games.step(half, half, gamma)  # extrapolates from the wrong point
    fails(account, games, policy, half, wrong, gamma, true=true)
    single = games.step(policy, policy, gamma)
    fails(account, games, policy, policy, single, gamma, true=true)


# The rate.


def distances(games, gamma=2.0, iterations=60, step=None):
    """The KL of all iterates, by a loop that is not the library's; ``step`` makes mutants."""
    policy, result = games.reference, []
    for _ in range(iterations + 1):
        result.append(nash.kl(games.star, policy))
        half = games.step(policy, policy, gamma)
        policy = games.step(policy, half, gamma) if step is None else step(policy, half)
    return torch.stack(result)


def rate(games, far, gamma=2.0):
    at_most(far, bounds.kl_rate(far[0], games.temperature, gamma, len(far) - 1), 1e-12)
    # And every step alone.
    at_most(far[1:] * (1 + gamma * games.temperature), far[:-1], 1e-12)


@pytest.mark.theorem("thm-nash-mirror-prox", "bound")
@pytest.mark.parametrize("long", [False, True])
def test_rate(games, long):
    gamma = mp.largest_step(games.temperature) if long else 2.0
    rate(games, distances(games, gamma), gamma)
    far_away = Games(games.star.shape[-1], 30, spread=200.0)  # probabilities of 1e-300
    rate(far_away, distances(far_away, 2.0))


@pytest.mark.theorem("thm-nash-mirror-prox", "equality")
def test_rate_in_closed_form_without_preferences():
    """All preferences one half: the iterate is a power mean, and its KL has a closed form."""
    games = Games(5)
    half = torch.full_like(games.preference, 0.5)
    policy, tau = games.policy(), games.temperature
    for gamma in (0.3, 2.0):
        game = nash.PreferenceGame(half, games.reference, tau)
        after = policy
        for _ in range(3):
            after = game.step(after, game.step(after, after, gamma), gamma)
        kept = (1 / (1 + gamma * tau)) ** 3
        mean = kept[:, None] * policy + (1 - kept[:, None]) * games.reference
        close(after, mean.log_softmax(-1))
        mass = mean.logsumexp(-1)
        closed = mass + kept * nash.kl(games.reference, policy)
        close(nash.kl(games.reference, after), closed, 1e-10)
        at_most(nash.kl(games.reference, after), kept * nash.kl(games.reference, policy))


@pytest.mark.theorem("thm-nash-mirror-prox", "mutant")
def test_mutants_of_the_rate():
    preference, _ = cycle()
    games = Games(3, 30)
    games.preference = preference.expand(30, 3, 3)
    games.reference = torch.tensor([0.8, 0.15, 0.05], dtype=F64).log().expand(30, 3)
    games.temperature = torch.full((30,), 0.02, dtype=F64)
    games.play()
    true = games, distances(games), 2.0
    # The second step starts at the half step; the half step is all; the magnet is left out.
    bare = games.game.at(0.0)
    for step in (
        lambda p, h: games.step(h, h, 2.0),
        lambda p, h: h,
        lambda p, h: bare.step(p, h, 2.0),
    ):
        fails(rate, games, distances(games, step=step), 2.0, true=true)
    # The divergence the other way round grows on the way.
    policy, back = games.reference, []
    for _ in range(61):
        back.append(nash.kl(policy, games.star))
        policy = games.step(policy, games.step(policy, policy, 2.0), 2.0)
    fails(rate, games, torch.stack(back), 2.0, true=true)
    # A step far beyond the range.
    fails(rate, games, distances(games, 40.0), 40.0, true=true)
    # Iterations counted as queries: the rate per query is the root.
    games = Games(4)
    far = distances(games)
    kept = 1 / (1 + 2.0 * games.temperature)
    fails(at_most, far[1:], kept**2 * far[:-1], true=(far[1:], kept * far[:-1]))


@pytest.mark.theorem("cor-mirror-prox-start", "bound")
def test_start(games):
    far = nash.kl(games.star, games.reference)
    at_most(far, bounds.start_distance(games.temperature))
    back = nash.kl(games.reference, games.star)
    at_most(far + back, 1 / (2 * games.temperature))
    after = mp.nash_mirror_prox(games.game, 20)
    tau = games.temperature
    at_most(nash.kl(games.star, after), (1 + 2 * tau) ** -20.0 / (2 * tau))


@pytest.mark.theorem("cor-mirror-prox-start", "equality")
@pytest.mark.theorem("cor-mirror-prox-start", "mutant")
def test_start_in_closed_form():
    games = Games(5)
    won = (games.star.exp() * games.game.preferred(games.reference)).sum(-1)
    both = nash.kl(games.star, games.reference) + nash.kl(games.reference, games.star)
    true = both, (won - 0.5) / games.temperature
    fails(close, both, won / games.temperature, true=true, tolerance=1e-9)
    # One action beats all: the bound is nearly attained as tau -> 0, for a rare best action.
    best = torch.full((2, 2), 0.5, dtype=F64)
    best[0, 1], best[1, 0] = 1.0, 0.0
    tau = 1e-3
    reference = torch.tensor([-0.98 / (2 * tau), 0.0], dtype=F64)
    far = nash.kl(nash.regularized_nash(nash.PreferenceGame(best, reference, tau)), reference)
    assert 0.95 / (2 * tau) < far.item() <= bounds.start_distance(tau)
    # Without the factor of one half that skewness gives, and a rate of the root of it.
    true = far, bounds.start_distance(tau)
    fails(at_most, far, true[1] / 2, true=true)
    fails(at_most, far, true[1] ** 0.5, true=true)


# Spans.


@pytest.mark.theorem("prop-mirror-prox-span", "bound")
def test_spans(games):
    tau, gamma = games.temperature, 2.0
    run = list(mp.nash_mirror_prox_iterates(games.game, 40, gamma))
    spans = torch.stack([nash.span(now.policy - games.star) for now in run])
    apart = torch.stack([distance(now.half, games.star) for now in run])
    at_most(spans[1:], (spans[:-1] + gamma * apart[:-1]) / (1 + gamma * tau), 1e-12)
    start = nash.kl(games.star, games.reference)
    at_most(spans, bounds.span_rate(start, spans[0], tau, gamma, 40), 1e-11)


@pytest.mark.theorem("prop-mirror-prox-span", "equality")
@pytest.mark.theorem("prop-mirror-prox-span", "mutant")
def test_spans_in_closed_form():
    """The difference of the logarithms obeys a linear recursion, up to a constant."""
    games = Games(5)
    tau, gamma = games.temperature[:, None], 1.5
    policy = games.policy()
    half = games.step(policy, policy, gamma)
    after = games.step(policy, half, gamma)
    push = games.game.preferred(half) - games.game.preferred(games.star)
    right = (policy - games.star + gamma * push) / (1 + gamma * tau)
    off = nash.span(after - games.star - right)
    close(off, torch.zeros_like(off), 1e-10)
    spans, kept = nash.span(after - games.star), 1 / (1 + gamma * games.temperature)
    without, push = nash.span(policy - games.star), gamma * distance(half, games.star)
    true = spans, kept * (without + push)
    fails(at_most, spans, kept * without, true=true)
    # The span is as large as the distance where two actions disagree about two others.
    four = torch.full((4, 4), 0.5, dtype=F64)
    four[2, 0], four[0, 2], four[3, 0], four[0, 3] = 1, 0, 0, 1
    four[2, 1], four[1, 2], four[3, 1], four[1, 3] = 0, 1, 1, 0
    apart = torch.eye(4, dtype=F64)[0] - torch.eye(4, dtype=F64)[1]
    left = nash.span(four @ apart)
    close(left, apart.abs().sum())
    # The Euclidean length, or the largest entry, in the place of the sum.
    for length in (apart.norm(), apart.abs().max()):
        fails(at_most, left, length, true=(left, apart.abs().sum()))


# Exploitability.


@pytest.mark.theorem("prop-mirror-prox-exploitability", "bound")
def test_exploitability(games):
    tau, gamma = games.temperature, 2.0
    run = list(mp.nash_mirror_prox_iterates(games.game, 40, gamma))
    halves = torch.stack([games.game.exploitability(now.half) for now in run])
    start = nash.kl(games.star, games.reference)
    at_most(halves, bounds.exploitability_rate(start, tau, gamma, 40), 1e-12)
    back = torch.stack([nash.kl(now.half, games.star) for now in run])
    at_most(tau * back, halves, 1e-12)
    at_most(halves, (tau + 1 / (4 * tau)) * back, 1e-12)
    far = torch.stack([nash.kl(games.star, now.policy) for now in run])
    at_most(gamma * tau * back, far, 1e-12)
    ends = torch.stack([games.game.exploitability(now.policy) for now in run])
    spans = torch.stack([nash.span(now.policy - games.star) for now in run])
    at_most(ends, (tau + 1 / (4 * tau)) * (far / 2).sqrt() * spans, 1e-12)


@pytest.mark.theorem("prop-mirror-prox-exploitability", "equality")
@pytest.mark.theorem("prop-mirror-prox-exploitability", "mutant")
def test_exploitability_in_closed_form():
    games = Games(5)
    first, second, tau = games.policy(), games.policy(), games.temperature
    gain = games.game.value(first, second) - 0.5
    cross = inner(games.game.preferred(second) - games.game.preferred(games.star), first,
                  games.star)  # fmt: skip
    right = tau * (nash.kl(second, games.star) - nash.kl(first, games.star)) + cross
    fails(close, gain, right - cross, true=(gain, right), tolerance=1e-10)
    back = nash.kl(second, games.star)
    found = games.game.exploitability(second)
    close(found, games.game.value(games.game.best_response(second), second) - 0.5, 1e-10)
    true = found, (tau + 1 / (4 * tau)) * back
    fails(at_most, found, tau * back, true=true)  # the second term is needed


# Errors.


def noisy_run(games, size, gamma, iterations, kind):
    def error(exact):
        draws = torch.rand(exact.shape, generator=games.generator, dtype=F64)
        if kind == "corner":
            draws = (draws > 0.5).to(F64)
        return size * draws

    run = mp.nash_mirror_prox_iterates(games.game, iterations, gamma, payoff_error=error)
    return torch.stack([nash.kl(games.star, now.policy) for now in run])


@pytest.mark.theorem("thm-mirror-prox-inexact", "bound")
@pytest.mark.parametrize("kind", ["even", "corner"])
@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_floor_of_errors(kind, gamma):
    for actions in (3, 12):
        games = Games(actions)
        far = noisy_run(games, 0.1, gamma, 60, kind)
        at_most(far, bounds.inexact_rate(far[0], 0.1, games.temperature, gamma, 60))


@pytest.mark.theorem("thm-mirror-prox-inexact", "bound")
@pytest.mark.parametrize("gamma", [0.05, 1.0, math.sqrt(2)])
def test_floor_of_fair_errors(gamma):
    """One game a row of a batch of 400; the bound holds for the mean over the batch."""
    preference, reference = cycle()
    tau, size = 0.2, 0.2
    generator = torch.Generator().manual_seed(5)
    star = nash.regularized_nash(nash.PreferenceGame(preference, reference, tau))

    def error(exact):
        draws = torch.randint(0, 2, exact.shape, generator=generator).to(F64)
        return size * (draws - 0.5)

    run = mp.nash_mirror_prox_iterates(
        nash.PreferenceGame(preference.expand(400, 3, 3), reference, tau),
        80,
        gamma,
        payoff_error=error,
    )
    far = torch.stack([nash.kl(star, now.policy).mean() for now in run])
    # e - e' has independent entries of -1, 0, 0, 1 times the size.
    values = torch.cartesian_prod(*[torch.tensor([-1.0, 0, 0, 1], dtype=F64)] * 3)
    square = (size * nash.span(values)).square().mean()
    kept = (1 + gamma * tau) ** -torch.arange(81, dtype=F64)
    at_most(far, kept * far[0] + (1 - kept) * gamma * square / (4 * tau))


@pytest.mark.theorem("thm-mirror-prox-inexact", "equality")
@pytest.mark.theorem("thm-mirror-prox-inexact", "mutant")
def test_a_constant_error_moves_the_equilibrium():
    """Preferences one half and a constant error: the limit is known, and so is its KL."""
    games = Games(2, 50)
    half = torch.full_like(games.preference, 0.5)
    even = torch.full_like(games.reference, -math.log(2))
    error = torch.tensor([0.1, 0.0], dtype=F64)
    tau = games.temperature
    run = mp.nash_mirror_prox_iterates(
        nash.PreferenceGame(half, even, tau),
        400,
        2.0,
        payoff_error=lambda exact: error.expand(exact.shape),
    )
    last = list(run)[-1].policy
    limit = (even + error / tau[:, None]).log_softmax(-1)
    close(last, limit, 1e-10)
    far = nash.kl(even, last)
    closed = (0.1 / (2 * tau)).cosh().log()
    close(far, closed, 1e-10)
    floor = bounds.noise_floor(0.1, tau)
    # A fifth of the floor is what a constant error costs for high temperatures: eps^2/(8 tau^2).
    assert (far[-1] / floor[-1] - 0.2).abs() < 1e-3
    # Without tau^2, and with tau in its place.
    for wrong in (torch.full_like(tau, bounds.noise_floor(0.1, 1.0)), floor * tau):
        fails(at_most, far, wrong, true=(far, floor))


# The single call.


def single_distances(games, gamma, iterations=60):
    policy, result = games.reference, []
    for _ in range(iterations + 1):
        result.append(nash.kl(games.star, policy))
        policy = games.step(policy, policy, gamma)
    return torch.stack(result)


@pytest.mark.theorem("thm-preference-mmd", "bound")
def test_rate_of_the_single_call(games):
    for share in (0.5, 1.0):
        gamma = 4 * share * games.temperature
        far = single_distances(games, gamma)
        at_most(far[1:] * (1 + gamma * games.temperature), far[:-1], 1e-12)
        right = bounds.single_call_rate(far[0], games.temperature, gamma, 60)
        at_most(far, right, 1e-12)


@pytest.mark.theorem("thm-preference-mmd", "equality")
@pytest.mark.theorem("thm-preference-mmd", "mutant")
def test_account_of_the_single_call():
    games = Games(6)
    policy, tau = games.policy(), games.temperature
    for gamma in (0.2, 2.0):
        after = games.step(policy, policy, gamma)
        swing = games.game.preferred(policy) - games.game.preferred(after)
        left = (1 + gamma * tau) * nash.kl(games.star, after)
        right = (
            nash.kl(games.star, policy)
            - nash.kl(after, policy)
            - gamma * tau * nash.kl(after, games.star)
            - gamma * inner(swing, games.star, after)
        )
        wrong = right + gamma * inner(swing, games.star, after)
        fails(close, left, wrong, true=(left, right), tolerance=1e-10)
    cold = Games(3, 20)
    preference, _ = cycle()
    cold.preference, cold.temperature = preference.expand(20, 3, 3), torch.full((20,), 0.02).to(F64)
    cold.play()

    def sides(gamma):
        far = single_distances(cold, gamma)
        return far[1:] * (1 + gamma * 0.02), far[:-1]

    fails(at_most, *sides(2.0), true=sides(0.08))  # the step of mirror prox


# The fair cycle.


def jacobian(preference, policy, tau, gamma, calls):
    """Of a step in logarithms, modulo constants, at a policy."""
    game = nash.PreferenceGame(preference, policy, tau)

    def step(logs):
        point = logs.log_softmax(-1)
        opponent = point if calls == 1 else game.step(point, point, gamma)
        return game.step(point, opponent, gamma)

    return torch.autograd.functional.jacobian(step, policy)


@pytest.mark.theorem("prop-cycle-single-call", "equality")
@pytest.mark.theorem("prop-cycle-single-call", "mutant")
def test_eigenvalues_on_the_cycle():
    preference, reference = cycle()
    for tau, gamma in [(0.02, 2.0), (0.3, 2.0), (0.02, 0.08), (0.1, 5.0)]:
        for calls in (1, 2):
            matrix = jacobian(preference, reference, tau, gamma, calls)
            found = torch.linalg.eigvals(matrix).abs().max()
            right = torch.tensor(bounds.cycle_modulus(tau, gamma, calls), dtype=F64)
            other = torch.tensor(bounds.cycle_modulus(tau, gamma, 3 - calls), dtype=F64)
            fails(close, found, other, true=(found, right), tolerance=1e-9)


@pytest.mark.theorem("prop-cycle-single-call", "bound")
def test_the_threshold_on_the_cycle():
    preference, reference = cycle()
    near = reference + 1e-6 * torch.tensor([1.0, -1.0, 0.0], dtype=F64)
    for tau in (0.02, 0.05, 0.07, 0.09, 0.2):
        game = nash.PreferenceGame(preference, reference, tau)
        threshold = 2 * tau / (1 / 12 - tau**2)
        for gamma in (0.9 * threshold, 1.1 * threshold, 2.0):
            policy = near.log_softmax(-1)
            for _ in range(40):
                policy = game.step(policy, policy, gamma)
            grows = nash.span(policy - reference) > nash.span(near - reference)
            assert bool(grows) == (gamma > threshold)
            policy = near.log_softmax(-1)
            for _ in range(40):
                policy = game.step(policy, game.step(policy, policy, 2.0), 2.0)
            assert nash.span(policy - reference) < nash.span(near - reference)


# Policy gradients on sequences.


def table_of(space, policy):
    """Logits of a policy over whole sequences: its conditional log-probabilities."""
    rows = []
    for _ in range(space.length):
        level = policy.unflatten(-1, (-1, space.vocabulary))
        rows.insert(0, level.log_softmax(-1))
        policy = level.logsumexp(-1)
    return torch.cat(rows)


def objective(space, preference, logits, opponent, target, reference, tau, gamma):
    policy = space.log_probs(logits)
    won = (policy.exp() * (preference @ space.log_probs(opponent).exp() - 0.5)).sum()
    near = (policy.exp() * (policy - space.log_probs(target))).sum()
    far = (policy.exp() * (policy - space.log_probs(reference))).sum()
    return won - tau * far - near / gamma


@pytest.mark.theorem("prop-proximal-gradient", "equality")
@pytest.mark.theorem("prop-proximal-gradient", "mutant")
@pytest.mark.parametrize(("vocabulary", "length"), [(5, 1), (3, 3), (2, 4)])
def test_policy_gradient_against_full_enumeration(vocabulary, length):
    space = nash.SequenceSpace(vocabulary, length)
    games = Games(space.count, 1)
    preference, generator = games.preference[0], games.generator
    tables = torch.randn(4, space.prefixes, vocabulary, generator=generator, dtype=F64)
    logits, opponent, target, reference = tables
    leaf = logits.clone().requires_grad_()
    value = objective(space, preference, leaf, opponent, target, reference, 0.3, 2.0)
    (slope,) = torch.autograd.grad(value, leaf)
    found = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.3),
        logits,
        opponent,
        target,
        2.0,
    )
    true = found, slope
    # The opponent is held fixed, the target is kept to, and the temperature counts.
    leaf = logits.clone().requires_grad_()
    value = objective(space, preference, leaf, leaf, target, reference, 0.3, 2.0)
    (both,) = torch.autograd.grad(value, leaf)
    same = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.3),
        logits,
        logits,
        target,
        2.0,
    )
    fails(close, same, both, true=true, tolerance=1e-11)
    for tau, gamma in [(0.0, 2.0), (0.3, math.inf)]:
        other = mp.proximal_gradient(
            space,
            nash.PreferenceGame(preference, space.log_probs(reference), tau),
            logits,
            opponent,
            target,
            gamma,
        )
        fails(close, other, slope, true=true, tolerance=1e-11)
    # What the maximiser is ahead by.
    game = nash.PreferenceGame(preference, space.log_probs(reference), 0.3)
    best = game.step(space.log_probs(target), space.log_probs(opponent), 2.0)
    table = table_of(space, best)
    top = objective(space, preference, table, opponent, target, reference, 0.3, 2.0)
    now = objective(space, preference, logits, opponent, target, reference, 0.3, 2.0)
    close(top - now, (0.3 + 0.5) * nash.kl(space.log_probs(logits), best), 1e-11)
    zero = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.3),
        table,
        opponent,
        target,
        2.0,
    )
    close(zero, torch.zeros_like(zero), 1e-12)


def test_bounds_of_a_batch_are_those_of_its_members():
    start = torch.tensor([1.0, 0.3], dtype=F64)
    taus, steps = torch.tensor([[0.1], [0.5], [1.0]], dtype=F64), torch.tensor([1.0, 2.0])
    steps = steps.to(F64)
    calls = {
        "kl": lambda d, t, g: bounds.kl_rate(d, t, g, 4),
        "span": lambda d, t, g: bounds.span_rate(d, 2 * d, t, g, 4),
        "gain": lambda d, t, g: bounds.exploitability_rate(d, t, g, 4),
        "floor": lambda d, t, g: bounds.inexact_rate(d, 0.1, t, g, 4),
    }
    for call in calls.values():
        table = call(start, taus, steps)
        assert table.shape == (5, 3, 2)
        for i, tau in enumerate(taus[:, 0].tolist()):
            for j in range(2):
                close(table[:, i, j], call(start[j], tau, steps[j].item()), 1e-12)
    assert bounds.kl_rate(torch.tensor(1.0, dtype=F64), taus[:, 0], 2.0, 2).shape == (3, 3)
