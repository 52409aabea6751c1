"""Marks for the assignment 'online learning'. Runs in the grader's process.

The references go round by round; the portfolio and the adversary are judged by what they achieve.
`call` runs the student's function in the student's process.
"""

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "hedge_rounds": 3,
    "adagrad_box": 4,
    "best_rebalanced": 4,
    "newton_terms": 4,
    "optimistic_hedge": 4,
    "beat_the_leader": 3,
}
LEARNERS = ["mdtheory.convex.online_learning.learners", "mdtheory.convex.online_learning.oblivious"]
FORBIDDEN = {
    "hedge_rounds": LEARNERS,
    "adagrad_box": ["AdaGrad"],
    "best_rebalanced": ["PortfolioLosses"],
    "newton_terms": ["OnlineNewtonStep"],
    "optimistic_hedge": LEARNERS,
}


def check_hedge_rounds(call, generator: np.random.Generator) -> float:
    """1 point for single games, 1 for batches, 1 for losses that add up to 1e6."""
    score = 0.0
    cases = [
        (generator.uniform(0, 1, (30, 4)), 0.4, "wrong on single games"),
        (generator.uniform(0, 1, (12, 2, 3, 5)), 1.1, "wrong on a batch"),
        (generator.uniform(4e3, 6e3, (200, 3)), 0.01, "wrong where the sum of losses is large"),
    ]
    for losses, step_size, words in cases:
        answer = call("hedge_rounds", losses, step_size)
        reference = _played(losses, np.zeros_like(losses), step_size)
        score += award(call, 1, agrees(answer, reference, rtol=1e-7, atol=1e-300), words)
    return score


def check_adagrad_box(call, generator: np.random.Generator) -> float:
    """1 point each: single games, boxes off the origin, batches, coordinates silent at first."""
    score = 0.0
    unit = np.zeros(4), np.ones(4)
    low = generator.uniform(-3, 3, 3)
    box = low, low + np.array([0.1, 1.0, 20.0])
    silent = generator.normal(0, 1, (15, 4))
    silent[:5, 1] = 0
    silent[:, 2] = 0
    cases = [
        (generator.normal(0, 1, (25, 4)), unit, "wrong on single games"),
        (generator.normal(0, 1, (25, 3)), box, "wrong on a box with unequal sides"),
        (generator.normal(0, 1, (10, 2, 3, 3)), box, "wrong on a batch"),
        (silent, unit, "wrong where gradients are zero at first"),
    ]
    for gradients, (a, b), words in cases:
        answer = call("adagrad_box", gradients, a, b)
        good = agrees(answer, _adagrad(gradients, a, b), rtol=1e-9, atol=1e-10)
        score += award(call, 1, good, words)
    return score


def check_best_rebalanced(call, generator: np.random.Generator) -> float:
    """1 point each: certificate 1e-3, certificate 1e-7, batches, one stock better than all."""
    relatives = np.exp(generator.normal(0, 0.5, (60, 4)))
    answer = call("best_rebalanced", relatives)
    score = award(call, 1, _shortfall(relatives, answer) <= 1e-3, "far from the best portfolio")
    precise = _shortfall(relatives, answer) <= 1e-7
    score += award(call, 1, precise, "not precise: the certificate is above 1e-7")
    relatives = np.exp(generator.normal(0, 0.4, (40, 2, 3, 3)))
    batch = _shortfall(relatives, call("best_rebalanced", relatives)) <= 1e-7
    score += award(call, 1, batch, "wrong on a batch")
    relatives = np.exp(generator.normal(0, 0.1, (50, 4)))
    relatives[:, 2] = relatives.max(-1) * generator.uniform(1.0, 1.5, 50)
    alone = _shortfall(relatives, call("best_rebalanced", relatives)) <= 1e-7
    return score + award(call, 1, alone, "wrong where one stock is better than all others")


def check_newton_terms(call, generator: np.random.Generator) -> float:
    """1 point each: single games, batches, zero and repeated gradients, long games."""
    score = 0.0
    repeated = np.repeat(generator.normal(0, 1, (4, 5)), 6, axis=0)
    repeated[::5] = 0
    cases = [
        (generator.normal(0, 1, (20, 3)), 0.7, "wrong on single games"),
        (generator.normal(0, 1, (8, 2, 3, 4)), 2.0, "wrong on a batch"),
        (repeated, 0.1, "wrong where gradients vanish or repeat"),
        (generator.normal(0, 1, (600, 6)), 1e-3, "wrong or imprecise in long games"),
    ]
    for gradients, epsilon, words in cases:
        answer = call("newton_terms", gradients, epsilon)
        good = agrees(answer, _newton(gradients, epsilon), rtol=1e-8, atol=1e-12)
        score += award(call, 1, good, words)
    return score


