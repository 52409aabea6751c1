"""Marks for the assignment 'games'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one game after the other, products in
place of logarithms' sums, bisection on eigenvalues, plain enumeration. `call` runs the student's
function in the student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award, fault, has_shape

POINTS = {
    "exploitability_of": 3,
    "magnetic_run": 4,
    "longest_step": 4,
    "mixed_behaviour": 4,
    "values_given_reached": 4,
    "certified_strategies": 4,
}
RUNS = ["magnetic_mirror_descent", "magnetic_iterates"]
FORBIDDEN = {
    "exploitability_of": ["exploitability", "nash_conv", "MatrixGame"],
    "magnetic_run": [
        *RUNS,
        "quantal_response",
        "newton.regularized_equilibrium",
        "mdtheory.convex.mirror_maps.mirror_step",
        "mdtheory.convex.mirror_maps.dual_step",
        "mdtheory.convex.mirror_maps.entropy_step",
    ],
    "longest_step": ["guaranteed_step"],
    "mixed_behaviour": ["ExtensiveGame"],
    "values_given_reached": ["ExtensiveGame"],
    "certified_strategies": ["solve_matrix_game", "linear_program"],
}


def check_exploitability_of(call, generator: np.random.Generator) -> float:
    """1 point each: single games, batches, strategies with zeros."""
    score = 0.0
    cases = [
        ((), 1.0, "wrong on a single game"),
        ((3, 2), 1.0, "wrong on a batch"),
        ((), 0.0, "wrong where probabilities are zero"),
    ]
    for batch, full, words in cases:
        payoff = generator.uniform(-1, 1, (*batch, 4, 6)) + 0.7
        x, y = _strategies(generator, batch, 4, 6)
        if not full:
            x[..., 1:3], y[..., 2:] = 0, 0
            x, y = x / x.sum(-1, keepdims=True), y / y.sum(-1, keepdims=True)
        answer = call("exploitability_of", payoff, _log(x), _log(y))
        reference = np.array([_gap(payoff[i], x[i], y[i]) / 2 for i in np.ndindex(batch)])
        good = agrees(answer, reference.reshape(batch), rtol=1e-9)
        if full and not batch:  # one row, and an equilibrium of sure actions
            for game in (payoff[:1], np.array([[1.0, 3.0], [0.0, 2.0]]) - 2.0):
                x, y = np.eye(len(game))[0], np.eye(game.shape[1])[0]
                answer = call("exploitability_of", game, _log(x), _log(y))
                good &= agrees(answer, np.array(_gap(game, x, y) / 2), rtol=1e-9, atol=1e-12)
        score += award(call, 1, good, words)
    return score


def check_magnetic_run(call, generator: np.random.Generator) -> float:
    """1 point each: one plain step, some magnetic steps, batches, a long way back."""
    score = 0.0
    cases = [
        ((), ((0.0, 0.6, 1), (0.0, 5.0, 2)), "wrong after some steps without a magnet"),
        ((), ((0.4, 0.5, 3), (50.0, 2.0, 2)), "wrong after some steps with a magnet"),
        ((3, 2), ((0.3, 0.4, 3),), "wrong on a batch"),
    ]
    for batch, runs, words in cases:
        good = True
        for tau, eta, count in runs:
            payoff = generator.uniform(-1, 1, (*batch, 4, 3))
            starts, magnets = (_strategies(generator, batch, 4, 3) for _ in range(2))
            logs = [_log(p) for p in (*starts, *magnets)]
            answer = call("magnetic_run", payoff, *logs, tau, eta, count)
            reference = np.array(
                [
                    np.concatenate(
                        _run(payoff[i], *(p[i] for p in (*starts, *magnets)), tau, eta, count)
                    )
                    for i in np.ndindex(batch)
                ]
            ).reshape(*batch, 7)
            good &= agrees(answer, np.log(reference), rtol=1e-8, atol=1e-9)
        score += award(call, 1, good, words)
    payoff = generator.uniform(-1, 1, (3, 3))
    magnets = _strategies(generator, (), 3, 3)
    far = np.array([-690.0, -700.0, 0.0])
    logs = [_log(p) for p in magnets]
    answer = call("magnetic_run", payoff, far, far[::-1].copy(), *logs, 0.5, 0.4, 400)
    reference = np.concatenate(_quantal(payoff, 0.5, *magnets))
    good = agrees(answer, np.log(reference), rtol=0, atol=1e-7)
    return score + award(call, 1, good, "wrong where the start is far from the fixed point")


def check_longest_step(call, generator: np.random.Generator) -> float:
    """1 point each: pennies in other units, no limit, batches, a low temperature."""
    unit = float(generator.uniform(0.3, 3))
    pennies = unit * np.array([[1.0, -1.0], [-1.0, 1.0]])
    part = float(generator.uniform(0.2, 0.7))
    answer = call("longest_step", pennies, part * unit)
    reference = np.array(2 * part / (1 - part**2) / unit)
    good = agrees(answer, reference, rtol=1e-4)
    score = award(call, 1, good, "wrong for matching pennies in other units")
    payoff = generator.uniform(-1, 1, (3, 4))
    answer = call("longest_step", payoff, 5.0)
    good = agrees(answer, np.array(math.inf))
    score += award(call, 1, good, "wrong where there is no limit")
    payoff = np.stack([_inner(generator) for _ in range(4)]).reshape(2, 2, 3, 3)
    wide = _inner(generator)
    wide = np.concatenate([wide, wide.mean(-1, keepdims=True) + 0.3], -1)  # the last is not good
    for games, words in (
        (((payoff, 0.1), (wide, 0.1)), "wrong on a batch, or where one has more actions"),
        (((_inner(generator), 0.02),), "wrong at a low temperature"),
    ):
        good = True
        for game, tau in games:
            batch = game.shape[:-2]
            answer = call("longest_step", game, tau)
            reference = np.array([_limit(game[i], tau) for i in np.ndindex(batch)]).reshape(batch)
            good &= agrees(answer, reference, rtol=2e-4)
        score += award(call, 1, good, words)
    return score


def check_mixed_behaviour(call, generator: np.random.Generator) -> float:
    """1 point each: two decisions in a row, a tree, batches, places that nobody leads to."""
    score = 0.0
    tree = np.array([-1, 0, 1, -1, 3, 3, 9])
    cases = [
        (np.array([-1, 1]), 2, (), False, "wrong where two decisions follow each other"),
        (tree, 2, (), False, "wrong on a tree"),
        (np.array([-1, 2, 2, 5]), 3, (2, 3), False, "wrong on a batch"),
        (np.array([-1, 1, 3, -1]), 2, (), True, "wrong where neither plan leads"),
    ]
    for parents, width, batch, blocked, words in cases:
        first, second = (
            generator.dirichlet(np.ones(width), (*batch, len(parents))) for _ in range(2)
        )
        if blocked:
            first[0], second[0] = [1.0, 0.0], [1.0, 0.0]
        good, between = True, float(generator.uniform(0.2, 0.8))
        for share in (between, 0.0, 1.0) if blocked else (between,):
            answer = call("mixed_behaviour", parents, first, second, share)
            reference = np.array(
                [_mixed(parents, first[i], second[i], share) for i in np.ndindex(batch)]
            ).reshape(first.shape)
            good &= agrees(answer, reference, rtol=1e-9, atol=1e-12)
            if blocked:  # from now on the first leads everywhere, if it is tossed
                first[0] = [0.5, 0.5]
        score += award(call, 1, good, words)
    return score


def check_values_given_reached(call, generator: np.random.Generator) -> float:
    """1 point each: full support, rare chance, own zeros, the opponent's zeros."""
    score = 0.0
    cases = [
        ("plain", "wrong where all is played"),
        ("rare", "wrong where chance seldom leads"),
        ("own", "wrong where you do not lead yourself"),
        ("theirs", "wrong where the opponent never leads"),
    ]
    for kind, words in cases:
        game = _Small(generator, rare=kind == "rare")
        mine = generator.dirichlet(np.ones(2), 5)
        theirs = generator.dirichlet(np.ones(2), 4)
        if kind == "own":
            mine[0] = [0.0, 1.0]
        if kind == "theirs":
            theirs[[0, 2]] = [1.0, 0.0]
        answer = call("values_given_reached", *game.arrays, mine, theirs)
        reference = game.values(mine, theirs)
        score += award(call, 1, agrees(answer, reference, rtol=1e-9, atol=1e-11), words)
    return score


