"""Marks for the assignment 'policy mirror descent'. Runs in the grader's process.

The references are on purpose unlike the solutions: NumPy, one process after the other, inverses by
adding up powers of matrices, value iteration, bisection. `call` runs the student's function in the
student's process.
"""

import math

import numpy as np

from mdtheory.course import agrees, award, has_shape

POINTS = {
    "action_values": 3,
    "gain_by_state": 4,
    "natural_gradient_run": 4,
    "projected_run": 3,
    "growing_steps_bound": 4,
    "episodic_values": 4,
}
RUNS = [
    "policy_mirror_descent",
    "policy_iterates",
    "natural_policy_gradient",
    "projected_q_ascent",
    "adaptive_trust_region",
    "soft_policy_iteration",
]
PLANNERS = [
    "policy_iteration",
    "value_iteration",
    "modified_policy_iteration",
    "linear_program",
]
FORBIDDEN = {
    "action_values": ["values", *RUNS],
    "gain_by_state": ["values"],
    "natural_gradient_run": ["values", *RUNS],
    "projected_run": ["values", *RUNS, "mdtheory.convex.mirror_maps.Simplex"],
    "growing_steps_bound": ["bounds.linear_rate", "values", *PLANNERS],
    "episodic_values": ["from_gymnasium", *PLANNERS],
}


def check_action_values(call, generator: np.random.Generator) -> float:
    """1 point each: single processes, batches, a very long horizon."""
    score = 0.0
    cases = [
        ((), 0.8, "wrong on a single process"),
        ((2, 3), 0.9, "wrong on a batch"),
        ((), 0.9999, "wrong or not exact where the horizon is long"),
    ]
    for batch, discount, words in cases:
        transition, reward = _process(generator, batch, 4, 3)
        policy = generator.dirichlet(np.ones(3), (*batch, 4))
        answer = call("action_values", transition, reward, discount, policy)
        reference = _each(_action_values, discount, transition, reward, policy)
        good = agrees(answer, reference, rtol=1e-8)
        if discount == 0.8:  # sure actions; rewards of both signs, no future; one state
            sure = np.eye(3)[generator.integers(0, 3, 4)]
            one = np.ones((1, 3, 1)), reward[:1] - 0.5, policy[:1]
            cases = [(0.8, transition, reward - 0.5, sure), (0.0, transition, reward, policy)]
            for gamma, *process in [*cases, (0.6, *one)]:
                answer = call("action_values", *process[:2], gamma, process[2])
                reference = _each(_action_values, gamma, *process)
                good &= agrees(answer, reference, rtol=1e-8, atol=1e-10)
        score += award(call, 1, good, words)
    return score


