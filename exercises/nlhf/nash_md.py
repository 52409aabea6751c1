"""Marks for the assignment 'Nash mirror descent'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one game after the other, sums over all
answers, finite sums in place of matrices, gradient descent in place of Newton's method. `call`
runs the student's function in the student's process.
"""

import itertools
import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "step_against": 3,
    "nash_run": 4,
    "exploitable": 3,
    "divergence_gradient": 4,
    "cycle_equilibria": 3,
    "fitted_reward": 3,
}
STEP = "mdtheory.convex.mirror_maps.dual_step"
BARE = "mdtheory.convex.mirror_maps.entropy_step"
FORBIDDEN = {
    "step_against": ["magnetic_step", "PreferenceGame", STEP, BARE],
    "nash_run": ["nash_md", "nash_md_iterates", "magnetic_step", "PreferenceGame", STEP, BARE],
    "exploitable": ["exploitability", "PreferenceGame", "best_response", "kl"],
    "divergence_gradient": ["objective_gradient", "expected_gradient", "policy_gradient_surrogate"],
    "cycle_equilibria": ["criteria_preference", "three_cycles", "regularized_nash"],
    "fitted_reward": ["bradley_terry"],
}


def check_step_against(call, generator: np.random.Generator) -> float:
    """1 point each: single games, batches, probabilities that vanish."""
    score = 0.0
    cases = [
        ((), 0.0, "wrong on a single game"),
        ((3, 2), 0.0, "wrong on a batch"),
        ((), 2000.0, "wrong where probabilities are as small as exp(-2000)"),
    ]
    for batch, deep, words in cases:
        preference = _preferences(generator, batch, 4)
        policy, opponent, reference = (_policies(generator, batch, 4) for _ in range(3))
        if deep:
            policy = _log_normal(policy - np.array([0.0, 0.0, deep, 0.0]))
        drawn, some = generator.uniform(0.2, 0.8), generator.uniform(0.5, 2.0)
        good = True
        # Without a temperature too, which the statement allows: then the reference has no pull.
        pairs = [(drawn, some), (0.0, some), (drawn, 1e6), (drawn, 1e-6)]
        for tau, gamma in pairs if deep == 0 else pairs[:1]:
            answer = call("step_against", preference, policy, opponent, reference, tau, gamma)
            truth = np.empty((*batch, 4))
            for i in np.ndindex(batch):
                truth[i] = _magnetic(
                    preference[i], policy[i], opponent[i], reference[i], tau, gamma
                )
            good = agrees(answer, truth, rtol=1e-8, atol=1e-9) and good
        score += award(call, 1, good, words)
    return score


def check_nash_run(call, generator: np.random.Generator) -> float:
    """1 point each: a constant step, the schedule, batches, a long run."""
    score = 0.0
    cases = [
        ((), 5, True, "wrong with a constant step"),
        ((), 6, False, "wrong with the schedule"),
        ((3, 2), 7, True, "wrong on a batch"),
        ((), 300, False, "wrong after many iterations of the schedule"),
    ]
    for batch, count, constant, words in cases:
        preference, reference = _preferences(generator, batch, 4), _policies(generator, batch, 4)
        tau = generator.uniform(0.2, 0.6)
        steps = [(tau, generator.uniform(0.2, 0.7) / tau if constant else 0.0)]
        if constant and not batch:
            # A run so slow that it seems to stand still, and one without a temperature.
            steps += [(tau, 1e-7 / tau), (0.0, 0.6)]
        good = True
        for tau, step in steps:
            answer = call("nash_run", preference, reference, tau, count, step)
            truth = np.empty((*batch, 4))
            for i in np.ndindex(batch):
                truth[i] = _nash_run(preference[i], reference[i], tau, count, step)
            # Of a slow run only what it moved counts.
            moved = abs(truth - reference).max()
            tolerance = {"rtol": 1e-8, "atol": 1e-8 if moved > 1e-3 else 1e-3 * moved}
            good = agrees(answer, truth, **tolerance) and good
        score += award(call, 1, good, words)
    return score


