"""Marks for the assignment 'Decision-time planning'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one game after the other, sums over all
plays, contributions from the values of what is played, the threshold by bisection on the return,
posteriors by counting deals, steps in long arithmetic. `call` runs the student's function in the
student's process.
"""

import itertools
import math

import numpy as np

from mdtheory.course import agrees, award

POINTS = {
    "reply_values": 3,
    "account": 4,
    "longest_step": 3,
    "sampled_values": 3,
    "after_a_draw": 4,
    "magnetic_policy": 3,
}
SEARCH = ["exact_search_policy", "mirror_descent_search", "magnetic_search"]
FORBIDDEN = {
    "reply_values": ["TinyHanabi", "CommonPayoffGame"],
    "account": [*SEARCH, "CommonPayoffGame", "bounds.search_gain"],
    "longest_step": [*SEARCH, "safe_step"],
    "sampled_values": ["sampled_action_values", "TinyHanabi"],
    "after_a_draw": ["Belief"],
    "magnetic_policy": [
        *SEARCH,
        "mdtheory.convex.mirror_maps.dual_step",
        "mdtheory.convex.mirror_maps.entropy_step",
        "mdtheory.convex.mirror_maps.mirror_step",
    ],
}


def check_reply_values(call, generator: np.random.Generator) -> float:
    """1 point each: single games, cards or actions that do not come, batches."""
    score, good = 0.0, True
    for shape in ((2, 2, 2, 2), (3, 4, 2, 5), (1, 2, 3, 2)):
        game = _game(generator, *shape)
        good = agrees(call("reply_values", *game), _reply(*game), rtol=1e-9, atol=1e-12) and good
    score += award(call, 1, good, "wrong on a single game")
    good = True
    for k in range(2):
        prior, first, payoff = _game(generator, 3, 3, 3, 2)
        if k:
            first[:, 1] = 0.0
            first /= first.sum(-1, keepdims=True)
        else:
            prior[1] = 0.0
            prior[:, 2] = 0.0
            prior /= prior.sum()
        right = _reply(prior, first, payoff)
        answer = call("reply_values", prior, first, payoff)
        good = agrees(answer, right, rtol=1e-9, atol=1e-12) and good
    score += award(call, 1, good, "wrong where a card or an action does not come")
    games = [[_game(generator, 2, 3, 2, 2) for _ in range(3)] for _ in range(2)]
    stacked = [np.array([[game[k] for game in row] for row in games]) for k in range(3)]
    right = np.array([[_reply(*game) for game in row] for row in games])
    good = agrees(call("reply_values", *stacked), right, rtol=1e-9, atol=1e-12)
    return score + award(call, 1, good, "wrong on a batch")


def check_account(call, generator: np.random.Generator) -> float:
    """1 point each: the first entry, the second one, short and long steps, batches."""
    kept = []
    for step in (0.5, 3.0):
        case = _twice(generator, 3, 2)
        kept.append((call("account", *case, step), _account(*case, step)))
    score = 0.0
    for k, words in enumerate(("the first contribution is wrong", "the second one is wrong")):
        good = all(_part(answer, right, k) for answer, right in kept)
        score += award(call, 1, good, words)
    good = True
    for step in (1e-3, 40.0):
        case = _twice(generator, 2, 4)
        answer, right = call("account", *case, step), _account(*case, step)
        good = agrees(answer, right, rtol=1e-6, atol=1e-12) and good
    score += award(call, 1, good, "wrong for a very short or a very long step")
    cases = [[_twice(generator, 2, 3) for _ in range(3)] for _ in range(2)]
    stacked = [np.array([[case[k] for case in row] for row in cases]) for k in range(3)]
    right = np.array([[_account(*case, 2.0) for case in row] for row in cases])
    good = agrees(call("account", *stacked, 2.0), right, rtol=1e-7, atol=1e-11)
    return score + award(call, 1, good, "wrong on a batch")


