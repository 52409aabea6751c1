"""Marks for the assignment 'target-based surrogates'. Runs in the grader's process.

The references go data set by data set; the smoothness is judged by power iteration, the misleading
batch by trying all of them, the number of inner steps by what it costs.
`call` runs the student's function in the student's process.
"""

import itertools
import math

import numpy as np

from mdtheory.course import agrees, award, fault, has_shape

POINTS = {
    "inner_descent": 4,
    "surrogate_gap": 4,
    "projected_descent": 4,
    "softmax_smoothness": 3,
    "worst_batch": 4,
    "cheapest_inner_steps": 3,
}
CHAPTER = "mdtheory.convex.target_surrogates"
LOOPS = [f"{CHAPTER}.algorithms", f"{CHAPTER}.inner"]
SURROGATES = f"{CHAPTER}.surrogates"
FORBIDDEN = {
    "inner_descent": LOOPS,
    "surrogate_gap": [SURROGATES],
    "projected_descent": [*LOOPS, SURROGATES, "LinearModel"],
    "softmax_smoothness": ["SoftmaxLoss"],
    "worst_batch": [*LOOPS, SURROGATES, "LinearModel"],
    "cheapest_inner_steps": LOOPS,
}


def check_inner_descent(call, generator: np.random.Generator) -> float:
    """1 point each: one inner step, several, batches, steps that are small beside the model's."""
    score = 0.0
    cases = [
        ((), 20, 3, 1, 6, 1.5, "wrong with one inner step"),
        ((), 20, 3, 7, 5, 4.0, "wrong with several inner steps"),
        ((2, 3), 12, 2, 5, 4, 3.0, "wrong on a batch"),
        ((), 15, 4, 40, 4, 0.2, "wrong with many inner steps and a small step size"),
    ]
    for shape, rows, dimension, inner, outer, eta, words in cases:
        features = generator.normal(0, 1, (*shape, rows, dimension))
        labels = generator.integers(0, 2, (*shape, rows)).astype(float)
        start = generator.normal(0, 1, (*shape, dimension))
        curvature = float((np.linalg.norm(features, 2, (-2, -1)) ** 2).max()) / rows
        alpha = 0.9 * eta / curvature
        arguments = features, labels, start, eta, alpha, inner, outer
        answer = call("inner_descent", *arguments)
        good = agrees(answer, _inner_descent(*arguments), rtol=1e-8, atol=1e-10)
        if inner == 1:  # one row, one feature, one outer step; and predictions beyond exp's range
            for count, far, last in ((1, 1.0, 1), (rows, 900.0, outer)):
                some = features[:count, :1] / abs(features[:count, :1]).max()
                arguments = some, labels[:count], far * np.sign(start[:1]), eta, eta, inner, last
                answer = call("inner_descent", *arguments)
                good &= agrees(answer, _inner_descent(*arguments), rtol=1e-8, atol=1e-10)
        score += award(call, 1, good, words)
    return score


def check_surrogate_gap(call, generator: np.random.Generator) -> float:
    """1 point each: single data sets, batches with large steps, the step 1, far-away logits."""
    score = 0.0
    cases = [
        ((6, 3), 1.0, 0.4, "wrong on single data sets"),
        ((2, 3, 5, 4), 1.5, 3.0, "wrong on a batch"),
        ((8, 5), 2.0, 1.0, "not zero for the step size 1"),
        ((7, 4), 2000.0, 0.25, "wrong where logits lie thousands apart"),
    ]
    for shape, spread, eta, words in cases:
        logits, anchor = generator.normal(0, spread, (2, *shape))
        labels = generator.integers(0, shape[-1], shape[:-1])
        inputs = [(logits, anchor, labels, eta)]
        if shape == (6, 3):  # one row, the anchor itself, a step above 1
            inputs += [(logits[:1], anchor[:1], labels[:1], 0.9), (anchor, anchor, labels, eta)]
            inputs += [(logits, anchor, labels, 5.0)]
        good = True
        for arguments in inputs:
            answer = call("surrogate_gap", *arguments)
            good &= agrees(answer, _gap(*arguments), rtol=1e-8, atol=1e-11)
        score += award(call, 1, good, words)
    return score


