"""Marks for the assignment 'Exploration'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy and fractions, one cell, one pixel and one
state after the other; the lock by its recursion, the sticky optimum by policy iteration with linear
systems. `call` runs the student's function in the student's process.
"""

from fractions import Fraction

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "chances": 3,
    "enter": 4,
    "trials": 3,
    "cell_of": 3,
    "starts": 3,
    "sticky_values": 4,
}
FORBIDDEN = {
    "chances": ["selection_weights"],
    "enter": ["mdtheory.rl.exploration.archive.Archive.record"],
    "trials": ["lock_trials", "lock_recursion", "lock_variance"],
    "cell_of": ["downscale"],
    "starts": ["move_back"],
    "sticky_values": ["mdtheory.rl.exploration.tables.TableGame.sticky"],
}


def check_chances(call, generator: np.random.Generator) -> float:
    """1 point each: the second version, the first one, batches; counts from 0 to thousands."""
    score = 0.0
    for first, words in [(False, "wrong for the second version"), (True, "wrong for the first")]:
        good = True
        for size in (1, 2, 7, 400):
            seen = generator.integers(0, 5000 if size > 2 else 3, size).astype(float)
            seen[0] = 0.0
            answer = call("chances", seen, first)
            good = agrees(answer, _chances(seen, first), rtol=1e-9, atol=1e-12) and good
        score += award(call, 1, good, words)
    good = True
    for first in (False, True):
        seen = generator.integers(0, 9, (2, 3, 5)).astype(float)
        right = [_chances(seen[i], first) for i in np.ndindex(2, 3)]
        answer = call("chances", seen, first)
        good = agrees(answer, np.array(right).reshape(2, 3, 5), rtol=1e-9) and good
    return score + award(call, 1, good, "wrong on a batch")


def _chances(seen, first):
    if first:
        weight = [1 + 0.3 / (n + 0.001) ** 0.5 + 0.00001 for n in seen]
    else:
        weight = [(n + 1) ** -0.5 for n in seen]
    return np.array(weight) / sum(weight)


def check_enter(call, generator: np.random.Generator) -> float:
    """1 point each: what is kept, ties, counts, walks that come back to cells and to the start."""
    score = 0.0
    cases = [
        (30, 1, 1.0, False, "wrong where a walk meets every cell once"),
        (6, 3, 0.0, True, "wrong where ways are just as good, or shorter at the same score"),
        (5, 4, 1.0, True, "wrong where a walk meets cells more than once"),
        (12, 60, 1.0, True, "wrong on long walks with losses"),
    ]
    for cells, rounds, gain, again, words in cases:
        good = True
        for trial in range(6):
            given = list(_archive(generator, cells))
            if gain == 0.0:
                given[0][np.isfinite(given[0])] = 2.0
                given[1][:] = np.where(np.isfinite(given[0]), generator.integers(1, 4, cells), 0)
            start = int(generator.choice(np.flatnonzero(np.isfinite(given[0]))))
            if again:
                path = generator.integers(0, cells, cells * rounds)
                path[-1] = start
                if gain == 0.0:  # in the first step a way that is just as good, never by luck
                    tied = int((start + 1 + generator.integers(cells - 1)) % cells)
                    path[0], given[0][tied], given[1][start], given[1][tied] = tied, 2.0, 1.0, 2.0
            else:
                path = generator.permutation(cells)[: 1 + trial * 4]
            gains = gain * generator.integers(-1 if rounds > 10 else 0, 3, len(path)).cumsum()
            answer = call("enter", *given, start, path, gains.astype(float))
            right = _enter(*given, start, path, gains)
            good = agrees(answer, right, rtol=0, atol=0) and good
        score += award(call, 1, good, words)
    return score


def _archive(generator, cells):
    score = generator.integers(0, 4, cells).astype(float)
    length = generator.integers(1, 20, cells).astype(float)
    seen = generator.integers(0, 9, cells).astype(float)
    score[0] = 1.0
    new = generator.uniform(size=cells) < 0.3
    new[0] = False
    score[new], length[new], seen[new] = -np.inf, 0.0, 0.0
    return score, length, seen


