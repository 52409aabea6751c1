"""Marks for the assignment 'Imitation by boosting'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one law after the other, weights by the
recursion, the discriminator by trying each pair's three candidates, occupancies by summing the
series, the bias by convolution, mixtures in long arithmetic. `call` runs the student's function in
the student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "weights": 3,
    "divergence_seen": 3,
    "account": 4,
    "mixtures": 4,
    "bias": 3,
    "geometric": 3,
}
FORBIDDEN = {
    "weights": ["ensemble_weights", "BoostRecord.weights"],
    "divergence_seen": ["fit_discriminator", "discriminator_loss"],
    "account": ["frank_wolfe_gap", "occupancy_divergence"],
    "mixtures": [
        "state_action_occupancy", "mdtheory.rl.policy_mirror_descent.occupancy",
    ],
    "bias": [],
    "geometric": [
        "mirror_occupancies", "mdtheory.convex.mirror_maps.mixture",
        "mdtheory.convex.mirror_maps.entropy_step",
    ],
}  # fmt: skip


def check_weights(call, generator: np.random.Generator) -> float:
    """1 point each: constant steps, uneven ones with their ends among them, batches."""
    score, good = 0.0, True
    for rounds, step in ((1, 0.3), (12, float(generator.uniform(0.05, 0.6)))):
        steps = np.full(rounds, step)
        good = agrees(call("weights", steps), _weights(steps), rtol=1e-9, atol=1e-15) and good
    score += award(call, 1, good, "wrong for a constant step")
    good = True
    for end in (None, 0.0, 1.0):
        steps = generator.uniform(0.05, 0.9, 9)
        if end is not None:
            steps[[2, 6]] = end
        good = agrees(call("weights", steps), _weights(steps), rtol=1e-9, atol=1e-15) and good
    score += award(call, 1, good, "wrong for steps of different size, or for 0 and 1")
    steps = generator.uniform(0, 1, (2, 3, 5))
    right = np.array([[_weights(row) for row in rows] for rows in steps])
    good = agrees(call("weights", steps), right, rtol=1e-9, atol=1e-15)
    return score + award(call, 1, good, "wrong on a batch")


def check_divergence_seen(call, generator: np.random.Generator) -> float:
    """1 point each: single laws, with bounds that cut off or not; zeros; batches."""
    score, good = 0.0, True
    for bound in (0.3, 1.0, 20.0):
        e, d = _laws(generator, (3, 2)), _laws(generator, (3, 2))
        answer = call("divergence_seen", e, d, bound)
        good = agrees(answer, np.array(_seen(e, d, bound)), rtol=1e-9, atol=1e-12) and good
    score += award(call, 1, good, "wrong on single laws")
    good = True
    for bound in (0.5, 3.0):
        e, d = _laws(generator, (2, 4)), _laws(generator, (2, 4))
        e[0, 0] = d[0, 0] = 0.0
        e[1, 1] = 0.0
        d[0, 3] = 0.0
        e, d = e / e.sum(), d / d.sum()
        answer = call("divergence_seen", e, d, bound)
        good = agrees(answer, np.array(_seen(e, d, bound)), rtol=1e-9, atol=1e-12) and good
    score += award(call, 1, good, "wrong where probabilities are 0")
    e, d = _laws(generator, (2, 3, 4, 2)), _laws(generator, (2, 3, 4, 2))
    right = [[_seen(e[i, j], d[i, j], 0.8) for j in range(3)] for i in range(2)]
    good = agrees(call("divergence_seen", e, d, 0.8), np.array(right), rtol=1e-9, atol=1e-12)
    return score + award(call, 1, good, "wrong on a batch")


def check_account(call, generator: np.random.Generator) -> float:
    """1 point each: the new divergence, the gap, the divergence of the step; batches and zeros."""
    cases = []
    for batch, step in (((), 0.3), ((), 1.0), ((), 0.0), ((2, 3), 0.6)):
        d, v, e = (_laws(generator, (*batch, 3, 2)) for _ in range(3))
        v[..., 0, 1] = 0.0
        v /= v.sum((-2, -1), keepdims=True)
        answer = call("account", d, v, e, step)
        right = np.array([_account(d[i], v[i], e[i], step) for i in np.ndindex(batch)])
        cases.append((answer, right.reshape(*batch, 3), batch))
    score = 0.0
    words = ("the divergence after the step is wrong", "the gap is wrong",
             "the divergence of the step is wrong")  # fmt: skip
    for k in range(3):
        good = all(
            _part(answer, right, k) for answer, right, batch in cases if batch == ()
        )  # fmt: skip
        score += award(call, 1, good, words[k])
    answer, right, _ = cases[-1]
    good = agrees(answer, right, rtol=1e-8, atol=1e-11)
    return score + award(call, 1, good, "wrong on a batch")


def check_mixtures(call, generator: np.random.Generator) -> float:
    """1 point each: once an episode, in every step, discount 0, many policies and long horizons."""
    score = 0.0
    kept = []
    for states, actions, n, discount in ((3, 2, 2, 0.8), (4, 3, 3, 0.6)):
        case = _ensemble(generator, states, actions, n)
        kept.append((call("mixtures", *case, discount), _mixtures(*case, discount)))
    for k, words in enumerate(
        ("drawing once an episode is wrong", "drawing in every step is wrong")
    ):
        good = all(
            _shaped(answer, right)
            and agrees(np.asarray(answer)[k], right[k], rtol=1e-8, atol=1e-11)
            for answer, right in kept
        )
        score += award(call, 1, good, words)
    for states, actions, n, discount, words in (
        (3, 3, 2, 0.0, "wrong without a future"),
        (5, 2, 6, 0.98, "wrong for many policies and a long horizon"),
    ):
        case = _ensemble(generator, states, actions, n)
        answer = call("mixtures", *case, discount)
        good = agrees(answer, _mixtures(*case, discount), rtol=1e-7, atol=1e-10)
        score += award(call, 1, good, words)
    return score


def check_bias(call, generator: np.random.Generator) -> float:
    """1 point each: small minibatches, large ones on a batch, values that overflow."""
    score, good = 0.0, True
    for n in (1, 2, 7):
        x, chance = generator.normal(0, 1.5, 2), np.array(generator.uniform(0.1, 0.9))
        answer = call("bias", x, chance, n)
        good = agrees(answer, np.array(_bias(x, float(chance), n)), rtol=1e-7, atol=1e-10) and good
    score += award(call, 1, good, "wrong for small minibatches")
    x, chance = generator.normal(0, 1, (2, 3, 2)), generator.uniform(0.1, 0.9, (2, 3))
    good = True
    for n in (40, 500):
        right = [[_bias(x[i, j], chance[i, j], n) for j in range(3)] for i in range(2)]
        good = agrees(call("bias", x, chance, n), np.array(right), rtol=1e-6, atol=1e-9) and good
    score += award(call, 1, good, "wrong on a batch, or for large minibatches")
    good = True
    for x in (np.array([1000.0, 999.0]), np.array([-1000.0, -998.5]), np.array([900.0, -900.0])):
        right = np.array(_bias(x, 0.4, 6))
        good = agrees(call("bias", x, np.array(0.4), 6), right, rtol=1e-7, atol=1e-9) and good
    return score + award(call, 1, good, "wrong or not a number for large values")


def check_geometric(call, generator: np.random.Generator) -> float:
    """1 point each: single runs with both ends of the step, batches, probabilities near 0."""
    score, good = 0.0, True
    for step, rounds in ((0.0, 2), (0.3, 5), (1.0, 1)):
        x, e = generator.dirichlet(np.ones(4), 2)
        answer = call("geometric", x, e, step, rounds)
        good = agrees(answer, _geometric(x, e, step, rounds), rtol=1e-8, atol=1e-14) and good
    score += award(call, 1, good, "wrong on a single run")
    x, e = generator.dirichlet(np.ones(3), (2, 2, 3))
    step = float(generator.uniform(0.1, 0.9))
    right = np.stack(
        [_geometric(x[i], e[i], step, 4) for i in np.ndindex(2, 3)], 1
    ).reshape(5, 2, 3, 3)  # fmt: skip
    good = agrees(call("geometric", x, e, step, 4), right, rtol=1e-8, atol=1e-14)
    score += award(call, 1, good, "wrong on a batch")
    x = np.array([1.0 - 2e-300, 1e-300, 1e-300])
    e = np.array([1e-300, 0.5, 0.5])
    answer = call("geometric", x, e, 0.25, 30)
    good = agrees(answer, _geometric(x, e, 0.25, 30), rtol=1e-7, atol=1e-12)
    return score + award(call, 1, good, "wrong where probabilities are almost 0")


def _laws(generator, shape) -> np.ndarray:
    """Laws over the last two axes."""
    drawn = generator.gamma(1.5, size=shape) + 0.01
    return drawn / drawn.sum((-2, -1), keepdims=True)


def _weights(steps) -> np.ndarray:
    found = [1.0]
    for step in steps:
        found = [(1 - step) * w for w in found] + [float(step)]
    return np.array(found)


def _seen(e, d, bound) -> float:
    """Pair by pair, the least of the two ends and the stationary point between them."""
    total = 0.0
    for p, q in zip(e.ravel(), d.ravel(), strict=True):
        tried = [-bound, bound]
        if p > 0 and q > 0 and abs(math.log(p / q)) < bound:
            tried.append(math.log(p / q))
        total += min(p * math.exp(-g) + q * g for g in tried) if p + q > 0 else 0.0
    return 1 - total


def _kl(p, q) -> float:
    pairs = zip(p.ravel(), q.ravel(), strict=True)
    return math.fsum(a * math.log(a / b) for a, b in pairs if a > 0)


def _account(d, v, e, step) -> list[float]:
    after = d + step * (v - d)
    gap = math.fsum(
        math.log(a / c) * (a - b)
        for a, b, c in zip(d.ravel(), v.ravel(), e.ravel(), strict=True)
    )  # fmt: skip
    return [_kl(after, e), gap, _kl(after, d)]


def _shaped(answer, right) -> bool:
    return getattr(answer, "shape", None) == right.shape and answer.dtype == np.float64


def _part(answer, right, k) -> bool:
    return _shaped(answer, right) and agrees(
        np.array(answer[..., k]), right[..., k], rtol=1e-8, atol=1e-11
    )


def _ensemble(generator, states, actions, n) -> tuple[np.ndarray, ...]:
    transition = generator.dirichlet(np.full(states, 0.5), (states, actions))
    policies = generator.dirichlet(np.full(actions, 0.3), (n, states))
    return (
        transition, policies, generator.dirichlet(np.ones(n)), generator.dirichlet(np.ones(states))
    )  # fmt: skip


def _series(transition, policy, initial, discount) -> np.ndarray:
    """The sum itself, term after term."""
    law, total, weight = initial.copy(), np.zeros_like(policy), 1 - discount
    while weight > 1e-16:
        pairs = law[:, None] * policy
        total += weight * pairs
        law = (pairs[..., None] * transition).sum((0, 1))
        weight *= discount
    return total


def _mixtures(transition, policies, weights, initial, discount) -> np.ndarray:
    episode = sum(
        w * _series(transition, p, initial, discount)
        for w, p in zip(weights, policies, strict=True)
    )  # fmt: skip
    average = np.tensordot(weights, policies, 1)
    return np.stack([episode, _series(transition, average, initial, discount)])


def _bias(x, chance, n) -> float:
    """The law of how often the first value comes, built up draw by draw."""
    law = np.array([1.0])
    for _ in range(n):
        law = np.append(law, 0.0) * (1 - chance) + np.append(0.0, law) * chance
    top = max(x)
    u = [math.exp(value - top) for value in x]
    mean = 0.0
    for k, p in enumerate(law):
        if k == 0:
            mean += p * (x[1] - top)
        elif k == n:
            mean += p * (x[0] - top)
        else:
            mean += p * math.log((k * u[0] + (n - k) * u[1]) / n)
    return math.log(chance * u[0] + (1 - chance) * u[1]) - mean


def _geometric(x, e, step, rounds) -> np.ndarray:
    """In closed form: the expert's share of the exponent after t steps is 1 - (1 - step)^t."""
    found = []
    for t in range(rounds + 1):
        left = (1 - step) ** t
        logs = left * np.log(x.astype(np.longdouble)) + (1 - left) * np.log(e.astype(np.longdouble))
        power = np.exp(logs - logs.max())
        found.append((power / power.sum()).astype(float))
    return np.array(found)
