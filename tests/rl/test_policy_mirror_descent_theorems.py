"""The labelled statements of the chapter 'Policy mirror descent': bound, equality, mutants.

Every bound is checked on the thousand processes of ``garnets`` at once. A mutant is the same check
run on a plausible mistake; it must fail.
"""

import math

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from tests.refused import at_most, close, fails

F64 = torch.float64
MAPS = {
    "entropy": mm.Entropy(),
    "euclidean": mm.Euclidean(mm.Simplex()),
    "tsallis-half": mm.Tsallis(0.5),
    "tsallis-three-halves": mm.Tsallis(1.5),
}
every_map = pytest.mark.parametrize("mirror_map", MAPS.values(), ids=MAPS)


def random_policy(mdp, generator, spread=2.0):
    shape = (*mdp.batch_shape, mdp.states, mdp.actions)
    return (spread * torch.randn(shape, generator=generator, dtype=F64)).softmax(-1)


def random_law(mdp, generator):
    shape = (*mdp.batch_shape, mdp.states)
    return torch.randn(shape, generator=generator, dtype=F64).softmax(-1)


def uniform(mdp):
    return torch.full((*mdp.batch_shape, mdp.states, mdp.actions), 1 / mdp.actions, dtype=F64)


def follow(mdp, policy):
    return torch.einsum("...sa,...sat->...st", policy, mdp.transition)


def share_by_series(mdp, policy, initial, terms=600):
    """The occupancy term by term: no linear system here."""
    matrix, now, total = follow(mdp, policy), initial, torch.zeros_like(initial)
    for t in range(terms):
        total = total + (1 - mdp.discount) * mdp.discount**t * now
        now = (now[..., None, :] @ matrix)[..., 0, :]
    return total


def stationary(mdp, policy):
    """The law that the policy does not change: the null vector, with one equation replaced."""
    eye = torch.eye(mdp.states, dtype=F64)
    system = (eye - follow(mdp, policy)).mT.clone()
    system[..., -1, :] = 1
    right = torch.zeros(*policy.shape[:-1], dtype=F64)
    right[..., -1] = 1
    return torch.linalg.solve(system, right).clamp(min=0)  # a rounding below 0 where nobody stays


def descend(mdp, mirror_map, steps, tau=0.0, policy=None, signal=None, move=None):
    """Policies by point-to-point mirror steps: the second way, and the place for mutants."""
    policy = uniform(mdp) if policy is None else policy
    magnet = uniform(mdp)[..., :1, :].expand(policy.shape) if tau else None
    found = [policy]
    for step in steps:
        _, q = pmd.evaluate(mdp, policy, tau, mirror_map)
        q = q if signal is None else signal(mdp, q)
        if move is None:
            policy = mm.mirror_step(mirror_map, policy, -q, step, magnet, tau)
        else:
            policy = move(policy, q, step)
        found.append(policy)
    return found


def myopic(mdp, q):
    """The mutant that looks at the next reward only."""
    return mdp.reward.expand_as(q)


KNOWN = {}


def optimum(mdp, tau=0.0, mirror_map=None):
    """An optimal policy and its value, computed once for each process."""
    key = (id(mdp), tau, repr(mirror_map or mm.Entropy()) if tau else "")
    if key not in KNOWN:
        policy = (
            pmd.soft_policy_iteration(mdp, tau, 40, mirror_map=mirror_map)
            if tau
            else pmd.policy_iteration(mdp).policy
        )
        # The process is kept, so that no other one can get its id.
        KNOWN[key] = mdp, policy, pmd.evaluate(mdp, policy, tau, mirror_map)[0]
    return KNOWN[key][1:]


def mean(law, values):
    return (law * values).sum(-1)


class Path:
    """Gaps and divergences of a run: what the theorems speak about."""

    def __init__(self, mdp, policies, mirror_map, tau, law, start=None):
        """``law`` weighs the divergences, ``start`` the gaps (``law`` if it is left out)."""
        self.best, self.best_value = optimum(mdp, tau, mirror_map)
        self.values = [pmd.evaluate(mdp, policy, tau, mirror_map)[0] for policy in policies]
        start = law if start is None else start
        self.gaps = torch.stack([mean(start, self.best_value - v) for v in self.values])
        self.far = torch.stack(
            [mean(law, mirror_map.divergence(self.best, policy)) for policy in policies]
        )
        self.law = law
        self.counts = torch.arange(len(policies), dtype=F64)[:, None]


# ------------------------------------------------------------------------------ prop-policy-value


@pytest.mark.theorem("prop-policy-value", "equality")
def test_values_and_shares_are_the_sums_over_time(garnets, generator):
    policy, initial = random_policy(garnets, generator), random_law(garnets, generator)
    matrix, reward = follow(garnets, policy), (policy * garnets.reward).sum(-1)
    value, total = torch.zeros_like(reward), reward
    for t in range(600):
        value = value + garnets.discount**t * total
        total = (matrix @ total[..., None])[..., 0]
    found, action_value = pmd.evaluate(garnets, policy)
    close(found, value)
    ahead = torch.einsum("...sat,...t->...sa", garnets.transition, value)
    close(action_value, garnets.reward + garnets.discount * ahead)
    share = pmd.occupancy(garnets, policy, initial)
    close(share, share_by_series(garnets, policy, initial))
    close(share.sum(-1), torch.ones(1000, dtype=F64))


def return_by_shares(mdp, policy, initial, share):
    return mean(share, (policy * mdp.reward).sum(-1)) / (1 - mdp.discount)


@pytest.mark.theorem("prop-policy-value", "equality")
def test_the_return_is_the_reward_under_the_shares(garnets, generator):
    policy, initial = random_policy(garnets, generator), random_law(garnets, generator)
    share = pmd.occupancy(garnets, policy, initial)
    value = mean(initial, pmd.evaluate(garnets, policy)[0])
    close(return_by_shares(garnets, policy, initial, share), value)


@pytest.mark.theorem("prop-policy-value", "mutant")
@pytest.mark.parametrize("mutant", ["not transposed", "stationary law", "no discount of the start"])
def test_other_shares_give_another_return(garnets, generator, mutant):
    policy, initial = random_policy(garnets, generator), random_law(garnets, generator)
    eye, matrix = torch.eye(garnets.states, dtype=F64), follow(garnets, policy)
    share = {
        "not transposed": lambda: (
            (1 - garnets.discount) * torch.linalg.solve(eye - garnets.discount * matrix, initial)
        ),
        "stationary law": lambda: stationary(garnets, policy),
        "no discount of the start": lambda: initial,
    }[mutant]()
    value = mean(initial, pmd.evaluate(garnets, policy)[0])
    right = pmd.occupancy(garnets, policy, initial)
    fails(
        close, return_by_shares(garnets, policy, initial, share), value, tolerance=1e-3,
        true=(return_by_shares(garnets, policy, initial, right), value),
    )  # fmt: skip


