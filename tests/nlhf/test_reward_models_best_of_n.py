"""Best of n and the tilt beside it: statements, mutants, tight instances, numbers."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import entropy_step, kl
from mdtheory.nlhf import reward_models as rm
from mdtheory.nlhf.reward_models import bounds
from tests.nlhf.reward_models_cases import (
    F64,
    by_enumeration,
    by_tuples,
    draws,
    laws,
    normal,
    plain_kl,
)
from tests.refused import at_most, close, fails

# ------------------------------------------------------------------ prop-bon-estimate


@pytest.mark.theorem("prop-bon-estimate", "equality")
@pytest.mark.parametrize("ties", [False, True])
def test_the_estimator_is_the_mean_over_all_subsets(ties):
    generator = draws(1)
    for size in (1, 2, 5, 9):
        proxy = normal(generator, size)
        if ties:
            proxy = proxy.round()
        gold = normal(generator, size)
        for n in range(1, size + 1):
            wanted = by_enumeration(proxy.tolist(), gold.tolist(), n)
            assert rm.best_of_n_estimate(proxy, gold, n).item() == pytest.approx(
                wanted, rel=0, abs=1e-14
            )


@pytest.mark.theorem("prop-bon-estimate", "equality")
def test_its_mean_over_samples_is_the_mean_under_the_law():
    """All samples of five answers from a law with ties, each with its probability."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    scores, gold = (torch.tensor(v, dtype=F64) for v in ([0.0, 1.0, 1.0], [1.0, 3.0, -2.0]))
    samples = torch.cartesian_prod(*[torch.arange(3)] * 5)
    chance = p[samples].prod(-1)
    for n in (1, 2, 4, 5):
        law = rm.best_of_n_policy(p.log(), scores, n).exp()
        each = rm.best_of_n_estimate(scores[samples], gold[samples], n)
        close((chance * each).sum(), (law * gold).sum(), tolerance=1e-13)


@pytest.mark.theorem("prop-bon-estimate", "mutant")
def test_gold_that_is_sorted_too_or_stays_behind_is_another_number():
    generator = draws(2)
    proxy, gold = normal(generator, 200, 30), normal(generator, 200, 30)
    subsets = torch.stack([torch.randperm(30, generator=generator)[:4] for _ in range(40000)])
    picked = proxy[0][subsets].argmax(-1, keepdim=True)
    sampled = gold[0][subsets].gather(-1, picked).mean()
    right = rm.best_of_n_estimate(proxy, gold, 4)
    assert abs(sampled - right[0]) < 5 * gold[0].std() / math.sqrt(40000)
    # Released code sorted answers and proxies but left gold where it was; or sorts gold alone.
    ranked = proxy.sort(-1).values
    weights = torch.tensor([math.comb(i, 3) / math.comb(30, 4) for i in range(30)], dtype=F64)
    moved = (gold.gather(-1, proxy.argsort(-1)) * weights).sum(-1)
    fails(close, rm.best_of_n_estimate(ranked, gold, 4), right, true=(moved, right))
    fails(close, rm.best_of_n_estimate(gold, gold, 4), right, true=(moved, right))
    # Or counts subsets by C(i, n): the best answer then is one too low.
    late = torch.tensor([math.comb(i, 4) / math.comb(30, 4) for i in range(30)], dtype=F64)
    fails(close, (gold.gather(-1, proxy.argsort(-1)) * late).sum(-1), right, true=(moved, right))


def test_it_works_at_the_largest_numbers_of_the_paper():
    generator = draws(3)
    proxy = normal(generator, 3, 12_600)
    several = [1, 4, 500, 12_500, 12_600]
    own = rm.best_of_n_estimate(proxy, proxy, several)
    assert bool((own.diff(dim=-1) > 0).all())
    close(own[:, 0], proxy.mean(-1), tolerance=1e-13)
    close(own[:, -1], proxy.amax(-1), tolerance=1e-13)
    close(rm.best_of_n_estimate(proxy, torch.ones_like(proxy), several), torch.ones(5, dtype=F64),
          tolerance=1e-11)  # fmt: skip
    # Against exact whole numbers.
    for n in (500, 12_500):
        exact = [math.comb(i, n - 1) / math.comb(12_600, n) if i >= n - 1 else 0.0
                 for i in range(12_600 - 200, 12_600)]  # fmt: skip
        weights = torch.tensor(exact, dtype=F64)
        ours = rm.best_of_n_estimate(
            torch.arange(12_600, dtype=F64), torch.eye(12_600, dtype=F64)[-200:], n
        )
        torch.testing.assert_close(ours, weights, rtol=1e-11, atol=0)


