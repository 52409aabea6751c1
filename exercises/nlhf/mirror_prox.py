"""Marks for the assignment 'Nash mirror prox'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one game after the other, steps as
differences of logarithms from the reference, divergences in long arithmetic, bounds by counting.
`call` runs the student's function in the student's process.
"""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np

from mdtheory.course import agrees, award, has_shape

POINTS = {
    "two_calls": 4,
    "step_ratios": 3,
    "longest_step": 4,
    "exploitability": 3,
    "queries": 3,
    "inexact_run": 3,
}
NASH = "mdtheory.nlhf.nash_md."
RUNS = ["nash_mirror_prox", "nash_mirror_prox_iterates", NASH + "magnetic_step"]
FORBIDDEN = {
    "two_calls": [*RUNS, "preference_mirror_descent", "preference_mirror_descent_iterates"],
    "step_ratios": [NASH + "kl"],
    "longest_step": [*RUNS, "largest_step"],
    "exploitability": [
        NASH + "exploitability",
        NASH + "PreferenceGame.exploitability",
        NASH + "best_response",
    ],
    "queries": ["bounds.kl_rate", "bounds.single_call_rate"],
    "inexact_run": RUNS,
}


def check_two_calls(call, generator: np.random.Generator) -> float:
    """1 point each: one iteration, several, batches, probabilities too small for a float."""
    score = 0.0
    cases = [
        ((), 1, "wrong after one iteration"),
        ((), 7, "wrong after several iterations"),
        ((2, 3), 4, "wrong on a batch"),
    ]
    for batch, count, words in cases:
        game = _games(generator, batch, 4)
        gamma = float(generator.uniform(0.8, 3))
        answer = call("two_calls", *game, gamma, count)
        reference = _each(_prox, gamma, count, None, *game)
        score += award(call, 1, agrees(answer, reference, rtol=0, atol=1e-9), words)
    preference, _, tau = _games(generator, (), 4)
    logs = np.array([0.0, -2000.0, -900.0, -5.0]) - generator.uniform(0, 1, 4)
    logs = logs - np.logaddexp.reduce(logs)
    answer = call("two_calls", preference, logs, tau, 2.0, 5)
    reference = _prox(2.0, 5, None, preference, logs, tau)
    good = agrees(answer, reference, rtol=1e-11, atol=1e-8)
    return score + award(call, 1, good, "wrong where probabilities underflow")


def check_step_ratios(call, generator: np.random.Generator) -> float:
    """1 point each: one run, a batch, policies that nearly agree."""
    score = 0.0
    cases = [
        ((), (1.0,), 1e-8, "wrong on a single run"),
        ((2, 3), (1.0,), 1e-8, "wrong on a batch"),
        # Middle sizes too.
        ((), (1e-8, 1e-6, 1e-4, 1e-2), 1e-4, "wrong or not exact where the policies nearly agree"),
    ]
    for batch, sizes, rtol, words in cases:
        good = True
        for size in sizes:
            star = _logs(generator, batch, 5)
            off = size * generator.normal(0, 1, (4, *batch, 5))
            off = off * np.array([1, 0.6, 0.5, 0.2]).reshape(4, *(1,) * (len(batch) + 1))
            policies = star + off
            policies = policies - np.logaddexp.reduce(policies, -1, keepdims=True)
            answer = call("step_ratios", policies, star)
            far = np.array(
                [[_kl(star[i], policies[k][i]) for i in np.ndindex(batch)] for k in range(4)]
            ).reshape(4, *batch)
            good &= agrees(answer, far[1:] / far[:-1], rtol=rtol)
        score += award(call, 1, good, words)
    return score


def check_longest_step(call, generator: np.random.Generator) -> float:
    """1 point for each of two single games, 2 for a batch."""
    score = 0.0
    grid = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0])
    cases = [
        ((), grid, "wrong on a game near the circle"),
        ((), np.array([0.5, 1.9, 3.3, 6.0, 25.0, 60.0]), "wrong on other steps"),
        ((2, 3), grid, "wrong on a batch"),
    ]
    for batch, steps, words in cases:
        game, star, reference = _circles(generator, batch, steps)
        answer = call("longest_step", *game, star, steps, 3)
        points = 2 if batch else 1
        good = agrees(answer, reference, rtol=1e-12)
        if not batch:  # all steps do, and the first only
            place = int(np.flatnonzero(steps == reference)[0])
            for some in (steps[: place + 1], steps[place:]):
                answer = call("longest_step", *game, star, some, 3)
                good &= agrees(answer, reference, rtol=1e-12)
        score += award(call, points, good, words)
    return score


