"""The other direction, the other sign, the other end of an episode."""

import torch


def policy_step(log_policy, advantage, step_size):  # down the advantage
    return (log_policy - step_size * advantage).log_softmax(-1)


def advantages(rewards, values, terminated, truncated, discount, trace):
    """A truncation is taken for a termination."""
    ended = terminated | truncated
    found, ahead = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + discount * values[t + 1] * ~ended[t] - values[t]
        ahead = delta + discount * trace * ahead * ~ended[t]
        if t > 0:
            ahead = ahead * ~ended[t - 1]
        found[t] = ahead
    return found


def objective_gradient(logits, old_logits, actions, advantages, step_size):
    """KL(old, new) in place of KL(new, old)."""
    z = logits.clone().requires_grad_()
    new, old = z.log_softmax(-1), old_logits.log_softmax(-1)
    at = actions[..., None]
    ratio = (new.gather(-1, at) - old.gather(-1, at))[..., 0].exp()
    distance = (old.exp() * (old - new)).sum(-1)
    objective = (ratio * advantages - distance / step_size).mean(-1)
    return torch.autograd.grad(objective.sum(), z)[0]


def gaussian_divergence(mean, log_std, old_mean, old_log_std):  # the other direction
    gap = old_log_std - log_std
    distance = (mean - old_mean) * torch.exp(-log_std)
    return (torch.expm1(2 * gap) / 2 - gap + distance**2 / 2).sum(-1)


def actor_optimum(log_old, values, divergence_weight, entropy_weight):  # coefficients swapped
    logits = values / max(entropy_weight, 1e-3)
    share = 1 - divergence_weight / max(entropy_weight, 1e-3)
    return (logits + share * log_old.clamp(min=-1e3)).log_softmax(-1)


def euclidean_step(policy, advantage, step_size):  # another entropy's step
    weights = policy * (step_size * (advantage - advantage.amax(-1, keepdim=True))).exp()
    return weights / weights.sum(-1, keepdim=True)
