"""Nash mirror prox: what its functions return."""

import inspect
import math
from itertools import pairwise

import pytest
import torch

from mdtheory.nlhf import mirror_prox as mp
from mdtheory.nlhf import nash_md as nash

F64 = torch.float64
SIZES = (4, 8, 12, 20)


def random_games(actions, count=200, seed=61, dtype=F64):
    generator = torch.Generator().manual_seed(seed + actions)
    upper = torch.rand(count, actions, actions, generator=generator, dtype=F64).triu(1)
    preference = upper + (1 - upper.mT).tril(-1) + 0.5 * torch.eye(actions, dtype=F64)
    reference = torch.randn(count, actions, generator=generator, dtype=F64).log_softmax(-1)
    temperature = torch.linspace(0.05, 1, count, dtype=F64)
    return preference.to(dtype), reference.to(dtype), temperature.to(dtype)


def intransitive(preference):
    """Whether there are three actions in a circle."""
    beats = (preference > 0.5).to(F64)
    return (beats @ beats @ beats).diagonal(dim1=-2, dim2=-1).sum(-1) > 0


@pytest.mark.parametrize("actions", SIZES)
def test_two_hundred_games_in_one_call(actions):
    games = random_games(actions)
    assert intransitive(games[0]).double().mean() > 0.5
    star = nash.regularized_nash(nash.PreferenceGame(*games))
    far = nash.kl(star, mp.nash_mirror_prox(nash.PreferenceGame(*games), 120))
    assert far.max() < 1e-8
    run = list(mp.nash_mirror_prox_iterates(nash.PreferenceGame(*games), 120))
    kls = torch.stack([nash.kl(star, now.policy) for now in run])
    assert (kls[1:] * (1 + 2 * games[2]) <= kls[:-1] + 1e-13).all()


@pytest.mark.parametrize("actions", SIZES)
def test_a_batch_is_its_games_one_by_one(actions):
    games = random_games(actions, 6)
    together = mp.nash_mirror_prox(nash.PreferenceGame(*games), 30)
    alone = torch.stack(
        [
            mp.nash_mirror_prox(
                nash.PreferenceGame(games[0][i], games[1][i], games[2][i].item()), 30
            )
            for i in range(6)
        ]
    )
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    single = mp.preference_mirror_descent(nash.PreferenceGame(*games), 30)
    alone = torch.stack(
        [
            mp.preference_mirror_descent(
                nash.PreferenceGame(games[0][i], games[1][i], games[2][i].item()), 30
            )
            for i in range(6)
        ]
    )
    torch.testing.assert_close(single, alone, rtol=0, atol=1e-12)


def test_axes_broadcast():
    preference, reference, _ = random_games(5, 3)
    temperature = torch.tensor([0.1, 0.5], dtype=F64)[:, None]
    step = torch.tensor([1.0, 2.0, 0.3], dtype=F64)
    result = mp.nash_mirror_prox(nash.PreferenceGame(preference, reference, temperature), 7, step)
    assert result.shape == (2, 3, 5)
    for i in range(2):
        for j in range(3):
            alone = mp.nash_mirror_prox(
                nash.PreferenceGame(preference[j], reference[j], temperature[i, 0].item()),
                7,
                step[j].item(),
            )
            torch.testing.assert_close(result[i, j], alone, rtol=0, atol=1e-13)


def test_it_is_calls_of_the_magnetic_step():
    preference, reference, tau = random_games(6, 5)
    policy = reference
    for now in mp.nash_mirror_prox_iterates(
        nash.PreferenceGame(preference, reference, tau), 5, 1.5
    ):
        torch.testing.assert_close(now.policy, policy, rtol=0, atol=1e-13)
        half = nash.magnetic_step(
            nash.PreferenceGame(preference, reference, tau), policy, policy, 1.5
        )
        torch.testing.assert_close(now.half, half, rtol=0, atol=1e-13)
        policy = nash.magnetic_step(
            nash.PreferenceGame(preference, reference, tau), policy, half, 1.5
        )
    steps = list(
        mp.preference_mirror_descent_iterates(nash.PreferenceGame(preference, reference, tau), 4)
    )
    for before, after in pairwise(steps):
        expected = nash.magnetic_step(
            nash.PreferenceGame(preference, reference, tau), before, before, 4 * tau
        )
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-13)