def _enter(score, length, seen, start, path, gains):
    entries = {c: (s, -n) for c, (s, n) in enumerate(zip(score, length, strict=True))}
    kept, met = set(), {start}
    for step, cell in enumerate(path):
        way = (score[start] + gains[step], -(length[start] + step + 1))
        met.add(int(cell))
        if way > entries[int(cell)]:
            entries[int(cell)] = way
            kept.add(int(cell))
    count = [0.0 if c in kept else n + (c in met) for c, n in enumerate(seen)]
    return np.array([[entries[c][0] for c in range(len(score))],
                     [-entries[c][1] for c in range(len(score))], count])  # fmt: skip


def check_trials(call, generator: np.random.Generator) -> float:
    """1 point each: mean, variance, walks until death; depths of 1, 2 and 300 among them."""
    cases = [(2, 1), (2, 2), (int(generator.integers(3, 9)), 1), (3, 300),
             (int(generator.integers(2, 6)), int(generator.integers(5, 40)))]  # fmt: skip
    answers = [call("trials", *case) for case in cases]
    score = 0.0
    names = ("the expected trials with one action", "the variance", "the trials until death")
    for k, name in enumerate(names):
        good = True
        for case, answer in zip(cases, answers, strict=True):
            right = _trials(*case)[k]
            given = np.asarray(answer)
            good = agrees(given[k] if given.shape == (3,) else given, right, rtol=1e-9) and good
        score += award(call, 1, good, f"wrong: {name}")
    return score


def _trials(actions, depth):
    """From n states: chances of going on, and expectations from the deepest archive backward."""
    mean = sum(n * actions for n in range(1, depth + 1))
    variance = sum((n * actions) ** 2 - n * actions for n in range(1, depth + 1))
    left = [0.0] * (depth + 2)
    ahead = 0.0  # sum over m >= n of (A - 1) A^-(m - n + 1) left[m + 1], open at the end
    for n in range(depth, 0, -1):
        # Given that depth n is reached, the archive stops at m + 1 = n + 1, n + 2, ...
        stay = (1 - 1 / actions) * left[n + 1] if n < depth else 0.0
        ahead = stay + ahead / actions if n < depth else 0.0
        reach = sum(float(actions) ** -i for i in range(1, n + 1)) / n
        left[n] = 1 / reach + ahead
    return np.array([mean, variance, left[1]], dtype=float)


