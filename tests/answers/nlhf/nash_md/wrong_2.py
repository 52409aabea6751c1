"""Missing normalisers, the opponent forgotten, ties dropped, the weights ignored."""

import torch


def won(preference, policy):
    return (preference @ policy.exp()[..., None])[..., 0]


def step_against(preference, policy, opponent, reference, temperature, step_size):
    weight = step_size * temperature
    moved = policy + weight * reference + step_size * won(preference, opponent)
    return moved / (1 + weight)


def nash_run(preference, reference, temperature, iterations, step_size):
    policy = reference.expand(preference.shape[:-1])
    for t in range(iterations):
        eta = 2 / (temperature * (t + 2)) if step_size is None else step_size
        a = eta * temperature
        w = (1 - a) * policy + a * reference  # not normalised, then taken for probabilities
        policy = (w + eta * won(preference, w)).log_softmax(-1)
    return policy


def exploitable(preference, policy, reference, temperature):
    # The penalty of the policy is forgotten.
    inner = reference + won(preference, policy) / temperature
    return temperature * inner.logsumexp(-1) - 0.5


def divergence_gradient(first, second, reference_first, reference_second):
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    own = p - reference_first.log_softmax(-1)
    later = q.exp() * (q - reference_second.log_softmax(-1))
    return p.exp() * (own + later.sum(-1))  # no baseline: the mean is left in


def cycle_equilibria(ratings):
    above = (ratings[:, None, :] > ratings[None, :, :]).double().mean(-1)
    beats = above > 0.5
    cycle = beats[:, :, None] & beats[None] & beats.T[:, None, :]
    # The three indices in one order only.
    i, j, k = torch.meshgrid(*[torch.arange(len(ratings))] * 3, indexing="ij")
    return torch.where(cycle & (i < j) & (i < k), 1 / 3, 0.0).double()


def fitted_reward(preference, weights):
    reward = torch.zeros_like(preference[..., 0])
    n = preference.shape[-1]
    for _ in range(500):
        chance = (reward[..., :, None] - reward[..., None, :]).sigmoid()
        reward = reward - 2 / n * (chance - preference).sum(-1)
    return reward  # pairs drawn alike, and a sum that only happens to be zero