def test_the_step_in_plain_probabilities():
    """The two steps once more, with powers and products."""
    preference, reference, tau = (part[7] for part in random_games(4, 20))
    gamma, tau = 2.0, tau.item()
    p = mu = reference.exp()

    def step(start, opponent):
        raw = start * mu ** (gamma * tau) * (gamma * (preference @ opponent)).exp()
        raw = raw ** (1 / (1 + gamma * tau))
        return raw / raw.sum()

    for _ in range(6):
        p = step(p, step(p, p))
    found = mp.nash_mirror_prox(nash.PreferenceGame(preference, reference, tau), 6).exp()
    torch.testing.assert_close(found, p, rtol=1e-12, atol=0)


def test_starts():
    games = random_games(5, 4)
    assert mp.nash_mirror_prox(nash.PreferenceGame(*games), 0).equal(games[1])
    assert mp.preference_mirror_descent(nash.PreferenceGame(*games), 0).equal(games[1])
    result = mp.nash_mirror_prox(nash.PreferenceGame(*games), 0)
    result.zero_()  # a copy
    assert not games[1].eq(0).all()
    assert len(list(mp.nash_mirror_prox_iterates(nash.PreferenceGame(*games), 3))) == 4
    assert len(list(mp.preference_mirror_descent_iterates(nash.PreferenceGame(*games), 3))) == 4
    default = inspect.signature(mp.nash_mirror_prox).parameters["step_size"].default
    assert default == 2.0


def test_iterates_end_where_the_function_does():
    games = random_games(5, 4)
    last = list(mp.nash_mirror_prox_iterates(nash.PreferenceGame(*games), 9))[-1].policy
    assert last.equal(mp.nash_mirror_prox(nash.PreferenceGame(*games), 9))
    last = list(mp.preference_mirror_descent_iterates(nash.PreferenceGame(*games), 9, 0.3))[-1]
    assert last.equal(mp.preference_mirror_descent(nash.PreferenceGame(*games), 9, 0.3))


def test_special_games():
    _, reference, tau = random_games(5, 30)
    fair = torch.full((5, 5), 0.5, dtype=F64)
    torch.testing.assert_close(
        mp.nash_mirror_prox(nash.PreferenceGame(fair, reference, tau), 3),
        reference,
        rtol=0,
        atol=1e-13,
    )
    # Two actions: the equilibrium does not depend on the opponent.
    p, even = 0.7, torch.full((2,), -math.log(2), dtype=F64)
    two = torch.tensor([[0.5, p], [1 - p, 0.5]], dtype=F64)
    found = mp.nash_mirror_prox(nash.PreferenceGame(two, even, 0.1), 300)
    assert (found[0] - found[1]).item() == pytest.approx((p - 0.5) / 0.1, rel=1e-10)


def test_relabelled_and_doubled_actions():
    preference, reference, tau = random_games(6, 10)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    found = mp.nash_mirror_prox(
        nash.PreferenceGame(preference[:, order][:, :, order], reference[:, order], tau), 12
    )
    expected = mp.nash_mirror_prox(nash.PreferenceGame(preference, reference, tau), 12)[:, order]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    twice = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    split = reference[:, twice] + torch.tensor([0.3, 0.7, 1, 1, 1, 1, 1], dtype=F64).log()
    found = mp.nash_mirror_prox(
        nash.PreferenceGame(preference[:, twice][:, :, twice], split, tau), 12
    )
    merged = torch.cat([found[:, :2].logsumexp(-1, keepdim=True), found[:, 2:]], -1)
    expected = mp.nash_mirror_prox(nash.PreferenceGame(preference, reference, tau), 12)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-12)
    gap = found[:, 0] - found[:, 1]
    torch.testing.assert_close(gap, torch.full_like(gap, math.log(3 / 7)), rtol=0, atol=1e-11)


def test_probabilities_that_underflow():
    preference, _, tau = random_games(4, 20)
    reference = torch.tensor([0.0, -1e4, -2e4, -800.0], dtype=F64).log_softmax(-1)
    star = nash.regularized_nash(nash.PreferenceGame(preference, reference, tau))
    far = nash.kl(star, mp.nash_mirror_prox(nash.PreferenceGame(preference, reference, tau), 400))
    assert far.max() < 1e-9