def check_exploitable(call, generator: np.random.Generator) -> float:
    """1 point each: single games, batches, almost the equilibrium."""
    score = 0.0
    for batch, words in (((), "wrong on a single game"), ((3, 2), "wrong on a batch")):
        preference = _preferences(generator, batch, 4)
        policy, reference = (_policies(generator, batch, 4) for _ in range(2))
        tau = generator.uniform(0.2, 0.8)
        answer = call("exploitable", preference, policy, reference, tau)
        truth = np.empty(batch)
        for i in np.ndindex(batch):
            truth[i] = _gain(preference[i], policy[i], reference[i], tau)
        score += award(call, 1, agrees(answer, truth, rtol=1e-8, atol=1e-10), words)
    # Even preferences: the best response is the reference, and KL is a series in what was moved.
    preference, reference = np.full((4, 4), 0.5), _policies(generator, (), 4)
    law, good = np.exp(reference), True
    bump = generator.choice([-1.0, 1.0], 4) * generator.uniform(0.5, 1.0, 4)
    bump -= (law * bump).sum()
    for size in (1e-10, 1e-5, 1e-2, 0.3):
        # To second order and beyond it: a policy again, as close as floating point lets it be.
        policy = _log_normal(reference + size * bump) if size > 1e-9 else reference + size * bump
        moved = policy - reference
        # The best response is the reference: KL(q|mu), for small moves without cancellation.
        # Both sum to one, so that sum q moved = sum mu (e^moved moved - e^moved + 1).
        if size < 1e-3:
            terms = moved**2 / 2 + moved**3 / 3 + moved**4 / 8
        else:
            terms = np.exp(moved) * moved - np.expm1(moved)
        truth = np.array(0.5 * (law * terms).sum())
        answer = call("exploitable", preference, policy, reference, 0.5)
        tolerance = 0.01 if size < 1e-3 else 1e-6
        good = agrees(answer, truth, rtol=tolerance, atol=0.0) and good
    return score + award(call, 1, good, "not exact close to the equilibrium")


def check_divergence_gradient(call, generator: np.random.Generator) -> float:
    """1 point each: single policies, batches, later tokens alone, a random multiple of logits."""
    score = 0.0
    cases = [
        ((), 1.0, False, "wrong on a single policy"),
        ((3, 2), 1.0, False, "wrong on a batch"),
        ((), 1.0, True, "wrong where only the second token leaves the reference"),
        ((), 4.0, False, "wrong where logits are large"),
    ]
    for batch, scale, same, words in cases:
        first, other = scale * generator.normal(size=(2, *batch, 3))
        second, later = scale * generator.normal(size=(2, *batch, 3, 3))
        if same:
            other = first.copy()
        answer = call("divergence_gradient", first, second, other, later)
        truth = np.empty((*batch, 3))
        for i in np.ndindex(batch):
            truth[i] = _divergence_slope(first[i], second[i], other[i], later[i])
        score += award(call, 1, agrees(answer, truth, rtol=1e-9, atol=1e-10), words)
    return score


def check_cycle_equilibria(call, generator: np.random.Generator) -> float:
    """1 point each: few judges without ties, more of them, and coarse ratings with ties."""
    score = 0.0
    cases = [
        (5, 3, False, "wrong on five judges"),
        (12, 9, False, "wrong on twelve judges"),
        (9, 6, True, "wrong where ratings tie"),
    ]
    for judges, respects, coarse, words in cases:
        # Drawn until there are unequal cycles, so that a guess of thirds is not enough.
        while True:
            if coarse:
                ratings = generator.integers(0, 4, (judges, respects)).astype(float)
            else:
                ratings = generator.normal(size=(judges, respects))
            truth = _cycles(ratings)
            found = truth[truth > 0]
            if len(found) and (judges == 5 or np.ptp(found) > 0.1):
                break
        answer = call("cycle_equilibria", ratings)
        good = agrees(answer, truth, rtol=1e-8, atol=1e-9)
        if judges == 5:  # one respect only, and so no cycle; all judges alike
            for few in (ratings[:, :1], np.full((3, 2), 1.5)):
                answer = call("cycle_equilibria", few)
                good &= agrees(answer, np.zeros((len(few),) * 3), atol=1e-9)
        score += award(call, 1, good, words)
    return score