def check_certified_strategies(call, generator: np.random.Generator) -> float:
    """1 point each: single games, batches in other units, many actions, few good actions."""
    score = 0.0
    signs = generator.integers(0, 2, (60, 60)) * 2.0 - 1
    single = generator.uniform(-1, 1, (20, 30))
    cases = [
        (((single, 1e-3), (single[:1, :5], 1e-3), (single[:4, :1] - 2, 0.01)), "on a single game"),
        (((1e5 * (generator.uniform(-1, 1, (3, 2, 12, 9)) + 0.3), 300.0),), "on a batch"),
        (((generator.uniform(-1, 1, (120, 120)), 1e-3),), "with many actions"),
        (((1e-4 * signs, 1e-6),), "in small units"),
    ]
    for games, words in cases:
        good = True
        for payoff, gap in games:
            good &= _is_certificate(call("certified_strategies", payoff, gap), payoff, gap)
        score += award(call, 1, good, f"no certificate {words}")
    return score


def _is_certificate(answer: np.ndarray, payoff: np.ndarray, gap: float) -> bool:
    m, n = payoff.shape[-2:]
    if not has_shape(answer, (*payoff.shape[:-2], m + n)):
        return False
    x, y = np.exp(answer[..., :m]), np.exp(answer[..., m:])
    sums = np.concatenate([x.sum(-1).ravel(), y.sum(-1).ravel()])
    if not np.isfinite(sums).all():
        return fault("its probabilities are not all finite")
    if (error := abs(sums - 1).max()) > 1e-9:
        return fault(f"its probabilities do not add up to 1, but differ from it by {error:.1e}")
    worst = max(_gap(payoff[i], x[i], y[i]) for i in np.ndindex(payoff.shape[:-2]))
    return worst <= gap * (1 + 1e-9) or fault(f"the gap is {worst:.3g}, above {gap:g}")