# ----------------------------------------------------------------------- prop-regularised-bellman


def random_value(mdp, generator):
    return 5 * torch.randn(*mdp.batch_shape, mdp.states, generator=generator, dtype=F64)


@pytest.mark.theorem("prop-regularised-bellman", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_bellman_operators_are_monotone_contractions(garnets, generator, mirror_map, tau):
    v, w = random_value(garnets, generator), random_value(garnets, generator)
    for policy in (None, random_policy(garnets, generator)):
        after_v = pmd.bellman(garnets, v, policy, tau, mirror_map)
        after_w = pmd.bellman(garnets, w, policy, tau, mirror_map)
        distance = (after_v - after_w).abs().amax(-1)
        at_most(distance, garnets.discount * (v - w).abs().amax(-1))
        at_most(after_v, pmd.bellman(garnets, torch.maximum(v, w), policy, tau, mirror_map))


@pytest.mark.theorem("prop-regularised-bellman", "bound")
@every_map
def test_the_price_of_the_regulariser(garnets, mirror_map):
    best = optimum(garnets)[1]
    corner = torch.zeros(garnets.actions, dtype=F64)
    corner[0] = 1
    most = mirror_map.divergence(corner, torch.full_like(corner, 1 / garnets.actions))
    for tau in (0.01, 0.1, 1.0):
        policy, soft = optimum(garnets, tau, mirror_map)
        price = tau * most / (1 - garnets.discount)
        at_most(soft, best)
        at_most(best - price, soft)
        at_most(best - price, pmd.evaluate(garnets, policy)[0])
        at_most(pmd.evaluate(garnets, policy)[0], best)
        # Regularised values of other policies are below the regularised optimum.
        for other in (optimum(garnets)[0], uniform(garnets)):
            at_most(pmd.evaluate(garnets, other, tau, mirror_map)[0], soft)


@pytest.mark.theorem("prop-regularised-bellman", "equality")
@every_map
def test_the_optimal_operator_is_attained_by_the_greedy_policy(garnets, generator, mirror_map):
    v = random_value(garnets, generator)
    for tau in (0.0, 0.05, 2.0):
        policy = pmd.greedy(garnets, v, tau, mirror_map)
        best = pmd.bellman(garnets, v, None, tau, mirror_map)
        close(pmd.bellman(garnets, v, policy, tau, mirror_map), best)
        at_most(pmd.bellman(garnets, v, random_policy(garnets, generator), tau, mirror_map), best)


@pytest.mark.theorem("prop-regularised-bellman", "equality")
def test_one_state_has_a_formula(generator):
    """A bandit: log-mean-exp of the rewards, and the price is attained as the gap grows."""
    reward = torch.rand(200, 1, 4, generator=generator, dtype=F64)
    bandit = pmd.TabularMDP(torch.ones(1, 4, 1, dtype=F64), reward, 0.8)
    policy, value = optimum(bandit, 0.2, mm.Entropy())
    close(value, 0.2 * ((reward / 0.2).exp().mean(-1)).log() / 0.2)
    close(policy, (reward / 0.2).softmax(-1))
    alone = torch.tensor([[1000.0, 0.0, 0.0, 0.0]], dtype=F64)
    clear = pmd.TabularMDP(torch.ones(1, 4, 1, dtype=F64), alone, 0.8)
    gap = optimum(clear)[1] - optimum(clear, 0.2, mm.Entropy())[1]
    close(gap, torch.full((1,), 0.2 * math.log(4) / 0.2, dtype=F64), tolerance=1e-9)


@pytest.mark.theorem("prop-regularised-bellman", "mutant")
def test_operators_with_a_mistake_are_found_out(garnets, generator):
    v, w = random_value(garnets, generator), random_value(garnets, generator)
    undiscounted = pmd.TabularMDP(garnets.transition, garnets.reward, 0.999)
    shift = w + 1
    right = garnets.discount * (shift - w).abs().amax(-1)
    fails(
        at_most,
        (pmd.bellman(undiscounted, shift) - pmd.bellman(undiscounted, w)).abs().amax(-1),
        right,
        true=((pmd.bellman(garnets, shift) - pmd.bellman(garnets, w)).abs().amax(-1), right),
    )
    tau, ahead = 0.5, garnets.look_ahead(v)
    # Entropy added to the maximum, in place of the maximum of both.
    wrong = ahead.amax(-1) + tau * math.log(garnets.actions)
    soft_maximum = tau * (ahead / tau).exp().mean(-1).log()
    value = pmd.bellman(garnets, v, None, tau)
    fails(close, wrong, value, true=(soft_maximum, value))
    best, soft = optimum(garnets)[1], optimum(garnets, tau)[1]
    price = tau * math.log(garnets.actions)
    fails(  # the horizon is forgotten
        at_most, best - price, soft, true=(best - price / (1 - garnets.discount), soft)
    )


# --------------------------------------------------------------------- lem-performance-difference


def difference(mdp, policy, other, initial, tau, mirror_map, share):
    """Both sides of the lemma, with a given law of the states."""
    value, q = pmd.evaluate(mdp, other, tau, mirror_map)
    here = pmd.evaluate(mdp, policy, tau, mirror_map)[0]
    u = uniform(mdp)
    price = mirror_map.divergence(policy, u) - mirror_map.divergence(other, u)
    gain = ((policy - other) * q).sum(-1) - tau * price
    return mean(initial, here - value), mean(share, gain) / (1 - mdp.discount)


@pytest.mark.theorem("lem-performance-difference", "equality")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_performance_difference(garnets, generator, mirror_map, tau):
    policy, other = random_policy(garnets, generator), random_policy(garnets, generator)
    initial = random_law(garnets, generator)
    share = pmd.occupancy(garnets, policy, initial)
    close(*difference(garnets, policy, other, initial, tau, mirror_map, share))


@pytest.mark.theorem("lem-performance-difference", "equality")
def test_performance_difference_with_shares_by_series(garnets, generator):
    policy, other = random_policy(garnets, generator), random_policy(garnets, generator)
    initial = random_law(garnets, generator)
    share = share_by_series(garnets, policy, initial)
    close(*difference(garnets, policy, other, initial, 0.0, mm.Entropy(), share))


@pytest.mark.theorem("lem-performance-difference", "mutant")
@pytest.mark.parametrize("mutant", ["roles reversed", "start law", "regulariser dropped"])
def test_performance_difference_with_a_mistake(garnets, generator, mutant):
    policy, other = random_policy(garnets, generator), random_policy(garnets, generator)
    initial, entropy = random_law(garnets, generator), mm.Entropy()
    share = pmd.occupancy(garnets, other if mutant == "roles reversed" else policy, initial)
    share = initial if mutant == "start law" else share
    left, right = difference(garnets, policy, other, initial, 0.3, entropy, share)
    if mutant == "regulariser dropped":
        right = difference(garnets, policy, other, initial, 0.0, entropy, share)[1]
    true = difference(garnets, policy, other, initial, 0.3, entropy,
                      pmd.occupancy(garnets, policy, initial))  # fmt: skip
    fails(close, left, right, true=true, tolerance=1e-3)


# ------------------------------------------------------------------------- prop-natural-gradient


def natural_direction(mdp, logits, initial, power=1.0):
    """Fisher's pseudoinverse times the gradient of the return, by autograd and pinv.

    ``power`` is that of the occupancies in Fisher's matrix: 1 is right.
    """
    logits = logits.clone().requires_grad_(True)
    policy = logits.softmax(-1)
    eye = torch.eye(mdp.states, dtype=F64)
    reward = (policy * mdp.reward).sum(-1)
    value = torch.linalg.solve(eye - mdp.discount * follow(mdp, policy), reward)
    (gradient,) = torch.autograd.grad((initial * value).sum(), logits)
    policy = policy.detach()
    share = pmd.occupancy(mdp, policy, initial) ** power
    fisher = torch.diag_embed(policy) - policy[..., :, None] * policy[..., None, :]
    inverse = torch.linalg.pinv(share[..., None, None] * fisher, rtol=1e-12)
    return gradient, (inverse @ gradient[..., None])[..., 0]


@pytest.mark.theorem("prop-natural-gradient", "equality")
def test_the_natural_gradient_is_the_advantage(few, generator):
    logits = torch.randn(20, 8, 3, generator=generator, dtype=F64)
    initial = random_law(few, generator)
    policy = logits.softmax(-1)
    value, q = pmd.evaluate(few, policy)
    advantage = (q - value[..., None]) / (1 - few.discount)
    gradient, direction = natural_direction(few, logits, initial)
    share = pmd.occupancy(few, policy, initial)
    close(gradient, share[..., None] * policy * advantage, tolerance=1e-10)
    step = 0.05
    moved = (logits + step * direction).softmax(-1)
    close(moved, pmd.natural_policy_gradient(few, step, 1, policy), tolerance=1e-9)
    close(moved, (logits + step * advantage).softmax(-1), tolerance=1e-9)


@pytest.mark.theorem("prop-natural-gradient", "mutant")
@pytest.mark.parametrize("mutant", ["plain gradient", "shares forgotten", "horizon forgotten"])
def test_other_gradients_are_not_natural(few, generator, mutant):
    logits = torch.randn(20, 8, 3, generator=generator, dtype=F64)
    initial, policy, step = random_law(few, generator), logits.softmax(-1), 0.05
    gradient, direction = natural_direction(few, logits, initial)
    if mutant == "plain gradient":
        direction = gradient
    elif mutant == "shares forgotten":
        direction = natural_direction(few, logits, initial, power=0.0)[1]
    else:
        direction = direction * (1 - few.discount)
    moved = (logits + step * direction).softmax(-1)
    right = (logits + step * natural_direction(few, logits, initial)[1]).softmax(-1)
    after = pmd.natural_policy_gradient(few, step, 1, policy)
    fails(close, moved, after, true=(right, after), tolerance=1e-4)


# --------------------------------------------------------------------------------- lem-policy-prox


def prox_sides(mirror_map, u, policy, q, after, eta, tau):
    """Left and right of the inequality in every state, for a comparator."""
    middle = torch.full_like(policy, 1 / policy.shape[-1])
    regulariser = mirror_map.divergence(u, middle) - mirror_map.divergence(after, middle)
    left = eta * (((u - after) * q).sum(-1) - tau * regulariser)
    right = (
        mirror_map.divergence(u, policy)
        - (1 + eta * tau) * mirror_map.divergence(u, after)
        - mirror_map.divergence(after, policy)
    )
    return left, right


def prox_instance(mdp, generator, mirror_map, tau, eta):
    policy, u = random_policy(mdp, generator, 1.0), random_policy(mdp, generator, 3.0)
    q = pmd.evaluate(mdp, policy, tau, mirror_map)[1]
    after = pmd.policy_mirror_descent(mdp, mirror_map, eta, 1, policy, tau)
    return u, policy, q, after


@pytest.mark.theorem("lem-policy-prox", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.4])
def test_what_one_step_buys(garnets, generator, mirror_map, tau):
    u, policy, q, after = prox_instance(garnets, generator, mirror_map, tau, 0.7)
    at_most(*prox_sides(mirror_map, u, policy, q, after, 0.7, tau))
    corner = pmd.policy_iteration(garnets).policy
    at_most(*prox_sides(mirror_map, corner, policy, q, after, 0.7, tau))


