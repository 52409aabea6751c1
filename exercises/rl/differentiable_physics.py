"""Marks for the assignment 'Imitation through physics'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one sample after the other, nearest
states by a double loop and gradients pair by pair, products of matrices forward in time, series
term by term, Gaussian moments by sums over pairs. `call` runs the student's function in the
student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "pass_back": 3,
    "chamfer": 5,
    "adjoint": 4,
    "lost_share": 3,
    "impact_step": 3,
    "ratio_variance": 2,
}
FORBIDDEN = {
    "pass_back": ["clip_cotangent"],
    "chamfer": ["chamfer_loss", "chamfer_terms", "chamfer_surrogate", "assign"],
    "adjoint": ["adjoint_gradient"],
    "lost_share": ["truncation_bound", "kept_steps"],
    "impact_step": ["bounce"],
    "ratio_variance": ["likelihood_ratio_variance"],
}


def check_pass_back(call, generator: np.random.Generator) -> float:
    """1 point each: long and short samples of a batch, what is no number, extreme sizes."""
    score, good = 0.0, True
    for shape, limit in (((7,), 0.5), ((6, 3), 1.0), ((2, 5, 4), 2.5), ((5, 1), 0.7)):
        sent = generator.normal(0, 1.5, shape)
        sent[..., 0] *= 0.05 if len(shape) == 1 else 1.0
        answer = call("pass_back", sent, limit)
        good = agrees(answer, _passed(sent, limit), rtol=1e-9, atol=1e-13) and good
    short = generator.uniform(-0.1, 0.1, (4, 3))
    good = agrees(call("pass_back", short, 3.0), short, rtol=1e-12, atol=1e-15) and good
    score += award(call, 1, good, "wrong where samples are longer or shorter than the limit")
    sent = generator.normal(0, 2, (6, 4))
    sent[1, 2] = sent[3, 0] = math.nan
    sent[4] = math.nan
    sent[5] = 0.0
    good = agrees(call("pass_back", sent, 1.2), _passed(sent, 1.2), rtol=1e-9, atol=1e-13)
    score += award(call, 1, good, "wrong where entries are no numbers, or all 0")
    sent = generator.normal(0, 1, (4, 3)) * np.array([[1e200], [1e-200], [1e160], [1.0]])
    good = agrees(call("pass_back", sent, 2.0), _passed(sent, 2.0), rtol=1e-9, atol=0.0)
    return score + award(call, 1, good, "wrong for very large or very small entries")


def check_chamfer(call, generator: np.random.Generator) -> float:
    """1 point each: values, gradients, other lengths, states that meet, batches."""
    kept = []
    for h, u, k, alpha in ((5, 4, 3, 1.0), (6, 6, 2, 0.3), (4, 7, 2, 4.0), (5, 3, 3, 0.0)):
        x, e = generator.normal(0, 1, (h, k)), generator.normal(0, 1, (u, k))
        kept.append((call("chamfer", x, e, alpha), _chamfer(x, e, alpha)))
    score = 0.0
    for part, words in ((slice(0, 1), "the loss is wrong"), (slice(1, None), "the gradient is "
                                                             "wrong")):  # fmt: skip
        good = all(
            _shaped(answer, right)
            and agrees(np.array(answer[part]), right[part], rtol=1e-8, atol=1e-10)
            for answer, right in kept
        )
        score += award(call, 1, good, words)
    good = True
    for h, u, k in ((1, 6, 2), (7, 1, 3), (1, 1, 1)):
        x, e = generator.normal(0, 1, (h, k)), generator.normal(0, 1, (u, k))
        alpha = float(generator.uniform(0.2, 3))
        answer = call("chamfer", x, e, alpha)
        good = agrees(answer, _chamfer(x, e, alpha), rtol=1e-8, atol=1e-10) and good
    score += award(call, 1, good, "wrong for a single state")
    e = generator.normal(0, 1, (5, 2))
    x = generator.normal(0, 1, (6, 2))
    x[2], x[4] = e[1], e[3]
    good = agrees(call("chamfer", x, e, 2.0), _chamfer(x, e, 2.0), rtol=1e-8, atol=1e-10)
    score += award(call, 1, good, "wrong where a state is one that was shown")
    x = generator.normal(0, 1, (2, 3, 5, 2))
    right = np.array([[_chamfer(x[i, j], e, 0.7) for j in range(3)] for i in range(2)])
    good = agrees(call("chamfer", x, e, 0.7), right, rtol=1e-8, atol=1e-10)
    return score + award(call, 1, good, "wrong on a batch")


def check_adjoint(call, generator: np.random.Generator) -> float:
    """1 point each: one step, few steps, many, batches."""
    score = 0.0
    for words, cases in (
        ("wrong for a single step", ((1, 2, 3), (1, 1, 1))),
        ("wrong for a few steps", ((3, 2, 2), (4, 3, 1))),
        ("wrong for many steps", ((40, 3, 2),)),
    ):
        good = True
        for steps, n, p in cases:
            case = _system(generator, (), steps, n, p)
            good = agrees(call("adjoint", *case), _forward(*case), rtol=1e-8, atol=1e-10) and good
        score += award(call, 1, good, words)
    a, g, slopes = _system(generator, (2, 3), 6, 3, 2)
    right = np.array(
        [[_forward(a[i, j], g[i, j], slopes[i, j]) for j in range(3)] for i in range(2)]
    )
    good = agrees(call("adjoint", a, g, slopes), right, rtol=1e-8, atol=1e-10)
    return score + award(call, 1, good, "wrong on a batch")


def check_lost_share(call, generator: np.random.Generator) -> float:
    """1 point each: contractions, the ends of the range and growth, cuts that never come."""
    score, good = 0.0, True
    for states, every in ((30, 7), (60, 10), (12, 12), (9, 1), (2, 1)):
        rho = np.array(generator.uniform(0.3, 0.97))
        answer = call("lost_share", rho, states, every)
        good = agrees(answer, _lost(rho, states, every), rtol=1e-8, atol=1e-11) and good
    score += award(call, 1, good, "wrong for a contraction")
    good = True
    for states, every in ((20, 3), (15, 5)):
        rho = np.array([[0.0, 1.0, 1.2], [0.5, generator.uniform(1, 1.2), 0.99]])
        answer = call("lost_share", rho, states, every)
        good = agrees(answer, _lost(rho, states, every), rtol=1e-8, atol=1e-11) and good
    score += award(call, 1, good, "wrong on a batch with 0, 1 and numbers above")
    good = True
    for states, every in ((1, 1), (1, 4), (6, 6), (6, 9)):
        rho = generator.uniform(0.2, 1.1, 2)
        answer = call("lost_share", rho, states, every)
        good = agrees(answer, _lost(rho, states, every), rtol=1e-8, atol=1e-11) and good
    # Nothing is lost here; an answer that always says so must not gain by it.
    rho = np.array(0.8)
    good = agrees(call("lost_share", rho, 7, 6), _lost(rho, 7, 6), rtol=1e-8, atol=1e-11) and good
    return score + award(call, 1, good, "wrong where hardly a cut comes")


def check_impact_step(call, generator: np.random.Generator) -> float:
    """1 point each: where the ball goes, its derivatives, balls on the ground and batches."""
    kept = []
    for h, r in ((0.1, 1.0), (0.3, 0.6)):
        y = generator.uniform(0.01, 0.3, 12)
        v = generator.uniform(-3, 3, 12)
        y[0], v[0], y[1], v[1] = 0.02, -2.0, 0.29, 1.5
        y, v = _clear(y, v, h)
        kept.append((call("impact_step", y, v, h, r), _impact(y, v, h, r)))
    score = 0.0
    for part, words in ((slice(0, 2), "height or speed are wrong"),
                        (slice(2, 4), "a derivative is wrong")):  # fmt: skip
        good = all(
            _shaped(answer, right)
            and agrees(np.array(answer[..., part]), right[..., part], rtol=1e-9, atol=1e-12)
            for answer, right in kept
        )
        score += award(call, 1, good, words)
    good = True
    for shape in ((), (2, 3)):
        y, v = np.zeros(shape), generator.uniform(-2, -0.5, shape)
        if shape:
            y[1], v[0, 1] = generator.uniform(0.05, 0.1, 3), 1.0
        y, v = _clear(y, v, 0.2)
        answer = call("impact_step", y, v, 0.2, 0.8)
        good = agrees(answer, _impact(y, v, 0.2, 0.8), rtol=1e-9, atol=1e-12) and good
    return score + award(call, 1, good, "wrong on the ground, for one ball or on a batch")


def check_ratio_variance(call, generator: np.random.Generator) -> float:
    """1 point each: any baseline and deviation, horizons of one step and batches."""
    score, good = 0.0, True
    for horizon in (2, 7, 25):
        c = generator.normal(0.3, 1, horizon)
        theta, b, sigma = generator.uniform(-1, 1), generator.uniform(-2, 2), 0.4
        answer = call("ratio_variance", c, float(theta), float(b), sigma)
        right = np.array(_ratio(c, theta, b, sigma))
        good = agrees(answer, right, rtol=1e-8, atol=1e-10) and good
    c = np.ones(6)
    right = np.array(_ratio(c, 0.5, 3.0, 2.0))
    good = agrees(call("ratio_variance", c, 0.5, 3.0, 2.0), right, rtol=1e-8, atol=1e-10) and good
    score += award(call, 1, good, "wrong on a single system")
    good = True
    for shape in ((3, 1), (2, 3, 5)):
        c = generator.normal(0, 1, shape)
        right = np.array(
            [_ratio(c[i], 0.7, -1.0, 1.5) for i in np.ndindex(shape[:-1])]
        ).reshape(shape[:-1])  # fmt: skip
        answer = call("ratio_variance", c, 0.7, -1.0, 1.5)
        good = agrees(answer, right, rtol=1e-8, atol=1e-10) and good
    return score + award(call, 1, good, "wrong for one step, or on a batch")


def _shaped(answer, right) -> bool:
    return getattr(answer, "shape", None) == right.shape and answer.dtype == np.float64


def _passed(sent, limit) -> np.ndarray:
    """Sample by sample, lengths by `hypot`."""
    rows = np.where(np.isnan(sent), 0.0, sent).reshape(-1, sent.shape[-1])
    found = []
    for row in rows:
        norm = math.hypot(*row)
        found.append(row if norm <= limit else np.array([x / norm * limit for x in row]))
    return np.array(found).reshape(sent.shape)


def _chamfer(x, e, alpha) -> np.ndarray:
    """Pair by pair: each chosen pair adds its distance and its direction."""
    h, k = x.shape
    apart = [[math.sqrt(sum((a - b) ** 2 for a, b in zip(s, g, strict=True)) / k) for g in e]
             for s in x]  # fmt: skip
    chosen = [(t, min(range(len(e)), key=lambda u, t=t: apart[t][u]), alpha / h) for t in range(h)]
    chosen += [
        (min(range(h), key=lambda t, u=u: apart[t][u]), u, 1 / len(e)) for u in range(len(e))
    ]
    loss, slope = 0.0, np.zeros_like(x)
    for t, u, weight in chosen:
        loss += weight * apart[t][u]
        if apart[t][u] > 0:
            slope[t] += weight * (x[t] - e[u]) / (k * apart[t][u])
    return np.concatenate([[loss], slope.ravel()])


def _system(generator, batch, steps, n, p) -> tuple[np.ndarray, ...]:
    return (
        generator.normal(0, 0.6 / math.sqrt(n), (*batch, steps, n, n)),
        generator.normal(0, 1, (*batch, steps, n, p)),
        generator.normal(0, 1, (*batch, steps + 1, n)),
    )


def _forward(a, g, slopes) -> np.ndarray:
    """Sensitivities of the states, forward in time."""
    sensitivity, total = np.zeros_like(g[0]), np.zeros(g.shape[-1])
    for t in range(len(a)):
        sensitivity = a[t] @ sensitivity + g[t]
        total = total + slopes[t + 1] @ sensitivity
    return total


def _lost(rho, states, every) -> np.ndarray:
    """One number after the other, derivatives carried along with the state."""
    found = []
    for r in np.ravel(rho):
        full = cut = whole = part = 0.0
        for t in range(1, states + 1):
            full, part = r * full + 1, r * part + 1
            whole, cut = whole + full, cut + part
            if t % every == 0:
                part = 0.0
        found.append((whole - cut) / whole)
    return np.array(found).reshape(np.shape(rho))


def _clear(y, v, h) -> tuple[np.ndarray, np.ndarray]:
    """No ball that just touches the ground at the end of the step."""
    return y, np.where(np.abs(y + h * v) < 1e-3, v - 0.1, v)


def _impact(y, v, h, r) -> np.ndarray:
    found = []
    for a, b in zip(np.ravel(y), np.ravel(v), strict=True):
        if a + h * b < 0:
            moment = a / -b
            found.append([r * -b * (h - moment), -r * b, -r, -r * h])
        else:
            found.append([a + h * b, b, 1.0, h])
    return np.array(found).reshape(*np.shape(y), 4)


def _ratio(c, theta, baseline, sigma) -> float:
    """E S^2 (C + m)^2 - (E S C)^2, fourth moments summed over pairs of indices."""
    h, m = len(c), (theta * math.fsum(c) - baseline) / sigma
    square = 0.0
    for i in range(h):
        for j in range(h):
            # E e_i e_j C^2 for i = j and for i != j.
            square += math.fsum(c * c) + 2 * c[i] ** 2 if i == j else 2 * c[i] * c[j]
    return square + h * m * m - math.fsum(c) ** 2
