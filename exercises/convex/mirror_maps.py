"""Marks for the assignment 'mirror maps'. Runs in the grader's process.

The references are on purpose unlike the solutions: loops, bisection in one dimension, series.
`call` runs the student's function in the student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "log_barrier_divergence": 3,
    "project_simplex": 4,
    "magnetic_step": 4,
    "tsallis_point": 4,
    "project_ball": 4,
    "tilt_to_halfspace": 4,
}
FORBIDDEN = {
    "log_barrier_divergence": ["LogBarrier", "MirrorMap.divergence"],
    "project_simplex": ["Simplex", "Euclidean"],
    "magnetic_step": ["Entropy", "dual_step", "entropy_step", "mirror_step"],
    "tsallis_point": ["Tsallis"],
    "project_ball": ["Mahalanobis", "Ball"],
    "tilt_to_halfspace": [],
}


def check_log_barrier_divergence(call, generator: np.random.Generator) -> float:
    """1 point for single points, 1 for batches, 1 for points that nearly agree."""
    score = 0.0
    single, batch = generator.uniform(0.2, 3.0, (2, 5)), generator.uniform(0.2, 3.0, (2, 3, 2, 4))
    far = generator.uniform(1.0, 3.0, (2, 2)) * np.array([[1e-6, 3e5], [1.0, 1.0]])
    cases = [
        ((single, far, single[:, :1], single[[0, 0]]), "wrong on single points"),
        ((batch,), "wrong on a batch"),
    ]
    for pairs, words in cases:
        good = True
        for x, y in pairs:
            ratio = x / y
            reference = (ratio - np.log(ratio) - 1).sum(-1)
            good &= agrees(call("log_barrier_divergence", x, y), reference, atol=1e-15)
        score += award(call, 1, good, words)
    y = generator.uniform(0.5, 2.0, 6)
    x = y * (1 + 3e-6)
    change = (x - y) / y
    # Four terms of the series are exact to 1e-21.
    reference = (change**2 / 2 - change**3 / 3 + change**4 / 4).sum(-1)
    close = agrees(call("log_barrier_divergence", x, y), reference, rtol=1e-7)
    return score + award(call, 1, close, "loses its digits where the two points nearly agree")


def check_project_simplex(call, generator: np.random.Generator) -> float:
    """1 point each: single vectors, batches, ties and one coordinate, a huge common shift."""
    score = 0.0
    single = generator.normal(0, 1.0, 6)
    cases = [
        ((single, 1e3 * single, generator.dirichlet(np.ones(6))), "wrong on single vectors"),
        ((generator.normal(0, 1.0, (3, 2, 7)),), "wrong on a batch"),
    ]
    for vectors, words in cases:
        good = True
        for v in vectors:
            good &= agrees(call("project_simplex", v), _projected(v), atol=1e-9)
        score += award(call, 1, good, words)
    good = True
    for v in (
        np.array([0.4, 0.9, 0.9, -3.0, 0.9]),
        np.full(5, -2.0),
        generator.normal(0, 5, (3, 1)),
    ):
        good &= agrees(call("project_simplex", v), _projected(v), atol=1e-9)
    score += award(call, 1, good, "wrong on ties or on vectors with one coordinate")
    # Multiples of 1/8 are exact after the shift, so nothing need be lost.
    v = np.round(8 * generator.normal(0, 0.5, (4, 5))) / 8
    answer = call("project_simplex", v + 2.0**40)
    shifted = agrees(answer, _projected(v), atol=1e-6)
    return score + award(call, 1, shifted, "wrong where all coordinates are large")


def check_magnetic_step(call, generator: np.random.Generator) -> float:
    """1 point each: without a magnet, with one, batches, probabilities far below 1e-300."""
    score = 0.0
    cases = [
        ((4,), ((0.0, 1.0), (0.0, 1e3)), "wrong without a magnet"),
        ((4,), ((0.7, 1.0), (1e4, 1.0), (0.3, 1e4), (2.0, 1e-4)), "wrong with a magnet"),
        ((2, 3, 5), ((1.3, 1.0),), "wrong on a batch"),
    ]
    for shape, numbers, words in cases:
        good = True
        for weight, size in numbers:
            log_x, log_z = np.log(generator.dirichlet(np.ones(shape[-1]), (2, *shape[:-1])))
            gradient = generator.normal(0, 1, shape)
            step_size = size * float(generator.uniform(0.2, 3))
            answer = call("magnetic_step", log_x, log_z, gradient, step_size, weight)
            reference = _stepped(log_x, log_z, gradient, step_size, weight)
            good &= agrees(answer, reference, rtol=1e-9, atol=1e-11)
        score += award(call, 1, good, words)
    log_x = np.array([-5000.0, 0.0, -700.0]) + generator.uniform(-1e-3, 0, 3)
    log_z = np.log(generator.dirichlet(np.ones(3)))
    gradient = np.array([-4000.0, 0.0, 10.0])
    answer = call("magnetic_step", log_x, log_z, gradient, 0.5, 0.25)
    reference = _stepped(log_x, log_z, gradient, 0.5, 0.25)
    tiny = agrees(answer, reference, rtol=1e-9, atol=1e-12)
    return score + award(call, 1, tiny, "wrong where probabilities are tiny")


def check_tsallis_point(call, generator: np.random.Generator) -> float:
    """1 point each: single duals with ties, batches, far apart or far from 0, many coordinates."""
    score = 0.0
    ties = generator.normal(0, 2, 5)
    ties[1:3] = ties.max()
    # Multiples of 1/8 are exact after the shift.
    far = np.round(8 * generator.normal(0, 2, (2, 4))) / 8 + np.array([[2.0**30], [-(2.0**30)]])
    cases = [
        (
            (generator.normal(0, 2, 5), ties, np.full(3, 0.7), generator.normal(0, 2, 1)),
            "wrong on single duals",
        ),
        ((generator.normal(0, 2, (2, 3, 4)),), "wrong on a batch"),
        ((generator.uniform(-1e5, 1e5, (3, 6)), far), "wrong where duals are large"),
        ((generator.normal(0, 0.1, 2_000),), "wrong with many coordinates"),
    ]
    for duals, words in cases:
        good = True
        for theta in duals:
            good &= agrees(call("tsallis_point", theta), _tsallis(theta), rtol=1e-9)
        score += award(call, 1, good, words)
    return score


def check_project_ball(call, generator: np.random.Generator) -> float:
    """1 point each: inside, outside, batches with inside and outside, very unequal curvatures."""
    score = 0.0
    matrix, radius = _curved(generator, (), 4, 10.0), float(generator.uniform(0.5, 2))
    direction = generator.normal(0, 1, 4)
    for lengths, words in [
        ((0.7, 0.0), "wrong inside the ball"),
        ((3.0, 1.0 + 1e-3, 1e4), "wrong outside the ball"),
    ]:
        good = True
        for length in lengths:
            v = length * radius * direction / np.linalg.norm(direction)
            answer = call("project_ball", v, matrix, radius)
            good &= agrees(answer, _ball(v, matrix, radius), rtol=0, atol=1e-7)
        line = lengths[0] * radius * np.array([-1.0])
        answer = call("project_ball", line, matrix[:1, :1], radius)
        good &= agrees(answer, np.maximum(line, -radius), rtol=0, atol=1e-7)
        score += award(call, 1, good, words)
    matrix = _curved(generator, (2, 3), 3, 10.0)
    v = generator.normal(0, 1, (2, 3, 3))
    v *= np.array([0.5, 2.0, 4.0])[:, None] * radius / np.linalg.norm(v, axis=-1, keepdims=True)
    answer = call("project_ball", v, matrix, radius)
    good = agrees(answer, _ball(v, matrix, radius), rtol=0, atol=1e-7)
    score += award(call, 1, good, "wrong on a batch")
    matrix = _curved(generator, (), 5, 1e6)
    v = generator.normal(0, 10, 5)
    answer = call("project_ball", v, matrix, 1.0)
    good = agrees(answer, _ball(v, matrix, 1.0), rtol=0, atol=1e-6)
    return score + award(call, 1, good, "wrong where curvatures are very unequal")


def check_tilt_to_halfspace(call, generator: np.random.Generator) -> float:
    """1 point each: constraint met already, not met, batches, beliefs as small as 1e-300."""
    y = generator.dirichlet(np.ones(5))
    c = generator.normal(0, 1, 5)
    mean = float(c @ y)
    good = True
    for bound in (mean - 0.1, -1e6):
        good &= agrees(call("tilt_to_halfspace", y, c, bound), y, rtol=1e-9)
    score = award(call, 1, good, "wrong where the constraint holds already")
    bound, good = (mean + float(c.max())) / 2, True
    for unit in (1.0, 1e-3, 1e3):  # of c and of its bound, in which nothing else changes
        answer = call("tilt_to_halfspace", y, unit * c, unit * bound)
        good &= agrees(answer, _tilted(y, c, bound), rtol=0, atol=1e-8)
    bound = float(c.max()) - 1e-3
    answer = call("tilt_to_halfspace", y, c, bound)
    good &= agrees(answer, _tilted(y, c, bound), rtol=0, atol=1e-8)
    score += award(call, 1, good, "wrong where the constraint does not hold yet")
    y = generator.dirichlet(np.ones(4), (3, 2))
    c = generator.uniform(-1, 1, (3, 2, 4))
    c[..., 0] = 1.5  # so that the bound can be met by all
    bound = float(np.median((c * y).sum(-1)))
    answer = call("tilt_to_halfspace", y, c, bound)
    good = agrees(answer, _tilted(y, c, bound), rtol=0, atol=1e-8)
    score += award(call, 1, good, "wrong on a batch")
    y = np.array([1e-300, 0.4, 0.6])
    c = np.array([2.0, 0.0, generator.uniform(-0.5, 0.5)])
    answer = call("tilt_to_halfspace", y, c, 1.8)
    good = agrees(answer, _tilted(y, c, 1.8), rtol=0, atol=1e-8)
    return score + award(call, 1, good, "wrong where a belief of 1e-300 has to carry the answer")


def _each(function, *arrays: np.ndarray) -> np.ndarray:
    """One vector after the other."""
    batch = arrays[0].shape[:-1]
    results = [function(*(a[index] for a in arrays)) for index in np.ndindex(batch)]
    return np.array(results).reshape(arrays[0].shape)


def _root(function, low: float, high: float) -> float:
    """Where a decreasing function crosses zero, to the last digit."""
    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _projected(v: np.ndarray) -> np.ndarray:
    def one(row):
        threshold = _root(lambda t: np.maximum(row - t, 0).sum() - 1, row.max() - 1, row.max())
        return np.maximum(row - threshold, 0)

    return _each(one, v)


def _stepped(log_x, log_z, gradient, step_size: float, weight: float) -> np.ndarray:
    """From the condition for a minimum: g + weight (log u - log z) + (log u - log x)/step = k."""

    def one(row_x, row_z, row_g):
        total = weight + 1 / step_size
        pairs = zip(row_x, row_z, row_g, strict=True)
        logits = [(weight * z + x / step_size - g) / total for x, z, g in pairs]
        top = max(logits)
        normaliser = top + math.log(math.fsum(math.exp(value - top) for value in logits))
        return [value - normaliser for value in logits]

    return _each(one, log_x, log_z, gradient)


def _tsallis(theta: np.ndarray) -> np.ndarray:
    def one(row):
        gaps = row.max() - row
        level = _root(lambda s: ((s + gaps) ** -2).sum() - 1, 1.0, math.sqrt(len(row)))
        return (level + gaps) ** -2

    return _each(one, theta)


def _curved(generator: np.random.Generator, batch: tuple, d: int, condition: float) -> np.ndarray:
    """Symmetric positive definite matrices with a given ratio of extreme eigenvalues."""
    axes = np.linalg.qr(generator.normal(0, 1, (*batch, d, d)))[0]
    return (axes * np.geomspace(1, condition, d)) @ np.swapaxes(axes, -1, -2)


def _ball(v: np.ndarray, matrix: np.ndarray, radius: float) -> np.ndarray:
    """A linear system for each multiplier: no eigenvectors here."""
    result = np.empty_like(v)
    for index in np.ndindex(v.shape[:-1]):
        point, curved = v[index], matrix[index]

        def at(k, point=point, curved=curved):
            return np.linalg.solve(curved + k * np.eye(len(point)), curved @ point)

        if np.linalg.norm(point) <= radius:
            result[index] = point
        else:
            most = np.linalg.norm(curved @ point) / radius
            result[index] = at(_root(lambda k, at=at: np.linalg.norm(at(k)) - radius, 0.0, most))
    return result


def _tilted(y: np.ndarray, c: np.ndarray, bound: float) -> np.ndarray:
    def one(row_y, row_c):
        def at(multiplier):
            logits = np.log(row_y) + multiplier * row_c
            weights = np.exp(logits - logits.max())
            return weights / weights.sum()

        if row_c @ row_y >= bound:
            return row_y
        return at(_root(lambda m: bound - row_c @ at(m), 0.0, 1e5))

    return _each(one, y, c)