@pytest.mark.theorem("lem-policy-prox", "equality")
@pytest.mark.parametrize("name", ["entropy", "tsallis-half"])
def test_steep_maps_waste_nothing(garnets, generator, name):
    u, policy, q, after = prox_instance(garnets, generator, MAPS[name], 0.4, 0.7)
    close(*prox_sides(MAPS[name], u, policy, q, after, 0.7, 0.4))


@pytest.mark.theorem("lem-policy-prox", "mutant")
@every_map
@pytest.mark.parametrize("mutant", ["half the step", "magnet forgotten", "sign"])
def test_other_steps_break_the_inequality(garnets, generator, mirror_map, mutant):
    u, policy, q, after = prox_instance(garnets, generator, mirror_map, 0.4, 0.7)
    true = prox_sides(mirror_map, u, policy, q, after, 0.7, 0.4)
    if mutant == "half the step":
        after = pmd.policy_mirror_descent(garnets, mirror_map, 0.35, 1, policy, 0.4)
    else:
        signal = -q if mutant == "magnet forgotten" else q
        after = mm.mirror_step(mirror_map, policy, signal, 0.7)
    sides = prox_sides(mirror_map, u, policy, q, after, 0.7, 0.4)
    fails(at_most, *sides, true=true, tolerance=1e-6)