def test_without_a_temperature_the_cycle_is_still_solved():
    turn = torch.tensor([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]], dtype=F64)
    start = torch.tensor([0.8, 0.15, 0.05], dtype=F64).log()
    last = mp.nash_mirror_prox(nash.PreferenceGame(turn, start, 0.0), 2000, 0.5)
    assert nash.exploitability(nash.PreferenceGame(turn, start, 0.0), last) < 1e-3
    single = mp.preference_mirror_descent(nash.PreferenceGame(turn, start, 0.0), 2000, 0.5)
    assert nash.exploitability(nash.PreferenceGame(turn, start, 0.0), single) > 0.4


def test_infinitely_small_temperatures_and_long_steps_stay_finite():
    preference, reference, _ = random_games(4, 20)
    for tau in (0.0, 1e-12, 1e6):
        for step in (1e-12, 2.0, 1e9):
            result = mp.nash_mirror_prox(nash.PreferenceGame(preference, reference, tau), 5, step)
            assert result.isfinite().all()
            assert result.logsumexp(-1).abs().max() < 1e-6


def test_errors_of_payoffs():
    games = random_games(4, 3)
    plain = list(mp.nash_mirror_prox_iterates(nash.PreferenceGame(*games), 5))[-1]
    still = list(
        mp.nash_mirror_prox_iterates(nash.PreferenceGame(*games), 5, payoff_error=torch.zeros_like)
    )[-1]
    assert still.policy.equal(plain.policy)
    calls = []

    def constant(exact):  # changes nothing: steps do not see constants
        calls.append(exact)
        return torch.ones_like(exact)

    moved = list(
        mp.nash_mirror_prox_iterates(nash.PreferenceGame(*games), 5, payoff_error=constant)
    )[-1]
    torch.testing.assert_close(moved.policy, plain.policy, rtol=0, atol=1e-12)
    assert len(calls) == 11  # two an iteration, and the last half step
    biased = torch.tensor([0.1, 0.0, 0.0, 0.0], dtype=F64)
    run = mp.nash_mirror_prox_iterates(
        nash.PreferenceGame(*games), 5, payoff_error=lambda e: biased.expand(e.shape)
    )
    assert not list(run)[-1].policy.equal(plain.policy)


def test_bounds_are_numbers_or_tensors():
    tau = torch.tensor([0.1, 1.0], dtype=F64)
    for function in (mp.largest_step, mp.bounds.start_distance):
        both = function(tau)
        assert [function(0.1), function(1.0)] == pytest.approx(both.tolist(), rel=1e-14)
    assert mp.largest_step(0.0) == 2.0
    # With the largest step the factor is exp(-2 arsinh tau).
    factor = 1 + mp.largest_step(tau) * tau
    torch.testing.assert_close(factor, (2 * tau.asinh()).exp())
    start = torch.ones(2, dtype=F64)
    assert mp.bounds.kl_rate(start, tau, 2.0, 4).shape == (5, 2)
    with pytest.raises(ValueError, match="calls"):
        mp.bounds.cycle_modulus(0.1, 2.0, 3)


# The practical version.


def sequences(vocabulary=3, length=2, seed=3):
    space = nash.SequenceSpace(vocabulary, length)
    preference = random_games(space.count, 1, seed)[0][0]
    generator = torch.Generator().manual_seed(seed)
    shape = (4, space.prefixes, vocabulary)
    return space, preference, torch.randn(shape, generator=generator, dtype=F64), generator


def test_samples_are_unbiased():
    space, preference, (logits, opponent, target, reference), generator = sequences()
    game = nash.PreferenceGame(preference, space.log_probs(reference), 0.2)
    arguments = space, game, logits, opponent, target, 2.0
    exact = mp.proximal_gradient(*arguments)
    draws = torch.stack([
        mp.proximal_gradient(*arguments, samples=2000, generator=generator) for _ in range(200)
    ])  # fmt: skip
    error = draws.std(0) / math.sqrt(200)
    assert ((draws.mean(0) - exact).abs() <= 5 * error + 1e-12).all()
    assert draws.std(0).max() < 0.1