def test_float32_and_one_number_or_several():
    generator = draws(4)
    proxy = normal(generator, 2, 3, 50)
    gold = normal(generator, 2, 1, 50)
    wide = rm.best_of_n_estimate(proxy, gold, [1, 7, 50])
    assert wide.shape == (2, 3, 3)
    close(wide[..., 1], rm.best_of_n_estimate(proxy, gold, 7))
    narrow = rm.best_of_n_estimate(proxy.float(), gold.float(), [1, 7, 50])
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=1e-5)


# ------------------------------------------------------------------ thm-best-of-n

N = torch.tensor([1.0, 2.0, 3.0, 7.0, 64.0, 12_500.0], dtype=F64)


def supports(count=400, k=7, seed=5):
    """Laws over scores with ties."""
    generator = draws(seed)
    return laws(generator, count, k), torch.randint(5, (count, k), generator=generator).double()


@pytest.mark.theorem("thm-best-of-n", "equality")
def test_the_law_is_that_of_all_tuples():
    log_policy, scores = supports(4, 4)
    for p, s in zip(log_policy, scores, strict=True):
        for n in (1, 2, 5):
            wanted = by_tuples(p.exp().tolist(), s.tolist(), n)
            close(rm.best_of_n_policy(p, s, n).exp(), wanted, tolerance=1e-13)
            win = sum(
                wanted[a] * p[b].exp() * (s[a] > s[b]).double() + wanted[a] * p[b].exp()
                * 0.5 * (s[a] == s[b]).double() for a in range(4) for b in range(4)
            )  # fmt: skip
            close((wanted * rm.rank(p, s)).sum(), win, tolerance=1e-13)


@pytest.mark.theorem("thm-best-of-n", "bound")
def test_divergence_win_rate_and_ratio_are_bounded():
    log_policy, scores = supports()
    law = rm.best_of_n_policy(log_policy[:, None], scores[:, None], N)
    close(law.exp().sum(-1), torch.ones(1, dtype=F64), tolerance=1e-12)
    at_most(kl(law, log_policy[:, None]), rm.best_of_n_divergence(N))
    at_most((law.exp() * rm.rank(log_policy, scores)[:, None]).sum(-1), rm.best_of_n_win_rate(N))
    at_most((law - log_policy[:, None]).amax(-1).exp(), N)


@pytest.mark.theorem("thm-best-of-n", "bound")
def test_many_answers_without_ties_attain_all_three():
    fine = torch.full((20_000,), 1 / 20_000, dtype=F64)
    for n in (2.0, 4.0, 64.0):
        bound = rm.best_of_n_divergence(n)
        found = rm.best_of_n_divergence(n, fine)
        assert found <= bound
        assert found > 0.9999 * bound
        # At n = 2 the win rate's error is of second order in the size of an atom.
        assert 0 <= rm.best_of_n_win_rate(n) - rm.best_of_n_win_rate(n, fine) < 1e-5
        law = rm.best_of_n_policy(fine.log(), torch.arange(20_000).double(), n)
        assert (law - fine.log()).max().exp() > 0.99 * n


@pytest.mark.theorem("thm-best-of-n", "mutant")
def test_ties_that_go_to_one_answer_and_formulas_that_forget_them():
    log_policy, scores = supports()
    exact = kl(rm.best_of_n_policy(log_policy, scores, 4), log_policy)
    formula = torch.full_like(exact, rm.best_of_n_divergence(4).item())
    again = plain_kl(rm.best_of_n_policy(log_policy, scores, 4).exp(), log_policy.exp())
    fails(close, formula, exact, true=(again, exact), tolerance=1e-9)
    # Mutant: ties always go to the first answer, which is more than the formula allows nowhere,
    # but is another law.
    order = torch.arange(7, dtype=F64).flip(-1) * 1e-6
    first = rm.best_of_n_policy(log_policy, scores + order, 4)
    fails(close, kl(first, log_policy), exact, true=(again, exact), tolerance=1e-9)
    # Mutant of the bound: its limit log n - 1, taken for every n.
    smaller = math.log(4) - 3 / 4
    wrong = torch.full_like(exact, math.log(4) - 1)
    fine = kl(first, log_policy).amax()
    assert fine > wrong[0]
    fails(at_most, fine[None], wrong[:1], true=(fine[None], torch.tensor([smaller], dtype=F64)))