def check_projected_descent(call, generator: np.random.Generator) -> float:
    """1 point each: single data sets, batches, dependent columns, other coordinates."""
    score = 0.0
    bases = [
        (generator.normal(0, 1, (12, 3)), np.eye(3), "wrong on single data sets"),
        (generator.normal(0, 1, (2, 3, 8, 2)), np.eye(2), "wrong on a batch"),
    ]
    for base, mixing, words in bases:
        good = _is_projected(call, generator, base, mixing)
        score += award(call, 1, good, words)
    good = True
    for rows, rank, columns in [(10, 2, 4), (3, 3, 5), (6, 1, 3)]:
        base, mixing = (generator.normal(0, 1, shape) for shape in [(rows, rank), (rank, columns)])
        if rank == 1:
            mixing[:, 1] = 0  # a column of zeros
        good &= _is_projected(call, generator, base, mixing)
    score += award(call, 1, good, "wrong where columns depend on each other")
    good = True
    for _ in range(4):  # normal equations survive one of them now and then
        left, right = (np.linalg.qr(generator.normal(0, 1, (4, 4)))[0] for _ in range(2))
        unequal = (left * np.geomspace(1, 1e-6, 4)) @ right
        good &= _is_projected(call, generator, generator.normal(0, 1, (15, 4)), unequal)
    return score + award(call, 1, good, "wrong in other coordinates of the parameters")


def check_softmax_smoothness(call, generator: np.random.Generator) -> float:
    """1 point each: equal weights, unequal weights with a temperature, batches."""
    score = 0.0
    some = generator.uniform(0.2, 3, 7)
    cases = [
        ([(np.ones(int(generator.integers(3, 9))), 1.0)], "wrong for equal weights"),
        (
            [(some, generator.uniform(1.5, 3)), (some[:1], 0.7), (1e3 * some, 20.0)],
            "wrong for unequal weights",
        ),
        (
            [(generator.uniform(0.2, 3, (2, 3, 5)), generator.uniform(0.2, 0.6))],
            "wrong on a batch",
        ),
    ]
    for losses, words in cases:
        good = True
        for weights, temperature in losses:
            answer = call("softmax_smoothness", weights, float(temperature))
            fits = has_shape(answer, weights.shape[:-1])
            good &= fits
            for index in np.ndindex(weights.shape[:-1]) if fits else ():
                truth = _largest_curvature(weights[index], float(temperature))
                error = answer[index] / truth - 1
                good &= -1e-6 <= error <= 0.05 or fault(f"its relative error is {error:.1e}")
        score += award(call, 1, bool(good), words)
    return score


def check_worst_batch(call, generator: np.random.Generator) -> float:
    """1 point each: a batch that raises the loss, the worst; few features, rows that repeat."""
    features, labels, start, eta, size = _misleading(generator, 8, 5, 2, 1.0, repeat=False)
    answer = call("worst_batch", features, labels, start, eta, size)
    losses = _losses_after(features, labels, start, eta, size)
    before = float(((features @ start - labels) ** 2).mean() / 2)
    good = _reaches(answer, losses, size, before * (1 + 1e-9))
    score = award(call, 1, good, "not a batch that raises the full loss")
    good = _reaches(answer, losses, size, max(losses.values()))
    score += award(call, 1, good, "not the worst batch")
    for shapes, repeat, words in [
        (((10, 2, 3), (6, 1, 1)), False, "not the worst batch where features are few"),
        (((9, 3, 2),), True, "not the worst batch where rows are multiples of each other"),
    ]:
        good = True
        for rows, dimension, size in shapes:
            instance = _misleading(generator, rows, dimension, size, 1.5, repeat=repeat)
            answer = call("worst_batch", *instance)
            losses = _losses_after(*instance)
            good &= _reaches(answer, losses, size, max(losses.values()))
        score += award(call, 1, good, words)
    return score


def check_cheapest_inner_steps(call, generator: np.random.Generator) -> float:
    """1 point each: gradients that are cheap, dear, very dear."""
    score = 0.0
    for oracle, words in [(0.2, "cheap"), (6.0, "dear"), (400.0, "very dear")]:
        most = int(generator.integers(20, 31))
        features, labels, eta, alpha, optimum, costs = _priced(generator, oracle, most)
        outer = [cost / (oracle + inner) for inner, cost in enumerate(costs, start=1)]
        cases = [(oracle, most, costs)]
        # Where a gradient costs nothing, and where the best would be above the most.
        cases += [(0.0, most, [t * m for m, t in enumerate(outer, start=1)])] * (words == "cheap")
        cases += [(oracle, 3, costs[:3])] * (words == "very dear")
        good = True
        for price, limit, prices in cases:
            numbers = eta, alpha, price, optimum, 1e-4, limit
            answer = call("cheapest_inner_steps", features, labels, *numbers)
            if not has_shape(answer, ()):
                good = False
            elif float(answer) not in range(1, limit + 1):
                good = fault(f"expected an integer from 1 to {limit}")
            elif (chosen := prices[int(answer) - 1]) > min(prices) * (1 + 1e-9):
                good = fault(f"{int(answer)} inner steps cost {chosen:g}, the best {min(prices):g}")
        score += award(call, 1, good, f"wrong where gradients are {words}")
    return score


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -z))