@pytest.mark.theorem("lem-policy-prox", "mutant")
@pytest.mark.parametrize("name", ["entropy", "tsallis-half", "tsallis-three-halves"])
def test_reversed_divergences_break_the_inequality(garnets, generator, name):
    mirror_map = MAPS[name]
    u, policy, q, after = prox_instance(garnets, generator, mirror_map, 0.0, 0.7)
    left = 0.7 * ((u - after) * q).sum(-1)
    right = mirror_map.divergence(policy, u) - mirror_map.divergence(after, u)
    true = prox_sides(mirror_map, u, policy, q, after, 0.7, 0.0)
    right = right - mirror_map.divergence(policy, after)
    fails(at_most, left, right, true=true, tolerance=1e-6)


# ---------------------------------------------------------------------- prop-monotone-improvement


@pytest.mark.theorem("prop-monotone-improvement", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.2])
@pytest.mark.parametrize("eta", [0.01, 1.0, 100.0])
def test_no_state_ever_loses(garnets, mirror_map, tau, eta):
    run = pmd.policy_iterates(garnets, mirror_map, eta, 12, temperature=tau)
    middle, last = uniform(garnets), None
    for now in run:
        if last is not None:
            price = mirror_map.divergence(now.policy, middle)
            price = tau * (price - mirror_map.divergence(last.policy, middle))
            gain = ((now.policy - last.policy) * last.action_value).sum(-1) - price
            at_most(torch.zeros_like(gain), gain)
            at_most(gain, now.value - last.value)
        last = now


def second_line(mirror_map, before, after, q, eta, tau):
    """Sides of the second line of eq-monotone: what moving costs, and eta times the gain."""
    middle = torch.full_like(before, 1 / before.shape[-1])
    price = mirror_map.divergence(after, middle) - mirror_map.divergence(before, middle)
    gain = ((after - before) * q).sum(-1) - tau * price
    there, back = mirror_map.divergence(after, before), mirror_map.divergence(before, after)
    return there + (1 + eta * tau) * back, eta * gain


@pytest.mark.theorem("prop-monotone-improvement", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.2])
@pytest.mark.parametrize("eta", [0.01, 1.0])
def test_the_gain_pays_for_the_move(garnets, generator, mirror_map, tau, eta):
    start = random_policy(garnets, generator, 1.0)
    for policy in (uniform(garnets), start):
        first, second = pmd.policy_iterates(garnets, mirror_map, eta, 1, policy, tau)
        q = first.action_value
        sides = second_line(mirror_map, policy, second.policy, q, eta, tau)
        at_most(*sides, tolerance=1e-10)
        if mirror_map.carries_dual:  # a steep map wastes nothing
            close(*sides, tolerance=1e-10)
            there = mirror_map.divergence(second.policy, policy)
            more = there + (1 + 2 * eta * (tau + 1)) * (sides[0] - there)
            fails(at_most, more, sides[1], true=sides, tolerance=1e-10)


@pytest.mark.theorem("prop-monotone-improvement", "equality")
def test_the_improvement_is_the_gain_met_on_the_way(garnets):
    first, second = pmd.policy_iterates(garnets, mm.Entropy(), 2.0, 1)
    gain = ((second.policy - first.policy) * first.action_value).sum(-1)
    eye = torch.eye(garnets.states, dtype=F64)
    resolvent = torch.linalg.inv(eye - garnets.discount * follow(garnets, second.policy))
    close(second.value - first.value, (resolvent @ gain[..., None])[..., 0])


@pytest.mark.theorem("prop-monotone-improvement", "equality")
def test_without_a_future_the_improvement_is_the_gain(generator):
    now_only = pmd.garnet(5, 3, 2, 0.0, generator, (50,))
    first, second = pmd.policy_iterates(now_only, mm.Entropy(), 2.0, 1)
    gain = ((second.policy - first.policy) * first.action_value).sum(-1)
    close(second.value - first.value, gain)


@pytest.mark.theorem("prop-monotone-improvement", "mutant")
@pytest.mark.parametrize("mutant", ["myopic", "sign", "values of another policy"])
def test_steps_along_something_else_lose_somewhere(garnets, generator, mutant):
    other = pmd.evaluate(garnets, random_policy(garnets, generator, 5.0))[1]
    signal = {
        "myopic": myopic,
        "sign": lambda mdp, q: -q,
        "values of another policy": lambda mdp, q: other,
    }[mutant]
    runs = [descend(garnets, mm.Entropy(), [2.0] * 30, signal=s) for s in (signal, None)]
    wrong, right = (torch.stack([pmd.evaluate(garnets, p)[0] for p in run]) for run in runs)
    fails(at_most, wrong[:-1], wrong[1:], true=(right[:-1], right[1:]), tolerance=1e-6)


# ------------------------------------------------------------------------------ thm-pmd-sublinear


def policies_of(mdp, mirror_map, steps, tau=0.0, policy=None):
    run = pmd.policy_iterates(mdp, mirror_map, list(steps), len(steps), policy, tau)
    return [iterate.policy for iterate in run]


def sublinear(path, start_gap, steps, discount):
    """The bound after k updates, k = 0 to K - 1; the last policy is not used."""
    total = torch.tensor(steps, dtype=F64).cumsum(0)[:, None]
    largest = torch.tensor(steps, dtype=F64).cummax(0).values[:, None]
    bound = (path.far[0] + largest * start_gap) / ((1 - discount) * total)
    return path.gaps[:-1], bound


STEPS = {
    "small": [0.1] * 25,
    "one": [1.0] * 25,
    "large": [100.0] * 25,
    "falling": pmd.trust_region_steps(25, scale=2.0),
    "up and down": [0.1, 5.0] * 13,
}


def sublinear_sides(mdp, mirror_map, steps, policies, initial):
    share = pmd.occupancy(mdp, optimum(mdp)[0], initial)
    path = Path(mdp, policies, mirror_map, 0.0, share, initial)
    start_gap = mean(share, path.best_value - path.values[0])
    return sublinear(path, start_gap, steps, mdp.discount)


@pytest.mark.theorem("thm-pmd-sublinear", "bound")
@every_map
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_the_mean_rate(garnets, generator, mirror_map, steps):
    initial = random_law(garnets, generator)
    policies = policies_of(garnets, mirror_map, steps)
    at_most(*sublinear_sides(garnets, mirror_map, steps, policies, initial))