def check_gain_by_state(call, generator: np.random.Generator) -> float:
    """1 point each: the sum, the terms, batches, states that are never reached."""
    transition, reward = _process(generator, (), 5, 3)
    new, old = generator.dirichlet(np.ones(3), (2, 5))
    initial = generator.dirichlet(np.ones(5))
    answer = call("gain_by_state", transition, reward, 0.9, new, old, initial)
    gap = _value(transition, reward, new, 0.9) - _value(transition, reward, old, 0.9)
    good = has_shape(answer, (5,)) and agrees(
        np.asarray(answer.sum()), np.asarray(initial @ gap), rtol=1e-8, atol=1e-10
    )
    score = award(call, 1, good, "the terms do not add up to the difference")
    reference = _gains(transition, reward, new, old, initial, 0.9)
    good = agrees(answer, reference, rtol=1e-8, atol=1e-10)
    sure = np.eye(3)[generator.integers(0, 3, 5)]
    for gamma, to, since in ((0.0, new, old), (0.9, sure, old), (0.5, new, new)):
        process = transition, 3 * reward - 2, gamma, to, since, initial
        answer = call("gain_by_state", *process)
        reference = _gains(*process[:2], *process[3:], gamma)
        good &= agrees(answer, reference, rtol=1e-8, atol=1e-10)
    score += award(call, 1, good, "wrong terms on a single process")
    transition, reward = _process(generator, (3, 2), 4, 3)
    new, old = generator.dirichlet(np.ones(3), (2, 3, 2, 4))
    initial = generator.dirichlet(np.ones(4), (3, 2))
    answer = call("gain_by_state", transition, reward, 0.7, new, old, initial)
    reference = np.array(
        [
            _gains(*(a[i] for a in (transition, reward, new, old, initial)), 0.7)
            for i in np.ndindex(3, 2)
        ]
    ).reshape(3, 2, 4)
    good = agrees(answer, reference, rtol=1e-8, atol=1e-10)
    score += award(call, 1, good, "wrong on a batch")
    # Nothing leads into the first two states, and nobody starts there.
    transition, reward = _process(generator, (), 5, 2)
    transition[..., :2] = 0
    transition /= transition.sum(-1, keepdims=True)
    initial = np.array([0, 0, 1.0, 0, 0])
    new, old = generator.dirichlet(np.ones(2), (2, 5))
    answer = call("gain_by_state", transition, reward, 0.9, new, old, initial)
    reference = _gains(transition, reward, new, old, initial, 0.9)
    good = agrees(answer, reference, rtol=1e-8, atol=1e-10)
    return score + award(call, 1, good, "wrong where states are never reached")


def check_natural_gradient_run(call, generator: np.random.Generator) -> float:
    """1 point each: plain, with a temperature, batches, probabilities that vanish for a while."""
    score = 0.0
    cases = [
        ((), ((0.9, 0.0, 0.3, 6), (0.0, 0.0, 0.7, 2)), "wrong without a temperature"),
        # The second with the longest step, after which nothing is left of the policy before.
        ((), ((0.8, 0.4, 0.2, 6), (0.8, 0.4, 0.5, 3)), "wrong with a temperature"),
        ((2, 3), ((0.8, 0.3, 0.4, 4),), "wrong on a batch"),
    ]
    for batch, runs, words in cases:
        good = True
        for discount, tau, step, count in runs:
            transition, reward = _process(generator, batch, 4, 3)
            reward = 2 * reward - 1
            answer = call("natural_gradient_run", transition, reward, discount, tau, step, count)
            reference = _each(_natural, (discount, tau, step, count), transition, reward)
            good &= agrees(answer, reference, rtol=1e-7, atol=1e-9)
        score += award(call, 1, good, words)
    transition, reward = _debt(generator)
    answer = call("natural_gradient_run", transition, reward, 0.9, 0.0, 30.0, 9)
    reference = _natural(transition, reward, (0.9, 0.0, 30.0, 9))
    good = agrees(answer, reference, rtol=1e-7, atol=1e-9)
    return score + award(call, 1, good, "wrong where a probability vanishes for a while")


def check_projected_run(call, generator: np.random.Generator) -> float:
    """1 point each: one step, several steps with corners on the way, batches."""
    transition, reward = _process(generator, (), 5, 4)
    answer = call("projected_run", transition, reward, 0.8, 0.3, 1)
    reference = _projected(transition, reward, (0.8, 0.3, 1))
    good = agrees(answer, reference, rtol=0, atol=1e-8)
    reward[0] = reward[0, 0]
    transition[0] = transition[0, 0]  # all actions alike in one state
    for numbers in ((0.8, 1e3, 1), (0.0, 0.4, 1)):
        discount, step, count = numbers
        answer = call("projected_run", transition, reward - 0.7, discount, step, count)
        reference = _projected(transition, reward - 0.7, numbers)
        good &= agrees(answer, reference, rtol=0, atol=1e-8)
    score = award(call, 1, good, "wrong after one step")
    transition, reward = _debt(generator)
    answer = call("projected_run", transition, reward, 0.9, 1.0, 2)
    reference = _projected(transition, reward, (0.9, 1.0, 2))
    good = agrees(answer, reference, rtol=0, atol=1e-8)
    score += award(call, 1, good, "wrong where the policy comes back from a corner")
    transition, reward = _process(generator, (3, 2), 3, 3)
    answer = call("projected_run", transition, reward, 0.7, 0.5, 4)
    reference = _each(_projected, (0.7, 0.5, 4), transition, reward)
    good = agrees(answer, reference, rtol=0, atol=1e-8)
    return score + award(call, 1, good, "wrong on a batch")


