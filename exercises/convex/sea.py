"""Marks for the assignment 'between stochastic and adversarial'. Runs in the grader's process.

The references go game by game and round by round; the adversary is judged by playing against it,
the deck by all of its subsets.
`call` runs the student's function in the student's process.
"""

import itertools

import numpy as np

from mdtheory.course import agrees, award, fault, has_shape

POINTS = {
    "optimistic_descent": 4,
    "optimistic_newton": 5,
    "drift_terms": 4,
    "remaining_moments": 4,
    "beat_optimism": 3,
    "hard_deck": 3,
}
LEARNERS = [
    "mdtheory.convex.sea.optimistic",
    "mdtheory.convex.online_learning.OptimisticMirrorDescent",
]
FORBIDDEN = {
    "optimistic_descent": LEARNERS,
    "optimistic_newton": [*LEARNERS, "mdtheory.convex.mirror_maps.Mahalanobis"],
    "remaining_moments": ["random_order"],
}


def check_optimistic_descent(call, generator: np.random.Generator) -> float:
    """1 point each: far from the edge, cut off by it, batches, hints that are nearly right."""
    score = 0.0
    slow = generator.normal(0, 1, 3) + generator.normal(0, 0.01, (60, 3)).cumsum(0)
    edge, silent = generator.normal(0, 1, (30, 3)), generator.normal(0, 1, (9, 3))
    silent[[0, 4, 5]] = 0
    cases = [
        (((generator.normal(0, 1, (30, 3)), 5.0, 40.0),), "wrong in a ball whose edge is far"),
        (((edge, 0.7, 0.5), (edge[:, :1], 0.3, 2.0), (edge[:1], 1.0, 1.0), (silent, 1.0, 0.1)),
         "wrong where the edge is met"),
        (((generator.normal(0, 1, (15, 2, 3, 4)), 1.5, 2.0),), "wrong on a batch"),
        (((slow, 20.0, 1e-3),), "wrong where the gradients change slowly"),
    ]  # fmt: skip
    for games, words in cases:
        good = True
        for gradients, radius, delta in games:
            # G bounds the gradients; it need not be the longest of those that happen to come.
            bound = _longest(gradients) * generator.uniform(1.3, 3.0)
            answer = call("optimistic_descent", gradients, radius, bound, delta)
            reference = _descent(gradients, radius, bound, delta)
            good &= agrees(answer, reference, rtol=0, atol=1e-8 * radius)
        score += award(call, 1, good, words)
    return score


def check_optimistic_newton(call, generator: np.random.Generator) -> float:
    """1 point each: far from the edge; cut off by it in the plane and in space; batches; long."""
    score = 0.0
    drawn_out = generator.normal(0, 1, (30, 4)) * np.array([3.0, 1.0, 0.3, 0.03])
    long = generator.normal(0, 1, (60, 3)) * np.array([3.0, 0.3, 0.3]) + np.array([0, 0.3, 0.1])
    cases = [
        (generator.normal(0, 1, (25, 3)), 50.0, 0.4, "wrong in a ball whose edge is far"),
        (generator.normal(1, 1, (20, 2)), 0.1, 1.0, "wrong where the edge is met, in the plane"),
        (drawn_out, 0.02, 2.0, "wrong where the edge is met, in space"),
        (generator.normal(1, 1, (10, 2, 3, 3)), 0.1, 0.7, "wrong on a batch"),
        (long, 5e-4, 30.0, "wrong in a long game"),
    ]
    for number, (gradients, radius, beta, words) in enumerate(cases):
        # In the long game the edge is met only where the bound is tight.
        bound = _longest(gradients) * (1.0 if number in (2, 4) else generator.uniform(1.3, 2.0))
        answer = call("optimistic_newton", gradients, radius, bound, beta)
        reference = _newton(gradients, radius, bound, beta)
        good = agrees(answer, reference, rtol=0, atol=1e-6 * radius)
        if number == 0:  # a line, and gradients that are zero
            for few in (gradients[:7, :1], gradients[:6] * np.array([[0.0], [1]] * 3)):
                answer = call("optimistic_newton", few, 0.2, bound, beta)
                reference = _newton(few, 0.2, bound, beta)
                good &= agrees(answer, reference, rtol=0, atol=2e-7)
        score += award(call, 1, good, words)
    return score


