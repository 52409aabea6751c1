"""Marks for the assignment 'online preference optimisation'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one game after the other, sums over all
pairs and both labels, the chain rule of the softmax written out. `call` runs the student's function
in the student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award, has_shape

POINTS = {
    "pair_losses": 3,
    "online_gradient": 4,
    "mixture_gradient": 4,
    "offline_optimum": 3,
    "dpo_residual": 4,
    "estimator_variances": 4,
}
GAME = "mdtheory.nlhf.nash_md"
EXPECTED = ["expected_loss", "ipo_md_loss"]
GRADIENTS = [
    "ipo_gradient",
    "online_ipo_gradient",
    "ipo_md_gradient",
    "response_gradient",
    "score_gradient",
    *EXPECTED,
]
FORBIDDEN = {
    "pair_losses": ["ipo_loss", "ipo_contrast_loss", "log_ratio_margin"],
    "online_gradient": GRADIENTS,
    "mixture_gradient": GRADIENTS,
    "offline_optimum": [
        f"{GAME}.best_response",
        f"{GAME}.PreferenceGame.best_response",
        f"{GAME}.magnetic_step",
        f"{GAME}.PreferenceGame.step",
        "newton_iterates",
        *GRADIENTS,
    ],
    "dpo_residual": ["dpo_gradient", *EXPECTED],
    "estimator_variances": ["contrastive_variance"],
}


def check_pair_losses(call, generator: np.random.Generator) -> float:
    """1 point each: a few pairs, a table of pairs, long texts."""
    score = 0.0
    cases = [
        (((7,), ()), 3.0, 1e-9, "wrong on a few pairs"),
        (((2, 3, 4),), 3.0, 1e-9, "wrong on a table of pairs"),
        (((5,),), 3000.0, 1e-8, "wrong where texts are long"),
    ]
    for shapes, size, tolerance, words in cases:
        good = True
        for shape in shapes:
            parts = np.asarray(-size * generator.uniform(0.5, 1.5, (4, *shape)))
            chosen, rejected, ref_chosen, ref_rejected = map(np.asarray, parts)
            some = float(generator.uniform(0.1, 2))
            for tau in (some, 1e-3) if size < 10 else (some,):
                answer = call("pair_losses", chosen, rejected, ref_chosen, ref_rejected, tau)
                reference = (chosen - rejected - ref_chosen + ref_rejected - 0.5 / tau) ** 2
                # Where the margin is nearly met, the square has only the digits of its parts.
                good &= agrees(answer, reference, rtol=tolerance, atol=1e-9 if size < 10 else 1e-5)
        score += award(call, 1, good, words)
    return score


def check_online_gradient(call, generator: np.random.Generator) -> float:
    """1 point each: one game, a cold game, batches, very small probabilities."""
    score = 0.0
    cases = [
        ((), 4, 1.0, (0.5, 2), "wrong on a single game"),
        ((), 5, 1.0, (0.02, 0.05), "wrong at a low temperature"),
        ((3, 2), 3, 1.0, (0.1, 1), "wrong on a batch"),
        ((), 300, 1.0, (0.1, 1), "wrong where probabilities are very small"),
    ]
    for batch, n, size, (low, high), words in cases:
        preference, (policy, base) = _game(generator, batch, n, (size, 1.0))
        if n == 300:
            # Six answers that matter, and a long tail.
            tail = generator.uniform(-690, -1, n - 6)
            policy = _normal(np.concatenate([policy[:6] - policy[:6].max(), tail]))
        tau = float(generator.uniform(low, high))
        answer = call("online_gradient", preference, policy, base, tau)
        reference = _each(_ipo_slope, preference, policy, base, policy, numbers=(tau,))
        largest = np.abs(reference).max()
        good = agrees(answer, reference, rtol=1e-9, atol=1e-11 * largest)
        if n == 4:  # sure preferences, and two answers
            sure = np.triu(np.ones((4, 4)), 1) + np.eye(4) / 2
            sure[0, 3], sure[3, 0] = 0, 1
            for k in (4, 2):
                laws = _normal(policy[:k]), _normal(base[:k])
                answer = call("online_gradient", sure[:k, :k], *laws, tau)
                reference = _ipo_slope(sure[:k, :k], *laws, laws[0], (tau,))
                good &= agrees(answer, reference, rtol=1e-9, atol=1e-11)
        score += award(call, 1, good, words)
    return score


def check_mixture_gradient(call, generator: np.random.Generator) -> float:
    """1 point each: a small weight, a large one, the reference alone, batches."""
    score = 0.0
    cases = [
        ((), 4, (0.1, 0.2), "wrong for a small weight"),
        ((), 5, (0.7, 0.9), "wrong for a large weight"),
        ((), 4, (1.0, 1.0), "wrong where the reference alone samples"),
        ((3, 2), 3, (0.2, 0.3), "wrong on a batch"),
    ]
    for batch, n, (low, high), words in cases:
        preference, (policy, base) = _game(generator, batch, n, (1.5, 1.0))
        tau, weight = float(generator.uniform(0.2, 1)), float(generator.uniform(low, high))
        law = _normal((1 - weight) * policy + weight * base)
        answer = call("mixture_gradient", preference, policy, base, tau, weight)
        reference = _each(_ipo_slope, preference, policy, base, law, numbers=(tau,))
        good = agrees(answer, reference, rtol=1e-10, atol=1e-10)
        score += award(call, 1, good, words)
    return score


def check_offline_optimum(call, generator: np.random.Generator) -> float:
    """1 point each: one game, batches, a very low temperature."""
    score = 0.0
    cases = [
        ((), 4, (0.1, 1), "wrong on a single game"),
        ((2, 3), 5, (0.1, 1), "wrong on a batch"),
        ((), 4, (1e-3, 1e-3), "wrong at a very low temperature"),
    ]
    for batch, n, (low, high), words in cases:
        preference, (law, base) = _game(generator, batch, n, (1.0, 1.0))
        tau = float(generator.uniform(low, high))
        answer = call("offline_optimum", preference, base, tau, law)
        reference = _each(_regression, preference, base, law, numbers=(tau,))
        good = agrees(answer, reference, rtol=1e-7, atol=1e-7)
        score += award(call, 1, good, words)
    return score


def check_dpo_residual(call, generator: np.random.Generator) -> float:
    """1 point each: a random policy, the equilibrium, the policy of a reward, batches."""
    preference, (policy, base) = _game(generator, (), 4, (1.5, 1.0))
    tau = float(generator.uniform(0.3, 1))
    answer = call("dpo_residual", preference, policy, base, tau)
    reference = _residual(preference, policy, base, (tau,))
    good = agrees(answer, reference, rtol=1e-9, atol=1e-11)
    score = award(call, 1, good, "wrong for a random policy")
    policy = _nash(preference, base, 0.6)
    answer = call("dpo_residual", preference, policy, base, 0.6)
    reference = _residual(preference, policy, base, (0.6,))
    good = agrees(answer, reference, rtol=1e-9, atol=1e-11)
    score += award(call, 1, good, "wrong at the regularised Nash equilibrium")
    reward = generator.normal(size=5)
    scored = 1 / (1 + np.exp(-(reward[:, None] - reward[None, :])))
    base = _normal(generator.normal(size=5))
    policy = _normal(base + reward / tau)
    answer = call("dpo_residual", scored, policy, base, tau)
    good = agrees(answer, np.zeros(5), rtol=0, atol=1e-10)
    score += award(call, 1, good, "not zero at the policy of the reward")
    preference, (policy, base) = _game(generator, (3, 2), 3, (1.5, 1.0))
    answer = call("dpo_residual", preference, policy, base, tau)
    reference = _each(_residual, preference, policy, base, numbers=(tau,))
    good = agrees(answer, reference, rtol=1e-9, atol=1e-11)
    return score + award(call, 1, good, "wrong on a batch")


def check_estimator_variances(call, generator: np.random.Generator) -> float:
    """1 point each: the one score, both scores, two answers, batches."""
    preference, (policy, base) = _game(generator, (), 5, (1.0, 1.0))
    tau = float(generator.uniform(0.1, 1))
    answer = call("estimator_variances", preference, policy, base, tau)
    reference = _variances(preference, policy, base, (tau,))
    score = 0.0
    for part, words in ((slice(1), "one score"), (slice(1, 2), "both scores")):
        good = has_shape(answer, (2,))
        good = good and agrees(answer[part], reference[part], rtol=1e-8, atol=1e-11)
        score += award(call, 1, good, f"wrong for {words}")
    good = True
    for n in (2, 8):
        preference, (policy, base) = _game(generator, (), n, (1.0, 1.0))
        answer = call("estimator_variances", preference, policy, base, tau)
        reference = _variances(preference, policy, base, (tau,))
        good &= agrees(answer, reference, rtol=1e-8, atol=1e-11)
    score += award(call, 1, good, "wrong with two answers or eight")
    preference, (policy, base) = _game(generator, (2, 3), 3, (1.0, 1.0))
    answer = call("estimator_variances", preference, policy, base, tau)
    reference = _each(_variances, preference, policy, base, numbers=(tau,))
    good = agrees(answer, reference, rtol=1e-8, atol=1e-11)
    return score + award(call, 1, good, "wrong on a batch")


def _normal(logits: np.ndarray) -> np.ndarray:
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def _game(generator, batch: tuple, n: int, sizes: tuple):
    """Preferences with cycles, and policies of the sizes."""
    raw = generator.uniform(0, 1, (*batch, n, n))
    preference = (raw + 1 - np.swapaxes(raw, -1, -2)) / 2
    laws = [_normal(size * generator.normal(size=(*batch, n))) for size in sizes]
    return preference, laws


def _each(function, preference, *laws, numbers: tuple) -> np.ndarray:
    """One game after the other."""
    batch = preference.shape[:-2]
    results = [
        function(preference[i], *(law[i] for law in laws), numbers) for i in np.ndindex(batch)
    ]
    return np.array(results).reshape(*batch, *np.shape(results[0]))


def _ipo_slope(preference, policy, base, law, numbers) -> np.ndarray:
    """Derivatives of the sum over pairs and labels, then the chain rule of the softmax."""
    (tau,) = numbers
    ratio, share, n = policy - base, np.exp(law), len(policy)
    by_ratio = np.zeros(n)
    for y in range(n):
        h = ratio[y] - ratio
        won = preference[y] * 2 * (h - 0.5 / tau)
        lost = (1 - preference[y]) * 2 * (-h - 0.5 / tau)
        force = share[y] * share * (won - lost)
        by_ratio[y] += math.fsum(force)
        by_ratio -= force
    return by_ratio - np.exp(policy) * math.fsum(by_ratio)


def _regression(preference, base, law, numbers) -> np.ndarray:
    """Weighted least squares of the labels on the margins."""
    (tau,) = numbers
    n, share = len(base), np.exp(law)
    rows, columns = np.triu_indices(n, 1)
    design = np.eye(n)[rows] - np.eye(n)[columns]
    weight = np.sqrt(share[rows] * share[columns])
    target = weight * (preference[rows, columns] - 0.5)
    ratio = np.linalg.lstsq(weight[:, None] * design, target, rcond=None)[0]
    return _normal(base + ratio / tau)


def _residual(preference, policy, base, numbers) -> np.ndarray:
    (tau,) = numbers
    n = len(policy)
    reward = tau * (policy - base)
    return np.array(
        [
            math.fsum(
                math.exp(policy[z]) * (preference[y, z] - 1 / (1 + math.exp(reward[z] - reward[y])))
                for z in range(n)
            )
            for y in range(n)
        ]
    )


def _nash(preference, base, tau: float) -> np.ndarray:
    """The equilibrium, by averaging best responses."""
    policy = base
    for _ in range(3000):
        answer = base + preference @ np.exp(policy) / tau
        policy = _normal(0.9 * policy + 0.1 * answer)
    return policy


def _variances(preference, policy, base, numbers) -> np.ndarray:
    """Moments over all pairs, one by one."""
    (tau,) = numbers
    n, share, ratio = len(policy), np.exp(policy), tau * (policy - base)
    first, second, squares = np.zeros(n), np.zeros(n), np.zeros(2)
    for y in range(n):
        for z in range(n):
            force = preference[y, z] - 0.5 - ratio[y] + ratio[z]
            one = (np.eye(n)[y] - share) * force
            both = (np.eye(n)[y] - np.eye(n)[z]) / 2 * force
            weight = share[y] * share[z]
            first, second = first + weight * one, second + weight * both
            squares += weight * np.array([one @ one, both @ both])
    return squares - np.array([first @ first, second @ second])