def check_growing_steps_bound(call, generator: np.random.Generator) -> float:
    """1 point each: an even start, an uneven start, batches, a long horizon."""
    score = 0.0
    cases = [
        ((), 0.8, True, "wrong where every state is a likely start"),
        ((), 0.8, False, "wrong where some states are unlikely starts"),
        ((2, 2), 0.9, False, "wrong on a batch"),
        ((), 0.995, False, "wrong where the horizon is long"),
    ]
    for batch, discount, even, words in cases:
        transition, reward = _process(generator, batch, 4, 3)
        reward = 2 * reward - 1
        initial = generator.dirichlet(np.full(4, 2.0), batch)
        initial = np.full_like(initial, 0.25) if even else initial
        first = float(generator.uniform(0.1, 2))
        answer = call("growing_steps_bound", transition, reward, discount, initial, first, 6)
        reference = np.array(
            [
                _bound(transition[i], reward[i], initial[i], (discount, first, 6))
                for i in np.ndindex(batch)
            ]
        ).reshape(*batch, 7)
        score += award(call, 1, agrees(answer, reference, rtol=1e-7), words)
    return score


def check_episodic_values(call, generator: np.random.Generator) -> float:
    """1 point each: no ends, ends that stay, ends that seem to go on, batches."""
    score = 0.0
    cases = [
        ((), 0.0, False, "wrong where nothing ends"),
        ((), 0.3, True, "wrong where what ends stays where it is"),
        ((), 0.3, False, "wrong where the table goes on after the end"),
        ((2, 3), 0.2, False, "wrong on a batch"),
    ]
    for batch, share, stays, words in cases:
        shape = (*batch, 5, 3, 3)
        chances = generator.dirichlet(np.ones(3), shape[:-1])
        chances[..., 0, 0, :] = [1.0, 0.0, 0.0]  # filled up
        targets = generator.integers(0, 5, shape)
        ends = (generator.uniform(0, 1, shape) < share).astype(np.int64)
        if share:
            ends[..., 1, :, 1] = 1
        here = np.broadcast_to(np.arange(5)[:, None, None], shape)
        targets = np.where((ends == 1) & stays, here, targets)
        rewards = generator.uniform(0.2, 1, shape)
        good = True
        # With costs it may be best to end soon; without a future only the next reward counts.
        for paid, discount in ((rewards, 0.95), (rewards - 1.2, 0.95), (rewards - 0.6, 0.0)):
            answer = call("episodic_values", chances, targets, paid, ends, discount)
            reference = np.array(
                [
                    _episodic(chances[i], targets[i], paid[i], ends[i], discount)
                    for i in np.ndindex(batch)
                ]
            ).reshape(*batch, 5)
            good &= agrees(answer, reference, rtol=1e-8, atol=1e-10)
        score += award(call, 1, good, words)
    return score


def _process(generator, batch: tuple, states: int, actions: int):
    transition = generator.dirichlet(np.full(states, 0.7), (*batch, states, actions))
    return transition, generator.uniform(0, 1, (*batch, states, actions))


def _debt(generator):
    """Going on seems bad at first, because the second state is still played badly."""
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = 1
    transition[1, :, 1] = 1
    low = -float(generator.uniform(15, 25))
    return transition, np.array([[0.0, 0.0], [1.0, low]])


def _each(function, numbers, transition, reward, *others) -> np.ndarray:
    """One process after the other."""
    batch = reward.shape[:-2]
    results = [
        function(transition[i], reward[i], *(o[i] for o in others), numbers)
        for i in np.ndindex(batch)
    ]
    return np.array(results).reshape(*batch, *np.shape(results[0]))


