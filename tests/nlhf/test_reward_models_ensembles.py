"""Ensembles: what the objectives satisfy, how errors add up, training as one program."""

import math

import pytest
import torch

from mdtheory.agents.networks import Network
from mdtheory.convex.mirror_maps import kl
from mdtheory.nlhf import reward_models as rm
from mdtheory.nlhf.reward_models import bounds, ensembles
from tests.nlhf.reward_models_cases import F64, draws, laws, normal
from tests.refused import at_most, close, fails

# ------------------------------------------------------------------ prop-ensemble-order


def votes(rewards, weight=0.5):
    kinds = (("mean", 0.0), ("WCO", 0.0), ("UWO", weight))
    return [rm.ensemble_objective(rewards, kind, w) for kind, w in kinds]


@pytest.mark.theorem("prop-ensemble-order", "equality")
def test_the_objectives_by_hand():
    rewards = torch.tensor([[1.0, 4.0], [2.0, 4.0], [6.0, 4.0]], dtype=F64)
    mean, worst, careful = votes(rewards)
    close(mean, torch.tensor([3.0, 4.0], dtype=F64))
    close(worst, torch.tensor([1.0, 4.0], dtype=F64))
    close(careful, torch.tensor([3 - 0.5 * 14 / 3, 4.0], dtype=F64))
    # One member: all are that member.
    for one in votes(rewards[:1]):
        close(one, rewards[0])


@pytest.mark.theorem("prop-ensemble-order", "equality")
def test_units_change_the_penalty_and_shifts_do_not():
    rewards = normal(draws(1), 5, 300)
    scale = torch.tensor([0.1, 2.0, 30.0], dtype=F64)[:, None]
    moved = scale * rewards[:, None] + 7
    mean, worst, _ = votes(rewards)
    close(rm.ensemble_objective(moved, "mean"), scale * mean + 7)
    close(rm.ensemble_objective(moved, "WCO"), scale * worst + 7)
    close(
        rm.ensemble_objective(moved, "UWO", 0.5),
        scale * rm.ensemble_objective(rewards[:, None], "UWO", 0.5 * scale) + 7,
    )


@pytest.mark.theorem("prop-ensemble-order", "bound")
@pytest.mark.parametrize("members", [2, 3, 5, 8])
def test_the_least_member_lies_between_two_multiples_of_the_deviation(members):
    rewards = normal(draws(2), members, 2000)
    mean, worst, careful = votes(rewards)
    deviation = rewards.var(0, correction=0).sqrt()
    root = math.sqrt(members - 1)
    at_most(worst, mean)
    at_most(careful, mean)
    at_most(deviation / root, mean - worst)
    at_most(mean - worst, root * deviation)
    # So it is lambda times the deviation that says which of the two is more careful.
    low = rm.ensemble_objective(rewards, "UWO", 1 / (root * deviation))
    high = rm.ensemble_objective(rewards, "UWO", root / deviation)
    at_most(worst, low)
    at_most(high, worst)
    # Attained by one member apart from the rest, above or below it.
    apart = torch.zeros(members, 2, dtype=F64)
    apart[0, 0], apart[0, 1] = 1.0, -1.0
    mean, worst, _ = votes(apart)
    deviation = apart.var(0, correction=0).sqrt()
    close((mean - worst) / deviation, torch.tensor([1 / root, root], dtype=F64))


@pytest.mark.theorem("prop-ensemble-order", "mutant")
def test_neither_is_always_the_more_careful_and_other_variances_are_other_penalties():
    rewards = normal(draws(3), 5, 500)
    mean, worst, _ = votes(rewards)
    for small in (0.1, 3.0):
        shrunk = small * rewards
        careful = rm.ensemble_objective(shrunk, "UWO", 1.0)
        if small < 1:
            fails(at_most, careful, small * worst, true=(small * worst, careful))
        else:
            fails(at_most, small * mean - 1e-9 + 0 * careful, careful,
                  true=(careful, small * mean - 1e-9 + 0 * careful))  # fmt: skip
    # Mutant: the sample variance (one of two paths of the released code): at five members the
    # penalty is a quarter larger.
    five = rm.ensemble_objective(rewards, "UWO", 0.5)
    by_hand = mean - 0.5 * (rewards - mean).square().mean(0)
    sample = mean - 0.5 * rewards.var(0, correction=1)
    fails(close, five, sample, true=(five, by_hand))
    close(sample, rm.ensemble_objective(rewards, "UWO", 0.5 * 5 / 4))
    # Mutant: the deviation in its place would have no unit of its own.
    root = mean - 0.5 * rewards.std(0, correction=0)
    fails(close, five, root, true=(five, by_hand))


