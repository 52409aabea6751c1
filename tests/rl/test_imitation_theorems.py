"""The labelled statements about boosting: bound, equality, mutant, tight instance."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import entropy_step, mixture
from mdtheory.rl import imitation as im
from mdtheory.rl.imitation import bounds
from mdtheory.rl.policy_mirror_descent import TabularMDP
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, fails, identity
from tests.rl.imitation_cases import F64, bandit, draws, law, pairs, plain_kl, processes, room

STEPS = {
    "0.05": 0.05,
    "0.2": 0.2,
    "open": lambda t: 2 / (t + 3),
    "uniform": lambda t: 1 / (t + 2),
    "search": "line_search",
}


# Mixtures are policies.


def two_states():
    """Staying in one state is each action's; the law of the first state is even."""
    transition = torch.zeros(2, 2, 2, dtype=F64)
    transition[:, 0, 0] = transition[:, 1, 1] = 1
    return TabularMDP(transition, torch.zeros(2, 2, dtype=F64), 0.9)


def mixed(mdp, policies, weights, initial):
    each = im.state_action_occupancy(mdp, policies, initial)
    return (weights[:, None, None, None] * each).sum(0)


@pytest.mark.theorem("prop-mixture-policy", "equality")
@pytest.mark.theorem("prop-mixture-policy", "mutant")
def test_a_mixture_is_the_occupancy_of_one_policy():
    mdp, _, initial = processes()
    generator = draws(1)
    policies = torch.stack([law(mdp, generator, 2.0) for _ in range(4)])
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64)
    d = mixed(mdp, policies, weights, initial)
    one = im.state_action_occupancy(mdp, im.policy_of_occupancy(d), initial)
    # The second way: weights that each state has moved by how often a learner comes there.
    visits = im.state_action_occupancy(mdp, policies, initial).sum(-1, keepdim=True)
    share = weights[:, None, None, None] * visits
    moved = im.state_action_occupancy(mdp, (share * policies).sum(0) / share.sum(0), initial)
    check_identity("prop-mixture-policy", d, moved, tolerance=1e-12)
    # Mutant: drawing a learner at every step, that is, averaging probabilities.
    average = (weights[:, None, None, None] * policies).sum(0)
    wrong = im.state_action_occupancy(mdp, average, initial)
    fails(identity("prop-mixture-policy"), d, wrong, true=[d, one], tolerance=1e-12)


@pytest.mark.theorem("prop-mixture-policy", "equality")
def test_per_episode_against_per_step_in_two_states():
    """Two learners that each stay where they are: in episodes never both, in steps always."""
    mdp, start = two_states(), torch.tensor([0.5, 0.5], dtype=F64)
    policies = torch.eye(2, dtype=F64)[:, None, :].expand(2, 2, 2)
    half = torch.full((2,), 0.5, dtype=F64)
    each = im.state_action_occupancy(mdp, policies, start)
    episode = (half[:, None, None] * each).sum(0)
    step = im.state_action_occupancy(mdp, policies.mean(0), start)
    # Learner 1 is in state 1 at all times but half of the first: 0.95 of its time.
    check_identity("prop-mixture-policy", episode,
                   torch.tensor([[0.475, 0.025], [0.025, 0.475]], dtype=F64))  # fmt: skip
    check_identity("prop-mixture-policy", step, torch.full((2, 2), 0.25, dtype=F64))


# One step, exactly.


@pytest.mark.theorem("thm-boost-identity", "equality")
@pytest.mark.parametrize("name", STEPS)
def test_one_step_along_whole_runs(name):
    for mdp, expert, rounds in ((*processes(10)[:2], 30), (*room(), 100)):
        record = im.boost_occupancies(mdp, expert, im.best_learner, STEPS[name], rounds)
        h = plain_kl(record.mixture, expert)
        after = (
            h[:-1] - record.step * record.gap + plain_kl(record.mixture[1:], record.mixture[:-1])
        )
        assert (h[1:] - after).abs().max() < 1e-12
        check_identity("thm-boost-identity", h[1:], after, tolerance=1e-12)
        check_identity("thm-boost-identity", record.divergence, h, tolerance=1e-12)


