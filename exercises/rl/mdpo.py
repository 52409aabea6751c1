"""Marks for the assignment 'mirror descent policy optimisation'. Runs in the grader's process.

The references are unlike the solutions: bisection, sums without a recursion, differences of the
objective along directions, numbers with many digits. `call` runs the student's function in the
student's process.
"""

import math
from fractions import Fraction

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "policy_step": 3,
    "advantages": 5,
    "objective_gradient": 5,
    "gaussian_divergence": 3,
    "actor_optimum": 4,
    "euclidean_step": 4,
}
CHAPTER = "mdtheory.rl.mdpo"
MAPS = "mdtheory.convex.mirror_maps"
STEPS = [f"{MAPS}.Entropy", f"{MAPS}.step"]
LAW = ["Categorical.kl", "Categorical.divergence", "Categorical.log_prob"]
FORBIDDEN = {
    "policy_step": STEPS,
    "advantages": ["mdtheory.agents.advantages"],
    # Methods, not classes: the constructor of a named tuple cannot be made to refuse.
    "objective_gradient": [f"{CHAPTER}.losses", *LAW],
    "gaussian_divergence": ["Gaussian.kl", "Gaussian.divergence"],
    "actor_optimum": [*STEPS, f"{CHAPTER}.losses"],
    "euclidean_step": [f"{MAPS}.domains", f"{MAPS}.quadratic", f"{MAPS}.tsallis", f"{MAPS}.step"],
}


def check_policy_step(call, generator: np.random.Generator) -> float:
    """1 point each: single states, batches, probabilities far below 1e-300."""
    score = 0.0
    for shape, words in [((5,), "wrong in single states"), ((3, 2, 4), "wrong on a batch")]:
        log_policy = np.log(generator.dirichlet(np.ones(shape[-1]), shape[:-1]))
        advantage = generator.normal(0, 1, shape)
        t, good = float(generator.uniform(0.3, 3)), True
        for step in (t, 1e3 * t, 1e-6 * t) if len(shape) == 1 else (t,):
            answer = call("policy_step", log_policy, advantage, step)
            good &= agrees(answer, _stepped(log_policy, advantage, step), atol=1e-12)
        score += award(call, 1, good, words)
    log_policy = np.array([-5000.0, 0.0, -800.0])
    advantage = np.array([9990.0 + generator.uniform(0, 5), 0.0, -3.0])
    answer = call("policy_step", log_policy, advantage, 0.5)
    good = agrees(answer, _stepped(log_policy, advantage, 0.5), atol=1e-12)
    return score + award(call, 1, good, "wrong where probabilities are tiny")


def check_advantages(call, generator: np.random.Generator) -> float:
    """1 point each: no ends, terminations, truncations, steps after an end, extreme traces."""
    score = 0.0
    cases = [
        (False, False, 0.9, "wrong where no episode ends"),
        (True, False, 0.8, "wrong where the rollout ends with a termination"),
        (False, True, 0.8, "wrong where the rollout ends with a truncation"),
    ]
    for falls, cuts, trace, words in cases:
        rewards, values = generator.normal(0, 1, (9, 3)), generator.normal(0, 3, (10, 3))
        terminated, truncated = np.zeros((2, 9, 3), dtype=bool)
        terminated[-1], truncated[-1] = falls, cuts
        arguments = rewards, values, terminated, truncated, 0.95, trace
        answer = call("advantages", *arguments)
        score += award(call, 1, agrees(answer, _sums(*arguments), atol=1e-10), words)
    arguments = _rollout(generator, 40, 6)
    good = agrees(call("advantages", *arguments, 0.97, 0.9), _sums(*arguments, 0.97, 0.9),
                  atol=1e-10)  # fmt: skip
    score += award(call, 1, good, "wrong where episodes end within the rollout and reset")
    good = True
    for discount, trace in ((0.9, 0.0), (0.9, 1.0), (1.0, 0.5), (0.0, 0.5), (0.9, 0.7)):
        arguments = _rollout(generator, 15, 4)
        if trace == 0.7:  # one step of one copy, both terminated and truncated
            yes = np.ones((1, 1), dtype=bool)
            arguments = arguments[0][:1, :1], arguments[1][:2, :1], yes, yes
        answer = call("advantages", *arguments, discount, trace)
        good &= agrees(answer, _sums(*arguments, discount, trace), atol=1e-10)
    words = "wrong for a trace or discount of 0 or 1, or where a step terminates and is truncated"
    return score + award(call, 1, good, words)