def check_longest_step(call, generator: np.random.Generator) -> float:
    """1 point each: single games where differing pays, games without a limit, extreme starts."""
    good = True
    for _ in range(4):
        same = float(generator.normal())
        different = same + float(generator.uniform(0.3, 4))
        w = float(generator.choice([-1, 1]) * generator.uniform(0.2, 6))
        right = np.array(_threshold(same, different, w))
        answer = call("longest_step", np.array(same), np.array(different), np.array(w))
        good = agrees(answer, right, rtol=1e-6) and good
    score = award(call, 1, good, "wrong on a single game in which differing pays")
    same = np.array([[1.0, 0.5, 0.0], [2.0, -1.0, 3.0]])
    different = np.array([[0.0, 0.5, 1.0], [2.0, 0.0, 1.0]])
    w = np.array([[1.3, 2.0, 0.0], [-0.7, 0.0, -4.0]])
    answer = call("longest_step", same, different, w)
    right = np.full((2, 3), math.inf)
    score += award(call, 1, agrees(answer, right), "wrong where no step makes the payoff fall")
    w = np.array([1e-9, -1e-6, 40.0, -1000.0, 1000.0])
    reward = generator.uniform(0.5, 3, 5)
    slope = np.array([w[0] / 2, w[1] / 2, 1.0, -1.0, 1.0])
    answer = call("longest_step", np.zeros(5), reward, w)
    good = agrees(answer, 2 * w / (reward * slope), rtol=1e-8)
    return score + award(call, 1, good, "wrong for logits near 0, or large ones")


def check_sampled_values(call, generator: np.random.Generator) -> float:
    """1 point each: single searches, laws with zeros and numbers at their edges, batches."""
    score, good = 0.0, True
    for y, a, b, m in ((2, 2, 2, 1), (3, 2, 4, 50), (4, 3, 2, 7)):
        payoff, second = generator.normal(size=(y, a, b)), _laws(generator, (y, a, b))
        cards, v = generator.integers(0, y, m), generator.uniform(0, 1, m)
        right = _sampled(payoff, second, cards, v)
        answer = call("sampled_values", payoff, second, cards, v)
        good = agrees(answer, right, rtol=1e-9, atol=1e-12) and good
    score += award(call, 1, good, "wrong on a single search")
    payoff = generator.normal(size=(2, 2, 4))
    second = np.array([[[0.0, 0.25, 0.5, 0.25], [0.5, 0.0, 0.5, 0.0]],
                       [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]])  # fmt: skip
    cards, v = np.array([0, 0, 0, 0, 1, 1, 0]), np.array([0.0, 0.25, 0.75, 0.5, 0.0, 0.9, 0.125])
    answer = call("sampled_values", payoff, second, cards, v)
    good = agrees(answer, _sampled(payoff, second, cards, v), rtol=1e-9, atol=1e-12)
    score += award(call, 1, good, "wrong where probabilities are 0, or at the edge of a reply")
    payoff, second = generator.normal(size=(3, 2, 3)), _laws(generator, (3, 2, 3))
    cards, v = generator.integers(0, 3, (2, 3, 9)), generator.uniform(0, 1, (2, 3, 9))
    right = [[_sampled(payoff, second, cards[i, j], v[i, j]) for j in range(3)] for i in range(2)]
    answer = call("sampled_values", payoff, second, cards, v)
    good = agrees(answer, np.array(right), rtol=1e-9, atol=1e-12)
    return score + award(call, 1, good, "wrong on a batch")