def check_fitted_reward(call, generator: np.random.Generator) -> float:
    """1 point each: a true reward, no true reward, batches with uneven weights."""
    score = 0.0
    for batch, true, words in (
        ((), True, "wrong where a reward explains the preferences"),
        ((), False, "wrong where no reward explains them"),
        ((3, 2), False, "wrong on a batch"),
    ):
        reward = generator.uniform(-1.2, 1.2, (*batch, 4))
        preference = 1 / (1 + np.exp(reward[..., None, :] - reward[..., :, None]))
        if not true:
            preference = 0.02 + 0.96 * _preferences(generator, batch, 4)
        weights = generator.uniform(0.2, 3.0, (*batch, 4, 4))
        weights = weights + np.swapaxes(weights, -1, -2)
        truth = np.empty((*batch, 4))
        for i in np.ndindex(batch):
            truth[i] = _reward(preference[i], weights[i])
        good = True
        for unit in (1e-3, 1e3, 1.0) if true else (1.0,):  # of the weights, which changes nothing
            answer = call("fitted_reward", preference, unit * weights)
            good &= agrees(answer, truth, rtol=0, atol=1e-6)
        if true:  # two answers at the end of the range
            pair = np.array([[0.5, 0.98], [0.02, 0.5]])
            answer = call("fitted_reward", pair, weights[:2, :2])
            good &= agrees(answer, np.log(49) / 2 * np.array([1.0, -1]), rtol=0, atol=1e-6)
        score += award(call, 1, good, words)
    return score


def _preferences(generator, batch: tuple, n: int) -> np.ndarray:
    drawn = generator.uniform(0, 1, (*batch, n, n))
    above = np.triu(drawn, 1)
    return above + np.tril(1 - np.swapaxes(drawn, -1, -2), -1) + np.eye(n) / 2


def _policies(generator, batch: tuple, n: int) -> np.ndarray:
    return _log_normal(1.2 * generator.normal(size=(*batch, n)))


def _log_normal(logits: np.ndarray) -> np.ndarray:
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def _won(preference, law) -> np.ndarray:
    n = len(law)
    return np.array([sum(preference[y, z] * law[z] for z in range(n)) for y in range(n)])


def _magnetic(preference, policy, opponent, reference, tau, gamma) -> np.ndarray:
    """The step as a weighted mean of two logarithms, and what the temperature leaves of a gain."""
    share = gamma * tau / (1 + gamma * tau)
    gain = gamma * _won(preference, np.exp(opponent)) / (1 + gamma * tau)
    return _log_normal((1 - share) * policy + share * reference + gain)


def _nash_run(preference, reference, tau, count, step) -> np.ndarray:
    """The logits less those of the reference; the mixture only shrinks them."""
    lean = np.zeros_like(reference)
    for t in range(count):
        eta = 2 / (tau * (t + 2)) if step == 0 else step
        lean = (1 - eta * tau) * lean
        law = np.exp(_log_normal(reference + lean))
        lean = lean + eta * (_won(preference, law) - 0.5)
    return _log_normal(reference + lean)


def _gain(preference, policy, reference, tau) -> float:
    """By the log-sum-exp, which is exact enough far from the equilibrium."""
    won = _won(preference, np.exp(policy))
    log_mean = np.log(sum(math.exp(m + w / tau) for m, w in zip(reference, won, strict=True)))
    return tau * log_mean + tau * (np.exp(policy) * (policy - reference)).sum() - 0.5


def _divergence_slope(first, second, other, later) -> np.ndarray:
    """The sum over all answers of score times the whole log-ratio."""
    p, q, m, k = (_log_normal(x) for x in (first, second, other, later))
    total = np.zeros_like(first)
    for y, z in itertools.product(range(len(first)), repeat=2):
        ratio = p[y] + q[y, z] - m[y] - k[y, z]
        score = np.eye(len(first))[y] - np.exp(p)
        total += math.exp(p[y] + q[y, z]) * ratio * score
    return total


def _cycles(ratings: np.ndarray) -> np.ndarray:
    count = len(ratings)
    truth = np.zeros((count, count, count))

    def lead(i: int, j: int) -> float:
        above = np.sum(ratings[i] > ratings[j]) + np.sum(ratings[i] == ratings[j]) / 2
        return float(above / ratings.shape[1] - 0.5)

    for i, j, k in itertools.permutations(range(count), 3):
        a, b, c = lead(i, j), lead(j, k), lead(k, i)
        if min(a, b, c) > 1e-12:
            # Nobody gains against the equilibrium x: S x = 0, and x sums to one.
            skew = np.array([[0, a, -c], [-a, 0, b], [c, -b, 0], [1, 1, 1]])
            truth[i, j, k] = np.linalg.lstsq(skew, np.array([0, 0, 0, 1.0]), rcond=None)[0][0]
    return truth


def _reward(preference, weights) -> np.ndarray:
    """By plain gradient descent with a safe step."""
    weights = weights * (1 - np.eye(len(weights)))
    reward = np.zeros(len(weights))
    step = 2 / weights.sum(-1).max()
    for _ in range(6000):
        chance = 1 / (1 + np.exp(reward[None, :] - reward[:, None]))
        reward = reward - step * (weights * (chance - preference)).sum(-1)
    return reward - reward.mean()