@pytest.mark.theorem("thm-pmd-sublinear", "equality")
@pytest.mark.parametrize("name", ["entropy", "tsallis-half"])
def test_the_sum_of_the_proof_is_exact_for_steep_maps(garnets, generator, name):
    mirror_map, steps = MAPS[name], [0.3, 1.0, 0.5, 2.0]
    initial = random_law(garnets, generator)
    share = pmd.occupancy(garnets, optimum(garnets)[0], initial)
    policies = policies_of(garnets, mirror_map, steps)
    path = Path(garnets, policies, mirror_map, 0.0, share, initial)
    total = path.far[0] - path.far[-1]
    for policy, after, eta in zip(policies, policies[1:], steps, strict=False):
        q = pmd.evaluate(garnets, policy)[1]
        total = total + eta * mean(share, ((after - policy) * q).sum(-1))
        total = total - mean(share, mirror_map.divergence(after, policy))
    weights = torch.tensor(steps, dtype=F64)[:, None]
    close((1 - garnets.discount) * (weights * path.gaps[:-1]).sum(0), total)


@pytest.mark.theorem("thm-pmd-sublinear", "equality")
def test_a_bandit_and_a_huge_step_attain_the_bound(generator):
    bandit = pmd.TabularMDP(
        torch.ones(1, 3, 1, dtype=F64), torch.rand(30, 1, 3, generator=generator, dtype=F64), 0.0
    )
    policies = policies_of(bandit, mm.Entropy(), [1e13])
    law = torch.ones(30, 1, dtype=F64)
    close(*sublinear_sides(bandit, mm.Entropy(), [1e13], policies, law), tolerance=1e-9)


@pytest.mark.theorem("thm-pmd-sublinear", "mutant")
@pytest.mark.parametrize("mutant", ["myopic", "start gap dropped", "divergence dropped"])
def test_a_mistake_breaks_the_mean_rate(hundred, generator, mutant):
    initial, entropy = random_law(hundred, generator), mm.Entropy()
    share = pmd.occupancy(hundred, optimum(hundred)[0], initial)
    if mutant == "myopic":
        steps = [10.0] * 200
        policies = descend(hundred, entropy, steps, signal=myopic)
        right = policies_of(hundred, entropy, steps)
        wrong, true = (
            sublinear_sides(hundred, entropy, steps, run, initial) for run in (policies, right)
        )
        fails(at_most, *wrong, true=true, tolerance=1e-6)
        return
    steps = [100.0] if mutant == "start gap dropped" else [0.001] * 30
    path = Path(hundred, policies_of(hundred, entropy, steps), entropy, 0.0, share, initial)
    start_gap = mean(share, path.best_value - path.values[0])
    true = sublinear(path, start_gap, steps, hundred.discount)
    if mutant == "start gap dropped":
        start_gap = torch.zeros_like(start_gap)
    else:
        path.far = torch.zeros_like(path.far)
    sides = sublinear(path, start_gap, steps, hundred.discount)
    fails(at_most, *sides, true=true, tolerance=1e-6)


# ------------------------------------------------------------------------------ thm-pmd-geometric


def geometric_sides(mdp, mirror_map, first, steps, initial, policies, mismatch):
    share = pmd.occupancy(mdp, optimum(mdp)[0], initial)
    path = Path(mdp, policies, mirror_map, 0.0, share, initial)
    start = path.gaps[0] + path.far[0] / ((1 - mdp.discount) * first * (mismatch - 1))
    return path.gaps, (1 - 1 / mismatch) ** path.counts * start


def mismatch_of(mdp, initial):
    share = pmd.occupancy(mdp, optimum(mdp)[0], initial)
    return (share / initial).amax(-1) / (1 - mdp.discount)


def growing(mdp, initial, first, iterations):
    """The slowest growth that the theorem allows, for each process its own."""
    theta = mismatch_of(mdp, initial)
    return [first * (theta / (theta - 1)) ** k for k in range(iterations)]


@pytest.mark.theorem("thm-pmd-geometric", "bound")
@every_map
@pytest.mark.parametrize("first", [0.01, 1.0, 30.0])
def test_growing_steps_converge_linearly(garnets, generator, mirror_map, first):
    initial = random_law(garnets, generator)
    steps = growing(garnets, initial, first, 25)
    policies = policies_of(garnets, mirror_map, steps)
    theta = mismatch_of(garnets, initial)
    at_most(*geometric_sides(garnets, mirror_map, first, steps, initial, policies, theta))


@pytest.mark.theorem("thm-pmd-geometric", "equality")
def test_the_recursion_is_exact_where_the_start_is_stationary(garnets):
    """With the stationary law of the best policy nothing is lost to the mismatch."""
    best = optimum(garnets)[0]
    law = stationary(garnets, best)
    close(pmd.occupancy(garnets, best, law), law, tolerance=1e-10)
    steps, entropy = [0.5, 0.7, 1.1], mm.Entropy()
    policies = policies_of(garnets, entropy, steps)
    path = Path(garnets, policies, entropy, 0.0, law)
    for k, eta in enumerate(steps):
        q = pmd.evaluate(garnets, policies[k])[1]
        gain = ((policies[k + 1] - policies[k]) * q).sum(-1)
        lost = path.values[k + 1] - path.values[k] - gain
        moved = entropy.divergence(policies[k + 1], policies[k])
        left = path.gaps[k + 1] + path.far[k + 1] / eta + mean(law, lost + moved / eta)
        close(left, garnets.discount * path.gaps[k] + path.far[k] / eta, tolerance=1e-10)


@pytest.mark.theorem("thm-pmd-geometric", "mutant")
@pytest.mark.parametrize("mutant", ["steps do not grow", "myopic"])
def test_a_mistake_breaks_the_linear_rate(hundred, generator, mutant):
    initial, entropy, count = random_law(hundred, generator), mm.Entropy(), 250
    first = 0.02 if mutant == "steps do not grow" else 1e3
    theta = mismatch_of(hundred, initial)
    right = policies_of(hundred, entropy, growing(hundred, initial, first, count))
    if mutant == "steps do not grow":
        wrong = policies_of(hundred, entropy, [first] * count)
    else:
        wrong = descend(hundred, entropy, [first] * count, signal=myopic)
    sides, true = (
        geometric_sides(hundred, entropy, first, None, initial, run, theta)
        for run in (wrong, right)
    )
    fails(at_most, *sides, true=true, tolerance=1e-6)


def road(length=4, crumb=0.01):
    """At every fork a crumb ends the walk; who never takes it earns 1 after the last."""
    end = length
    transition = torch.zeros(1, length + 1, 2, length + 1, dtype=F64)
    transition[0, :, :, end] = 1
    for fork in range(length - 1):
        transition[0, fork, 1] = torch.eye(length + 1, dtype=F64)[fork + 1]
    reward = torch.zeros(1, length + 1, 2, dtype=F64)
    reward[0, :end, 0], reward[0, length - 1, 1] = crumb, 1
    return pmd.TabularMDP(transition, reward, 0.9)


