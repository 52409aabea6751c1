"""The combination lock: every statement about it by equality, bound, mutant and tight instance."""

import math

import pytest
import torch

from mdtheory.rl import exploration as ex
from mdtheory.rl.mdpo import mdpo_loss, ppo_loss
from mdtheory.rl.policy_mirror_descent import evaluate
from mdtheory.runs import check_bound, check_identity
from tests.refused import breaks, differ

F64 = torch.float64
LOCKS = [(2, 1), (2, 5), (3, 4), (4, 10), (7, 3), (4, 40)]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def table(values):
    return torch.tensor(values, dtype=F64)


# No return.


@pytest.mark.theorem("prop-lock-blind", "equality")
@pytest.mark.theorem("prop-lock-blind", "mutant")
@pytest.mark.parametrize(("actions", "depth"), [(2, 1), (2, 8), (3, 4), (5, 3)])
def test_chance_of_a_blind_episode(actions, depth):
    lock, discount = ex.CombinationLock(depth, actions, gen(3)), 0.9
    mdp = lock.mdp(discount)
    value, _ = evaluate(mdp, mdp.uniform_policy())
    chance = value[:1] / discount ** (depth - 1)
    check_identity("prop-lock-blind", chance, table([float(actions) ** -depth]))
    # Mutant: the last action comes for free.
    assert differ("prop-lock-blind", chance, table([float(actions) ** (1 - depth)]))


@pytest.mark.theorem("prop-lock-blind", "bound")
def test_many_episodes_hardly_help():
    chance = torch.logspace(-12, -1, 50, dtype=F64)
    episodes = torch.logspace(0, 8, 40, dtype=F64)[:, None]
    left = -torch.expm1(episodes * torch.log1p(-chance))
    assert check_bound("prop-lock-blind", left, episodes * chance) > 0.999  # attained in the limit
    # Mutant: one episode less; one of them is all that there is.
    assert breaks("prop-lock-blind", left, (episodes - 1) * chance)


def sampled_gradients(reward, bonus=0.0):
    """Gradients by the logits of the losses of three methods, at the policy that sampled."""
    generator = gen(5)
    logits = torch.randn(20, 4, generator=generator, dtype=F64).requires_grad_()
    actions = torch.randint(4, (20,), generator=generator)
    advantage = reward - reward.mean()

    def log_prob():
        return logits.log_softmax(-1).gather(-1, actions[:, None])[:, 0]

    old = log_prob().detach()
    law, base = logits.log_softmax(-1), logits.log_softmax(-1).detach()
    distance = (law.exp() * (law - base)).sum(-1)
    entropy = -(law.exp() * law).sum(-1).mean()
    losses = (
        -(log_prob() * advantage).mean(),
        ppo_loss(log_prob(), old, advantage),
        mdpo_loss(log_prob(), old, advantage, distance, 0.5),
    )
    return [
        torch.autograd.grad(loss - bonus * entropy, logits, retain_graph=True)[0] for loss in losses
    ]


@pytest.mark.theorem("prop-lock-blind", "equality")
@pytest.mark.theorem("prop-lock-blind", "mutant")
def test_without_a_reward_nothing_moves():
    nothing = torch.zeros(20, dtype=F64)
    for gradient in sampled_gradients(nothing):
        check_identity("prop-lock-blind", gradient, torch.zeros_like(gradient), tolerance=1e-15)
    one = nothing.clone()
    one[3] = 1.0
    for gradient in sampled_gradients(one):
        assert gradient.abs().max() > 1e-3
    # Mutant: a bonus for entropy moves every policy that is not uniform, whatever the reward.
    for gradient in sampled_gradients(nothing, bonus=0.1):
        assert differ("prop-lock-blind", gradient, torch.zeros_like(gradient))


def test_sampled_mirror_descent_stays_uniform_to_the_last_bit():
    lock = ex.CombinationLock(30, 4, gen(1))
    way = lock.combination.tolist()
    found = ex.robustify(lock, [way], gen(2), sticky=0.0, steps=5000, curriculum=False)
    assert (found.policy == 0.25).all()
    assert found.success == 0.0