def check_objective_gradient(call, generator: np.random.Generator) -> float:
    """1 point at the old policy, 2 away from it, 1 for batches, 1 for short and long steps."""
    score = 0.0
    cases = [
        ((), 6, 4, 0.0, (0.5,), 1, "wrong at the old policy"),
        ((), 5, 3, 1.0, (1.0,), 2, "wrong away from the old policy"),
        ((2, 3), 4, 3, 0.7, (0.8,), 1, "wrong on a batch"),
        ((), 5, 4, 0.5, (1e-2, 1e3), 1, "wrong where the step is short or long"),
    ]
    for shape, number, actions, move, steps, points, words in cases:
        good = True
        for t in steps:
            old = generator.normal(0, 1, (*shape, number, actions))
            logits = old + move * generator.normal(0, 1, old.shape)
            chosen = generator.integers(0, actions, (*shape, number))
            advantage = generator.normal(0, 1, (*shape, number))
            answer = call("objective_gradient", logits, old, chosen, advantage, t)
            reference = _slopes(logits, old, chosen, advantage, t)
            good &= agrees(answer, reference, rtol=1e-6, atol=1e-6 * (1 + 1 / t))
        score += award(call, points, good, words)
    return score


def check_gaussian_divergence(call, generator: np.random.Generator) -> float:
    """1 point each: single states, batches, policies that nearly agree."""
    score = 0.0
    for shapes, words in [
        (((3,), (1,)), "wrong in single states"),
        (((4, 2, 2),), "wrong on a batch"),
    ]:
        good = True
        for shape in shapes:
            for size in (0.7, 2.0):
                arguments = [generator.normal(0, size, shape) for _ in range(4)]
                answer = call("gaussian_divergence", *arguments)
                good &= agrees(answer, _integrated(*arguments), rtol=1e-6)
        score += award(call, 1, good, words)
    mean, log_std = generator.normal(0, 1, (2, 4))
    close = True
    for size in (1e-7, 1e-5, 1e-3, 1e-2, 0.1):  # middle sizes too
        gap = size * generator.uniform(0.7, 1.3, 4) * generator.choice([-1.0, 1.0], 4)
        new = log_std + gap
        exact = new - log_std  # what floating point made of the gap
        reference = sum(2 ** (k - 1) * exact**k / math.factorial(k) for k in range(2, 14)).sum(-1)
        answer = call("gaussian_divergence", mean, new, mean, log_std)
        close &= agrees(answer, reference, rtol=1e-4 if size < 1e-6 else 1e-6)
    return score + award(call, 1, close, "loses its digits where the policies nearly agree")


def check_actor_optimum(call, generator: np.random.Generator) -> float:
    """1 point each: single states, batches, equal coefficients, an action that was excluded."""
    score = 0.0
    cases = [
        ((4,), ((1.3, 0.4), (1.3, 0.0), (0.5, 1.2)), "wrong in single states"),
        ((2, 3, 5), ((0.7, 0.2),), "wrong on a batch"),
        ((6,), ((0.25, 0.25),), "wrong for the coefficients of soft actor-critic"),
    ]
    for shape, coefficients, words in cases:
        good = True
        for c, bonus in coefficients:
            log_old = np.log(generator.dirichlet(np.ones(shape[-1]), shape[:-1]))
            values = generator.normal(0, 1, shape)
            answer = call("actor_optimum", log_old, values, c, bonus)
            good &= agrees(answer, _actor(log_old, values, c, bonus), atol=1e-10)
        score += award(call, 1, good, words)
    log_old = np.array([-np.inf, -0.2, np.log(1 - np.exp(-0.2))])
    values = generator.normal(0, 1, 3)
    answer = call("actor_optimum", log_old, values, 0.5, 0.5)
    good = agrees(answer, _actor(np.zeros(3), values, 0.5, 0.5), atol=1e-10)
    kept = call("actor_optimum", log_old, values, 1.5, 0.5)
    inside = _actor(log_old[1:], values[1:], 1.5, 0.5)
    expected = np.append(-np.inf, inside)
    good &= agrees(kept, expected, atol=1e-10)
    return score + award(call, 1, good, "wrong where the old policy excludes an action")


def check_euclidean_step(call, generator: np.random.Generator) -> float:
    """1 point each: steps that stay inside, steps to the border, batches, equal advantages."""
    score = 0.0
    cases = [
        ((4,), 0.05, "wrong where the step stays inside"),
        ((6,), 3.0, "wrong where the step reaches the border"),
        ((3, 2, 5), 0.8, "wrong on a batch"),
    ]
    for shape, t, words in cases:
        policy = 0.5 / shape[-1] + 0.5 * generator.dirichlet(np.ones(shape[-1]), shape[:-1])
        advantage = generator.normal(0, 1, shape)
        answer = call("euclidean_step", policy, advantage, t)
        reference = _projected(policy + t * advantage / 2)
        score += award(call, 1, agrees(answer, reference, atol=1e-9), words)
    policy = np.array([0.0, 0.25, 0.5, 0.25])
    advantage = np.full(4, float(generator.integers(2, 9)))
    advantage[0] -= 1.0
    answer = call("euclidean_step", policy, advantage, 0.5)
    good = agrees(answer, policy, atol=1e-12)
    huge = call("euclidean_step", policy, 2.0**20 * advantage, 1.0)
    good &= agrees(huge, _projected(policy + 2.0**19 * (advantage - advantage.max())), atol=1e-6)
    return score + award(call, 1, good, "wrong where advantages are equal or huge")