def test_gradients_of_a_batch():
    space, preference, tables, generator = sequences()
    many = [torch.stack([table, 2 * table]) for table in tables]
    taus = torch.tensor([0.2, 0.7], dtype=F64)

    def game(reference, tau):
        return nash.PreferenceGame(preference, space.log_probs(reference), tau)

    found = mp.proximal_gradient(space, game(many[3], taus), *many[:3], 2.0)
    for i, factor in enumerate((1, 2)):
        *mine, reference = factor * tables
        alone = mp.proximal_gradient(space, game(reference, taus[i].item()), *mine, 2.0)
        torch.testing.assert_close(found[i], alone, rtol=0, atol=1e-13)
    drawn = mp.proximal_gradient(
        space, game(many[3], taus), *many[:3], 2.0, samples=5, generator=generator
    )
    assert drawn.shape == found.shape


@pytest.mark.parametrize(("vocabulary", "length"), [(5, 1), (3, 2)])
def test_solved_exactly_it_is_the_algorithm(vocabulary, length):
    """Inner problems solved by many gradient steps give the closed-form iterates to 1e-8."""
    space, preference, tables, _ = sequences(vocabulary, length)
    reference = 0.5 * tables[0]
    mu = space.log_probs(reference)
    target = reference
    for now in mp.nash_mirror_prox_iterates(nash.PreferenceGame(preference, mu, 0.5), 3, 2.0):
        worst = nash.span(space.log_probs(target) - now.policy)
        assert worst < 1e-8
        half = mp.proximal_ascent(
            space,
            nash.PreferenceGame(preference, space.log_probs(reference), 0.5),
            target,
            target,
            2.0,
            steps=600,
            learning_rate=2.0,
        )
        assert nash.span(space.log_probs(half) - now.half) < 1e-8
        target = mp.proximal_ascent(
            space,
            nash.PreferenceGame(preference, space.log_probs(reference), 0.5),
            half,
            target,
            2.0,
            steps=600,
            learning_rate=2.0,
        )


def test_a_decay_of_zero_is_regularised_self_play():
    space, preference, tables, _ = sequences()
    logits, _, other, reference = tables
    found = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.2),
        logits,
        logits,
        logits,
        2.0,
    )
    plain = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.2),
        logits,
        logits,
        other,
        math.inf,
    )
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-13)
    online, target = mp.practical_mirror_prox(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.2),
        30,
        step_size=2.0,
        decay=0.0,
    )
    assert online.equal(target)
    free, _ = mp.practical_mirror_prox(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.2),
        30,
        step_size=math.inf,
        decay=0.7,
    )
    torch.testing.assert_close(online, free, rtol=0, atol=1e-11)


def test_without_a_target_the_inner_problem_is_a_best_response():
    space, preference, tables, _ = sequences(4, 1)
    opponent, target, reference = 0.5 * tables[1:]
    game = nash.PreferenceGame(preference, space.log_probs(reference), 0.5)
    found = mp.proximal_ascent(
        space, game, opponent, target, math.inf, steps=2000, learning_rate=2.0
    )
    best = nash.best_response(
        nash.PreferenceGame(preference, space.log_probs(reference), 0.5), space.log_probs(opponent)
    )
    assert nash.span(space.log_probs(found) - best) < 1e-8


def test_the_practical_version_finds_the_equilibrium():
    space, preference, tables, generator = sequences(3, 2)
    reference = 0.3 * tables[0]
    mu = space.log_probs(reference)
    star = nash.regularized_nash(nash.PreferenceGame(preference, mu, 0.1))
    online, target = mp.practical_mirror_prox(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.1),
        2500,
        learning_rate=2.0,
        decay=0.9,
    )
    assert nash.kl(star, space.log_probs(target)) < 1e-8
    assert nash.kl(star, space.log_probs(online)) < 1e-8
    half = mp.practical_mirror_prox(
        space, nash.PreferenceGame(preference, space.log_probs(reference), 0.1), 7
    )
    whole = mp.practical_mirror_prox(
        space, nash.PreferenceGame(preference, space.log_probs(reference), 0.1), 9
    )
    again = mp.practical_mirror_prox(
        space, nash.PreferenceGame(preference, space.log_probs(reference), 0.1), 2, start=half
    )
    assert all(a.equal(b) for a, b in zip(whole, again, strict=True))
    game = nash.PreferenceGame(preference, space.log_probs(reference), 0.1)
    _, noisy = mp.practical_mirror_prox(
        space, game, 600, learning_rate=0.2, decay=0.9, samples=32, generator=generator
    )
    assert nash.kl(star, space.log_probs(noisy)) < 0.2 * nash.kl(star, mu)