# Exact action values at every depth.

STEPS = table([0.1, 0.5, 1.0, 3.0, 20.0])


@pytest.mark.theorem("thm-lock-exact", "equality")
def test_lock_descent_is_natural_policy_gradient():
    """The steps are those of policy mirror descent as the discount nears 1."""
    depth, actions, steps = 4, 3, 6
    lock = ex.CombinationLock(depth, actions, gen(4))
    chance = ex.lock_descent(actions, depth, 0.7, steps)
    discount = 1 - 1e-7
    mdp = lock.mdp(discount)
    policy = mdp.uniform_policy()
    for k in range(steps + 1):
        value, action_value = evaluate(mdp, policy)
        assert value[0].item() == pytest.approx(chance[k].item(), rel=1e-5)
        policy = (policy.log() + 0.7 * action_value).softmax(-1)


@pytest.mark.theorem("thm-lock-exact", "equality")
@pytest.mark.theorem("thm-lock-exact", "mutant")
@pytest.mark.parametrize(("actions", "depth"), [(2, 6), (4, 20), (3, 50)])
def test_account_of_the_mirror_steps(actions, depth):
    """eq-lock-account: with all terms of the proof kept, nothing is lost."""
    steps, eta = 60, 0.8
    dual = torch.zeros(depth, actions, dtype=F64)
    gaps, account, careless = [], [], []
    for _ in range(steps):
        policy = dual.softmax(-1)
        onward = policy[:, 0].flip(0).cumprod(0).flip(0)
        ahead = torch.cat([onward[1:], onward.new_ones(1)])
        gain = torch.zeros_like(dual)
        gain[:, 0] = ahead
        after = dual + eta * gain
        new = after.softmax(-1)
        moved = (new * (new / policy).log()).sum(-1)
        climbed = (new[:, 0] / policy[:, 0]).log()
        rise = ((new - policy) * gain).sum(-1)
        gaps.append(1 - onward[0])
        account.append(((climbed - moved) / eta + rise).sum())
        careless.append((climbed / eta + rise).sum())
        dual = after
    check_identity("thm-lock-exact", torch.stack(gaps), torch.stack(account))
    check_identity(
        "thm-lock-exact", 1 - ex.lock_descent(actions, depth, eta, steps - 1), torch.stack(gaps)
    )
    # Mutant: the divergence between the policies forgotten.
    assert differ("thm-lock-exact", torch.stack(gaps), torch.stack(careless))


@pytest.mark.theorem("thm-lock-exact", "bound")
@pytest.mark.theorem("thm-lock-exact", "mutant")
@pytest.mark.parametrize(("actions", "depth"), [(2, 3), (4, 20), (10, 60)])
def test_mirror_steps_open_the_lock(actions, depth):
    steps = 400
    gap = 1 - ex.lock_descent(actions, depth, STEPS, steps)
    right = ex.mirror_bound(actions, depth, STEPS, steps)
    assert (gap.diff(dim=0) <= 1e-15).all()
    worst = check_bound("thm-lock-exact", gap, right)
    assert worst > 1 / 3
    if depth > 3:
        # Mutant: the way home without the factor H, as if one depth had to be learned.
        assert breaks("thm-lock-exact", gap, right - (depth - 1) * right / depth)


@pytest.mark.theorem("thm-lock-exact", "bound")
@pytest.mark.theorem("thm-lock-exact", "mutant")
@pytest.mark.parametrize(("actions", "depth"), [(2, 4), (3, 5), (4, 20)])
def test_gradient_steps_do_not(actions, depth):
    steps, eta = 300, table([0.01, 0.1, 1.0])
    chance = ex.lock_descent(actions, depth, eta, steps, weighted=True)
    right = ex.gradient_bound(actions, depth, eta, steps)
    assert check_bound("thm-lock-exact", chance, right) > 0.99
    if depth < 20:  # Mutant: the chance stays what it was.
        assert breaks("thm-lock-exact", chance, right[:1].expand_as(right).contiguous())
    else:
        assert chance.max() < 1.01 * 4.0**-20
    # The bound is good for long: a third of the way to where it ends.
    if depth == 5:
        long = ex.lock_descent(3, 5, 0.1, 500, weighted=True)
        ratio = long / ex.gradient_bound(3, 5, table(0.1), 500)
        assert ratio[400] > 0.4