def _inner_descent(
    features: np.ndarray,
    labels: np.ndarray,
    start: np.ndarray,
    eta: float,
    alpha: float,
    inner: int,
    outer: int,
) -> np.ndarray:
    """By the normal equations: the surrogate's gradient is a linear function of the parameters."""
    visited = np.empty((outer + 1, *start.shape))
    for index in np.ndindex(start.shape[:-1]):
        x, y, omega = features[index], labels[index], start[index]
        visited[(0, *index)] = omega
        for t in range(outer):
            first = x.T @ (_sigmoid(x @ omega) - y) / len(y)
            moved = np.zeros_like(omega)
            for _ in range(inner):
                moved = moved - alpha * (first + x.T @ x @ moved / (len(y) * eta))
            omega = omega + moved
            visited[(t + 1, *index)] = omega
    return visited


def _gap(logits: np.ndarray, anchor: np.ndarray, labels: np.ndarray, eta: float) -> np.ndarray:
    """Row by row from the definitions, in extended precision where there is one."""

    def log_sum(row):
        return row.max() + np.log(np.exp(row - row.max()).sum())

    gaps = np.zeros(labels.shape)
    for index in np.ndindex(labels.shape):
        z, old = (a[index].astype(np.longdouble) for a in (logits, anchor))
        probabilities = np.exp(old - log_sum(old))
        slope = probabilities.copy()
        slope[labels[index]] -= 1
        loss, old_loss = log_sum(z) - z[labels[index]], log_sum(old) - old[labels[index]]
        divergence = log_sum(z) - log_sum(old) - probabilities @ (z - old)
        gaps[index] = old_loss + slope @ (z - old) + divergence / eta - loss
    return gaps.mean(-1)


def _is_projected(
    call, generator: np.random.Generator, base: np.ndarray, mixing: np.ndarray
) -> bool:
    """Features `base @ mixing`; the reference knows `base`, whose columns are independent."""
    features, (*shape, rows, _) = base @ mixing, base.shape
    labels = generator.integers(0, 2, (*shape, rows)).astype(float)
    start = generator.normal(0, 1, (*shape, features.shape[-1]))
    eta, outer = float(generator.uniform(1, 4)), 5
    answer = call("projected_descent", features, labels, start, eta, outer)
    reference = np.empty((outer + 1, *labels.shape))
    for index in np.ndindex(*shape):
        x, y = base[index], labels[index]
        z = features[index] @ start[index]
        for t in range(outer + 1):
            reference[(t, *index)] = z
            half = z - eta * (_sigmoid(z) - y)
            z = x @ np.linalg.solve(x.T @ x, x.T @ half)
    return agrees(answer, reference, rtol=0, atol=1e-7)


def _largest_curvature(weights: np.ndarray, temperature: float) -> float:
    """By power iteration on the Hessian, where two of four classes are equally likely."""
    logits = np.tile(np.array([0.0, 0.0, -800.0, -800.0]) * temperature, (len(weights), 1))
    probabilities = np.exp(logits / temperature)
    probabilities /= probabilities.sum(-1, keepdims=True)
    scale = weights[:, None] / temperature**2
    vector = np.random.default_rng(0).normal(0, 1, logits.shape)
    for _ in range(2_000):
        vector /= np.linalg.norm(vector)
        mean = (probabilities * vector).sum(-1, keepdims=True)
        image = scale * probabilities * (vector - mean)
        largest, vector = float((vector * image).sum()), image
    return largest


def _misleading(
    generator: np.random.Generator,
    rows: int,
    dimension: int,
    size: int,
    eta: float,
    *,
    repeat: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, int]:
    """Data on which some batch raises the full loss, and one is clearly the worst.

    Where a batch leaves the minimiser open, the worst one is another if descent begins at 0.
    """
    while True:
        features = generator.normal(0, 1, (rows, dimension))
        if repeat:
            features[1::3], features[2::3] = 2 * features[::3], -0.5 * features[::3]
        labels = generator.normal(0, 1, rows)
        start = generator.normal(0, 0.5, dimension)
        before = ((features @ start - labels) ** 2).mean() / 2
        losses = _losses_after(features, labels, start, eta, size)
        second, worst = sorted(losses.values())[-2:]
        elsewhere = _losses_after(features, labels, start, eta, size, forget=True)
        misled = dimension <= size or max(losses, key=losses.get) != max(
            elsewhere, key=elsewhere.get
        )
        if worst > 1.1 * before and worst > 1.001 * second and misled:
            return features, labels, start, eta, size


