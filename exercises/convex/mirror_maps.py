"""Marks for the assignment 'mirror maps'. Runs in the grader's process.

`call` runs the student's function in its own.
"""

import numpy as np

from mdtheory.course import agrees, award

POINTS = {"log_barrier_divergence": 3}
FORBIDDEN = {"log_barrier_divergence": ["LogBarrier", "MirrorMap.divergence"]}


def check_log_barrier_divergence(call, generator: np.random.Generator) -> float:
    """1 point for single points, 1 for batches, 1 for points that nearly agree."""
    score = 0.0
    for points, shape, words in [(1, (5,), "single points"), (1, (3, 2, 4), "batched input")]:
        x, y = generator.uniform(0.2, 3.0, (2, *shape))
        ratio = x / y
        reference = (ratio - np.log(ratio) - 1).sum(-1)
        answer = call("log_barrier_divergence", x, y)
        score += award(call, points, agrees(answer, reference), f"wrong on {words}")
    # x/y - 1 = h exactly enough: the series h^2/2 - h^3/3 is the divergence to 13 digits.
    y = generator.uniform(0.5, 2.0, 6)
    x = y * (1 + 1e-6)
    h = (x - y) / y
    answer = call("log_barrier_divergence", x, y)
    close = agrees(answer, (h**2 / 2 - h**3 / 3).sum(-1), rtol=1e-6)
    return score + award(call, 1, close, "loses its digits where the two points nearly agree")