def test_figures_of_the_divergence():
    assert rm.best_of_n_divergence(12_500).item() == pytest.approx(8.4336, abs=1e-4)
    four = torch.full((4,), 0.25, dtype=F64)
    for n in (1, 4, 64):
        grid = (torch.arange(5, dtype=F64) / 4) ** n
        q = grid.diff()
        wanted = (torch.xlogy(q, q) - q * math.log(0.25)).sum()
        close(rm.best_of_n_divergence(n, four), wanted, tolerance=1e-13)
        close(rm.best_of_n_win_rate(n, four), (q * (torch.arange(4) + 0.5) / 4).sum())
    # Near n = 1 nothing cancels.
    close(rm.best_of_n_divergence(1, four), torch.zeros((), dtype=F64), tolerance=1e-15)
    # A probability of 0 is no answer.
    some = torch.tensor([0.0, 0.25, 0.0, 0.75], dtype=F64)
    close(rm.best_of_n_divergence(3, some), rm.best_of_n_divergence(3, some[some > 0]))
    law = rm.best_of_n_policy(some.log(), torch.arange(4.0, dtype=F64), 3)
    assert law[0] == law[2] == -torch.inf


# ------------------------------------------------------------------ thm-tilt


@pytest.mark.theorem("thm-tilt", "equality")
@pytest.mark.parametrize("n", [2, 3, 16, 500])
def test_what_best_of_n_pays_beyond_the_tilt_is_a_divergence(n):
    log_policy, scores = supports()
    rank = rm.rank(log_policy, scores)
    for reward in (rank, normal(draws(6), *scores.shape)):
        law = rm.best_of_n_policy(log_policy, reward, n)
        reached = (law.exp() * reward).sum(-1)
        highest = reward.amax(-1)
        within = reached < highest - 1e-3 * (highest - reward.amin(-1))
        mu, r, p = log_policy[within], reward[within], law[within]
        step = rm.tilt_of_reward(mu, r, reached[within])
        tilt = rm.tilted_policy(mu, r, step)
        close((tilt.exp() * r).sum(-1), reached[within], tolerance=1e-10)
        assert len(mu) > 10
        close(kl(p, mu) - kl(tilt, mu), kl(p, tilt), tolerance=1e-9)


@pytest.mark.theorem("thm-tilt", "mutant")
def test_the_divergence_the_other_way_is_not_the_price():
    log_policy, scores = supports()
    rank = rm.rank(log_policy, scores)
    law = rm.best_of_n_policy(log_policy, scores, 3)
    reached = (law.exp() * rank).sum(-1)
    within = reached < rank.amax(-1) - 1e-3
    mu, p, r = log_policy[within], law[within], rank[within]
    tilt = rm.tilted_policy(mu, r, rm.tilt_of_reward(mu, r, reached[within]))
    price = kl(p, mu) - kl(tilt, mu)
    fails(close, price, kl(tilt, p), true=(price, kl(p, tilt)), tolerance=1e-9)
    # Nor is it that of a tilt with the same step size for all.
    other = rm.tilted_policy(mu, r, 3.0)
    fails(close, price, kl(p, other), true=(price, kl(p, tilt)), tolerance=1e-9)


@pytest.mark.theorem("thm-tilt", "bound")
def test_at_equal_divergence_nothing_has_more_reward_than_the_tilt():
    log_policy, scores = supports()
    rank = rm.rank(log_policy, scores)
    law = rm.best_of_n_policy(log_policy, scores, 4)
    spent = kl(law, log_policy)
    top = torch.where(rank == rank.amax(-1, keepdim=True), log_policy, -torch.inf).logsumexp(-1)
    legal = (spent < -top - 1e-3) & (spent > 1e-6)
    mu, r, p = log_policy[legal], rank[legal], law[legal]
    step = rm.tilt_of_divergence(mu, r, spent[legal])
    tilt = rm.tilted_policy(mu, r, step)
    close(kl(tilt, mu), spent[legal], tolerance=1e-9)
    at_most((p.exp() * r).sum(-1), (tilt.exp() * r).sum(-1))
    # Attained where two answers differ in score: both are then the same family.
    two = laws(draws(7), 50, 2)
    best = rm.best_of_n_policy(two, torch.tensor([0.0, 1.0], dtype=F64), 2)
    step = rm.tilt_of_divergence(two, torch.tensor([0.0, 1.0], dtype=F64), kl(best, two))
    same = rm.tilted_policy(two, torch.tensor([0.0, 1.0], dtype=F64), step)
    close(same.exp(), best.exp(), tolerance=1e-7)


