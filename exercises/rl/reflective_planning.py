"""Marks for the assignment 'Reflective planning'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy and plain Python, one plan after the
other, codes by trying them all, calls one by one, integrals as beta functions, best-of-n from
differences of powers, the tilt by another search. `call` runs the student's function in the
student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "encode": 3,
    "decode": 4,
    "mean_loss": 3,
    "suppress": 3,
    "reflect": 4,
    "compare": 3,
}
_HERE = "mdtheory.rl.reflective_planning"
FORBIDDEN = {
    "encode": ["Codebook.encode"],
    "decode": ["decode", "inpaint", f"{_HERE}.diffusion.fill"],
    "mean_loss": [f"{_HERE}.laws.enumerated_loss", f"{_HERE}.laws.mask_weight"],
    "suppress": ["non_maximum_suppression"],
    "reflect": ["reflect", "reflection_rounds"],
    "compare": ["best_of_law", "matched_strength", "exponential_tilt"],
}


def check_encode(call, generator: np.random.Generator) -> float:
    """1 point each: inside the grid, outside of it, batches with a grid for each coordinate."""
    score, good = 0.0, True
    for size in (1, 2, 40):
        low, step = np.array(generator.normal()), np.array(generator.uniform(0.1, 2))
        places = generator.integers(0, size, 30) + generator.uniform(-0.49, 0.49, 30)
        x = low + step * places
        answer = call("encode", x, low, step, size)
        good = _same(answer, np.array([_code(v, low, step, size) for v in x])) and good
    score += award(call, 1, good, "wrong inside the grid")
    low, step = np.array(generator.normal()), np.array(generator.uniform(0.1, 2))
    edge = np.array([-3.0, -0.51, -0.49, 0.2, 6.49, 6.51, 40.0, -80.3])
    x = low + step * generator.permutation(edge)
    answer = call("encode", x, low, step, 7)
    good = _same(answer, np.array([_code(v, low, step, 7) for v in x]))
    score += award(call, 1, good, "wrong outside of the grid")
    low, step = generator.normal(size=2), generator.uniform(0.1, 2, 2)
    x = low + step * generator.uniform(-2, 12, (3, 2, 5, 2))
    right = np.array([_code(x[i], low[i[-1]], step[i[-1]], 10) for i in np.ndindex(x.shape)])
    good = _same(call("encode", x, low, step, 10), right.reshape(x.shape))
    return score + award(call, 1, good, "wrong for coordinates with grids of their own")


def check_decode(call, generator: np.random.Generator) -> float:
    """1 point each: the filled tokens, the calls, ties, batches with uneven numbers of masks."""
    cases = []
    for length, calls in ((5, 1), (7, 3), (6, 6), (5, 9)):
        logits = generator.normal(0, 2, (length, 4)) + generator.normal(0, 5, (length, 1))
        tokens = np.where(generator.random(length) < 0.7, 4, generator.integers(0, 4, length))
        tokens[:2] = (4, 1)
        cases.append((call("decode", logits, tokens, calls), _decode(logits, tokens, calls)))
    full = [_whole(a, r.shape) for a, r in cases]
    good = all(f and _same(a[0], r[0]) for f, (a, r) in zip(full, cases, strict=True))
    score = award(call, 1, good, "tokens are not filled as they should be")
    good = all(f and _same(a[1], r[1]) for f, (a, r) in zip(full, cases, strict=True))
    score += award(call, 1, good, "tokens are filled in the wrong calls")
    row = generator.normal(0, 1, 3)
    logits, good = np.tile(row, (8, 1)), True
    logits[3] = row + np.array([3.0, 3.0, 3.0]) * (np.arange(3) == row.argmax())
    for calls in (2, 3, 7):
        tokens = np.array([3, 3, 0, 3, 3, 3, 3, 3])
        good = _same(call("decode", logits, tokens, calls), _decode(logits, tokens, calls)) and good
    score += award(call, 1, good, "wrong where proposals are equally probable")
    logits = generator.normal(0, 2, (2, 3, 6, 5))
    tokens = np.where(generator.random((2, 3, 6)) < 0.5, 5, generator.integers(0, 5, (2, 3, 6)))
    tokens[0, 0], tokens[1, 2] = 5, 2
    found = [_decode(logits[i], tokens[i], 4) for i in np.ndindex(2, 3)]
    right = np.stack(found, 1).reshape(2, 2, 3, 6)
    good = _same(call("decode", logits, tokens, 4), right)
    return score + award(call, 1, good, "wrong on a batch")


def check_mean_loss(call, generator: np.random.Generator) -> float:
    """1 point each: with the weight, without it, batches and long plans."""
    score, good = 0.0, {True: True, False: True}
    for length in (1, 3, 5):
        costs = generator.gamma(1.0, 2.0, (2**length, length))
        costs[0] = np.inf
        if length > 1:
            costs[1, 1] = np.inf
        for weighted in (True, False):
            right = np.array(_mean_loss(costs, weighted))
            answer = call("mean_loss", costs, weighted)
            good[weighted] = agrees(answer, right, rtol=1e-8, atol=1e-11) and good[weighted]
    score += award(call, 1, good[True], "wrong with the weight")
    score += award(call, 1, good[False], "wrong without the weight")
    costs = generator.gamma(1.0, 2.0, (2, 3, 256, 8))
    right = np.array([[_mean_loss(costs[i, j], True) for j in range(3)] for i in range(2)])
    good = agrees(call("mean_loss", costs, True), right, rtol=1e-8, atol=1e-11)
    return score + award(call, 1, good, "wrong on a batch of long plans")


def check_suppress(call, generator: np.random.Generator) -> float:
    """1 point each: distances that are attained, the ends, batches with equal likelihoods."""
    score, good = 0.0, True
    for distance, count in ((5.0, 4), (13.0, 9), (10.0, 1)):
        points = generator.integers(0, 25, (20, 2)).astype(float)
        points[:4] = [[0, 0], [3, 4], [5, 12], [6, 8]]
        likely = generator.permutation(20).astype(float)
        likely[:4] += 100
        answer = call("suppress", points, likely, distance, count)
        good = _same(answer, _suppress(points, likely, distance, count), bool) and good
    score += award(call, 1, good, "wrong on one set of points")
    good = True
    for distance, count in ((0.0, 5), (math.inf, 5), (3.0, 40)):
        points = generator.integers(0, 10, (15, 2)).astype(float)
        points[7] = points[2]
        likely = generator.normal(size=15)
        answer = call("suppress", points, likely, distance, count)
        good = _same(answer, _suppress(points, likely, distance, count), bool) and good
    score += award(call, 1, good, "wrong for distances 0 or infinite, or a large count")
    points = generator.integers(0, 12, (3, 2, 12, 2)).astype(float)
    likely = generator.integers(0, 4, (3, 2, 12)).astype(float)
    right = [_suppress(points[i], likely[i], 4.0, 3) for i in np.ndindex(3, 2)]
    answer = call("suppress", points, likely, 4.0, 3)
    good = _same(answer, np.array(right).reshape(3, 2, 12), bool)
    return score + award(call, 1, good, "wrong on a batch, or where points are equally likely")


def check_reflect(call, generator: np.random.Generator) -> float:
    """1 point each: the best plan, the rounds, the ends of both numbers, batches."""
    cases = []
    for n, size in ((3, 4), (5, 6), (8, 5)):
        for _ in range(4):
            world = _world(generator, n, size)
            plan = generator.integers(0, size, n)
            answer = call("reflect", plan, *world, 10, 2)
            cases.append((answer, _reflect(plan, *world, 10, 2)))
    full = [_whole(a, r.shape) for a, r in cases]
    good = all(f and _same(a[:-1], r[:-1]) for f, (a, r) in zip(full, cases, strict=True))
    score = award(call, 1, good, "the plan is not the best one seen")
    good = all(f and a[-1] == r[-1] for f, (a, r) in zip(full, cases, strict=True))
    score += award(call, 1, good, "the number of rounds is wrong")
    good = True
    for rounds, radius in ((0, 2), (1, 9), (10, 0), (2, 1)):
        for _ in range(3):
            world = _world(generator, 5, 5)
            plan = generator.integers(0, 5, 5)
            answer = call("reflect", plan, *world, rounds, radius)
            good = _same(answer, _reflect(plan, *world, rounds, radius)) and good
    score += award(call, 1, good, "wrong for few rounds, or a small or large radius")
    world = _world(generator, 6, 7)
    plans = generator.integers(0, 7, (3, 4, 6))
    right = np.array([_reflect(plans[i], *world, 4, 3) for i in np.ndindex(3, 4)])
    good = _same(call("reflect", plans, *world, 4, 3), right.reshape(3, 4, 7))
    return score + award(call, 1, good, "wrong on a batch")


def check_compare(call, generator: np.random.Generator) -> float:
    """1 point each: the best of n, the tilt, batches with the ends of n."""
    cases = []
    for size, n, near in ((2, 3, False), (6, 2, True), (20, 9, False)):
        p, score = _plans(generator, size, near)
        cases.append((call("compare", p, score, n), np.array(_compare(p, score, n))))
    full = [getattr(a, "shape", None) == (3,) for a, _ in cases]
    good = all(
        f and agrees(np.array(a[:2]), r[:2], rtol=1e-6, atol=1e-9)
        for f, (a, r) in zip(full, cases, strict=True)
    )
    points = award(call, 1, good, "the best of n is wrong")
    good = all(
        f and agrees(np.array(a[2:]), r[2:], rtol=1e-5, atol=1e-7)
        for f, (a, r) in zip(full, cases, strict=True)
    )
    points += award(call, 1, good, "the tilt of the same divergence is wrong")
    good = True
    for n in (1, 64):
        pairs = [_plans(generator, 7) for _ in range(6)]
        p, score = (np.array([pair[k] for pair in pairs]).reshape(2, 3, 7) for k in range(2))
        right = np.array([_compare(p[i], score[i], n) for i in np.ndindex(2, 3)])
        answer = call("compare", p, score, n)
        good = agrees(answer, right.reshape(2, 3, 3), rtol=1e-5, atol=1e-7) and good
    return points + award(call, 1, good, "wrong on a batch, for n = 1 or for n = 64")


def _same(answer, right, kind=int) -> bool:
    """Codes and truth values are equal or not; anything else is no answer."""
    wanted = "b" if kind is bool else "i"
    whole = getattr(answer, "shape", None) == right.shape and answer.dtype.kind == wanted
    return whole and agrees(np.array(answer, dtype=float), right.astype(float), rtol=0)


def _whole(answer, shape) -> bool:
    return getattr(answer, "shape", None) == shape and answer.dtype.kind == "i"


def _code(x, low, step, size) -> int:
    away = [abs(x - (low + k * step)) for k in range(size)]
    k = int(np.argmin(away))
    return k if away[k] <= step / 2 else -1


def _decode(logits, tokens, calls) -> np.ndarray:
    """Call after call."""
    mask, length = logits.shape[-1], len(tokens)
    now, when = tokens.copy(), np.zeros(length, dtype=int)
    every = int((tokens == mask).sum())
    sure = [1 / sum(math.exp(v - max(row)) for v in row) for row in logits.tolist()]
    for b in range(1, calls + 1):
        open_ = sorted((i for i in range(length) if now[i] == mask), key=lambda i: (-sure[i], i))
        done = every - len(open_)
        for i in open_[: math.ceil(every * b / calls) - done]:
            now[i], when[i] = int(logits[i].argmax()), b
    return np.stack([now, when])


def _mean_loss(costs, weighted) -> float:
    """Integrals as beta functions."""
    rows, length = costs.shape
    total = 0.0
    for row in range(1, rows):
        inside = [i for i in range(length) if row >> i & 1]
        a, b = len(inside) + (0 if weighted else 1), length - len(inside) + 1
        weight = math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))
        total += weight * math.fsum(costs[row, i] for i in inside)
    return total


def _suppress(points, likely, distance, count) -> np.ndarray:
    kept: list[int] = []
    for i in sorted(range(len(likely)), key=lambda i: (-likely[i], i)):
        # Squares of whole numbers are exact.
        clear = all(((points[i] - points[j]) ** 2).sum() >= distance**2 for j in kept)
        if clear and len(kept) < count:
            kept.append(i)
    return np.isin(np.arange(len(likely)), kept)


def _world(generator, n, size) -> tuple[np.ndarray, ...]:
    """Tables in which drafts, first rounds and last rounds are all best at times."""
    safety = generator.choice([0.0, 0.25, 0.5, 1.0, 1.0], (n, size))
    value = generator.integers(-16, 17, (n, size)) / 16
    return safety, generator.integers(0, size, (n, size)), value


def _reflect(plan, safety, fill, value, rounds, radius) -> np.ndarray:
    y, anchors, used = [int(v) for v in plan], set(), 0
    n, size = safety.shape

    def worth() -> float:
        return math.fsum(value[t, y[t]] for t in range(n))

    best, top = list(y), worth()
    while used < rounds:
        bad = [t for t in range(n) if safety[t, y[t]] < 1 and t not in anchors]
        if not bad:
            break
        used += 1
        t = bad[0]
        near = range(max(0, y[t] - radius), min(size - 1, y[t] + radius) + 1)
        y[t] = max(near, key=lambda v: (round(100 * safety[t, v]) - abs(v - y[t]), -v))
        anchors.add(t)
        for later in range(t + 1, n):
            if later not in anchors:
                y[later] = int(fill[later, y[t]])
        if worth() > top:
            best, top = list(y), worth()
    return np.array([*best, used])


def _plans(generator, size, near=False) -> tuple[np.ndarray, np.ndarray]:
    """Scores in [0, 1]; if `near`, the two best are as near as the statement lets them be."""
    p = generator.dirichlet(np.ones(size)) + 0.002
    score = generator.permutation(np.linspace(0.08, 0.92, size))
    score += generator.uniform(-0.3, 0.3, size) / (2 * size)
    if near:
        top = score.argsort()[-2:]
        score[top[0]] = score[top[1]] - 1.001e-3
    return p / p.sum(), score


def _kl(q, p) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(q, p, strict=True) if a > 0)


def _tilt(p, score, eta) -> np.ndarray:
    logs = np.log(p) + eta * score
    power = np.exp(logs - logs.max())
    return power / power.sum()


def _compare(p, score, n) -> list[float]:
    wide = p.astype(np.longdouble)
    q = np.array([float(wide[score <= s].sum() ** n - wide[score < s].sum() ** n) for s in score])
    moved = _kl(q, p)
    # Regula falsi would be quicker; halving the logarithm of eta is enough.
    low, high = -40.0, 14.0
    for _ in range(120):
        middle = (low + high) / 2
        if _kl(_tilt(p, score, math.exp(middle)), p) < moved:
            low = middle
        else:
            high = middle
    ideal = _tilt(p, score, math.exp(low) if moved > 1e-15 else 0.0)
    return [moved, float(q @ score), float(ideal @ score)]