@pytest.mark.theorem("thm-pmd-geometric", "mutant")
def test_a_forgotten_mismatch_promises_too_much():
    """Walks begin at the first fork, where nothing is gained until the others are understood."""
    mdp, entropy, first = road(), mm.Entropy(), 1e4
    initial = torch.tensor([[1 - 4e-3, 1e-3, 1e-3, 1e-3, 1e-3]], dtype=F64)
    start = torch.tensor([0.999, 0.001], dtype=F64).expand(1, 5, 2)
    theta = mismatch_of(mdp, initial)
    least = torch.full_like(theta, 1 / (1 - mdp.discount))
    assert (theta > 10 * least).all()
    # Steps that grow as fast as without a mismatch, which is faster than the theorem asks.
    steps = [first / mdp.discount**k for k in range(12)]
    policies = policies_of(mdp, entropy, steps, policy=start)
    wrong, true = (
        geometric_sides(mdp, entropy, first, steps, initial, policies, t) for t in (least, theta)
    )
    fails(at_most, *wrong, true=true, tolerance=1e-6)


# ----------------------------------------------------------------------------- thm-pmd-stationary


def stationary_sides(mdp, mirror_map, first, policies, tau, law=None):
    best = optimum(mdp, tau, mirror_map)[0]
    law = stationary(mdp, best) if law is None else law
    path = Path(mdp, policies, mirror_map, tau, law)
    bound = mdp.discount * path.gaps[0] + path.far[0] / first
    return path.gaps, bound / ((1 - mdp.discount) * path.counts + mdp.discount)


@pytest.mark.theorem("thm-pmd-stationary", "bound")
@every_map
@pytest.mark.parametrize(("tau", "eta"), [(0.0, 0.1), (0.0, 1.0), (0.0, 50.0), (0.1, 1.0)])
def test_the_rate_under_the_stationary_law(garnets, mirror_map, tau, eta):
    policies = policies_of(garnets, mirror_map, [eta] * 25, tau)
    at_most(*stationary_sides(garnets, mirror_map, eta, policies, tau))


@pytest.mark.theorem("thm-pmd-stationary", "bound")
def test_the_steps_of_adaptive_trpo(garnets):
    for tau in (0.05, 0.5):
        steps = pmd.trust_region_steps(25, tau)
        policies = policies_of(garnets, mm.Entropy(), steps, tau)
        at_most(*stationary_sides(garnets, mm.Entropy(), steps[0], policies, tau))


@pytest.mark.theorem("thm-pmd-stationary", "equality")
@pytest.mark.theorem("thm-pmd-regularised", "equality")
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_the_recursion_with_all_that_it_drops(garnets, tau):
    entropy, eta = mm.Entropy(), 0.8
    best = optimum(garnets, tau, entropy)[0]
    law, middle = stationary(garnets, best), uniform(garnets)
    policies = policies_of(garnets, entropy, [eta] * 3, tau)
    path = Path(garnets, policies, entropy, tau, law)
    for k in range(3):
        q = pmd.evaluate(garnets, policies[k], tau)[1]
        price = entropy.divergence(policies[k + 1], middle)
        price = tau * (price - entropy.divergence(policies[k], middle))
        gain = ((policies[k + 1] - policies[k]) * q).sum(-1) - price
        lost = path.values[k + 1] - path.values[k] - gain
        moved = entropy.divergence(policies[k + 1], policies[k])
        left = path.gaps[k + 1] + (1 / eta + tau) * path.far[k + 1]
        left = left + mean(law, lost + moved / eta)
        close(left, garnets.discount * path.gaps[k] + path.far[k] / eta, tolerance=1e-10)


@pytest.mark.theorem("thm-pmd-stationary", "mutant")
@pytest.mark.parametrize("mutant", ["myopic", "divergence dropped", "sign"])
def test_a_mistake_breaks_the_rate_under_the_stationary_law(hundred, mutant):
    entropy = mm.Entropy()
    if mutant == "divergence dropped":
        policies = policies_of(hundred, entropy, [0.001] * 20)
        wrong, true = (
            stationary_sides(hundred, entropy, eta, policies, 0.0) for eta in (1e9, 0.001)
        )
        fails(at_most, *wrong, true=true, tolerance=1e-6)
        return
    signal = myopic if mutant == "myopic" else lambda mdp, q: -q
    wrong, true = (
        stationary_sides(hundred, entropy, 10.0, policies, 0.0)
        for policies in (
            descend(hundred, entropy, [10.0] * 150, signal=signal),
            policies_of(hundred, entropy, [10.0] * 150),
        )
    )
    fails(at_most, *wrong, true=true, tolerance=1e-6)


# ---------------------------------------------------------------------------- thm-pmd-regularised


def regularised_sides(mdp, mirror_map, eta, tau, policies, rate=None):
    law = stationary(mdp, optimum(mdp, tau, mirror_map)[0])
    path = Path(mdp, policies, mirror_map, tau, law)
    weight = tau + 1 / eta
    rate = max(mdp.discount, 1 / (1 + eta * tau)) if rate is None else rate
    potential = path.gaps + weight * path.far
    return potential, rate**path.counts * potential[0]


@pytest.mark.theorem("thm-pmd-regularised", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.02, 0.2])
@pytest.mark.parametrize("share", [0.1, 1.0, 5.0, math.inf])
def test_the_regularised_rate(garnets, mirror_map, tau, share):
    """``share`` of the step at which the two rates meet."""
    eta = share * (1 / garnets.discount - 1) / tau
    policies = policies_of(garnets, mirror_map, [eta] * 25, tau)
    at_most(*regularised_sides(garnets, mirror_map, eta, tau, policies))


@pytest.mark.theorem("thm-pmd-regularised", "equality")
def test_without_rewards_the_dual_shrinks_by_the_rate():
    flat = pmd.TabularMDP(torch.ones(1, 2, 1, dtype=F64), torch.zeros(1, 2, dtype=F64), 0.3)
    tau, eta = 0.5, 0.7
    start = torch.tensor([[0.9, 0.1]], dtype=F64)
    policies = policies_of(flat, mm.Entropy(), [eta] * 5, tau, start)
    duals = torch.stack([(p.log()[0, 0] - p.log()[0, 1]) for p in policies])
    close(duals, duals[0] / (1 + eta * tau) ** torch.arange(6, dtype=F64), tolerance=1e-12)


@pytest.mark.theorem("thm-pmd-regularised", "equality")
def test_an_opposed_start_nearly_attains_the_regularised_rate(garnets):
    """Divergences from far away fall linearly, not like squares: the rate is then exact."""
    tau, entropy = 0.02, mm.Entropy()
    q = pmd.evaluate(garnets, optimum(garnets, tau)[0], tau)[1]
    start = (-3 * q / tau).softmax(-1)
    eta = (1 / garnets.discount - 1) / tau
    policies = policies_of(garnets, entropy, [eta] * 5, tau, start)
    potential, bound = regularised_sides(garnets, entropy, eta, tau, policies)
    at_most(potential, bound)
    assert (potential / bound)[5].max() > 0.999