def test_a_weight_of_zero_is_the_mean_and_no_default():
    rewards = normal(draws(4), 5, 20)
    close(rm.ensemble_objective(rewards, "UWO", 0), rewards.mean(0), tolerance=0)
    close(rm.ensemble_objective(rewards, "UWO"), rewards.mean(0), tolerance=0)
    close(rm.ensemble_objective(rewards, "uwo", 1.0),
          rm.ensemble_objective(rewards, "UWO", 1.0), tolerance=0)  # fmt: skip


def test_any_axis_and_weights_of_their_own():
    rewards = normal(draws(5), 4, 5, 6)
    for dim in (0, 1, 2, -1, -2):
        for kind in ("mean", "WCO", "UWO"):
            first = rm.ensemble_objective(rewards.movedim(dim, 0), kind, 0.3)
            close(rm.ensemble_objective(rewards, kind, 0.3, dim), first)
    weight = torch.rand(4, 1, generator=draws(6), dtype=F64)
    found = rm.ensemble_objective(rewards, "UWO", weight, 1)
    for k in range(4):
        close(found[k], rm.ensemble_objective(rewards[k], "UWO", weight[k].item()))


# ------------------------------------------------------------------ thm-pessimism


def chosen(log_policy, reward, weight):
    """The best policy for the reward less the divergence; weight 0 takes the best answer."""
    if weight == 0:
        best = reward == reward.amax(-1, keepdim=True)
        return torch.where(best, 0.0, -torch.inf).log_softmax(-1).to(reward.dtype)
    return rm.tilted_policy(log_policy, reward, 1 / weight)


def pessimism_sides(log_policy, gold, low, comparator, weight):
    def value(p, reward):
        spent = weight * kl(p, log_policy) if weight else 0.0
        return (p.exp() * reward).sum(-1) - spent

    policy = chosen(log_policy, low, weight)
    left = value(comparator, gold) - (comparator.exp() * (gold - low)).sum(-1)
    return left, value(policy, gold)


@pytest.mark.theorem("thm-pessimism", "bound")
@pytest.mark.theorem("thm-pessimism", "mutant")
@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_only_the_comparators_error_counts_where_the_proxy_is_a_lower_bound(weight):
    generator = draws(7)
    mu, comparator = laws(generator, 500, 6), laws(generator, 500, 6, spread=3.0)
    gold = normal(generator, 500, 6)
    members = gold + normal(generator, 5, 500, 6)
    # One member that never overestimates is enough.
    members[2] = gold - normal(generator, 500, 6).abs()
    low = rm.ensemble_objective(members, "WCO")
    true = pessimism_sides(mu, gold, low, comparator, weight)
    at_most(*true)
    # Mutant: the mean, which overestimates some answers; the policy finds them.
    mean = rm.ensemble_objective(members, "mean")
    fails(at_most, *pessimism_sides(mu, gold, mean, comparator, weight), true=true)


@pytest.mark.theorem("thm-pessimism", "equality")
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_comparator_that_was_chosen_attains_it_where_the_proxy_is_right(weight):
    generator = draws(8)
    mu, gold = laws(generator, 50, 6), normal(generator, 50, 6)
    best = chosen(mu, gold, weight)
    left, right = pessimism_sides(mu, gold, gold, best, weight)
    close(left, right)
    # An underestimate of the comparator is paid in full.
    low, gold = (torch.tensor(v, dtype=F64) for v in ([0.0, -1e-12], [0.0, 1.0]))
    even, second = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=F64).log()
    left, right = pessimism_sides(even, gold, low, second, 0.0)
    close(left, right)


# ------------------------------------------------------------------ thm-ensemble-tail