@pytest.mark.theorem("thm-boost-identity", "mutant")
def test_one_step_with_the_divergence_the_other_way_round():
    mdp, expert, _ = processes(10)
    record = im.boost_occupancies(mdp, expert, im.mirror_learner(1, 1.0), 0.3, 20)
    h, d = record.divergence, record.mixture
    start = h[:-1] - record.step * record.gap
    true = start + im.occupancy_divergence(d[1:], d[:-1])
    reversed_ = start + im.occupancy_divergence(d[:-1], d[1:])
    fails(identity("thm-boost-identity"), h[1:], reversed_, true=[h[1:], true], tolerance=1e-12)
    # Mutant: the gap without the new learner.
    alone = ((d[:-1] / expert).log() * d[:-1]).sum((-2, -1))
    fails(identity("thm-boost-identity"), h[1:], true + record.step * (record.gap - alone),
          true=[h[1:], true], tolerance=1e-12)  # fmt: skip


# The certificate.


def both(d, e):
    return im.occupancy_divergence(d, e) + im.occupancy_divergence(e, d)


def best_gap(mdp, d, expert, initial):
    shown = TabularMDP(mdp.transition, (expert / d).log(), mdp.discount)
    v = im.state_action_occupancy(mdp, im.best_learner(shown, d), initial)
    return im.frank_wolfe_gap(d, v, expert)


@pytest.mark.theorem("thm-boost-certificate", "bound")
@pytest.mark.parametrize("name", STEPS)
def test_the_gap_certifies_in_every_round(name):
    mdp, expert = room()
    record = im.boost_occupancies(mdp, expert, im.best_learner, STEPS[name], 100)
    assert check_bound("thm-boost-certificate", both(record.mixture[:-1], expert), record.gap) > 0.9
    check_bound("thm-boost-certificate", record.divergence[:-1], record.gap)


@pytest.mark.theorem("thm-boost-certificate", "equality")
@pytest.mark.theorem("thm-boost-certificate", "mutant")
def test_the_gap_and_both_divergences():
    mdp, expert, initial = processes()
    d = pairs(mdp, initial, draws(5))
    # With the expert itself as the learner the gap is the sum of both divergences.
    check_identity("thm-boost-certificate", im.frank_wolfe_gap(d, expert, expert), both(d, expert))
    # For any other learner the rest is what the expert loses against it.
    other = pairs(mdp, initial, draws(6))
    lost = ((d / expert).log() * (expert - other)).sum((-2, -1))
    check_identity("thm-boost-certificate", im.frank_wolfe_gap(d, other, expert),
                   both(d, expert) + lost)  # fmt: skip
    best = best_gap(mdp, d, expert, initial)
    # Mutant: some learner's gap in place of the oracle's.
    fails(bound("thm-boost-certificate"), both(d, expert), im.frank_wolfe_gap(d, other, expert),
          true=[both(d, expert), best])  # fmt: skip


@pytest.mark.theorem("thm-boost-certificate", "bound")
def test_the_certificate_is_attained_where_the_expert_is_almost_a_corner():
    mdp, one = bandit(), torch.ones(1, dtype=F64)
    d = torch.full((1, 2), 0.5, dtype=F64)
    for rest in (1e-2, 1e-4):
        expert = torch.tensor([[1 - rest, rest]], dtype=F64)
        gap = best_gap(mdp, d, expert, one)
        check_identity("thm-boost-certificate", gap,
                       torch.tensor(0.5 * math.log((1 - rest) / rest), dtype=F64))  # fmt: skip
        ratio = check_bound("thm-boost-certificate", both(d, expert), gap)
        assert ratio > 1 - 2.1 * rest


# How much a step bends the objective.


def spread_pairs(count=200, seed=4):
    generator = draws(seed)
    d, v = (2 * torch.randn(2, count, 2, 4, generator=generator, dtype=F64)).flatten(
        -2).softmax(-1).unflatten(-1, (2, 4))  # fmt: skip
    step = torch.rand(count, generator=generator, dtype=F64)
    return d, v, step, torch.lerp(d, v, step[:, None, None])


@pytest.mark.theorem("prop-curvature", "bound")
@pytest.mark.theorem("prop-curvature", "equality")
@pytest.mark.theorem("prop-curvature", "mutant")
def test_curvature():
    d, v, step, after = spread_pairs()
    chi = bounds.chi_square(v, d)
    check_identity("prop-curvature", bounds.chi_square(after, d), step**2 * chi, tolerance=1e-10)
    check_identity("prop-curvature", chi, (v**2 / d).sum((-2, -1)) - 1, tolerance=1e-10)
    change = im.occupancy_divergence(after, d)
    check_bound("prop-curvature", change, (step**2 * chi).log1p())
    check_bound("prop-curvature", bounds.curvature(change[None], step[None]), 2 * chi)
    # Mutant: half of it, as if the divergence were its own second order.
    fails(bound("prop-curvature"), change, (step**2 * chi / 2).log1p(),
          true=[change, (step**2 * chi).log1p()])  # fmt: skip
    # Mutant: the two laws exchanged.
    fails(bound("prop-curvature"), change, (step**2 * bounds.chi_square(d, v)).log1p(),
          true=[change, (step**2 * chi).log1p()])  # fmt: skip