def _all_times(matrix: np.ndarray, discount: float) -> np.ndarray:
    """Sum of the powers of discount times a matrix, by doubling the number of terms."""
    total, power = np.eye(len(matrix)), discount * matrix
    for _ in range(24):
        total, power = total + power @ total, power @ power
    return total


def _moves(transition, policy) -> np.ndarray:
    return np.array([policy[s] @ transition[s] for s in range(len(policy))])


def _value(transition, reward, policy, discount: float, cost=0.0) -> np.ndarray:
    paid = (policy * reward).sum(-1) - cost
    return _all_times(_moves(transition, policy), discount) @ paid


def _action_values(transition, reward, policy, discount: float) -> np.ndarray:
    return reward + discount * transition @ _value(transition, reward, policy, discount)


def _gains(transition, reward, new, old, initial, discount: float) -> np.ndarray:
    value = _value(transition, reward, old, discount)
    advantage = reward + discount * transition @ value - value[:, None]
    visits = initial @ _all_times(_moves(transition, new), discount)
    return visits * (new * advantage).sum(-1)


def _natural(transition, reward, numbers) -> np.ndarray:
    """The policies' logarithms, with the step written as a mirror step for the advantages."""
    discount, tau, step, count = numbers
    states, actions = reward.shape
    logs = np.full((states, actions), -math.log(actions))
    for _ in range(count):
        policy = np.exp(logs)
        cost = tau * (policy * (logs + math.log(actions))).sum(-1)
        value = _value(transition, reward, policy, discount, cost)
        advantage = reward + discount * transition @ value - value[:, None]
        logs = logs + step / (1 - discount) * (advantage - tau * logs)
        top = logs.max(-1, keepdims=True)
        logs = logs - top - np.log(np.exp(logs - top).sum(-1, keepdims=True))
    return logs


def _projected(transition, reward, numbers) -> np.ndarray:
    """The projection by bisection."""
    discount, step, count = numbers
    policy = np.full(reward.shape, 1 / reward.shape[-1])
    for _ in range(count):
        moved = policy + step * _action_values(transition, reward, policy, discount)
        low, high = moved.max(-1, keepdims=True) - 1, moved.max(-1, keepdims=True)
        for _ in range(200):
            middle = (low + high) / 2
            much = np.maximum(moved - middle, 0).sum(-1, keepdims=True) > 1
            low, high = np.where(much, middle, low), np.where(much, high, middle)
        policy = np.maximum(moved - high, 0)
        policy /= policy.sum(-1, keepdims=True)
    return policy


def _best(transition, reward, discount: float) -> np.ndarray:
    """A best policy, by value iteration."""
    value = np.zeros(len(reward))
    for _ in range(math.ceil(30 / (1 - discount))):
        value = (reward + discount * transition @ value).max(-1)
    choice = (reward + discount * transition @ value).argmax(-1)
    return np.eye(reward.shape[-1])[choice]


def _bound(transition, reward, initial, numbers) -> np.ndarray:
    discount, first, count = numbers
    best = _best(transition, reward, discount)
    even = np.full(reward.shape, 1 / reward.shape[-1])
    gap = initial @ (
        _value(transition, reward, best, discount) - _value(transition, reward, even, discount)
    )
    visits = initial @ _all_times(_moves(transition, best), discount)  # not normalised
    mismatch = max(visits / initial)
    far = math.log(reward.shape[-1])
    start = gap + far / ((1 - discount) * first * (mismatch - 1))
    return np.array([start * (1 - 1 / mismatch) ** k for k in range(count + 1)])


def _episodic(chances, targets, rewards, ends, discount: float) -> np.ndarray:
    """Value iteration on the table itself."""
    value = np.zeros(len(chances))
    for _ in range(math.ceil(30 / (1 - discount))):
        after = np.where(ends == 1, 0.0, value[targets])
        value = (chances * (rewards + discount * after)).sum(-1).max(-1)
    return value