@pytest.mark.theorem("thm-pmd-regularised", "equality")
@every_map
def test_the_limit_is_the_regularised_optimum(garnets, mirror_map):
    found = pmd.policy_mirror_descent(garnets, mirror_map, 2.0, 60, temperature=0.5)
    close(found, optimum(garnets, 0.5, mirror_map)[0], tolerance=1e-7)


@pytest.mark.theorem("thm-pmd-regularised", "mutant")
@pytest.mark.parametrize(
    "mutant", ["magnet forgotten", "rate squared", "myopic", "weight of 1 - a"]
)
def test_a_mistake_breaks_the_regularised_rate(hundred, mutant):
    entropy, tau = mm.Entropy(), 0.2
    eta = (1 / hundred.discount - 1) / tau
    rate = hundred.discount**2 if mutant == "rate squared" else None
    signal = myopic if mutant == "myopic" else None
    move = {
        "magnet forgotten": lambda p, q, step: mm.mirror_step(entropy, p, -q, step),
        "weight of 1 - a": lambda p, q, step: (p.log() / (1 + step * tau) + step * q).softmax(-1),
    }.get(mutant)
    policies = descend(hundred, entropy, [eta] * 60, tau, signal=signal, move=move)
    right = policies_of(hundred, entropy, [eta] * 60, tau)
    wrong = regularised_sides(hundred, entropy, eta, tau, policies, rate)
    true = regularised_sides(hundred, entropy, eta, tau, right)
    fails(at_most, *wrong, true=true, tolerance=1e-6)


# ------------------------------------------------------------------------------------ thm-npg-sup


def npg_sides(mdp, policies, alpha, tau, drop=False):
    """Distances of action values and of log-policies, with their bounds."""
    best = optimum(mdp, tau)[0]
    q_best = pmd.evaluate(mdp, best, tau)[1]
    kept = 1 - alpha * tau / (1 - mdp.discount)
    rate = 1 - alpha * tau
    runs = [(pmd.evaluate(mdp, policy, tau)[1], policy.log()) for policy in policies]
    values = torch.stack([(q_best - q).abs().flatten(-2).amax(-1) for q, _ in runs])
    logs = torch.stack([(best.log() - log).abs().flatten(-2).amax(-1) for _, log in runs])
    constant = values[0] + (0 if drop else 2 * tau * kept * logs[0])
    powers = rate ** torch.arange(len(policies) - 1, dtype=F64)[:, None]
    return (
        (values[1:], mdp.discount * constant * powers),
        (logs[1:], 2 * constant / tau * powers),
    )


@pytest.mark.theorem("thm-npg-sup", "bound")
@pytest.mark.parametrize("tau", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_natural_gradients_with_entropy_converge_everywhere(garnets, tau, share, generator):
    alpha = share * (1 - garnets.discount) / tau
    eta = pmd.natural_step(alpha, garnets.discount, tau)
    start = random_policy(garnets, generator, 1.0)
    for policy in (None, start):
        policies = policies_of(garnets, mm.Entropy(), [eta] * 30, tau, policy)
        for sides in npg_sides(garnets, policies, alpha, tau):
            at_most(*sides, tolerance=1e-9)


@pytest.mark.theorem("thm-npg-sup", "equality")
def test_the_formula_of_the_regularised_natural_gradient(garnets):
    tau, alpha, policy = 0.3, 0.1, uniform(garnets)
    for _ in range(4):
        q = pmd.evaluate(garnets, policy, tau)[1]
        power = 1 - alpha * tau / (1 - garnets.discount)
        policy = policy**power * (alpha * q / (1 - garnets.discount)).exp()
        policy = policy / policy.sum(-1, keepdim=True)
    close(policy, pmd.natural_policy_gradient(garnets, alpha, 4, temperature=tau))


@pytest.mark.theorem("thm-npg-sup", "equality")
def test_equal_rewards_move_only_the_policy(generator):
    """Where all actions are alike the values stay, and the logits shrink as the proof says."""
    twin = pmd.TabularMDP(torch.ones(1, 2, 1, dtype=F64), torch.zeros(1, 2, dtype=F64), 0.9)
    start = torch.tensor([[0.8, 0.2]], dtype=F64)
    tau, alpha = 0.5, 0.04
    after = pmd.natural_policy_gradient(twin, alpha, 3, start, tau)
    kept = 1 - alpha * tau / (1 - twin.discount)
    close(after.log()[0, 0] - after.log()[0, 1], kept**3 * torch.tensor(4.0, dtype=F64).log())


@pytest.mark.theorem("thm-npg-sup", "mutant")
@pytest.mark.parametrize("mutant", ["magnet forgotten", "myopic"])
def test_a_mistake_breaks_the_rate_of_the_natural_gradient(hundred, mutant):
    tau, entropy = 0.2, mm.Entropy()
    alpha = 0.5 * (1 - hundred.discount) / tau
    eta = pmd.natural_step(alpha, hundred.discount, tau)
    signal = myopic if mutant == "myopic" else None
    move = None
    if mutant == "magnet forgotten":
        move = lambda p, q, step: mm.mirror_step(entropy, p, -q, step)  # noqa: E731
    wrong, true = (
        npg_sides(hundred, policies, alpha, tau)[0]
        for policies in (
            descend(hundred, entropy, [eta] * 60, tau, signal=signal, move=move),
            policies_of(hundred, entropy, [eta] * 60, tau),
        )
    )
    fails(at_most, *wrong, true=true, tolerance=1e-6)


@pytest.mark.theorem("thm-npg-sup", "mutant")
def test_right_values_with_a_wrong_policy_need_the_policy_term():
    """Everything leads to a state without rewards, where the policy is right from the start."""
    transition = torch.zeros(1, 2, 2, 2, dtype=F64)
    transition[..., 1] = 1
    mdp = pmd.TabularMDP(transition, torch.zeros(1, 2, 2, dtype=F64), 0.9)
    start = torch.tensor([[[0.9, 0.1], [0.5, 0.5]]], dtype=F64)
    tau, alpha = 0.2, 0.1
    eta = pmd.natural_step(alpha, mdp.discount, tau)
    policies = policies_of(mdp, mm.Entropy(), [eta] * 5, tau, start)
    wrong, true = (npg_sides(mdp, policies, alpha, tau, drop)[1] for drop in (True, False))
    assert (wrong[1] == 0).all()
    reason = "of the constant the policy term is all that there is"
    fails(at_most, *wrong, true=true, tolerance=1e-6, scaled=reason)


# --------------------------------------------------------------------------- thm-policy-iteration


def iteration_sides(mdp, policies, tau, mirror_map):
    best = optimum(mdp, tau, mirror_map)[1]
    values = [pmd.evaluate(mdp, policy, tau, mirror_map)[0] for policy in policies]
    gaps = torch.stack([(best - v).abs().amax(-1) for v in values])
    return gaps, mdp.discount ** torch.arange(len(policies), dtype=F64)[:, None] * gaps[0]


def greedy_policies(mdp, tau, mirror_map, iterations=15, mix=0.0):
    policy = uniform(mdp)
    found = [policy]
    for _ in range(iterations):
        value = pmd.evaluate(mdp, policy, tau, mirror_map)[0]
        policy = (1 - mix) * pmd.greedy(mdp, value, tau, mirror_map) + mix * policy
        found.append(policy)
    return found


@pytest.mark.theorem("thm-policy-iteration", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.5])
def test_greedy_policies_contract(garnets, mirror_map, tau):
    policies = greedy_policies(garnets, tau, mirror_map)
    at_most(*iteration_sides(garnets, policies, tau, mirror_map))