@pytest.mark.theorem("prop-curvature", "bound")
def test_curvature_is_attained_by_a_law_cut_down_to_some_pairs():
    d = spread_pairs()[0]
    v = torch.where(torch.arange(4) < 2, d, 0.0)
    v = v / v.sum((-2, -1), keepdim=True)
    change = im.occupancy_divergence(v, d)
    check_identity("prop-curvature", change, bounds.chi_square(v, d).log1p())
    assert bounds.chi_square(d, v).isinf().all()


# Rates.


def part_way(expert, initial, kappa):
    """A learner that does a share of what the best one does: it mixes it with the ensemble."""

    def learn(shown, policy):
        d = expert * (-shown.reward).exp()
        best = im.state_action_occupancy(shown, im.best_learner(shown, policy), initial)
        return im.policy_of_occupancy(torch.lerp(d, best, kappa))

    return learn


@pytest.mark.theorem("thm-boost-rate", "bound")
@pytest.mark.theorem("thm-boost-rate", "mutant")
def test_constant_steps_with_weak_learners():
    mdp, expert, initial = processes(20, spread=2.0)
    rounds = 40
    for share, step in ((1.0, 0.1), (0.5, 0.3), (0.1, 0.5), (0.02, 1.0)):
        learner = part_way(expert, initial, share)
        record = im.boost_occupancies(mdp, expert, learner, step, rounds)
        h, c = record.divergence, bounds.curvature(record.change, record.step)
        kappa = bounds.share_of_gap(record.gap, h[:-1])
        assert (kappa >= 0.999 * share).all()
        right = torch.stack([
            bounds.constant_step_bound(h[0], c, step, t, kappa) for t in range(rounds + 1)
        ])  # fmt: skip
        check_bound("thm-boost-rate", h, right)
    # Mutant: a weak learner taken for an exact one.
    strong, true = (
        torch.stack([bounds.constant_step_bound(h[0], c, 1.0, t, k) for t in range(rounds + 1)])
        for k in (1.0, kappa)
    )
    fails(bound("thm-boost-rate"), h, strong, true=[h, true])


def test_a_warm_start_alone_is_no_weak_learner():
    """Better than the last learner is not better than the ensemble: the gap may be negative."""
    mdp, expert, _ = processes(20, spread=2.0)
    record = im.boost_occupancies(mdp, expert, im.mirror_learner(1, 0.5), 0.2, 40)
    assert (record.gap[0] > 0).all()
    assert (record.gap.amin(0) < 0).any()


@pytest.mark.theorem("thm-boost-rate", "equality")
def test_one_round_is_the_bound():
    mdp, expert, _ = processes(20)
    record = im.boost_occupancies(mdp, expert, im.mirror_learner(1, 0.1), 0.4, 1)
    h = record.divergence
    kappa = record.gap[0] / h[0]
    assert (kappa < 1).all()
    c = bounds.curvature(record.change, record.step)
    right = bounds.constant_step_bound(h[0], c, 0.4, 1, kappa)
    check_identity("thm-boost-rate", h[1], right)
    check_identity("thm-boost-rate", h[1], h[0] - 0.4 * record.gap[0] + record.change[0])


@pytest.mark.theorem("thm-boost-rate", "bound")
def test_a_learner_that_runs_in_a_circle_attains_the_bound():
    """Three actions, a uniform expert; the mixture goes round on a level of the divergence."""
    mdp, rounds, step, radius = bandit(3), 200, 0.2, 0.002
    angle = 0.1 * torch.arange(rounds + 1, dtype=F64)
    plane = torch.tensor([[1, -1, 0], [1, 1, -2]], dtype=F64)
    plane = plane / plane.norm(dim=-1, keepdim=True)
    path = 1 / 3 + radius * (torch.stack([angle.cos(), angle.sin()], -1) @ plane)
    plan = iter((path[:-1] + path.diff(dim=0) / step)[:, None])
    expert = torch.full((1, 3), 1 / 3, dtype=F64)
    record = im.boost_occupancies(
        mdp, expert, lambda shown, policy: next(plan), step, rounds, start=path[:1]
    )
    torch.testing.assert_close(record.mixture[:, 0], path)
    h = record.divergence
    kappa = bounds.share_of_gap(record.gap, h[:-1])
    c = bounds.curvature(record.change, record.step)
    right = bounds.constant_step_bound(h[0], c, step, rounds, kappa)
    assert 0 < kappa < 1
    assert check_bound("thm-boost-rate", h[-1], right) > 0.9
    # In the long run only the floor is left.
    assert (1 - kappa * step) ** rounds < 0.2


