"""Marks for the assignment 'online learning'. Runs in the grader's process.

The references go round by round; the portfolio and the adversary are judged by what they achieve.
`call` runs the student's function in the student's process.
"""

import numpy as np

from mdtheory.course import agrees, award, fault, has_shape

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
    single, signs = generator.uniform(0, 1, (30, 4)), generator.normal(0, 1, (20, 3))
    cases = [
        (((single, 0.4), (signs, 5.0), (signs[:1], 0.3), (signs[:, :1], 0.3)),
         "wrong on single games"),
        (((generator.uniform(0, 1, (12, 2, 3, 5)), 1.1),), "wrong on a batch"),
        (((generator.uniform(4e3, 6e3, (200, 3)), 0.01),), "wrong where losses add up to much"),
    ]  # fmt: skip
    for games, words in cases:
        good = True
        for losses, step_size in games:
            answer = call("hedge_rounds", losses, step_size)
            reference = _played(losses, np.zeros_like(losses), step_size)
            good &= agrees(answer, reference, rtol=1e-7, atol=1e-300)
        score += award(call, 1, good, words)
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
    single = generator.normal(0, 1, (25, 4))
    flat = box[0], np.append(box[1][:2], box[0][2])  # a side of length zero
    cases = [
        (((single, unit), (single * np.array([1e-8, 1e8, 1e-3, 1.0]), unit), (single[:1], unit)),
         "wrong on single games"),
        (((generator.normal(0, 1, (25, 3)), box), (generator.normal(0, 1, (5, 3)), flat)),
         "wrong on a box with unequal sides"),
        (((generator.normal(0, 1, (10, 2, 3, 3)), box),), "wrong on a batch"),
        (((silent, unit),), "wrong where gradients are zero at first"),
    ]  # fmt: skip
    for games, words in cases:
        good = True
        for gradients, (a, b) in games:
            answer = call("adagrad_box", gradients, a, b)
            good &= agrees(answer, _adagrad(gradients, a, b), rtol=1e-9, atol=1e-10)
        score += award(call, 1, good, words)
    return score


def check_best_rebalanced(call, generator: np.random.Generator) -> float:
    """1 point each: certificate 1e-3, certificate 1e-7, batches, one stock better than all."""
    relatives = np.exp(generator.normal(0, 0.5, (60, 4)))
    answer = call("best_rebalanced", relatives)
    score = 0.0
    for most, words in [(1e-3, "far from the best portfolio"), (1e-7, "not precise")]:
        score += award(call, 1, _is_best(relatives, answer, most), words)
    relatives = np.exp(generator.normal(0, 0.4, (40, 2, 3, 3)))
    good = _is_best(relatives, call("best_rebalanced", relatives), 1e-7)
    score += award(call, 1, good, "wrong on a batch")
    relatives = np.exp(generator.normal(0, 0.1, (50, 4)))
    relatives[:, 2] = relatives.max(-1) * generator.uniform(1.0, 1.5, 50)
    one_day = np.array([[1.0, 0.7, 1.6, 1e-3]]) * generator.uniform(0.9, 1.1)
    good = True
    for market in (relatives, one_day, relatives[:, :1]):
        good &= _is_best(market, call("best_rebalanced", market), 1e-7)
    return score + award(call, 1, good, "wrong where one stock is better than all others")


def check_newton_terms(call, generator: np.random.Generator) -> float:
    """1 point each: single games, batches, zero and repeated gradients, long games."""
    score = 0.0
    repeated = np.repeat(generator.normal(0, 1, (4, 5)), 6, axis=0)
    repeated[::5] = 0
    single = generator.normal(0, 1, (20, 3))
    cases = [
        (((single, 0.7), (1e3 * single, 1e6), (single[:, :1], 0.2), (single[:1], 50.0)),
         "wrong on single games"),
        (((generator.normal(0, 1, (8, 2, 3, 4)), 2.0),), "wrong on a batch"),
        (((repeated, 0.1),), "wrong where gradients vanish or repeat"),
        (((generator.normal(0, 1, (600, 6)), 1e-3),), "wrong or imprecise in long games"),
    ]  # fmt: skip
    for games, words in cases:
        good = True
        for gradients, epsilon in games:
            answer = call("newton_terms", gradients, epsilon)
            good &= agrees(answer, _newton(gradients, epsilon), rtol=1e-8, atol=1e-12)
        score += award(call, 1, good, words)
    return score