LEVELS = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=F64)
KINDS = [(1, 0.3), (2, 0.0), (5, 0.3), (5, 0.9), (8, 0.6)]


@pytest.mark.theorem("thm-ensemble-tail", "bound")
@pytest.mark.parametrize(("members", "correlation"), KINDS)
def test_the_tail_of_the_least_error_lies_between_two_gaussians(members, correlation):
    tail = bounds.log_worst_case_tail(LEVELS, members, correlation)
    at_most(tail, bounds.log_mean_tail(LEVELS, members, correlation), tolerance=1e-7)
    at_most(bounds.log_worst_case_floor(LEVELS, members, correlation), tail, tolerance=1e-7)
    variance = bounds.error_variance(members, correlation)
    at_most(bounds.log_mean_tail(LEVELS, members, correlation), -LEVELS.square() / (2 * variance))
    far = torch.tensor([20.0, 200.0], dtype=F64)
    both = (bounds.log_mean_tail, bounds.log_worst_case_floor)
    for log_tail in both:
        exponents = -2 * log_tail(far, members, correlation) / far.square()
        off = (exponents - 1 / variance).abs()
        assert off[1] < 0.01 * (1 / variance)
        assert off[1] < off[0]


@pytest.mark.theorem("thm-ensemble-tail", "equality")
def test_the_tails_by_sampling_and_for_one_member():
    generator = draws(9)
    k, r, count = 5, 0.3, 400_000
    errors = math.sqrt(r) * normal(generator, count, 1)
    errors = errors + math.sqrt(1 - r) * normal(generator, count, k)
    t = LEVELS[:2]
    for kind, log_tail in (("WCO", bounds.log_worst_case_tail), ("mean", bounds.log_mean_tail)):
        found = (rm.ensemble_objective(errors, kind, dim=1)[:, None] >= t).double().mean(0)
        wanted = log_tail(t, k, r).exp()
        assert bool(((found - wanted).abs() < 5 * (wanted / count).sqrt()).all())
    alone = torch.special.log_ndtr(-LEVELS)
    close(bounds.log_mean_tail(LEVELS, 1, 0.3), alone)
    close(bounds.log_worst_case_tail(LEVELS, 1, 0.3), alone, tolerance=1e-7)
    # With errors that are all one error the upper bound is attained.
    close(bounds.log_worst_case_tail(LEVELS, 5, 1.0), bounds.log_mean_tail(LEVELS, 5, 1.0))
    # The figures of a page: exponents at four standard deviations.
    four = torch.tensor([4.0], dtype=F64)
    for log_tail, wanted in ((bounds.log_mean_tail, 2.62), (bounds.log_worst_case_tail, 3.28)):
        assert -2 * log_tail(four, 5, 0.3).item() / 16 == pytest.approx(wanted, abs=0.01)


@pytest.mark.theorem("thm-ensemble-tail", "mutant")
def test_independent_errors_and_products_of_single_tails_are_other_tails():
    k, r = 5, 0.6
    tail = bounds.log_worst_case_tail(LEVELS, k, r)
    upper = bounds.log_mean_tail(LEVELS, k, r)
    # Mutants: the members' tails multiplied, and the mean's variance without the correlation.
    fails(at_most, tail, k * torch.special.log_ndtr(-LEVELS), true=(tail, upper))
    fails(at_most, tail, bounds.log_mean_tail(LEVELS, k, 0.0), true=(tail, upper))


# ------------------------------------------------------------------ training


def judged(seeds=2, pairs=256, noise=(0.0,), seed=10, **options):
    generator = draws(seed)
    world = rm.AnswerWorld(seeds, generator, features=4)
    return world, world.compare(pairs, generator, noise=noise, **options), generator


def test_training_lowers_the_loss_and_ranks_new_answers():
    world, data, generator = judged(pairs=1024, noise=(0.0, 0.4))
    ensemble = rm.train_reward_ensemble(
        *data, members=3, epochs=8, step_size=5e-3, generator=generator, hidden=(32, 32)
    )
    margin = ensemble(data.first) - ensemble(data.second)
    assert margin.shape == (2, 2, 3, 1024)
    loss = rm.bradley_terry_loss(margin, data.won[:, :, None])
    assert loss[:, 0].max() < 0.4 < loss[:, 1].min() < 0.7
    x = world.draw(1, 500, generator=generator)
    right = (ensemble(x).diff(dim=-1) > 0) == (world.gold(x).diff(dim=-1) > 0)[:, :, None]
    share = right.float().mean(-1)
    assert share[:, 0].min() > 0.85
    assert bool((share[:, 0].mean(-1) > share[:, 1].mean(-1)).all())


