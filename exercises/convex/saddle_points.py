"""Marks for the assignment 'Saddle points'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one game or one sample after the other,
odds in place of logits where they fit, probabilities multiplied up in long arithmetic, the gap by
trying every pure strategy. `call` runs the student's function in the student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "next_weights": 3,
    "gap": 3,
    "look_ahead": 4,
    "certificate": 4,
    "promise": 3,
    "factor": 3,
}
FORBIDDEN = {
    "next_weights": ["weight_step", "mdtheory.convex.mirror_maps.mirror_step"],
    "gap": ["duality_gap"],
    "look_ahead": ["mirror_prox", "optimistic_mirror_prox"],
    "certificate": ["weight_regret"],
    "promise": ["weight_bound"],
    "factor": ["separating_scale"],
}


def check_next_weights(call, generator: np.random.Generator) -> float:
    """1 point each: one run with a step of 0 and a tie among its cases, batches, large losses."""
    score = 0.0
    for batch, words in [((), "wrong on a single run"), ((2, 3), "wrong on a batch")]:
        good = True
        for step in (0.0, 0.02, float(generator.uniform(1, 4))):
            b = generator.uniform(0.02, 0.98, (*batch, 5))
            b[..., 1:3] = 1e-12, 1 - 2.0**-40
            first, second = generator.uniform(0, 2, (2, *batch, 5))
            second[..., 0] = first[..., 0]
            first[..., 3] = second[..., 4] = 0
            answer = call("next_weights", b, first, second, step)
            odds = b / (1 - b) * np.exp(step * first) / np.exp(step * second)
            good = agrees(answer, odds / (1 + odds), rtol=1e-9) and good
        score += award(call, 1, good, words)
    b = generator.uniform(0.1, 0.9, 4)
    first = np.array([1000.0, 0.0, 1000.0, 999.99]) - generator.uniform(0, 1e-3)
    second = np.array([0.0, 1000.0, 1000.0, 1000.0]) - generator.uniform(0, 1e-3)
    first[1] = 0.0
    second[0] = 0.0
    answer = call("next_weights", b, first, second, 10.0)
    odds = [math.inf, 0.0] + [
        b[k] / (1 - b[k]) * math.exp(10 * (first[k] - second[k])) for k in (2, 3)
    ]
    right = np.array([1.0 if o == math.inf else o / (1 + o) for o in odds])
    good = agrees(answer, right, rtol=1e-9, atol=1e-12)
    return score + award(call, 1, good, "wrong or not a number where losses are large")


def check_gap(call, generator: np.random.Generator) -> float:
    """1 point each: single games, some with payoffs of one sign; batches; pure strategies."""
    score = 0.0
    good = True
    for n, m, shift in ((2, 4, 0.0), (5, 3, 3.0), (3, 3, -3.0), (1, 3, 0.0), (3, 1, 0.0)):
        payoff = generator.normal(0, 1, (n, m)) + shift
        x, y = generator.dirichlet(np.ones(n)), generator.dirichlet(np.ones(m))
        answer = call("gap", payoff, x, y)
        good = agrees(answer, _gap(payoff, x, y), rtol=1e-9, atol=1e-12) and good
    score += award(call, 1, good, "wrong on a single game")
    payoff = generator.normal(0, 1, (2, 3, 4, 3))
    x, y = generator.dirichlet(np.ones(4), (2, 3)), generator.dirichlet(np.ones(3), (2, 3))
    answer = call("gap", payoff, x, y)
    right = [_gap(payoff[i], x[i], y[i]) for i in np.ndindex(2, 3)]
    good = agrees(answer, np.array(right).reshape(2, 3), rtol=1e-9, atol=1e-12)
    score += award(call, 1, good, "wrong on a batch")
    good = True
    for _ in range(3):
        payoff = generator.normal(0, 1, (3, 4))
        x, y = np.eye(3)[generator.integers(3)], np.eye(4)[generator.integers(4)]
        answer = call("gap", payoff, x, y)
        good = agrees(answer, _gap(payoff, x, y), rtol=1e-9, atol=1e-12) and good
    return score + award(call, 1, good, "wrong for pure strategies")


def check_look_ahead(call, generator: np.random.Generator) -> float:
    """1 point each: one step, several, batches, and steps that underflow."""
    score = 0.0
    cases = [
        ((), 1, 1.0, "wrong after one step"),
        ((), 8, 1.0, "wrong after several steps"),
        ((2, 3), 5, 1.0, "wrong on a batch"),
        ((), 60, 400.0, "wrong where probabilities underflow"),
    ]
    for batch, steps, size, words in cases:
        payoff = generator.normal(0, 1, (*batch, 4, 3))
        if size > 1:
            # A pure saddle, so that long steps do not make a chaos of the play.
            payoff = np.add.outer(generator.permutation(4) * 1.0, -generator.permutation(3) * 1.0)
        x = generator.dirichlet(np.full(4, 3.0), batch)
        y = generator.dirichlet(np.full(3, 3.0), batch)
        step = float(generator.uniform(0.3, 0.9)) * size
        answer = call("look_ahead", payoff, x, y, step, steps)
        right = [_prox(payoff[i], x[i], y[i], step, steps) for i in np.ndindex(batch)]
        right = np.array(right).reshape(*batch, 7)
        score += award(call, 1, agrees(answer, right, rtol=1e-8, atol=1e-9), words)
    return score


def check_certificate(call, generator: np.random.Generator) -> float:
    """1 point each: all samples in every round, batches, samples never drawn, long runs."""
    score = 0.0
    cases = [
        (5, 4, 4, "wrong where every sample is drawn in every round"),
        (6, 3, 5, "wrong on batches"),
        (4, 2, 40, "wrong where samples were never drawn"),
        (700, 8, 20, "wrong on a long run"),
    ]
    for rounds, batch, samples, words in cases:
        log = _log(generator, rounds, batch, samples)
        weights = generator.uniform(0, 1, (rounds, batch))
        answer = call("certificate", weights, *log, samples)
        right = np.zeros(samples)
        for i in range(samples):
            one, two, played = [], [], []
            for t, k in zip(*np.nonzero(log[2] == i), strict=True):
                one.append(log[0][t, k])
                two.append(log[1][t, k])
                played.append(weights[t, k] * one[-1] + (1 - weights[t, k]) * two[-1])
            right[i] = max(math.fsum(one), math.fsum(two)) - math.fsum(played)
        score += award(call, 1, agrees(answer, right, rtol=1e-9, atol=1e-10), words)
    return score


def check_promise(call, generator: np.random.Generator) -> float:
    """1 point each: weights first, simultaneous, samples never drawn."""
    score = 0.0
    cases = [
        (6, 3, 5, (True,), "wrong where the weights move first"),
        (6, 3, 5, (False,), "wrong where they move after"),
        (4, 2, 30, (True, False), "wrong where samples were never drawn"),
    ]
    for rounds, batch, samples, orders, words in cases:
        good = True
        for first in orders:
            log = _log(generator, rounds, batch, samples)
            step = float(generator.uniform(0.2, 6))
            answer = call("promise", *log, samples, step, first)
            right = np.full(samples, math.log(2) / step)
            if not first:
                for i, one, two in zip(*(log[k].ravel() for k in (2, 0, 1)), strict=True):
                    right[i] += step * (one - two) ** 2 / 8
            good = agrees(answer, right, rtol=1e-9) and good
        score += award(call, 1, good, words)
    return score


def check_factor(call, generator: np.random.Generator) -> float:
    """1 point each: a factor, groups of even and odd size, no factor."""
    score = 0.0
    for kind, words in (
        ("odd", "wrong for groups of odd size"),
        ("even", "wrong for groups of even size"),
        ("none", "wrong where no factor parts the groups"),
    ):
        sizes = (5, 7) if kind == "odd" else (6, 4)
        dense = generator.permutation(np.arange(sum(sizes)) < sizes[0])
        distance = generator.uniform(0.01, 0.2, sum(sizes))
        ratio = generator.uniform(0.05, 0.4, sum(sizes)) + np.where(dense, 0.6, 0.0)
        if kind == "none":
            ratio = 1.1 - ratio
        cases = [(ratio * distance, distance, dense)]
        if kind == "odd":  # groups of one and two
            cases.append((np.array([0.5, 3.0, 1.0]), np.ones(3), np.array([False, True, False])))
        if kind == "even":  # of four and five
            cases.append(
                tuple(part[np.flatnonzero(dense)[0] != np.arange(10)] for part in cases[0])
            )
        if kind == "none":  # equal medians, also after rounding
            losses = np.array([0.25, 0.125, 0.5, 0.5, 1.0, 0.75])
            cases.append((losses, np.ones(6), np.arange(6) % 2 == 0))
        good = True
        for losses, distance, dense in cases:
            answer = call("factor", losses, distance, dense)
            high, low = (_median((losses / distance)[group]) for group in (dense, ~dense))
            right = math.sqrt(high * low) if high > low else 0.0
            good &= agrees(answer, np.array(right), rtol=1e-9)
        score += award(call, 1, good, words)
    return score


def _gap(payoff, x, y) -> float:
    """By trying every pure strategy of either player."""
    n, m = payoff.shape
    best = max(math.fsum(x[i] * payoff[i, j] for i in range(n)) for j in range(m))
    least = min(math.fsum(payoff[i, j] * y[j] for j in range(m)) for i in range(n))
    return best - least


def _law(logs: np.ndarray) -> np.ndarray:
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def _prox(payoff, x, y, step: float, steps: int) -> np.ndarray:
    """The sums of the gradients are kept; the present pair comes from them each time."""
    payoff = payoff.astype(np.longdouble)
    paid, got = np.zeros(len(x), np.longdouble), np.zeros(len(y), np.longdouble)
    total = np.zeros(len(x) + len(y), np.longdouble)
    log_x, log_y = np.log(x), np.log(y)
    for _ in range(steps):
        p, q = _law(log_x - step * paid), _law(log_y + step * got)
        ahead = _law(log_x - step * (paid + payoff @ q)), _law(log_y + step * (got + p @ payoff))
        paid, got = paid + payoff @ ahead[1], got + ahead[0] @ payoff
        total += np.concatenate(ahead)
    return (total / steps).astype(float)


def _log(generator, rounds: int, batch: int, samples: int) -> tuple[np.ndarray, ...]:
    """Losses, and who was drawn."""
    drawn = np.array([generator.permutation(samples)[:batch] for _ in range(rounds)])
    return *generator.uniform(0, 2, (2, rounds, batch)), drawn


def _median(values: np.ndarray) -> float:
    ordered = sorted(values.tolist())
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