def _losses_after(
    features: np.ndarray,
    labels: np.ndarray,
    start: np.ndarray,
    eta: float,
    size: int,
    *,
    forget: bool = False,
) -> dict[tuple[int, ...], float]:
    """Every batch with the full loss at the end of infinitely many inner steps on it.

    With ``forget`` the end is the minimiser nearest to 0 in the place of the start.
    """
    losses = {}
    errors = features @ start - labels
    origin = 0 * start if forget else start
    for rows in itertools.combinations(range(len(labels)), size):
        chosen = list(rows)
        wanted = features[chosen] @ (start - origin) - eta * errors[chosen]
        move = np.linalg.lstsq(features[chosen], wanted, rcond=1e-10)[0]
        losses[rows] = float(((features @ (origin + move) - labels) ** 2).mean() / 2)
    return losses


def _reaches(answer: np.ndarray, losses: dict, size: int, least: float) -> bool:
    """Whether the full loss after the batch that was returned is large enough."""
    if not has_shape(answer, (size,)):
        return False
    whole = np.isfinite(answer).all() and bool((answer == np.round(answer)).all())
    reached = losses.get(tuple(answer.astype(int).tolist())) if whole else None
    if reached is None:
        return fault("expected different rows in rising order")
    return reached >= least * (1 - 1e-9) or fault(
        f"the full loss is {reached:.4g}, not {least:.4g}"
    )


def _priced(
    generator: np.random.Generator, oracle: float, most: int
) -> tuple[np.ndarray, np.ndarray, float, float, float, list[float]]:
    """Data whose best number of inner steps is neither 1 nor the most, with every number's cost."""
    rows, dimension = 30, 3
    while True:
        features = generator.normal(0, 1, (rows, dimension)) * np.geomspace(1, 0.3, dimension)
        truth = generator.normal(0, 1, dimension) / np.geomspace(1, 0.3, dimension)
        labels = (generator.uniform(0, 1, rows) < _sigmoid(features @ truth)).astype(float)
        optimum = _optimum(features, labels)
        if optimum is None:
            continue
        eta = 4.0
        alpha = eta * rows / float(np.linalg.norm(features, 2) ** 2)
        costs = []
        for inner in range(1, most + 1):
            outer = _outer_steps(features, labels, eta, alpha, inner, optimum + 1e-4)
            costs.append(outer * (oracle + inner))
        if 1 < costs.index(min(costs)) + 1 < most and max(costs) < math.inf:
            return features, labels, eta, alpha, optimum, costs


def _loss(features: np.ndarray, labels: np.ndarray, omega: np.ndarray) -> float:
    z = features @ omega
    return float((np.logaddexp(0, z) - labels * z).mean())


def _optimum(features: np.ndarray, labels: np.ndarray) -> float | None:
    """By Newton's method; none where the classes can be (nearly) separated."""
    omega = np.zeros(features.shape[-1])
    for _ in range(30):
        p = _sigmoid(features @ omega)
        hessian = (features.T * (p * (1 - p))) @ features
        omega = omega - np.linalg.solve(hessian, features.T @ (p - labels))
        if not np.linalg.norm(features @ omega, np.inf) < 15:
            return None
    return _loss(features, labels, omega)


def _outer_steps(
    features: np.ndarray, labels: np.ndarray, eta: float, alpha: float, inner: int, goal: float
) -> float:
    """The inner steps are powers of one matrix, so they are summed once and for all."""
    dimension = features.shape[-1]
    once = np.eye(dimension) - alpha / (eta * len(labels)) * features.T @ features
    total, power = np.zeros((dimension, dimension)), np.eye(dimension)
    for _ in range(inner):
        total, power = total + power, power @ once
    omega = np.zeros(dimension)
    for outer in range(1_000):
        if _loss(features, labels, omega) <= goal:
            return outer
        omega = omega - alpha * total @ (
            features.T @ (_sigmoid(features @ omega) - labels) / len(labels)
        )
    return math.inf
