"""Marks for the assignment 'Reward models'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one instance after the other, weights
of subsets from the top down, sums over all groups of equal scores in long arithmetic,
Newton's method for the tilt, derivatives by their formula in exact logarithms. `call` runs the
student's function in the student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "ensemble_loss": 3,
    "objectives": 3,
    "curve": 4,
    "distance": 4,
    "price": 3,
    "slope": 3,
}
FORBIDDEN = {
    "ensemble_loss": ["bradley_terry_loss"],
    "objectives": ["ensemble_objective"],
    "curve": ["best_of_n_estimate", "best_of_n_curves"],
    "distance": [
        "best_of_n_divergence", "best_of_n_win_rate", "best_of_n_policy",
        "mdtheory.nlhf.reward_models.rank",
    ],
    "price": [
        "tilt_of_reward", "tilted_policy", "mdtheory.convex.mirror_maps.entropy_step",
    ],
    "slope": [],
}  # fmt: skip


def check_ensemble_loss(call, generator: np.random.Generator) -> float:
    """1 point each: single ensembles, one member among them; batches; large margins."""
    score, good = 0.0, True
    for members, soft in ((1, True), (4, False), (3, True)):
        margins = generator.normal(0, 2, (members, 7))
        labels = generator.uniform(0, 1, 7)
        labels = labels if soft else labels.round()
        right = np.array(_loss(margins, labels))
        good = agrees(call("ensemble_loss", margins, labels), right, rtol=1e-9) and good
    score += award(call, 1, good, "wrong for a single ensemble")
    margins = generator.normal(0, 2, (2, 3, 4, 6))
    labels = generator.uniform(0, 1, (2, 3, 6))
    labels[0, 0, :2] = 0.0, 1.0
    right = np.array([[_loss(margins[i, j], labels[i, j]) for j in range(3)] for i in range(2)])
    good = agrees(call("ensemble_loss", margins, labels), right, rtol=1e-9)
    score += award(call, 1, good, "wrong on a batch")
    margins = generator.uniform(1e4, 1e5, (3, 6)) * generator.choice([-1.0, 1.0], (3, 6))
    labels = np.array([0.0, 1.0, 0.5, 0.0, 1.0, 0.25])
    right = np.array(_loss(margins, labels))
    good = agrees(call("ensemble_loss", margins, labels), right, rtol=1e-9)
    return score + award(call, 1, good, "wrong or not a number for large margins")


def check_objectives(call, generator: np.random.Generator) -> float:
    """1 point each: the first two; the third with all weights; a single member and batches."""
    score, first, third = 0.0, True, True
    for members, weight in ((2, 0.5), (5, 0.0), (5, 2.0)):
        rewards = generator.normal(0, 2, (members, 6))
        answer, right = call("objectives", rewards, weight), _objectives(rewards, weight)
        whole = getattr(answer, "shape", None) == right.shape
        first = whole and agrees(answer[:2], right[:2], rtol=1e-9, atol=1e-12) and first
        third = whole and agrees(answer[2], right[2], rtol=1e-9, atol=1e-12) and third
    score += award(call, 1, first, "the mean or the least is wrong")
    score += award(call, 1, third, "the mean less the variance is wrong")
    good = True
    for shape, weight in (((1, 4), 1.0), ((3, 2, 3, 4), 0.7)):
        rewards = 5 + generator.normal(0, 1, shape)
        answer = call("objectives", rewards, weight)
        good = agrees(answer, _objectives(rewards, weight), rtol=1e-9, atol=1e-12) and good
    return score + award(call, 1, good, "wrong for one member, or on a batch")


def check_curve(call, generator: np.random.Generator) -> float:
    """1 point each: few answers, both ends of n among them; middle ones; batches; 12,600."""
    score, good = 0.0, True
    for size in (1, 2, 6):
        proxy, gold = generator.normal(0, 1, (2, size))
        draws = list(range(1, size + 1))
        answer = call("curve", proxy, gold, np.array(draws))
        good = agrees(answer, _curve(proxy, gold, draws), rtol=1e-8, atol=1e-8) and good
    score += award(call, 1, good, "wrong for a few answers")
    proxy, gold = generator.normal(0, 1, (2, 300))
    draws = [1, 3, 50, 299, 300]
    answer = call("curve", proxy, gold, np.array(draws))
    good = agrees(answer, _curve(proxy, gold, draws), rtol=1e-8, atol=1e-8)
    score += award(call, 1, good, "wrong for some hundred answers")
    proxy, gold = generator.normal(0, 1, (2, 2, 3, 20))
    right = np.array([
        [_curve(proxy[i, j], gold[i, j], [2, 5]) for j in range(3)] for i in range(2)
    ])  # fmt: skip
    good = agrees(call("curve", proxy, gold, np.array([2, 5])), right, rtol=1e-8, atol=1e-8)
    score += award(call, 1, good, "wrong on a batch")
    proxy, gold = generator.normal(0, 1, (2, 12_600))
    draws = [1, 700, 12_500]
    answer = call("curve", proxy, gold, np.array(draws))
    good = agrees(answer, _curve(proxy, gold, draws), rtol=1e-8, atol=1e-8)
    return score + award(call, 1, good, "wrong or not a number for 12,600 answers")


def check_distance(call, generator: np.random.Generator) -> float:
    """1 point each: no ties; ties; batches; many draws, and one."""
    score, good = 0.0, True
    for n in (2, 5):
        p, scores = generator.dirichlet(np.ones(5)), generator.permutation(5).astype(float)
        right = np.array(_distance(p, scores, n))
        good = agrees(call("distance", p, scores, n), right, rtol=1e-8, atol=1e-10) and good
    score += award(call, 1, good, "wrong where no scores are equal")
    good = True
    for n in (3, 10):
        p = generator.dirichlet(np.ones(6))
        scores = generator.permutation([0.0, 1.0, 1.0, 2.0, 2.0, 2.0])
        right = np.array(_distance(p, scores, n))
        good = agrees(call("distance", p, scores, n), right, rtol=1e-8, atol=1e-10) and good
    score += award(call, 1, good, "wrong where scores are equal")
    p = generator.dirichlet(np.ones(4), (2, 3))
    scores = generator.integers(0, 3, (2, 3, 4)).astype(float)
    right = [[_distance(p[i, j], scores[i, j], 4) for j in range(3)] for i in range(2)]
    good = agrees(call("distance", p, scores, 4), np.array(right), rtol=1e-8, atol=1e-10)
    score += award(call, 1, good, "wrong on a batch")
    good = True
    for n in (1, 1000):
        p = generator.dirichlet(np.ones(5))
        scores = generator.permutation([0.0, 0.0, 1.0, 2.0, 3.0])
        right = np.array(_distance(p, scores, n))
        good = agrees(call("distance", p, scores, n), right, rtol=1e-7, atol=1e-9) and good
    return score + award(call, 1, good, "wrong for one draw, or for a thousand")


def check_price(call, generator: np.random.Generator) -> float:
    """1 point each: single policies; policies that are tilts, the reference among them; batches."""
    score, good = 0.0, True
    for spread in (0.5, 3.0):
        mu, r, p = _raised(generator, 5, spread)
        good = _paid(call("price", mu, r, p), _price(mu, r, p)) and good
    score += award(call, 1, good, "wrong for a single policy")
    good = True
    for eta in (0.0, 1.3, 20.0):
        mu, r = generator.dirichlet(np.full(4, 3.0)), generator.permutation([0.0, 0.3, 0.5, 1.0])
        p = mu * np.exp(eta * (r - 1.0))
        p = p / p.sum()
        good = _paid(call("price", mu, r, p), _price(mu, r, p)) and good
    score += award(call, 1, good, "wrong for a policy that is a tilt, or the reference")
    many = [_raised(generator, 4, 1.0) for _ in range(6)]
    mu, r, p = (np.array([one[k] for one in many]).reshape(2, 3, 4) for k in range(3))
    right = np.array([_price(*one) for one in many]).reshape(2, 3, 3)
    return score + award(call, 1, _paid(call("price", mu, r, p), right), "wrong on a batch")


def check_slope(call, generator: np.random.Generator) -> float:
    """1 point each: what is attained; its derivative; batches and large n."""
    score, first, second = 0.0, True, True
    for n in (1.0, 2.5, 40.0):
        h, edges = generator.normal(0, 2, 5), _edges(generator, 5)
        answer, right = call("slope", h, edges, n), np.array(_slope(h, edges, n))
        whole = getattr(answer, "shape", None) == right.shape
        first = whole and agrees(answer[..., 0], right[..., 0], rtol=1e-8, atol=1e-11) and first
        second = whole and agrees(answer[..., 1], right[..., 1], rtol=1e-8, atol=1e-11) and second
    score += award(call, 1, first, "what is attained is wrong")
    score += award(call, 1, second, "the derivative is wrong")
    good = True
    for n in (3.0, 1e4):
        h, edges = generator.normal(0, 1, (2, 3, 4)), _edges(generator, 4)
        if n > 100:
            edges = np.array([0.0, 0.5, 1 - 1e-3, 1 - 1e-5, 1.0])
        right = np.array([[_slope(h[i, j], edges, n) for j in range(3)] for i in range(2)])
        good = agrees(call("slope", h, edges, n), right, rtol=1e-7, atol=1e-11) and good
    return score + award(call, 1, good, "wrong on a batch, or for large n")


def _loss(margins, labels) -> float:
    """Pair by pair, each logarithm from the side on which it does not overflow."""
    total = 0.0
    for row in margins:
        terms = []
        for x, a in zip(row, labels, strict=True):
            tail = math.log1p(math.exp(-abs(x)))
            won, lost = tail + max(-x, 0.0), tail + max(x, 0.0)
            terms += [a * won if a else 0.0, (1 - a) * lost if a < 1 else 0.0]
        total += math.fsum(terms) / len(row)
    return total


def _objectives(rewards, weight) -> np.ndarray:
    members = len(rewards)
    mean = sum(rewards) / members
    variance = sum((one - mean) ** 2 for one in rewards) / members
    return np.stack([mean, np.minimum.reduce(rewards), mean - weight * variance])


def _curve(proxy, gold, draws) -> np.ndarray:
    """From the highest proxy down."""
    size = len(proxy)
    ranked = [float(value) for value in gold[np.argsort(-proxy)]]
    found = []
    for n in draws:
        # The best of a subset is at place i from the top if it is taken and none above it is.
        weight, parts = n / size, []
        for i, value in enumerate(ranked):
            if size - i < n:
                break
            parts.append(weight * value)
            left = size - 1 - i
            weight *= (left - (n - 1)) / left if left else 0.0
        found.append(math.fsum(parts))
    return np.array(found)


def _distance(p, scores, n) -> list[float]:
    spent, won, below = [], [], np.longdouble(0)
    for level in np.unique(scores):
        here = p[scores == level].astype(np.longdouble)
        upto = below + here.sum()
        mass = upto**n - below**n
        for q in here:
            law = mass * q / here.sum()
            if law > 0:
                spent.append(float(law * np.log(law / q)))
            won.append(float(law * (below + here.sum() / 2)))
        below = upto
    return [math.fsum(spent), math.fsum(won)]


def _raised(generator, d, spread) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A reference, rewards, and a policy with at least its reward and a tilt below 50."""
    while True:
        mu, p = generator.dirichlet(np.full(d, 2.0), 2)
        r = spread * generator.normal(0, 1, d)
        if (p * r).sum() < (mu * r).sum():
            mu, p = p, mu
        if min(mu.min(), p.min()) > 1e-3 and _tilt(mu, r, p) < 45:
            return mu, r, p


