"""Marks for the assignment 'Entropy'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one turn or token after the other,
gradients in closed form, sums by whole numbers. `call` runs the student's function in the student's
process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "mean_of_means": 4,
    "push": 4,
    "smallest_alpha": 2,
    "smoothing_gradient": 4,
    "ride": 3,
    "drift": 3,
}
FORBIDDEN = {
    "mean_of_means": [
        "trajectory_entropy",
        "mdtheory.rl.entropy.smoothing.token_weights",
        "mdtheory.rl.entropy.smoothing.nested_mean",
    ],
    "push": [
        "net_coefficient",
        "corridor_penalty",
        "epo_loss",
        "mdtheory.rl.entropy.smoothing.outside",
        "mdtheory.rl.entropy.smoothing.entropy_terms",
    ],
    "smallest_alpha": ["phase_weight"],
    "smoothing_gradient": ["corridor_penalty", "epo_loss", "entropy_gradient"],
    "ride": ["mdtheory.rl.entropy.bounds.reference_growth"],
    "drift": ["mdtheory.rl.entropy.bounds.deviation_bound"],
}


def check_mean_of_means(call, generator: np.random.Generator) -> float:
    """1 point each: full turns, ragged turns, padded turns and gaps, what padding may hold."""
    score = 0.0
    cases = [
        ((3, 4), "full", "wrong where all tokens are there"),
        ((2, 3, 5, 4), "ragged", "wrong where turns have different lengths"),
        ((4, 6, 3), "padded", "wrong where turns are padding or the mask has gaps"),
        ((5, 4, 3), "nan", "wrong where padding holds what is no number"),
    ]
    for shape, kind, words in cases:
        entropy = generator.uniform(0, 3, shape)
        mask = _mask(generator, shape, kind)
        if kind == "nan":
            entropy = np.where(mask, entropy, np.where(entropy < 1.5, np.nan, np.inf))
        answer = call("mean_of_means", entropy, mask)
        right = np.zeros(shape[:-2])
        for at in np.ndindex(shape[:-2]):
            means = [
                math.fsum(row[there]) / there.sum()
                for row, there in zip(entropy[at], mask[at], strict=True)
                if there.any()
            ]
            right[at] = math.fsum(means) / len(means)
        score += award(call, 1, agrees(answer, right, rtol=1e-9), words)
    return score


def check_push(call, generator: np.random.Generator) -> float:
    """1 point each: inside and edges, below, above with a weak and with a strong penalty."""
    score = 0.0
    for kind, words in (
        ("inside", "wrong inside of the corridor or on its edges"),
        ("below", "wrong below the floor"),
        ("weak", "wrong above the roof where the strength is below 1"),
        ("strong", "wrong above the roof where the strength is above 1"),
    ):
        good = True
        for shape in ((6,), (2, 3, 4)):
            reference = generator.uniform(0.5, 1.5, (*shape[:-1], 1))
            low, high = float(generator.uniform(0.3, 0.8)), float(generator.uniform(1.1, 1.9))
            if kind == "inside":
                share = generator.uniform(low, high, shape)
                share[..., 0], share[..., 1] = low, high
            elif kind == "below":
                share = generator.uniform(0, 0.95 * low, shape)
            else:
                share = generator.uniform(1.05 * high, 3, shape)
            strength = float(
                generator.uniform(1.2, 4) if kind == "strong" else generator.uniform(0.1, 0.8)
            )
            coefficient = float(generator.uniform(0.01, 2))
            entropy = share * reference
            if kind == "inside":
                entropy[..., 0] = (low * reference)[..., 0]
                entropy[..., 1] = (high * reference)[..., 0]
            side = {"inside": 0.0, "below": 1.0}.get(kind, -1.0)
            answer = call("push", entropy, reference, low, high, coefficient, strength)
            right = np.full(shape, coefficient + coefficient * strength * side)
            good = agrees(answer, right, rtol=1e-9, atol=1e-12) and good
        score += award(call, 1, good, words)
    return score


def check_smallest_alpha(call, generator: np.random.Generator) -> float:
    """1 point each: even and odd numbers of updates; the ends of the training."""
    score = 0.0
    middle = [(int(generator.integers(1, 40)), 80), (int(generator.integers(4, 10)), 11)]
    for cases, words in (
        (middle, "wrong in the middle of a training"),
        ([(0, 9), (9, 9), (3, 3), (2, 2)], "wrong at an end of a training"),
    ):
        good = True
        for step, steps in cases:
            decay = float(generator.uniform(0.5, 5))
            answer = call("smallest_alpha", step, steps, decay)
            half = (steps - steps % 2) // 2
            beta = 1 + math.exp(-decay * step / half)
            good = agrees(answer, np.array(1 / beta), rtol=1e-9) and good
        score += award(call, 1, good, words)
    return score


def check_smoothing_gradient(call, generator: np.random.Generator) -> float:
    """1 point each: below, above, inside (where it is 0) beside others, one token alone."""
    score = 0.0
    for kind, words in (
        ("below", "wrong below the floor"),
        ("above", "wrong above the roof"),
        ("mixed", "wrong where some tokens are inside"),
        ("single", "wrong for a single token"),
    ):
        tokens = 1 if kind == "single" else 6
        logits = generator.normal(0, 2, (tokens, int(generator.integers(3, 7))))
        entropy = [_entropy(_law(row)) for row in logits]
        middle = float(np.median(entropy))
        low, high = 0.6, 1.4
        reference = {
            "below": 1.2 * max(entropy) / low,
            "above": 0.8 * min(entropy) / high,
            "mixed": middle,
            "single": 0.7 * middle / high,
        }[kind]
        alpha = float(generator.uniform(0.1, 2))
        answer = call("smoothing_gradient", logits, reference, low, high, alpha)
        right = np.zeros_like(logits)
        for k, row in enumerate(logits):
            law, h = _law(row), entropy[k]
            side = (h > high * reference) - float(h < low * reference)
            right[k] = alpha * side * -law * (np.log(law) + h) / tokens
        good = agrees(answer, right, rtol=1e-8, atol=1e-12)
        score += award(call, 1, good, words)
    return score


def check_ride(call, generator: np.random.Generator) -> float:
    """1 point each: all of the past, a window, the first updates and windows of 1."""
    score = 0.0
    cases = [
        ([(150, 0), (60, 0)], "wrong with all of the past"),
        ([(40, 4), (25, 9)], "wrong with a window"),
        ([(1, 0), (2, 5), (1, 3), (7, 1), (6, 20)], "wrong in the first updates or a window of 1"),
    ]
    for pairs, words in cases:
        good = True
        for updates, window in pairs:
            factor = float(generator.choice([0.0, generator.uniform(0.3, 0.9), 1.0, 1.5, 2.2]))
            factor = 1.5 if updates == 150 or window in (4, 1) else factor
            answer = call("ride", factor, updates, window)
            right = np.ones(updates)
            for k in range(1, updates):
                begin = max(0, k - window) if window else 0
                right[k] = factor * right[begin:k].mean()
            good = agrees(answer, right, rtol=1e-9, atol=1e-300) and good
        score += award(call, 1, good, words)
    return score


def check_drift(call, generator: np.random.Generator) -> float:
    """1 point each: short of the top, beyond it, very many turns."""
    score = 0.0
    for kind, words in (
        ("short", "wrong while entropy rises"),
        ("long", "wrong where the top is reached"),
        ("many", "wrong, or slow, for very many turns"),
    ):
        reference = generator.uniform(0.2, 1, (2, 3))
        largest = reference + generator.uniform(0.5, 1.5, (2, 3))
        turns = {"short": 7, "long": 40, "many": 10**8}[kind]
        share = {"short": 9.5, "long": 5.3, "many": 3.7}[kind]
        slope = (largest - reference) / (share + generator.uniform(0, 0.4, (2, 3)))
        if kind == "long":
            reference[0, 0], largest[0, 0], slope[0, 0] = 0.5, 1.5, 0.25  # the top, exactly
            largest[1, 1] = reference[1, 1]  # no room at all
        answer = call("drift", reference, slope, turns, largest)
        room = largest - reference
        right = np.zeros((2, 3))
        for at in np.ndindex(2, 3):
            steps = min(turns, 60)
            path = [min(room[at], slope[at] * t) for t in range(1, steps + 1)]
            right[at] = math.fsum(path) + (turns - steps) * room[at]
        score += award(call, 1, agrees(answer, right, rtol=1e-9, atol=1e-12), words)
    return score


def _mask(generator: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    if kind == "full":
        return np.ones(shape, bool)
    least = 1 if kind == "ragged" else 0
    lengths = generator.integers(least, shape[-1] + 1, shape[:-1])
    lengths[..., 0] = np.maximum(lengths[..., 0], 1)
    if kind == "padded":
        lengths[..., 2:4] = 0
    lengths[..., 1] = 1 if kind == "ragged" else lengths[..., 1]
    mask = np.arange(shape[-1]) < lengths[..., None]
    return generator.permuted(mask, axis=-1) if kind == "padded" else mask


def _law(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def _entropy(law: np.ndarray) -> float:
    return -math.fsum(law * np.log(law))