@pytest.mark.theorem("thm-boost-rate", "bound")
@pytest.mark.theorem("thm-boost-rate", "mutant")
def test_open_loop_steps():
    mdp, expert, _ = processes(20, spread=2.0)
    for process, e in ((mdp, expert), room()):
        record = im.boost_occupancies(process, e, im.best_learner, STEPS["open"], 100)
        h, c = record.divergence, bounds.curvature(record.change, record.step)
        right = torch.stack([bounds.open_loop_bound(h[0], c, t) for t in range(101)])
        check_bound("thm-boost-rate", h, right)
    # Mutant: the curvature alone, whatever the start; an expert that is almost a corner is far.
    far = torch.tensor([[1 - 1e-8, 1e-8]], dtype=F64)
    record = im.boost_occupancies(bandit(), far, im.best_learner, STEPS["open"], 5)
    h, c = record.divergence, bounds.curvature(record.change, record.step)
    right, alone = (
        torch.stack([bounds.open_loop_bound(x, c, t) for t in range(6)]) for x in (h[0], 0 * h[0])
    )
    fails(bound("thm-boost-rate"), h, alone, true=[h, right], scaled="the start is what is lost")


# The mirror step beside it.


@pytest.mark.theorem("thm-imitation-mirror", "bound")
@pytest.mark.theorem("thm-imitation-mirror", "equality")
@pytest.mark.theorem("thm-imitation-mirror", "mutant")
def test_the_mirror_step_contracts():
    d, e, _, _ = spread_pairs()
    for step in (0.1, 0.5, 0.9):
        path = im.mirror_occupancies(d, e, step, 6)
        far = im.occupancy_divergence(e, path)
        right = torch.stack([bounds.mirror_bound(far[0], step, t) for t in range(7)])
        check_bound("thm-imitation-mirror", far, right)
        # What is lost is the logarithm of the normaliser.
        inside = (1 - step) * path[:-1].log() + step * e.log()
        rest = inside.flatten(-2).logsumexp(-1)
        check_identity("thm-imitation-mirror", far[1:], (1 - step) * far[:-1] + rest,
                       tolerance=1e-10)  # fmt: skip
        # The closed form: one step of size 1 - (1 - step)^6.
        flat = [law.log().flatten(-2) for law in (d, e)]
        once = mixture(*flat, 1 - (1 - step) ** 6)
        check_identity("thm-imitation-mirror", path[-1].flatten(-2), once.exp(), tolerance=1e-12)
        again = entropy_step(flat[0], flat[0] - flat[1], step).exp().unflatten(-1, (2, 4))
        check_identity("thm-imitation-mirror", path[1], again, tolerance=1e-12)
        # Mutant: twice the rate.
        fast = torch.stack([bounds.mirror_bound(far[0], step, 2 * t) for t in range(7)])
        fails(bound("thm-imitation-mirror"), far, fast, true=[far, right])
        # Mutant: the arithmetic mixture in the identity.
        plain = im.occupancy_divergence(e, torch.lerp(path[:-1], e, step))
        fails(identity("thm-imitation-mirror"), plain, (1 - step) * far[:-1] + rest,
              true=[far[1:], (1 - step) * far[:-1] + rest], tolerance=1e-10)  # fmt: skip


@pytest.mark.theorem("thm-imitation-mirror", "bound")
def test_the_contraction_is_attained_by_a_start_that_nearly_lacks_something():
    e = torch.tensor([[0.5, 0.5]], dtype=F64)
    ratios = []
    for rest in (1e-3, 1e-30, 1e-300):
        x = torch.tensor([[1 - rest, rest]], dtype=F64)
        far = im.occupancy_divergence(e, im.mirror_occupancies(x, e, 0.5, 1))
        ratios.append(check_bound("thm-imitation-mirror", far[1], 0.5 * far[0]))
    assert ratios[0] < ratios[1] < ratios[2]
    assert ratios[2] > 0.99