def check_optimistic_hedge(call, generator: np.random.Generator) -> float:
    """1 point each: no hints, any hints, batches, large losses with good hints."""
    score = 0.0
    single, batch = generator.uniform(0, 1, (2, 25, 4)), generator.uniform(0, 1, (2, 10, 2, 3, 3))
    large, signs = generator.uniform(0, 1e4, (50, 3)), generator.normal(0, 1, (2, 20, 3))
    cases = [
        (((single[0], 0 * single[0], 0.5),), "wrong without hints"),
        (((single[0], single[1], 0.5), (*signs, 3.0), (*signs[:, :1], 0.7), (*signs[..., :1], 0.7)),
         "wrong with hints"),
        (((batch[0], batch[1], 2.0),), "wrong on a batch"),
        (((large, large + generator.normal(0, 1, (50, 3)), 0.01),), "wrong where losses are large"),
    ]  # fmt: skip
    for games, words in cases:
        good = True
        for losses, hints, step_size in games:
            answer = call("optimistic_hedge", losses, hints, step_size)
            suffered = (_played(losses, hints, step_size) * losses).sum((0, -1))
            reference = suffered - losses.sum(0).min(-1)
            good &= agrees(answer, reference, rtol=1e-8, atol=1e-9 * float(abs(losses).max()))
        score += award(call, 1, good, words)
    return score


def check_beat_the_leader(call, generator: np.random.Generator) -> float:
    """1 point each for even, odd and long games, with ties broken both ways."""
    score = 0.0
    even, odd = 2 * int(generator.integers(6, 12)), 2 * int(generator.integers(20, 30)) + 1
    for games in ((even, 2, 4), (odd, 1, 3), (1000,)):
        good = True
        for rounds in games:
            losses = call("beat_the_leader", rounds)
            good &= has_shape(losses, (rounds, 2)) and _beats_leader(losses)
        score += award(call, 1, good, f"the leader is not beaten in {games[0]} rounds or others")
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


def _is_best(relatives: np.ndarray, portfolio: np.ndarray, most: float) -> bool:
    """Whether the certificate of the assignment is small in all games."""
    if not has_shape(portfolio, relatives.shape[1:]):
        return False
    if not (portfolio >= 0).all():
        return fault("entries are below zero, or no numbers")
    if not (error := float(abs(portfolio.sum(-1) - 1).max())) <= 1e-9:
        return fault(f"its entries do not add up to 1, but differ from it by {error:.1e}")
    growth = (relatives * portfolio).sum(-1, keepdims=True)
    found = float(((relatives / growth).mean(0).max(-1) - 1).max())
    return found <= most or fault(f"the certificate is {found:.1e}, above {most:g}")


def _newton(gradients: np.ndarray, epsilon: float) -> np.ndarray:
    terms = np.empty(gradients.shape[:-1])
    for index in np.ndindex(gradients.shape[1:-1]):
        matrix = epsilon * np.eye(gradients.shape[-1])
        for t, gradient in enumerate(gradients[(slice(None), *index)]):
            matrix += np.outer(gradient, gradient)
            terms[(t, *index)] = gradient @ np.linalg.solve(matrix, gradient)
    return terms


def _beats_leader(losses: np.ndarray) -> bool:
    if not ((losses >= 0) & (losses <= 1)).all():
        return fault("losses are outside of [0, 1]")
    regret, least = min(_leader_regret(losses, tie) for tie in (0, 1)), len(losses) / 2 - 1
    return regret >= least - 1e-9 or fault(f"the leader's regret is {regret:g}, below {least:g}")


def _leader_regret(losses: np.ndarray, tie: int) -> float:
    total, suffered = np.zeros(2), 0.0
    for loss in losses:
        leader = tie if total[0] == total[1] else int(total.argmin())
        suffered += loss[leader]
        total = total + loss
    return float(suffered - total.min())
