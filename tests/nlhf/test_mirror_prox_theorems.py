"""Statements about the account and the rate of Nash mirror prox."""

import pytest
import torch

from mdtheory.nlhf import mirror_prox as mp
from mdtheory.nlhf import nash_md as nash
from mdtheory.nlhf.mirror_prox import bounds
from tests.nlhf.mirror_prox_cases import F64, Games, at_most, close, cycle, fails, inner


def distance(first, second):
    return (first.exp() - second.exp()).abs().sum(-1)


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
