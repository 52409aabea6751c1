"""Something is left out: a normaliser, a mark, a ratio, a constant, a factor."""

import torch


def policy_step(log_policy, advantage, step_size):  # not normalised
    return log_policy + step_size * advantage


def advantages(rewards, values, terminated, truncated, discount, trace):
    """Steps that only reset are taken for experience, and terminations for truncations."""
    ended = terminated | truncated
    found, ahead = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + discount * values[t + 1] - values[t]
        ahead = delta + discount * trace * ahead * ~ended[t]
        found[t] = ahead
    return found


def objective_gradient(logits, old_logits, actions, advantages, step_size):
    """No importance ratio."""
    z = logits.clone().requires_grad_()
    new, old = z.log_softmax(-1), old_logits.log_softmax(-1)
    chosen = new.gather(-1, actions[..., None])[..., 0]
    distance = (new.exp() * (new - old)).sum(-1)
    objective = (chosen * advantages - distance / step_size).mean(-1)
    return torch.autograd.grad(objective.sum(), z)[0]


def gaussian_divergence(mean, log_std, old_mean, old_log_std):  # without the -1/2
    gap = log_std - old_log_std
    distance = (mean - old_mean) * torch.exp(-old_log_std)
    return (torch.exp(2 * gap) / 2 - gap + distance**2 / 2).sum(-1)


def actor_optimum(log_old, values, divergence_weight, entropy_weight):  # no entropy
    return (log_old + values / divergence_weight).log_softmax(-1)


def euclidean_step(policy, advantage, step_size):  # the factor 1/2 is forgotten
    v = policy + step_size * (advantage - advantage.amax(-1, keepdim=True))
    u = v.sort(-1, descending=True).values
    tau = (u.cumsum(-1) - 1) / torch.arange(1, v.shape[-1] + 1, dtype=v.dtype)
    last = (u > tau).sum(-1, keepdim=True) - 1
    return (v - tau.gather(-1, last)).relu()