def check_exploitability(call, generator: np.random.Generator) -> float:
    """1 point each: single games, batches, a very low temperature."""
    score = 0.0
    for batch, words in [((), "wrong on a single game"), ((2, 3), "wrong on a batch")]:
        preference, reference, tau = _games(generator, batch, 4)
        policy = _logs(generator, batch, 4)
        answer = call("exploitability", preference, policy, reference, tau)
        right = [_gain(preference[i], policy[i], reference[i], tau[i]) for i in np.ndindex(batch)]
        good = agrees(answer, np.array(right).reshape(batch), rtol=1e-9, atol=1e-11)
        score += award(call, 1, good, words)
    preference, reference, _ = _games(generator, (), 4)
    policy = _logs(generator, (), 4)
    answer = call("exploitability", preference, policy, reference, np.array(1e-4))
    right = _gain(preference, policy, reference, 1e-4)
    good = agrees(answer, np.array(right), rtol=1e-8, atol=1e-10)
    return score + award(call, 1, good, "wrong at a very low temperature")


def check_queries(call, generator: np.random.Generator) -> float:
    """1 point for each of the three methods, on single temperatures and on a batch."""
    inputs = [
        (np.array(_temperature(generator)), 10 ** -generator.uniform(2, 4)),
        (
            np.array([[_temperature(generator) for _ in range(3)]] * 2),
            10 ** -generator.uniform(2, 4),
        ),
    ]
    # Hardly a query, where the start is nearly good enough; and a high temperature.
    inputs += [(np.array(0.3), 1.61), (np.array(7.0), 0.013)]
    answers = []
    for tau, accuracy in inputs:
        right = np.array([_queries(float(t), float(accuracy)) for t in tau.ravel()], dtype=float)
        answers.append((call("queries", tau, float(accuracy)), right.reshape(*tau.shape, 3)))
    score = 0.0
    for j, name in enumerate(("Nash mirror prox", "magnetic mirror descent", "Nash-MD")):
        good = [
            has_shape(answer, right.shape) and agrees(answer[..., j], right[..., j], rtol=1e-12)
            for answer, right in answers
        ]
        score += award(call, 1, all(good), f"wrong number of queries of {name}")
    return score


def check_inexact_run(call, generator: np.random.Generator) -> float:
    """1 point each: one iteration, several, batches."""
    score = 0.0
    cases = [
        ((), 1, "wrong after one iteration"),
        ((), 6, "wrong after several iterations"),
        ((2, 3), 4, "wrong on a batch"),
    ]
    for batch, count, words in cases:
        game = _games(generator, batch, 4)
        errors = generator.normal(0, 0.5, (count, 2, *batch, 4))
        gamma = float(generator.uniform(0.8, 2))
        answer = call("inexact_run", *game, gamma, errors)
        reference = _each(_prox, gamma, count, errors, *game)
        score += award(call, 1, agrees(answer, reference, rtol=0, atol=1e-9), words)
    return score


def _logs(generator, batch: tuple, actions: int) -> np.ndarray:
    logs = generator.normal(0, 1, (*batch, actions))
    return logs - np.logaddexp.reduce(logs, -1, keepdims=True)


def _games(generator, batch: tuple, actions: int):
    draws = generator.uniform(0, 1, (*batch, actions, actions))
    upper = np.triu(draws, 1)
    preference = upper + np.tril(1 - np.swapaxes(upper, -1, -2), -1) + np.eye(actions) / 2
    tau = np.asarray(generator.uniform(0.1, 0.6, batch))
    return preference, _logs(generator, batch, actions), tau


def _each(function, gamma, count, errors, preference, reference, tau) -> np.ndarray:
    """One game after the other."""
    batch = np.shape(tau)
    results = [
        function(
            gamma, count, None if errors is None else errors[(slice(None), slice(None), *i)],
            preference[i], reference[i], tau[i],
        )
        for i in np.ndindex(batch)
    ]  # fmt: skip
    return np.array(results).reshape(*batch, -1)