@pytest.mark.theorem("thm-policy-iteration", "equality")
@every_map
def test_an_infinite_step_is_the_greedy_policy(garnets, mirror_map):
    for tau in (0.1, 1.0):
        mine = pmd.soft_policy_iteration(garnets, tau, 3, mirror_map=mirror_map)
        close(mine, greedy_policies(garnets, tau, mirror_map, 3)[-1])
    found = pmd.soft_policy_iteration(garnets, 0.1, 3)
    policy = uniform(garnets)
    for _ in range(3):
        policy = (pmd.evaluate(garnets, policy, 0.1)[1] / 0.1).softmax(-1)
    close(found, policy)


@pytest.mark.theorem("thm-policy-iteration", "equality")
def test_a_fork_attains_the_rate():
    """Someone who does not know yet what the left road will be worth takes the right one."""
    fork, left, right, end, crumb = 0, 1, 2, 3, 1e-9
    transition = torch.zeros(4, 2, 4, dtype=F64)
    transition[fork, 0, left] = transition[fork, 1, right] = 1
    transition[left:, :, end] = 1
    reward = torch.zeros(4, 2, dtype=F64)
    reward[left, 1], reward[right] = 1, crumb
    mdp = pmd.TabularMDP(transition, reward, 0.7)
    policy = torch.tensor([[1.0, 0.0]] * 4, dtype=F64)
    after = pmd.greedy(mdp, pmd.evaluate(mdp, policy)[0])
    gaps, bound = iteration_sides(mdp, [policy, after], 0.0, mm.Entropy())
    close(gaps, bound[:, 0], tolerance=1e-8)


@pytest.mark.theorem("thm-policy-iteration", "mutant")
@pytest.mark.parametrize("mutant", ["half a step", "myopic"])
def test_a_mistake_breaks_the_contraction(hundred, mutant):
    entropy = mm.Entropy()
    policies = greedy_policies(hundred, 0.0, entropy, mix=0.95)
    if mutant == "myopic":
        choice = mm.Simplex().minimize_linear(-hundred.reward)
        policies = [uniform(hundred)] + [choice] * 15
    right = greedy_policies(hundred, 0.0, entropy)
    wrong, true = (iteration_sides(hundred, run, 0.0, entropy) for run in (policies, right))
    fails(at_most, *wrong, true=true, tolerance=1e-6)


# ---------------------------------------------------------------------- the library's right sides


def test_the_librarys_bounds_are_those_of_the_tests(garnets, generator):
    entropy, initial = mm.Entropy(), random_law(garnets, generator)
    best, value = optimum(garnets)
    share, law = pmd.occupancy(garnets, best, initial), stationary(garnets, best)
    close(pmd.bounds.stationary_law(garnets, best), law)
    steps = [0.5, 2.0, 1.0]
    policies = policies_of(garnets, entropy, steps)
    far = pmd.bounds.distance(entropy, best, policies[0], share)
    start_gap = mean(share, value - pmd.evaluate(garnets, policies[0])[0])
    mine = sublinear_sides(garnets, entropy, steps, policies, initial)[1]
    close(pmd.bounds.mean_rate(far, start_gap, steps, 0.9), mine)
    gap = mean(initial, value - pmd.evaluate(garnets, policies[0])[0])
    theta = mismatch_of(garnets, initial)
    mine = geometric_sides(garnets, entropy, 0.5, steps, initial, policies, theta)[1]
    close(pmd.bounds.linear_rate(far, gap, theta, 0.5, 0.9, 3), mine)
    far = pmd.bounds.distance(entropy, best, policies[0], law)
    gap = mean(law, value - pmd.evaluate(garnets, policies[0])[0])
    mine = stationary_sides(garnets, entropy, 0.5, policies, 0.0)[1]
    close(pmd.bounds.stationary_rate(far, gap, 0.5, 0.9, 3), mine)
    mine = iteration_sides(garnets, policies, 0.0, entropy)[1]
    close(pmd.bounds.contraction(mine[0], 0.9, 3), mine)


def test_the_librarys_regularised_bounds_are_those_of_the_tests(garnets):
    entropy, tau, alpha = mm.Entropy(), 0.2, 0.1
    eta = pmd.natural_step(alpha, 0.9, tau)
    policies = policies_of(garnets, entropy, [eta] * 3, tau)
    best, value = optimum(garnets, tau)
    law = pmd.bounds.stationary_law(garnets, best)
    first, q = pmd.evaluate(garnets, policies[0], tau)
    far, gap = pmd.bounds.distance(entropy, best, policies[0], law), mean(law, value - first)
    mine = regularised_sides(garnets, entropy, eta, tau, policies)[1]
    close(pmd.bounds.regularised_rate(far, gap, eta, tau, 0.9, 3), mine)
    values = (pmd.evaluate(garnets, best, tau)[1] - q).abs().amax((-2, -1))
    logs = (best.log() - policies[0].log()).abs().amax((-2, -1))
    theirs = pmd.bounds.natural_rate(values, logs, alpha, tau, 0.9, 3)
    for mine, library in zip(npg_sides(garnets, policies, alpha, tau), theirs, strict=True):
        close(library, mine[1])
    limit = pmd.bounds.regularised_rate(far, gap, math.inf, tau, 0.9, 1)[1]
    close(limit, 0.9 * (gap + tau * far))