def check_optimistic_hedge(call, generator: np.random.Generator) -> float:
    """1 point each: no hints, any hints, batches, large losses with good hints."""
    score = 0.0
    single, batch = generator.uniform(0, 1, (2, 25, 4)), generator.uniform(0, 1, (2, 10, 2, 3, 3))
    large = generator.uniform(0, 1e4, (50, 3))
    cases = [
        (single[0], 0 * single[0], 0.5, "wrong without hints"),
        (single[0], single[1], 0.5, "wrong with hints"),
        (batch[0], batch[1], 2.0, "wrong on a batch"),
        (large, large + generator.normal(0, 1, (50, 3)), 0.01, "wrong where losses are large"),
    ]
    for losses, hints, step_size, words in cases:
        answer = call("optimistic_hedge", losses, hints, step_size)
        suffered = (_played(losses, hints, step_size) * losses).sum((0, -1))
        reference = suffered - losses.sum(0).min(-1)
        good = agrees(answer, reference, rtol=1e-8, atol=1e-9 * float(losses.max()))
        score += award(call, 1, good, words)
    return score


def check_beat_the_leader(call, generator: np.random.Generator) -> float:
    """1 point each for an even, an odd and a long game, with ties broken both ways."""
    score = 0.0
    even, odd = 2 * int(generator.integers(6, 12)), 2 * int(generator.integers(20, 30)) + 1
    for rounds in (even, odd, 1000):
        losses = call("beat_the_leader", rounds)
        if losses.shape != (rounds, 2):
            words = f"expected losses of shape ({rounds}, 2), got {losses.shape}"
            score += award(call, 1, False, words)
        elif not ((losses >= 0) & (losses <= 1)).all():
            score += award(call, 1, False, "losses outside [0, 1]")
        else:
            regret = min(_leader_regret(losses, tie) for tie in (0, 1))
            words = f"with {rounds} rounds the leader's regret is only {regret:g}"
            score += award(call, 1, regret >= rounds / 2 - 1 - 1e-9, words)
    return score


def _played(losses: np.ndarray, hints: np.ndarray, step_size: float) -> np.ndarray:
    total = np.zeros_like(losses[0])
    played = np.empty_like(losses)
    for t, (loss, hint) in enumerate(zip(losses, hints, strict=True)):
        logits = -step_size * (total + hint)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        played[t] = weights / weights.sum(-1, keepdims=True)
        total = total + loss
    return played


def _adagrad(gradients: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    played = np.empty_like(gradients)
    for index in np.ndindex(gradients.shape[1:]):
        a, b = low[index[-1]], high[index[-1]]
        point, energy = (a + b) / 2, 0.0
        for t, gradient in enumerate(gradients[(slice(None), *index)]):
            played[(t, *index)] = point
            energy += gradient**2
            if energy > 0:
                point = min(b, max(a, point - (b - a) / np.sqrt(2 * energy) * gradient))
    return played


def _shortfall(relatives: np.ndarray, portfolio: np.ndarray) -> float:
    """The certificate of the assignment, worst game; infinite for what is no portfolio."""
    if portfolio.shape != relatives.shape[1:]:
        return np.inf
    if not ((portfolio >= 0).all() and (abs(portfolio.sum(-1) - 1) <= 1e-9).all()):
        return np.inf
    growth = (relatives * portfolio).sum(-1, keepdims=True)
    return float(((relatives / growth).mean(0).max(-1) - 1).max())


def _newton(gradients: np.ndarray, epsilon: float) -> np.ndarray:
    terms = np.empty(gradients.shape[:-1])
    for index in np.ndindex(gradients.shape[1:-1]):
        matrix = epsilon * np.eye(gradients.shape[-1])
        for t, gradient in enumerate(gradients[(slice(None), *index)]):
            matrix += np.outer(gradient, gradient)
            terms[(t, *index)] = gradient @ np.linalg.solve(matrix, gradient)
    return terms


def _leader_regret(losses: np.ndarray, tie: int) -> float:
    total, suffered = np.zeros(2), 0.0
    for loss in losses:
        leader = tie if total[0] == total[1] else int(total.argmin())
        suffered += loss[leader]
        total = total + loss
    return float(suffered - total.min())