def _log(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(p)


def _strategies(generator, batch: tuple, m: int, n: int):
    return generator.dirichlet(np.ones(m), batch), generator.dirichlet(np.ones(n), batch)


def _gap(payoff, x, y) -> float:
    best = max(sum(row[j] * y[j] for j in range(len(y))) for row in payoff)
    worst = min(sum(payoff[i][j] * x[i] for i in range(len(x))) for j in range(len(y)))
    return best - worst


def _step(start, magnet, gain, tau: float, eta: float) -> np.ndarray:
    """The maximiser as a product of powers."""
    power = 1 / (1 + eta * tau)
    weight = start**power * magnet ** (eta * tau * power) * np.exp(eta * power * gain)
    return weight / weight.sum()


def _run(payoff, x, y, rho_x, rho_y, tau: float, eta: float, count: int):
    for _ in range(count):
        x, y = (
            _step(x, rho_x, payoff @ y, tau, eta),
            _step(y, rho_y, -payoff.T @ x, tau, eta),
        )
    return x, y


def _quantal(payoff, tau: float, rho_x, rho_y):
    """The fixed point by averaging duals with small weights, slow and safe."""
    u, v = np.zeros(len(rho_x)), np.zeros(len(rho_y))
    top = np.abs(payoff).max()
    weight = min(0.3, tau / top, (tau / top) ** 2)
    for _ in range(math.ceil(60 / weight)):
        x, y = rho_x * np.exp(u - u.max()), rho_y * np.exp(v - v.max())
        x, y = x / x.sum(), y / y.sum()
        u += weight * (payoff @ y / tau - u)
        v += weight * (-payoff.T @ x / tau - v)
    return x, y


def _newton(payoff, tau: float):
    """The quantal response with uniform magnets by Newton's method, the temperature lowered."""
    m, n = payoff.shape
    logs = np.concatenate([np.full(m, -math.log(m)), np.full(n, -math.log(n))])
    for warm in np.geomspace(max(2.0, tau), tau, 30):
        for _ in range(30):
            x, y = np.exp(logs[:m]), np.exp(logs[m:])
            x, y = x / x.sum(), y / y.sum()
            logs = np.concatenate([np.log(x), np.log(y)])
            residual = warm * logs + np.concatenate([-payoff @ y, payoff.T @ x])
            system = np.zeros((m + n + 2, m + n + 2))
            system[:m, m : m + n] = -payoff * y
            system[m : m + n, :m] = payoff.T * x
            system[: m + n, : m + n] += warm * np.eye(m + n)
            system[:m, m + n] = system[m : m + n, m + n + 1] = 1
            system[m + n, :m], system[m + n + 1, m : m + n] = x, y
            change = np.linalg.solve(system, np.concatenate([-residual, [0, 0]]))[: m + n]
            logs = logs + change * min(1.0, 1 / max(np.abs(change).max(), 1e-300))
            if np.abs(change).max() < 1e-13:
                break
    return np.exp(logs[:m]), np.exp(logs[m:])


def _limit(payoff, tau: float) -> float:
    """Bisection on the largest eigenvalue of the derivative of the step."""
    m, n = payoff.shape
    x, y = _newton(payoff, tau)
    turn = np.zeros((m + n, m + n))
    turn[:m, m:], turn[m:, :m] = payoff * y, -payoff.T * x
    keep = np.eye(m + n)
    keep[:m, :m] -= x
    keep[m:, m:] -= y

    def grows(eta: float) -> bool:
        derivative = keep @ (np.eye(m + n) + eta * turn) @ keep / (1 + eta * tau)
        return np.abs(np.linalg.eigvals(derivative)).max() > 1

    low, high = 0.0, 1e9
    if not grows(high):
        return math.inf
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if grows(middle) else (middle, high)
    return high


def _inner(generator) -> np.ndarray:
    """A game whose equilibrium is not near the border, and that turns."""
    x, y = generator.dirichlet(np.full(3, 8.0), 2)
    cycle = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    payoff = cycle + 0.3 * generator.uniform(-1, 1, (3, 3))
    payoff = payoff - (payoff @ y)[:, None]
    payoff = payoff - x @ payoff
    return payoff / np.abs(payoff).max()


def _mixed(parents, first, second, share: float) -> np.ndarray:
    """Weights by walking up from every sequence."""
    count, width = first.shape
    result = np.full((count, width), 1 / width)
    for j in range(count):
        weights = np.zeros(width)
        for part, plan in ((share, first), (1 - share, second)):
            led, above = part, parents[j]
            while above >= 0:
                led *= plan[above // width, above % width]
                above = parents[above // width]
            weights += led * plan[j]
        if weights.sum() > 0:
            result[j] = weights / weights.sum()
    return result


class _Small:
    """Chance (two ways), you, the opponent, who sees both, and you, who saw the opponent alone."""

    def __init__(self, generator, rare: bool) -> None:
        share = generator.uniform(0.001, 0.01) if rare else generator.uniform(0.3, 0.7)
        self.chance = np.array([share, 1 - share])
        self.payoff = generator.uniform(-3, 3, (2, 2, 2, 2))  # chance, you, opponent, you
        order = generator.permutation(16)
        ends, payoff, chance = [], [], []
        for c, a, b, last in np.ndindex(2, 2, 2, 2):
            ends.append([2 * (1 + 2 * a + b) + last, 2 * (2 * c + a) + b])
            payoff.append(self.payoff[c, a, b, last])
            chance.append(self.chance[c])
        self.arrays = (
            np.array([-1, 0, 0, 1, 1]), np.full(4, -1), np.array(ends)[order],
            np.array(payoff)[order], np.array(chance)[order],
        )  # fmt: skip

    def values(self, mine, theirs) -> np.ndarray:
        result = np.zeros((5, 2))
        for a in range(2):
            for b in range(2):
                row = 1 + 2 * a + b
                led = [self.chance[c] * theirs[2 * c + a, b] for c in range(2)]
                gained = [
                    sum(led[c] * self.payoff[c, a, b, last] for c in range(2)) for last in range(2)
                ]
                result[0, a] += sum(mine[row, last] * gained[last] for last in range(2))
                if sum(led) > 0:
                    result[row] = [g / sum(led) for g in gained]
        return result