# With a return.


@pytest.mark.theorem("thm-lock-uniform", "equality")
@pytest.mark.theorem("thm-lock-uniform", "mutant")
def test_trials_with_one_action():
    closed = table([ex.lock_trials(a, h, 1) for a, h in LOCKS])
    recursion = table([ex.lock_recursion(a, h, 1) for a, h in LOCKS])
    check_identity("thm-lock-uniform", closed, recursion)
    mutants = {
        "the sum ends one early": lambda a, h: a * h * (h - 1) / 2,
        "only wrong actions count": lambda a, h: (a - 1) * h * (h + 1) / 2,
        "the start is no cell": lambda a, h: a * (1 + h * (h - 1) / 2),
        "no return": lambda a, h: float(a) ** h,
    }
    for mutant in mutants.values():
        wrong = table([mutant(a, h) for a, h in LOCKS])
        assert differ("thm-lock-uniform", recursion, wrong)


@pytest.mark.theorem("thm-lock-uniform", "equality")
def test_variance_is_a_sum_of_geometric_ones():
    for a, h in LOCKS:
        parts = sum(n * a * (n * a - 1) for n in range(1, h + 1))
        check_identity("thm-lock-uniform", table([ex.lock_variance(a, h)]), table([parts]))


@pytest.mark.theorem("thm-lock-uniform", "equality")
@pytest.mark.parametrize(
    ("explore", "rule"), [(1, "uniform"), (3, "uniform"), (math.inf, "uniform")]
)
def test_trials_are_what_is_played(explore, rule):
    runs = 2000
    for depth in (3, 10):
        trials = ex.simulate_lock(4, depth, explore, gen(depth), runs=runs, rule=rule).double()
        expected = ex.lock_trials(4, depth, explore)
        assert abs(trials.mean() - expected) < 4 * trials.std() / runs**0.5
        if explore == 1:
            spread = ex.lock_variance(4, depth)
            assert trials.var().item() == pytest.approx(spread, rel=0.15)


@pytest.mark.theorem("thm-lock-uniform", "bound")
def test_longer_walks_need_no_more_trials():
    cases = [(a, h, k) for a, h in LOCKS for k in (1, 2, 3, 7, 100, math.inf)]
    left = table([ex.lock_trials(*case) for case in cases])
    right = table([ex.lock_trials(a, h, 1) for a, h, _ in cases])
    assert check_bound("thm-lock-uniform", left, right) == 1.0  # attained at k = 1
    # Longer walks help, but at most by the square of 1 - 1/A.
    far = table([ex.lock_trials(a, 2000, math.inf) / ex.lock_trials(a, 2000, 1) for a in (2, 4, 9)])
    limit = (1 - 1 / table([2, 4, 9])) ** 2
    assert (far / limit - 1).abs().max() < 5e-3


@pytest.mark.theorem("thm-lock-far", "equality")
@pytest.mark.theorem("thm-lock-far", "mutant")
def test_trials_until_death():
    closed = table([ex.lock_trials(a, h, math.inf) for a, h in LOCKS])
    recursion = table([ex.lock_recursion(a, h, math.inf) for a, h in LOCKS])
    check_identity("thm-lock-far", closed, recursion)
    mutants = {
        "every depth is a resting place": lambda a, h: (a - 1) * sum(
            n / (1 - float(a) ** -n) for n in range(1, h + 1)
        ),
        "only the deepest cell makes progress": lambda a, h: a + (a - 1) * sum(range(2, h + 1)),
    }  # fmt: skip
    for mutant in mutants.values():
        assert differ("thm-lock-far", recursion, table([mutant(a, h) for a, h in LOCKS]))