def _each(function, *arrays: np.ndarray) -> np.ndarray:
    """One state after the other."""
    batch = arrays[0].shape[:-1]
    results = [function(*(a[index] for a in arrays)) for index in np.ndindex(batch)]
    return np.array(results).reshape(arrays[0].shape)


def _root(function, low: float, high: float) -> float:
    """Where a decreasing function crosses zero, to the last digit."""
    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _stepped(log_policy: np.ndarray, advantage: np.ndarray, t: float) -> np.ndarray:
    """From the condition for a maximum: A - (log p - log policy + 1) / t is one number."""

    def one(row_p, row_a):
        logits = [p + t * a for p, a in zip(row_p, row_a, strict=True)]
        top = max(logits)
        total = top + math.log(math.fsum(math.exp(value - top) for value in logits))
        return [value - total for value in logits]

    return _each(one, log_policy, advantage)


def _rollout(generator: np.random.Generator, steps: int, copies: int):
    """Rewards, values and ends of episodes, with steps that only reset after the ends."""
    rewards = generator.normal(0, 1, (steps, copies))
    values = generator.normal(0, 3, (steps + 1, copies))
    terminated, truncated = np.zeros((2, steps, copies), dtype=bool)
    for c in range(copies):
        fresh = False
        for t in range(steps):
            if fresh:
                rewards[t, c], fresh = 0.0, False
                continue
            luck = generator.uniform()
            terminated[t, c], truncated[t, c] = luck < 0.12, 0.12 <= luck < 0.24
            fresh = luck < 0.24
    return rewards, values, terminated, truncated


def _sums(rewards, values, terminated, truncated, discount: float, trace: float) -> np.ndarray:
    """Each sum on its own, forwards."""
    steps, copies = rewards.shape
    found = np.zeros_like(rewards)
    for c in range(copies):
        for t in range(steps):
            if t > 0 and (terminated[t - 1, c] or truncated[t - 1, c]):
                continue
            for k in range(t, steps):
                ahead = 0.0 if terminated[k, c] else discount * values[k + 1, c]
                delta = rewards[k, c] + ahead - values[k, c]
                found[t, c] += (discount * trace) ** (k - t) * delta
                if terminated[k, c] or truncated[k, c]:
                    break
    return found


def _objective(logits, old, chosen, advantage, t: float) -> float:
    total = 0.0
    for z, y, a, gain in zip(logits, old, chosen, advantage, strict=True):
        p, q = (np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in (z, y))
        divergence = float((p * np.log(p / q)).sum())
        total += p[a] / q[a] * gain - divergence / t
    return total / len(logits)


def _slopes(logits, old, chosen, advantage, t: float) -> np.ndarray:
    """Differences of the objective, extrapolated by Richardson's rule."""
    found = np.empty_like(logits)
    for index in np.ndindex(logits.shape[:-2]):
        here = (old[index], chosen[index], advantage[index])
        for place in np.ndindex(logits.shape[-2:]):
            wide = []
            for h in (2e-3, 1e-3):
                ends = []
                for sign in (1, -1):
                    moved = logits[index].copy()
                    moved[place] += sign * h
                    ends.append(_objective(moved, *here, t))
                wide.append((ends[0] - ends[1]) / (2 * h))
            found[(*index, *place)] = (4 * wide[1] - wide[0]) / 3
    return found


def _integrated(mean, log_std, old_mean, old_log_std) -> np.ndarray:
    """Expectation of the log-ratio under the new policy, by Gauss and Hermite's rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    z = mean[..., None] + np.exp(log_std)[..., None] * nodes
    old = (z - old_mean[..., None]) / np.exp(old_log_std)[..., None]
    ratio = (old**2 - nodes**2) / 2 + (old_log_std - log_std)[..., None]
    return (ratio * weights).sum((-2, -1))


def _actor(log_old, values, c: float, bonus: float) -> np.ndarray:
    """From the condition for a minimum; the share is formed with exact fractions."""
    share = float(1 - Fraction(bonus) / Fraction(c))

    def one(row_o, row_v):
        logits = [v / c + (share * o if share else 0.0) for o, v in zip(row_o, row_v, strict=True)]
        top = max(logits)
        total = top + math.log(math.fsum(math.exp(value - top) for value in logits))
        return [value - total for value in logits]

    return _each(one, log_old, values)


def _projected(v: np.ndarray) -> np.ndarray:
    def one(row):
        level = _root(lambda t: np.maximum(row - t, 0).sum() - 1, row.max() - 1, row.max())
        return np.maximum(row - level, 0)

    return _each(one, v)