def check_after_a_draw(call, generator: np.random.Generator) -> float:
    """1 point each: my draw, my partner's, the last copies of a kind, batches."""
    score = 0.0
    for mine, words in ((True, "wrong after my draw"), (False, "wrong after my partner's draw")):
        good = True
        for kinds in (2, 4):
            case = _hand(generator, kinds, mine)
            right = _after(*case, mine)
            good = agrees(call("after_a_draw", *case, mine), right, rtol=1e-9, atol=1e-12) and good
        score += award(call, 1, good, words)
    good = True
    for mine in (True, False):
        case = _hand(generator, 3, mine, few=True)
        right = _after(*case, mine)
        good = agrees(call("after_a_draw", *case, mine), right, rtol=1e-9, atol=1e-12) and good
    score += award(call, 1, good, "wrong where few copies are left")
    good = True
    for mine in (True, False):
        cases = [[_hand(generator, 3, mine, card=1) for _ in range(3)] for _ in range(2)]
        law = np.array([[case[0] for case in row] for row in cases])
        unseen = np.array([[case[1] for case in row] for row in cases])
        right = np.array([[_after(*case, mine) for case in row] for row in cases])
        answer = call("after_a_draw", law, unseen, 1, mine)
        good = agrees(answer, right, rtol=1e-9, atol=1e-12) and good
    return score + award(call, 1, good, "wrong on a batch")


def check_magnetic_policy(call, generator: np.random.Generator) -> float:
    """1 point each: single steps with and without a magnet, zeros and endless steps, batches."""
    score, good = 0.0, True
    for step, temperature in ((0.7, 0.0), (2.0, 0.3), (5.0, 4.0)):
        case = _laws(generator, 4), generator.normal(size=4), _laws(generator, 4)
        answer = call("magnetic_policy", *case, step, temperature)
        good = agrees(answer, _magnetic(*case, step, temperature), rtol=1e-8, atol=1e-13) and good
    score += award(call, 1, good, "wrong on a single step")
    good = True
    policy, magnet = _laws(generator, 5), _laws(generator, 5)
    policy[[1, 4]] = 0.0
    policy /= policy.sum()
    values = generator.normal(size=5)
    values[1] = 20.0
    large = 1e6 + generator.integers(-3, 4, 5).astype(float)
    for v, step, temperature in (
        (values, 3.0, 0.0), (values, 1.0, 0.5), (values, math.inf, 0.8), (large, 1.0, 0.2),
        (large, math.inf, 2.0),
    ):  # fmt: skip
        answer = call("magnetic_policy", policy, v, magnet, step, temperature)
        right = _magnetic(policy, v, magnet, step, temperature)
        good = agrees(answer, right, rtol=1e-6, atol=1e-9) and good
    score += award(call, 1, good, "wrong for zeros, large values, or an infinite step")
    size = (2, 3, 3)
    case = _laws(generator, size), generator.normal(size=size), _laws(generator, size)
    right = np.array([[_magnetic(*(part[i, j] for part in case), 1.5, 0.4) for j in range(3)]
                      for i in range(2)])  # fmt: skip
    good = agrees(call("magnetic_policy", *case, 1.5, 0.4), right, rtol=1e-8, atol=1e-13)
    return score + award(call, 1, good, "wrong on a batch")


def _laws(generator, shape) -> np.ndarray:
    """Laws over the last axis, none of their entries too small."""
    drawn = generator.gamma(1.5, size=shape) + 0.05
    return drawn / drawn.sum(-1, keepdims=True)


def _game(generator, x, y, a, b) -> tuple[np.ndarray, ...]:
    prior = _laws(generator, x * y).reshape(x, y)
    return prior, _laws(generator, (x, a)), generator.normal(size=(x, y, a, b))


def _reply(prior, first, payoff) -> np.ndarray:
    """Reply by reply, over the cards that the first may hold."""
    cards, y, a, b = payoff.shape
    found = np.zeros((y, a, b))
    for j, i, k in itertools.product(range(y), range(a), range(b)):
        weight = [prior[x, j] * first[x, i] for x in range(cards)]
        if math.fsum(weight) > 0:
            worth = math.fsum(w * payoff[x, j, i, k] for x, w in enumerate(weight))
            found[j, i, k] = worth / math.fsum(weight)
    return found


def _twice(generator, a, b) -> tuple[np.ndarray, ...]:
    return _laws(generator, a), _laws(generator, (a, b)), generator.uniform(-1, 1, (a, b))