def _tilted(mu, r, eta) -> np.ndarray:
    law = mu.astype(np.longdouble) * np.exp(eta * (r - r.max()))
    return law / law.sum()


def _tilt(mu, r, p) -> float:
    """Newton's method for the mean, kept between ends that shrink."""
    goal, low, high, eta = (p * r).sum(), 0.0, 200.0, 1.0
    for _ in range(300):
        q = _tilted(mu, r, eta)
        mean = (q * r).sum()
        low, high = (eta, high) if mean < goal else (low, eta)
        slope = (q * (r - mean) ** 2).sum()
        new = eta + (goal - mean) / slope if slope > 0 else np.inf
        eta = float(new) if low < new < high else (low + high) / 2
    return eta


def _price(mu, r, p) -> list[float]:
    eta = _tilt(mu, r, p)
    q = _tilted(mu, r, eta)
    spent = float((q * np.log(q / mu)).sum())
    return [eta, spent, float((p * np.log(p / q)).sum())]


def _paid(answer, right) -> bool:
    right = np.asarray(right)
    if answer.shape != right.shape:
        return agrees(answer, right)
    steps = agrees(answer[..., 0], right[..., 0], rtol=0, atol=1e-5)
    return agrees(answer[..., 1:], right[..., 1:], rtol=0, atol=1e-6) and steps


def _edges(generator, pieces) -> np.ndarray:
    inner = np.sort(generator.uniform(0.05, 0.98, pieces - 1))
    return np.concatenate([[0.0], inner, [1.0]])


def _slope(h, edges, n) -> list[float]:
    logs = [math.log(e) if e > 0 else -math.inf for e in edges]
    power = [math.exp(n * x) for x in logs]
    turn = [w * x if w > 0 else 0.0 for w, x in zip(power, logs, strict=True)]
    pieces = range(len(h))
    return [
        math.fsum(h[b] * (part[b + 1] - part[b]) for b in pieces) for part in (power, turn)
    ]  # fmt: skip