def check_drift_terms(call, generator: np.random.Generator) -> float:
    """1 point each: the lemma's inequality, single games, batches, a single loss a round."""
    single, batch, alone = (
        (
            generator.normal(0, 1, (rounds, *shape, d)),
            generator.normal(0, 1, (rounds, *shape, n, d)),
            generator.normal(0, 1, (rounds, *shape, n)),
        )
        for rounds, shape, n, d in [(12, (), 5, 3), (7, (2, 3), 4, 2), (10, (), 1, 3)]
    )
    points, features, targets = (a.copy() for a in single)
    terms = _drift(points, features, targets)
    answer = call("drift_terms", points, features, targets)
    changes = _changes(points, features, targets)
    good = has_shape(answer, terms.shape)
    if good and not np.isfinite(answer).all():
        good = fault("its terms are not all finite")
    if good and (lack := float((changes - 4 * answer.sum(-1)).max())) > 1e-9 * changes.max():
        good = fault(f"by up to {lack:.1e}")
    words = "four times the sum of the terms is below the squared change"
    score = award(call, 1, good, words)
    score += award(call, 1, agrees(answer, terms, atol=1e-12), "wrong on single games")
    good = agrees(call("drift_terms", *batch), _drift(*batch), atol=1e-12)
    score += award(call, 1, good, "wrong on a batch")
    good = agrees(call("drift_terms", *alone), _drift(*alone), atol=1e-12)
    alone = [part[:2, ..., :1] for part in alone]  # two rounds, on a line
    good &= agrees(call("drift_terms", *alone), _drift(*alone), atol=1e-12)
    return score + award(call, 1, good, "wrong where a round has one loss only")


def check_remaining_moments(call, generator: np.random.Generator) -> float:
    """1 point each: variances, drifts, batches, gradients with a large common part."""
    gradients = generator.normal(0.5, 1, (12, 3))
    answer, reference = call("remaining_moments", gradients), _moments(gradients)
    score = 0.0
    for part, words in enumerate(["wrong variances", "wrong drifts"]):
        good = has_shape(answer, reference.shape)
        good = good and agrees(answer[..., part], reference[..., part], atol=1e-12)
        score += award(call, 1, good, words)
    gradients = generator.uniform(-1, 1, (9, 2, 3, 2))
    good = agrees(call("remaining_moments", gradients), _moments(gradients), atol=1e-12)
    score += award(call, 1, good, "wrong on a batch")
    good = True
    for few in (gradients[:1, 0, 0], gradients[:2, 0, 0, :1], np.ones((3, 2))):
        good &= agrees(call("remaining_moments", few), _moments(few), atol=1e-12)
    gradients = generator.uniform(-0.5, 0.5, (60, 3)) + np.array([8e6, -5e6, 3e6])
    answer = call("remaining_moments", gradients)
    good &= agrees(answer, _moments(gradients), rtol=1e-5, atol=1e-12)
    words = "wrong on short or constant streams, or loses its digits where all gradients are large"
    return score + award(call, 1, good, words)


def check_beat_optimism(call, generator: np.random.Generator) -> float:
    """1 point each for even, odd and long games."""
    score = 0.0
    even, odd = 2 * int(generator.integers(10, 20)), 2 * int(generator.integers(30, 50)) + 1
    for games in ((even, 20), (odd, 21), (1000,)):
        good = True
        for rounds in games:
            gradients = call("beat_optimism", rounds)
            good &= has_shape(gradients, (rounds,)) and _beats_optimism(gradients)
        words = f"optimism does not lose enough in {games[0]} rounds or others"
        score += award(call, 1, good, words)
    return score


def check_hard_deck(call, generator: np.random.Generator) -> float:
    """1 point each: the smallest decks, middle ones, the largest."""
    score = 0.0
    for sizes in generator.permuted([[6, 7], [8, 9], [10, 10]], axis=1):
        good = True
        for losses in sorted(set(sizes.tolist())):
            good &= _is_hard(call("hard_deck", losses), losses)
        score += award(call, 1, good, f"the deck of {sizes.min()} losses, or more, is not hard")
    return score


def _longest(gradients: np.ndarray) -> float:
    return float(np.linalg.norm(gradients, axis=-1).max())


def _each_game(function, gradients: np.ndarray) -> np.ndarray:
    result = np.empty_like(gradients)
    for index in np.ndindex(gradients.shape[1:-1]):
        game = (slice(None), *index)
        result[game] = function(gradients[game])
    return result


def _descent(gradients: np.ndarray, radius: float, bound: float, delta: float) -> np.ndarray:
    def project(point):
        return point / max(1.0, float(np.linalg.norm(point)) / radius)

    def one(game):
        anchor = hint = np.zeros(game.shape[-1])
        played, variation = [], 0.0
        for gradient in game:
            step = 2 * radius / np.sqrt(delta + 4 * bound**2 + variation)
            played.append(project(anchor - step * hint))
            anchor = project(anchor - step * gradient)
            variation += float((gradient - hint) @ (gradient - hint))
            hint = gradient
        return played

    return _each_game(one, gradients)