def check_cell_of(call, generator: np.random.Generator) -> float:
    """1 point each: whole pixels, cut pixels on batches, pictures of one grey."""
    image = generator.integers(0, 256, (8, 12)).astype(float)
    good = agrees(call("cell_of", image, 3, 4), _cell(image, 3, 4), rtol=0, atol=0)
    good = agrees(call("cell_of", image, 12, 8), _cell(image, 12, 8), rtol=0, atol=0) and good
    score = award(call, 1, good, "wrong where no pixel is cut")
    batch = generator.integers(0, 256, (2, 3, 5, 7)).astype(float)
    good = True
    for width, height in ((3, 2), (4, 3), (11, 8)):
        right = [_cell(batch[i], width, height) for i in np.ndindex(2, 3)]
        answer = call("cell_of", batch, width, height)
        right = np.array(right).reshape(2, 3, height, width)
        good = agrees(answer, right, rtol=0, atol=0) and good
    score += award(call, 1, good, "wrong on a batch or where pixels are cut")
    good = True
    for grey in (0, 255, 255 - int(generator.integers(1, 31)), 127, 128, 32, 31):
        image = np.full((21, 16), float(grey))
        answer = call("cell_of", image, 11, 8)
        good = agrees(answer, np.full((8, 11), grey * 8 // 255), rtol=0, atol=0) and good
    return score + award(call, 1, good, "wrong on pictures of one grey")


def _cell(image, width, height):
    rows, columns = image.shape
    found = np.zeros((height, width), dtype=int)
    for i in range(height):
        for j in range(width):
            total = Fraction(0)
            top, bottom = Fraction(i * rows, height), Fraction((i + 1) * rows, height)
            left, right = Fraction(j * columns, width), Fraction((j + 1) * columns, width)
            for y in range(int(top), -int(-bottom // 1)):
                tall = min(bottom, y + 1) - max(top, y)
                for x in range(int(left), -int(-right // 1)):
                    total += tall * (min(right, x + 1) - max(left, x)) * int(image[y, x])
            mean = total / ((bottom - top) * (right - left))
            found[i, j] = mean * 8 // 255
    return found


def check_starts(call, generator: np.random.Generator) -> float:
    """1 point each: single runs with ties, runs that reach the start, batches."""
    score = 0.0
    cases = [
        ((), 12, 90, 3, "wrong on a run, with shares that just reach the threshold"),
        ((), 60, 40, 7, "wrong on a run that reaches the start"),
        ((2, 3), 25, 30, 2, "wrong on a batch"),
    ]
    for batch, batches, length, back, words in cases:
        good = True
        for threshold in (0.25, 0.5, 1.0):
            shares = generator.integers(0, 9, (*batch, batches)) / 8
            shares[..., ::3] = threshold
            answer = call("starts", shares, length, threshold, back)
            right = np.zeros((*batch, batches + 1), dtype=int)
            for i in np.ndindex(batch):
                at = length - 1
                right[i][0] = at
                for t, share in enumerate(shares[i]):
                    at = max(at - back, 0) if share >= threshold else at
                    right[i][t + 1] = at
            good = agrees(answer, right, rtol=0, atol=0) and good
        score += award(call, 1, good, words)
    return score


def check_sticky_values(call, generator: np.random.Generator) -> float:
    """1 point each: without noise, with it, games that seldom end, and noise alone."""
    score = 0.0
    cases = [
        ((0.0,), 0.3, 0.9, "wrong without noise"),
        ((0.25, 0.6), 0.3, 0.9, "wrong under sticky actions"),
        ((0.1,), 0.02, 0.95, "wrong in games that seldom end"),
        ((1.0,), 0.2, 0.9, "wrong where the last action is always repeated"),
    ]
    for chances, ending, discount, words in cases:
        good = True
        for p in chances:
            for states, actions in ((1, 2), (6, 3), (12, 4)):
                after = generator.integers(0, states, (states, actions))
                reward = generator.normal(0, 1, (states, actions))
                end = generator.uniform(size=(states, actions)) < ending
                answer = call("sticky_values", after, reward, end, p, discount)
                right = _sticky(after, reward, end, p, discount)
                good = agrees(answer, right, rtol=1e-6, atol=2e-6) and good
        score += award(call, 1, good, words)
    return score


def _sticky(after, reward, end, p, discount):
    """Policy iteration on pairs of a state and the action before, with a linear system each."""
    states, actions = reward.shape
    wanted = np.zeros(states, dtype=int)
    while True:
        size = states * actions
        matrix, right = np.eye(size), np.zeros(size)
        for s in range(states):
            for b in range(actions):
                for made, chance in ((b, p), (wanted[s], 1 - p)):
                    right[s * actions + b] += chance * reward[s, made]
                    if not end[s, made]:
                        column = after[s, made] * actions + made
                        matrix[s * actions + b, column] -= discount * chance
        value = np.linalg.solve(matrix, right).reshape(states, actions)
        outcome = np.array([
            [reward[s, a] + (0 if end[s, a] else discount * value[after[s, a], a])
             for a in range(actions)] for s in range(states)
        ])  # fmt: skip
        current = outcome[np.arange(states), wanted]
        better = outcome.max(1) > current + 1e-12
        if p == 1.0 or not better.any():
            return value
        wanted = np.where(better, outcome.argmax(1), wanted)