def test_copies_do_not_meet_and_each_sees_its_own_labels(monkeypatch):
    """A member of the batch is the network that a plain loop trains from the same start."""
    _, data, _ = judged(pairs=128, noise=(0.0, 0.5))
    starts = []
    start = ensembles._start
    monkeypatch.setattr(
        ensembles, "_start",
        lambda net, scale, g: (start(net, scale, g),
                               starts.extend(p.detach().clone() for p in net.parameters)),
    )  # fmt: skip
    options = {"members": 3, "epochs": 2, "step_size": 1e-2, "hidden": (8,), "batch": 48}
    found = rm.train_reward_ensemble(*data, generator=draws(11), **options)
    # The same draws again: weights, then the orders of each epoch.
    generator = draws(11)
    start(Network(12, (4, 8, 1), generator, activation="relu"), 1.0, generator)
    orders = [torch.rand(12, 128, generator=generator).argsort(-1) for _ in range(2)]
    for copy in (0, 4, 11):
        seed, level = copy // 6, copy // 3 % 2
        weights = [p[copy].clone().requires_grad_() for p in starts]
        optimizer = torch.optim.Adam(weights, 1e-2)

        def reward(x, weights=weights):
            hidden = torch.relu(x @ weights[0] + weights[1])
            return (hidden @ weights[2] + weights[3])[..., 0]

        for order in orders:
            for pick in order[copy].split(48):
                margin = reward(data.first[seed, 0, pick]) - reward(data.second[seed, 0, pick])
                sign = 2 * data.won[seed, level, pick] - 1
                loss = -torch.nn.functional.logsigmoid(sign * margin).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        ours = [p[copy] for p in found.network.parameters]
        for mine, theirs in zip(ours, weights, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_members_with_pairs_of_their_own_see_no_others():
    generator = draws(12)
    first, second = (torch.randn(1, 90, 2, generator=generator) for _ in range(2))
    # The first third says that the first feature is good, the rest that it is bad.
    won = (first[..., 0] > second[..., 0]).float()
    won[:, 30:] = 1 - won[:, 30:]
    ensemble = rm.train_reward_ensemble(
        first, second, won, members=3, epochs=60, step_size=1e-2, generator=generator,
        shared=False, hidden=(16,),
    )  # fmt: skip
    x = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]])
    slope = ensemble(x).diff(dim=-1)[0, :, 0]
    assert slope[0] > 0
    assert bool((slope[1:] < 0).all())
    with pytest.raises(ValueError, match="members: expected a divisor of 90"):
        rm.train_reward_ensemble(first, second, won, members=4, epochs=1, step_size=1e-2,
                                 generator=generator, shared=False)  # fmt: skip


def test_rewards_in_units_of_the_reference():
    world, data, generator = judged(pairs=128)
    plain = rm.train_reward_ensemble(
        *data, members=2, epochs=1, step_size=1e-3, generator=generator, hidden=(8,)
    )
    x = world.draw(1, 3000, generator=generator)
    units = plain.normalized(x)
    close(units(x).mean(-1), torch.zeros(1), tolerance=1e-4)
    close(units(x).std(-1), torch.ones(1), tolerance=1e-4)
    close(units.first(1)(x), units(x)[:, :, :1], tolerance=1e-6)
    with pytest.raises(ValueError, match="members: expected a whole number from 1 to 2"):
        units.first(3)
    # Again is the same; the order of answers does not change.
    close(units.normalized(x)(x), units(x), tolerance=1e-5)
    assert torch.equal(units(x).argsort(-1), plain(x).argsort(-1))
    flat = rm.RewardEnsemble(Network(4, (4, 1), draws(1), last_gain=0.0), (2, 1), 2)
    with pytest.raises(ValueError, match="reference: expected answers with different rewards"):
        flat.normalized(x)