def _path(gamma, count, errors, preference, reference, tau) -> list[np.ndarray]:
    """Iterates, kept as differences from the reference: these shrink by 1/(1 + gamma tau)."""

    def logs(tilt):
        raw = reference + tilt
        top = raw.max()
        return raw - top - math.log(math.fsum(np.exp(raw - top)))

    tilt = np.zeros_like(reference)
    path = [logs(tilt)]
    for k in range(count):
        seen, ahead = tilt, tilt
        for j in range(2):
            won = np.exp(logs(seen)) @ preference.T
            won = won if errors is None else won + errors[k, j]
            ahead = (tilt + gamma * won) / (1 + gamma * tau)
            seen = ahead
        tilt = ahead
        path.append(logs(tilt))
    return path


def _prox(gamma, count, errors, preference, reference, tau) -> np.ndarray:
    return _path(gamma, count, errors, preference, reference, tau)[-1]


def _kl(p, q) -> float:
    """By the power series where the two agree, else as it stands."""
    total = Fraction(0)
    for a, b in zip(np.asarray(p).tolist(), np.asarray(q).tolist(), strict=True):
        d = b - a
        if abs(d) < 0.1:
            x, term, rest = Fraction(d), Fraction(1), Fraction(0)
            for j in range(1, 14):
                term = term * x / j
                rest += term if j >= 2 else 0
        else:
            rest = Fraction(math.exp(d) - 1 - d)
        total += Fraction(math.exp(a)) * rest
    return float(total)


def _circles(generator, batch: tuple, steps: np.ndarray):
    """Games near the circle at low temperatures, none of them close to a tie."""
    games, stars, answers = [], [], []
    while len(games) < math.prod(batch):
        preference = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
        soft = generator.uniform(0, 0.1, 3)
        for (i, j), s in zip([(0, 1), (1, 2), (2, 0)], soft, strict=True):
            preference[i, j] -= s
            preference[j, i] += s
        reference = np.log(generator.dirichlet(np.full(3, 4.0)))
        tau = float(generator.uniform(0.02, 0.06))
        star = _path(2.0, 900, None, preference, reference, tau)[-1]
        margins, answer, alive, low = [], steps[0], True, math.inf
        for gamma in steps:
            far = [_kl(star, p) for p in _path(gamma, 3, None, preference, reference, tau)]
            low = min(low, *far)
            slack = [(1 + gamma * tau) * b / a - 1 for a, b in pairwise(far)]
            margins.extend(slack)
            alive = alive and max(slack) <= 0
            answer = gamma if alive else answer
        first = _kl(star, _path(steps[0], 1, None, preference, reference, tau)[-1])
        sure = min(map(abs, margins)) > 1e-5 and low > 1e-6 and first > 0
        if sure and 2.0 < answer < steps[-1]:
            games.append((preference, reference, tau))
            stars.append(star)
            answers.append(answer)
    parts = [np.array(part) for part in zip(*games, strict=True)]
    shaped = [part.reshape((*batch, *part.shape[1:])) for part in parts]
    return shaped, np.array(stars).reshape((*batch, 3)), np.array(answers).reshape(batch)


def _gain(preference, policy, reference, tau) -> float:
    """The best response by its value: a log-sum-exp, with the largest term taken out."""
    q, mu = np.exp(policy), reference
    exponents = mu + (preference @ q) / tau
    top = exponents.max()
    best = tau * (top + math.log(math.fsum(np.exp(exponents - top))))
    return best + tau * math.fsum(q * (policy - mu)) - 0.5


def _temperature(generator) -> float:
    return float(generator.uniform(0.05, 0.6))


def _queries(tau: float, accuracy: float) -> list[int]:
    """By counting, with the bounds multiplied out."""
    found = []
    for factor, cost in ((1 + 2 * tau, 2), (1 + 4 * tau * tau, 1)):
        far, count = 1 / (2 * tau), 0
        while far > accuracy:
            far, count = far / factor, count + cost
        found.append(count)
    schedule = int(8 / (tau * tau * accuracy)) - 3
    while 8 / (tau * tau * (schedule + 1)) > accuracy:
        schedule += 1
    return [*found, schedule]