def test_the_tilt_is_the_mirror_step_from_the_reference():
    log_policy, reward = laws(draws(8), 5, 4), normal(draws(9), 5, 4)
    far = rm.tilted_policy(log_policy, reward, 0.7)
    close(far, (log_policy + 0.7 * reward).log_softmax(-1))
    close(far, entropy_step(log_policy, -reward, 0.7), tolerance=0)
    # Its best trade: greater reward less divergence / eta than any other policy.
    others = laws(draws(10), 200, 5, 4)
    value = lambda p: (p.exp() * reward).sum(-1) - kl(p, log_policy) / 0.7  # noqa: E731
    at_most(value(others), value(far))
    # Rewards in other units: the step is in units of one over the reward.
    spent = torch.full((5,), 0.1, dtype=F64)
    step = rm.tilt_of_divergence(log_policy, reward, spent)
    for unit in (1e-8, 1e8):
        close(unit * rm.tilt_of_divergence(log_policy, unit * reward, spent), step, tolerance=1e-9)


def test_figures_of_the_tilt_of_a_uniform_rank():
    n = torch.tensor([2.0, 3.0, 4.0, 8.0, 16.0, 64.0], dtype=F64)
    tilt = rm.rank_tilt_of(win_rate=rm.best_of_n_win_rate(n))
    gap = rm.best_of_n_divergence(n) - tilt.divergence
    wanted = torch.tensor([0.0205, 0.0233, 0.0194, 0.0071, 0.0019, 0.0001], dtype=F64)
    torch.testing.assert_close(gap, wanted, rtol=0, atol=6e-5)
    # The gap is the divergence from the tilt: by quadrature.
    u = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
    for k in range(3):
        density = n[k] * u ** (n[k] - 1)
        b = tilt.step_size[k]
        log_mass = torch.log(torch.expm1(b) / b)
        direct = (density * (n[k].log() + (n[k] - 1) * u.log() - b * u + log_mass)).mean()
        assert abs(direct - gap[k]) < 1e-6
    more = rm.rank_tilt_of(divergence=rm.best_of_n_divergence(n)).win_rate
    wins = more - rm.best_of_n_win_rate(n)
    torch.testing.assert_close(wins[[0, 2, 4]], torch.tensor([0.0092, 0.0040, 0.0001], dtype=F64),
                               rtol=0, atol=6e-5)  # fmt: skip
    # The series near 0 meets the formula.
    near = rm.rank_tilt(torch.tensor([0.0099999, 0.0100001], dtype=F64))
    assert abs(near.win_rate.diff()) < 2e-8
    assert abs(near.divergence.diff()) < 2e-9


# ------------------------------------------------------------------ thm-bon-regret


@pytest.mark.theorem("thm-bon-regret", "bound")
def test_how_much_best_of_n_enlarges_an_error():
    log_policy, scores = supports()
    gold = normal(draws(11), *scores.shape)
    error = scores - gold
    root = (log_policy.exp() * error.square()).sum(-1).sqrt()
    for n in N.tolist():
        law = rm.best_of_n_policy(log_policy, scores, n).exp()
        at_most((law * error).sum(-1), bounds.regret_factor(n) * root)


@pytest.mark.theorem("thm-bon-regret", "equality")
@pytest.mark.parametrize("n", [1.0, 4.0, 64.0])
def test_an_error_like_the_density_attains_it(n):
    u = (torch.arange(400_000, dtype=F64) + 0.5) / 400_000
    density = n * u ** (n - 1)
    error = 0.3 * density
    left = (density * error).mean()
    right = bounds.regret_factor(n) * error.square().mean().sqrt()
    close(left, right, tolerance=1e-6)


@pytest.mark.theorem("thm-bon-regret", "mutant")
def test_a_root_of_n_is_too_little():
    n = torch.tensor([4.0, 16.0, 64.0], dtype=F64)
    u = (torch.arange(400_000, dtype=F64) + 0.5) / 400_000
    density = n[:, None] * u ** (n[:, None] - 1)
    left = density.square().mean(-1)
    root = left.sqrt()
    # Mutants: the root of log n, as a bound through divergences might suggest; and the error of
    # the answers that are *not* among the best.
    fails(at_most, left, n.log().sqrt() * root, true=(left, bounds.regret_factor(n) * root),
          tolerance=1e-6)  # fmt: skip
    low = (density[:, :200_000].square().mean(-1)).sqrt()
    fails(at_most, left, bounds.regret_factor(n) * low,
          true=(left, bounds.regret_factor(n) * root), tolerance=1e-6)  # fmt: skip
