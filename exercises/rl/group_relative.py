"""Marks for the assignment 'Group-relative REINFORCE'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one group, token or step after the
other; the gradient by differences of the pairs, the limit by bisection, binomials by whole numbers.
`call` runs the student's function in the student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "pairwise_gradient": 3,
    "kept": 4,
    "reinforce": 3,
    "old_data": 4,
    "versions": 3,
    "two_numbers": 3,
}
KINDS = ("one side", "two sides", "ring")
FORBIDDEN = {
    "pairwise_gradient": ["pairwise_consistency_loss"],
    "kept": ["clipped_mask", "mdtheory.rl.group_relative.losses.clipped_mask_unchecked"],
    "reinforce": ["rec_loss", "asymmetric_loss", "opmd_loss"],
    "old_data": ["stale_limit"],
    "versions": ["stale_versions"],
    "two_numbers": ["prompt_weight", "asymmetric_value"],
}


def check_pairwise_gradient(call, generator: np.random.Generator) -> float:
    """1 point each: at the anchor with equal weights, elsewhere with others, batches."""
    score = 0.0
    for kind, batch, words in (
        ("anchor", (), "wrong at the anchor with equal weights"),
        ("away", (), "wrong with uneven weights away from the anchor"),
        ("away", (2, 3), "wrong on a batch"),
    ):
        rewards = generator.normal(0, 1, (*batch, 5))
        apart = generator.normal(0, 1, (*batch, 5)) * (kind == "away")
        weights = generator.uniform(0.2, 3, (*batch, 5))
        if kind == "anchor":
            weights = np.full((*batch, 5), 1.0)
        scores = generator.normal(0, 1, (*batch, 5, 3))
        tau = float(generator.uniform(0.2, 2))
        answer = call("pairwise_gradient", rewards, apart, weights, scores, tau)
        right = [
            _pairs(rewards[i], apart[i], weights[i], scores[i], tau) for i in np.ndindex(batch)
        ]
        right = np.array(right).reshape(*batch, 3)
        score += award(call, 1, agrees(answer, right, rtol=1e-9, atol=1e-11), words)
    return score


def check_kept(call, generator: np.random.Generator) -> float:
    """1 point for each mask on grids that hold edges and advantages of 0; 1 for batches."""
    score = 0.0
    grids = [_grid(generator) for _ in range(3)]
    answers = [call("kept", ratio, advantage, *edges) for edges, ratio, advantage in grids]
    for k, kind in enumerate(KINDS):
        good = True
        for answer, (edges, ratio, advantage) in zip(answers, grids, strict=True):
            right = _masks(ratio, advantage, kind, edges)
            good = agrees(_part(answer, k), right) and good
        score += award(call, 1, good, f"wrong for the mask {k + 1} ({kind})")
    edges, ratio, advantage = _grid(generator)
    ratio, advantage = np.stack([ratio] * 2), np.stack([advantage, -advantage])
    answer = call("kept", ratio, advantage, *edges)
    right = np.stack([_masks(ratio, advantage, kind, edges) for kind in KINDS], -1)
    return score + award(call, 1, agrees(answer, right), "wrong on a batch")


def check_reinforce(call, generator: np.random.Generator) -> float:
    """1 point for each loss, on single batches, several of them, and with junk in padding."""
    score = 0.0
    cases, answers = [], []
    for batch, junk in (((), 0.0), ((2, 3), -5.0), ((), math.nan), ((2,), -math.inf)):
        logs = -generator.exponential(1, (*batch, 4, 6))
        advantage = generator.normal(0, 1, (*batch, 4))
        lengths = generator.integers(1, 7, (*batch, 4))
        mask = np.arange(6) < lengths[..., None]
        answers.append(call("reinforce", np.where(mask, logs, junk), advantage, mask))
        cases.append((batch, logs, advantage, lengths))
    for k in range(3):
        good = True
        for answer, (batch, logs, advantage, lengths) in zip(answers, cases, strict=True):
            right = [_loss(logs[i], advantage[i], lengths[i], k) for i in np.ndindex(batch)]
            right = np.array(right).reshape(batch)
            good = agrees(_part(answer, k), right, rtol=1e-9, atol=1e-12) and good
        score += award(call, 1, good, f"loss {k + 1} is wrong")
    return score


def check_old_data(call, generator: np.random.Generator) -> float:
    """1 point each: no shift, shifts within the simplex, shifts that need a projection, batches."""
    score = 0.0
    for kind, batch, words in (
        ("none", (), "wrong without a shift"),
        ("large", (), "wrong for a large shift"),
        ("small", (), "wrong for a small shift"),
        ("small", (2, 3), "wrong on a batch"),
    ):
        good = True
        for n in (2, 3, 6):
            behaviour = generator.dirichlet(np.full(n, 2.0), batch)
            rewards = generator.uniform(0, 1, (*batch, n))
            shift = {"none": 0.0, "large": generator.uniform(1, 3), "small": 0.0}[kind]
            if kind == "small":
                shift = generator.uniform(0.02, 0.15)
            answer = call("old_data", behaviour, rewards, float(shift))
            right = [_limit(behaviour[i], rewards[i], shift) for i in np.ndindex(batch)]
            right = np.array(right).reshape(*batch, n)
            good = agrees(answer, right, rtol=1e-7, atol=1e-9) and good
        score += award(call, 1, good, words)
    return score


def check_versions(call, generator: np.random.Generator) -> float:
    """1 point each: no offset, offsets, no copies at all."""
    score = 0.0
    for kind, words in (
        ("plain", "wrong without an offset"),
        ("late", "wrong with an offset"),
        ("never", "wrong where the writer never gets a copy"),
    ):
        good = True
        for steps in (1, 12, 57):
            interval = int(generator.integers(1, 9))
            offset = 0 if kind == "plain" else int(generator.integers(1, 15))
            if kind == "never":
                interval = math.inf
            right, now = [], 0
            for k in range(steps):
                due = k - offset
                if due >= 0 and not math.isinf(interval) and due % interval == 0:
                    now = due
                right.append(now)
            answer = call("versions", steps, interval, offset)
            good = agrees(answer, np.array(right, dtype=np.int64)) and good
        score += award(call, 1, good, words)
    return score


def check_two_numbers(call, generator: np.random.Generator) -> float:
    """1 point for the weight, 1 for the value, 1 for both in batches with large groups."""
    score = 0.0
    for part, words in ((0, "the first number is wrong"), (1, "the second number is wrong")):
        good = True
        for group in (2, 3, 8):
            success = generator.uniform(0.02, 0.98)
            for shift in (0.5 * success, float(success), 1.7 * success):
                answer = call("two_numbers", np.array(success), group, shift)
                right = _two(success, group, shift)
                right = np.array(right[part])
                good = agrees(_part(answer, part, 2), right, rtol=1e-9, atol=1e-12) and good
        score += award(call, 1, good, words)
    success = generator.uniform(0.02, 0.98, (2, 3))
    shift = float(generator.uniform(0.2, 0.6))
    answer = call("two_numbers", success, 60, shift)
    right = np.array([_two(p, 60, shift) for p in success.ravel()]).reshape(2, 3, 2)
    good = agrees(answer, right, rtol=1e-8, atol=1e-12)
    return score + award(call, 1, good, "wrong on a batch with groups of 60")


def _part(answer, k: int, parts: int = 3):
    """One entry of the last axis; an answer of another shape stays as it is, to be refused."""
    return answer[..., k] if np.ndim(answer) and np.shape(answer)[-1] == parts else answer


def _pairs(rewards, apart, weights, scores, tau: float) -> np.ndarray:
    """Derivative of each square of a pair."""
    total = math.fsum(weights)
    gap = rewards - tau * apart
    slope = np.zeros(scores.shape[-1], np.longdouble)
    for i in range(len(rewards)):
        for j in range(i):
            share = weights[i] * weights[j] / total**2
            slope -= 2 * tau * share * (gap[i] - gap[j]) * (scores[i] - scores[j])
    return slope.astype(float)


def _grid(generator) -> tuple[tuple[float, ...], np.ndarray, np.ndarray]:
    """Edges, and pairs of ratios (some on the edges) and advantages (some 0)."""
    low, high = generator.uniform(0.1, 0.3, 2)
    outer_low, outer_high = low + generator.uniform(0.1, 0.4), high + generator.uniform(0.5, 2)
    ratio = np.concatenate([
        [1 - low, 1 + high, 1 - outer_low, 1 + outer_high, 1.0, 0.0], generator.uniform(0, 4, 20)
    ])  # fmt: skip
    advantage = np.array([-1.0, 0.0, 1.0]) * generator.uniform(0.5, 2)
    pairs = np.meshgrid(ratio, advantage, indexing="ij")
    return (low, high, outer_low, outer_high), pairs[0], pairs[1]


def _masks(ratio, advantage, kind: str, edges) -> np.ndarray:
    """Token by token, in words."""
    low, high, outer_low, outer_high = edges
    found = np.zeros(ratio.shape, dtype=bool)
    for at in np.ndindex(ratio.shape):
        rho, gain = ratio[at], advantage[at]
        inside = 1 - low <= rho <= 1 + high
        if kind == "one side":
            found[at] = not ((gain > 0 and rho > 1 + high) or (gain < 0 and rho < 1 - low))
        elif kind == "two sides":
            found[at] = inside
        else:
            back = (gain >= 0 and rho <= 1 - outer_low) or (gain <= 0 and rho >= 1 + outer_high)
            found[at] = inside or back
    return found


def _loss(logs, advantage, lengths, which: int) -> float:
    sums = [-advantage[i] * math.fsum(logs[i, : lengths[i]].tolist()) for i in range(len(lengths))]
    if which == 0:
        return math.fsum(sums) / int(lengths.sum())
    if which == 1:
        return math.fsum(s / int(m) for s, m in zip(sums, lengths, strict=True)) / len(sums)
    return math.fsum(sums) / logs.size


def _limit(behaviour, rewards, shift: float) -> np.ndarray:
    """The level above which the target sticks out by 1 in all, by bisection."""
    middle = math.fsum((behaviour * rewards).tolist())
    gain = behaviour * (rewards - middle + shift)
    if shift == 0:
        return (np.arange(len(gain)) == int(gain.argmax())).astype(float)
    target = gain / shift
    low, high = float(target.min()) - 1, float(target.max())
    for _ in range(200):
        level = (low + high) / 2
        if np.maximum(target - level, 0).sum() > 1:
            low = level
        else:
            high = level
    return np.maximum(target - (low + high) / 2, 0)


def _two(p: float, group: int, shift: float) -> tuple[float, float]:
    first = second = 0.0
    for k in range(group + 1):
        chance = math.comb(group, k) * p**k * (1 - p) ** (group - k)
        square = k * (group - k) / group**2
        first += chance * math.sqrt(square)
        second += chance * square
    return first / second, 1.0 if shift <= p else p + p * (1 - p) / shift
