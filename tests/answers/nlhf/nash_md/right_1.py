"""Probabilities of the opponent, duals of everything else."""

import torch


def won(preference, policy):
    return torch.einsum("...ij,...j->...i", preference, policy.exp())


def step_against(preference, policy, opponent, reference, temperature, step_size):
    b = 1 / (1 / step_size + temperature)
    a = b * temperature
    dual = (1 - a) * policy + a * reference + b * won(preference, opponent)
    return torch.log_softmax(dual, -1)


def nash_run(preference, reference, temperature, iterations, step_size):
    dual = reference.expand(preference.shape[:-1])
    for t in range(iterations):
        eta = step_size if step_size > 0 else 2 / (t + 2) / temperature
        dual = torch.log_softmax(dual + eta * temperature * (reference - dual), -1)
        dual = dual + eta * won(preference, dual)
    return torch.log_softmax(dual, -1)


def exploitable(preference, policy, reference, temperature):
    best = torch.log_softmax(reference + won(preference, policy) / temperature, -1)
    gap = best - policy
    # KL = sum of q (e^gap - 1 - gap), as both sum to one.
    return temperature * (policy.exp() * (torch.expm1(gap) - gap)).sum(-1)


def divergence_gradient(first, second, reference_first, reference_second):
    logits = first.clone().requires_grad_()
    p, q = logits.log_softmax(-1), second.log_softmax(-1)
    m, k = reference_first.log_softmax(-1), reference_second.log_softmax(-1)
    joint = p[..., None] + q
    kl = (joint.exp() * (joint - m[..., None] - k)).sum()
    return torch.autograd.grad(kl, logits)[0]


def cycle_equilibria(ratings):
    m = len(ratings)
    above = (ratings[:, None] > ratings[None]).double().mean(-1)
    lead = (above - above.T) / 2
    out = torch.zeros(m, m, m, dtype=ratings.dtype)
    for i in range(m):
        for j in range(m):
            for k in range(m):
                a, b, c = lead[i, j], lead[j, k], lead[k, i]
                if a > 1e-12 and b > 1e-12 and c > 1e-12:
                    out[i, j, k] = b / (a + b + c)
    return out


def fitted_reward(preference, weights):
    n = preference.shape[-1]
    drawn = weights * (1 - torch.eye(n, dtype=weights.dtype))
    reward = torch.zeros_like(preference[..., 0])
    size = 2 / drawn.sum(-1).amax(-1)[..., None]
    for _ in range(8000):
        chance = torch.sigmoid(reward[..., :, None] - reward[..., None, :])
        reward = reward - size * (drawn * (chance - preference)).sum(-1)
    return reward - reward.mean(-1, keepdim=True)