def _tilted(law, values, step) -> np.ndarray:
    weight = np.exp(step * (values - values.max()))
    return law * weight / (law * weight).sum()


def _account(first, second, payoff, step) -> list[float]:
    """What each decision adds to the value, by playing: no divergence is used."""
    values = [math.fsum(p * u for p, u in zip(*pair, strict=True))
              for pair in zip(second, payoff, strict=True)]  # fmt: skip
    values = np.array(values)
    one = _tilted(first, values, step)
    early = math.fsum((one - first) * values)
    late = 0.0
    for a, law in enumerate(second):
        late += one[a] * math.fsum((_tilted(law, payoff[a], step) - law) * payoff[a])
    return [early, late]


def _part(answer, right, k) -> bool:
    whole = getattr(answer, "shape", None) == (2,)
    return whole and agrees(np.array(answer[k]), np.array(right[k]), rtol=1e-7, atol=1e-11)


def _threshold(same, different, w) -> float:
    """Bisection on whether the searched pair is worth less than the blueprint's."""

    def worth(logit) -> float:
        p = 1 / (1 + math.exp(-logit))
        return same * (p * p + (1 - p) ** 2) + different * 2 * p * (1 - p)

    p = 1 / (1 + math.exp(-w))
    slope = p * same + (1 - p) * different - ((1 - p) * same + p * different)
    low, high = 0.0, 1.0
    while worth(w + high * slope) > worth(w):
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        better = worth(w + middle * slope) > worth(w)
        low, high = (middle, high) if better else (low, middle)
    return low


def _sampled(payoff, second, cards, uniforms) -> np.ndarray:
    total = np.zeros(payoff.shape[1])
    for card, v in zip(cards, uniforms, strict=True):
        for a in range(payoff.shape[1]):
            below = 0.0
            for b, p in enumerate(second[card, a]):
                below += p
                if below > v or b == payoff.shape[2] - 1:
                    total[a] += payoff[card, a, b]
                    break
    return total / len(cards)


def _hand(generator, kinds, mine, few=False, card=None) -> tuple[np.ndarray, np.ndarray, int]:
    """A belief, the counts after the draw, and the kind of the card; one that can be so."""
    unseen = generator.integers(1, 4 if few else 6, kinds) + (0 if few else 1)
    if few:
        unseen[generator.integers(kinds)] = 1
        unseen[generator.integers(kinds)] += 2
    chosen = int(generator.integers(kinds)) if card is None else card
    # Before: with the card that has been seen since.
    before = unseen.copy()
    before[chosen] += 1
    pairs = before[:, None] * (before[None] - np.eye(kinds, dtype=int))
    law = np.where(pairs > 0, generator.uniform(0.1, 1, (kinds, kinds)), 0.0)
    return law / law.sum(), unseen, chosen


def _after(law, unseen, card, mine) -> np.ndarray:
    """Hand by hand and card by card of the deck."""
    kinds = len(unseen)
    found = np.zeros((kinds, kinds))
    for i, j in itertools.product(range(kinds), repeat=2):
        deck = unseen.tolist()
        if mine:  # i is new, j was there
            deck[j] -= 1
            found[i, j] = law[card, j] * max(deck[i], 0)
        else:
            deck[card] += 1
            deck[i] -= 1
            deck[j] -= 1
            found[i, j] = law[i, j] * max(deck[card], 0)
    return found / found.sum()


def _magnetic(policy, values, magnet, step, temperature) -> np.ndarray:
    exact = [np.asarray(part, dtype=np.longdouble) for part in (policy, values, magnet)]
    found = np.zeros(len(policy), dtype=np.longdouble)
    legal = policy > 0
    law, q, pull = (part[legal] for part in exact)
    if math.isinf(step):
        logs = q / temperature + np.log(pull)
    else:
        held = np.longdouble(step) * np.longdouble(temperature)
        logs = (np.log(law) + step * q + held * np.log(pull)) / (1 + held)
    power = np.exp(logs - logs.max())
    found[legal] = power / power.sum()
    return found.astype(float)