def test_recursion_between_the_ends():
    assert ex.lock_trials(4, 10, 3) == pytest.approx(131.8746965566943)
    assert ex.lock_trials(4, 10, 10) == pytest.approx(ex.lock_trials(4, 10, math.inf))
    assert ex.lock_trials(2, 5, math.inf) == pytest.approx(9.761597542242702)


@pytest.mark.theorem("thm-lock-lower", "bound")
@pytest.mark.theorem("thm-lock-lower", "mutant")
def test_no_rule_is_faster():
    cases = [(a, h, k) for a, h in LOCKS for k in (1, 2, 5, math.inf)]
    fewest = table([ex.lock_lower_bound(*case) for case in cases])
    uniform = table([ex.lock_trials(*case) for case in cases])
    check_bound("thm-lock-lower", fewest, uniform)
    # Means over 2000 runs of a rule that looks at its archive.
    means, rights = [], []
    for depth, explore in ((5, 1), (12, 1), (12, 2), (12, math.inf)):
        trials = ex.simulate_lock(3, depth, explore, gen(7), runs=2000, rule="seen")
        means.append(trials.double().mean())
        rights.append(ex.lock_lower_bound(3, depth, explore))
    assert check_bound("thm-lock-lower", table(rights), torch.stack(means)) > 1 / 3
    # Always the deepest cell: depth by depth a geometric number of trials with mean A.
    deepest = table([float(a * h) for a, h in LOCKS])
    bounds = table([ex.lock_lower_bound(a, h, 1) for a, h in LOCKS])
    assert check_bound("thm-lock-lower", bounds, deepest) == pytest.approx(1)
    # Mutant: the start has to be opened, too.
    wrong = table([ex.lock_lower_bound(a, h + 1, 1) for a, h in LOCKS])
    assert breaks("thm-lock-lower", wrong, deepest)


@pytest.mark.theorem("thm-lock-lower", "equality")
@pytest.mark.parametrize(("actions", "depth"), [(2, 5), (4, 12)])
def test_the_deepest_cell_attains_the_bound(actions, depth):
    runs = 4000
    trials = ex.simulate_lock(actions, depth, 1, gen(8), runs=runs, rule="deepest").double()
    assert (
        abs(trials.mean() - ex.lock_lower_bound(actions, depth, 1)) < 4 * trials.std() / runs**0.5
    )
    # With walks until death it rests at depth n > 1 with chance 1 - 1/A: one trial above the bound.
    far = ex.simulate_lock(actions, depth, math.inf, gen(8), runs=runs, rule="deepest").double()
    exact = ex.lock_lower_bound(actions, depth, math.inf) + 1
    assert abs(far.mean() - exact) < 4 * far.std() / runs**0.5


def test_weights_by_counts_grow_slower_than_uniform_ones():
    """Slopes in the depth: 2 for equal chances, 1 for the deepest cell, between them for counts."""
    slopes = {}
    for rule in ("uniform", "seen", "deepest"):
        means = [ex.simulate_lock(4, h, 1, gen(9), runs=400, rule=rule).double().mean()
                 for h in (5, 20)]  # fmt: skip
        slopes[rule] = math.log(means[1] / means[0]) / math.log(4)
    assert 0.9 < slopes["deepest"] < 1.1 < slopes["seen"] < 1.75 < slopes["uniform"] < 2.1


def test_the_lock_itself():
    lock = ex.CombinationLock(3, 2, gen(6))
    way = lock.combination.tolist()
    lock.reset()
    assert [lock.step(a) for a in way] == [(0.0, False), (0.0, False), (1.0, True)]
    lock.reset()
    assert lock.step(1 - way[0]) == (0.0, True)
    assert (
        ex.CombinationLock(3, 2).combination.tolist()
        == ex.CombinationLock(3, 2).combination.tolist()
    )
