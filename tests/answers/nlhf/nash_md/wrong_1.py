"""Token-local divergence, swapped weights, the divergence the other way."""

import torch


def won(preference, policy):
    return (preference @ policy.exp()[..., None])[..., 0]


def step_against(preference, policy, opponent, reference, temperature, step_size):
    weight = step_size * temperature  # the weights of policy and reference swapped
    moved = weight * policy + reference + step_size * won(preference, opponent)
    return (moved / (1 + weight)).log_softmax(-1)


def nash_run(preference, reference, temperature, iterations, step_size):
    policy = reference.expand(preference.shape[:-1])
    for t in range(iterations):
        eta = 2 / (temperature * (t + 2)) if step_size is None else step_size
        a = eta * temperature
        w = (a * policy + (1 - a) * reference).log_softmax(-1)
        policy = (w + eta * won(preference, w)).log_softmax(-1)
    return policy


def exploitable(preference, policy, reference, temperature):
    best = (reference + won(preference, policy) / temperature).log_softmax(-1)
    return temperature * (best.exp() * (best - policy)).sum(-1)


def divergence_gradient(first, second, reference_first, reference_second):
    p = first.log_softmax(-1)
    own = p - reference_first.log_softmax(-1)
    return p.exp() * (own - (p.exp() * own).sum(-1, keepdim=True))


def cycle_equilibria(ratings):
    ahead = ratings[:, None, :] - ratings[None, :, :]
    lead = (((ahead.sign() + 1) / 2).mean(-1) - 0.5).clamp(min=0)
    ij, jk, ki = lead[:, :, None], lead[None], lead.T[:, None, :]
    # Whoever wins by most is played most.
    return torch.where(ij * jk * ki > 0, ij / (ij + jk + ki).clamp(min=1e-9), 0.0)


def fitted_reward(preference, weights):
    off = 1 - torch.eye(preference.shape[-1], dtype=preference.dtype)
    logit = torch.log(preference / (1 - preference)) * off
    reward = (weights * logit).sum(-1) / (weights * off).sum(-1)  # means of log-odds
    return reward - reward.mean(-1, keepdim=True)