def _newton(gradients: np.ndarray, radius: float, bound: float, beta: float) -> np.ndarray:
    """Each projection by Newton's method on its multiplier, with linear systems: no eigenvectors.

    The reciprocal of the length is nearly linear in the multiplier, and concave, so from zero
    Newton's method does not overshoot.
    """
    eye = np.eye(gradients.shape[-1])

    def project(matrix, dual):
        multiplier = 0.0
        for _ in range(100):
            point = np.linalg.solve(matrix + multiplier * eye, dual)
            length = np.linalg.norm(point)
            if length <= radius * (1 + 1e-13):
                break
            slope = point @ np.linalg.solve(matrix + multiplier * eye, point)
            multiplier += (length / radius - 1) * length**2 / slope
        return point

    def one(game):
        anchor = hint = np.zeros(game.shape[-1])
        played, matrix = [], (1 + beta * bound**2) * eye
        for gradient in game:
            played.append(project(matrix, matrix @ anchor - hint))
            anchor = project(matrix, matrix @ anchor - gradient)
            matrix = matrix + beta / 2 * np.outer(gradient, gradient)
            hint = gradient
        return played

    return _each_game(one, gradients)


def _gradients(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the first of a round's losses, and of their mean, by the normal equations."""
    drawn = a[0] * (a[0] @ x - b[0])
    return drawn, (a.T @ a @ x - a.T @ b) / len(b)


def _drift(points: np.ndarray, features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    terms = np.empty((len(points) - 1, *points.shape[1:-1], 4))
    for t, *index in np.ndindex(terms.shape[:-1]):
        now, before = (t + 1, *index), (t, *index)
        drawn, mean = _gradients(points[now], features[now], targets[now])
        _, old = _gradients(points[now], features[before], targets[before])
        old_drawn, old_mean = _gradients(points[before], features[before], targets[before])
        parts = np.array([drawn - mean, mean - old, old - old_mean, old_mean - old_drawn])
        terms[before] = (parts**2).sum(-1)
    return terms


def _changes(points: np.ndarray, features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The squared lengths of g_t - g_{t-1}, single games."""
    rounds = zip(points, features, targets, strict=True)
    drawn = np.array([_gradients(x, a, b)[0] for x, a, b in rounds])
    return (np.diff(drawn, axis=0) ** 2).sum(-1)


def _moments(gradients: np.ndarray) -> np.ndarray:
    """From their definition, as seen from the first gradient: that difference is exact."""
    seen = gradients - gradients[0]
    moments = np.zeros((*gradients.shape[:-1], 2))
    for t in range(len(seen)):
        mean = seen[t:].mean(0)
        moments[t, ..., 0] = ((seen[t:] - mean) ** 2).sum(-1).mean(0)
        if t:
            moments[t, ..., 1] = ((mean - seen[t - 1 :].mean(0)) ** 2).sum(-1)
    return moments


def _lead_of_plain_descent(gradients: np.ndarray) -> float:
    """How much more the optimistic learner suffers; the best point in hindsight is the same."""
    plain = anchor = hint = variation = lead = 0.0
    for t, gradient in enumerate(gradients.tolist(), start=1):
        step = 2 / np.sqrt(4 + variation)
        lead += gradient * (_cut(anchor - step * hint) - plain)
        anchor = _cut(anchor - step * gradient)
        plain = _cut(plain - 2 / np.sqrt(t) * gradient)
        variation += (gradient - hint) ** 2
        hint = gradient
    return float(lead)


def _beats_optimism(gradients: np.ndarray) -> bool:
    if not (abs(gradients) <= 1).all():
        return fault("gradients are outside of -1 to 1")
    lead, least = _lead_of_plain_descent(gradients), np.sqrt(len(gradients)) / 2
    return lead >= least - 1e-9 or fault(f"the regrets differ by {lead:g}, not by {least:g}")


def _cut(x: float) -> float:
    return min(1.0, max(-1.0, x))


def _is_hard(answer: np.ndarray, losses: int) -> bool:
    """Whether the sum over all sizes of the mean of v over all subsets is above 1.1 n s^2."""
    if answer.ndim != 2 or len(answer) != losses or not 1 <= answer.shape[1] <= 20:
        return fault(f"its shape is {answer.shape}, not ({losses}, k) with k from 1 to 20")
    if not np.isfinite(answer).all() or np.abs(answer).max() > 10:
        return fault("an entry is outside of -10 to 10")
    spread = answer.var(axis=0).max()
    total = 0.0
    for left in range(1, losses + 1):
        sets = [list(s) for s in itertools.combinations(range(losses), left)]
        total += answer[sets].var(axis=1).max(axis=1).mean()
    if not total > 1.1 * losses * spread:
        return fault(f"the expected sum is {total:.4g} where n s^2 is {losses * spread:.4g}")
    return True
