"""Formulas, written out."""

import torch


def policy_step(log_policy, advantage, step_size):
    logits = log_policy + step_size * advantage
    return logits - logits.logsumexp(-1, keepdim=True)


def advantages(rewards, values, terminated, truncated, discount, trace):
    rewards, values = rewards.unbind(0), values.unbind(0)
    found, ahead = [], torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        value = torch.where(terminated[t], 0.0, values[t + 1])
        ahead = torch.where(terminated[t] | truncated[t], 0.0, ahead)
        ahead = rewards[t] + discount * value - values[t] + discount * trace * ahead
        if t > 0:
            ahead = torch.where(terminated[t - 1] | truncated[t - 1], 0.0, ahead)
        found.append(ahead)
    return torch.stack(found[::-1])


def objective_gradient(logits, old_logits, actions, advantages, step_size):
    p = logits.softmax(-1)
    log_ratio = logits.log_softmax(-1) - old_logits.log_softmax(-1)
    chosen = torch.zeros_like(p).scatter(-1, actions[..., None], 1.0)
    rho = log_ratio.gather(-1, actions[..., None]).exp()
    surrogate = rho * advantages[..., None] * (chosen - p)
    pull = p * (log_ratio - (p * log_ratio).sum(-1, keepdim=True))
    return (surrogate - pull / step_size) / logits.shape[-2]


def gaussian_divergence(mean, log_std, old_mean, old_log_std):
    gap = log_std - old_log_std
    small = gap.abs() < 0.01
    series = gap.square() * (1 + 2 * gap / 3 + gap.square() / 3 + 2 * gap**3 / 15)
    width = torch.where(small, series, 0.5 * torch.expm1(2 * gap) - gap)
    moved = (mean - old_mean) / old_log_std.exp()
    return (width + 0.5 * moved.square()).sum(-1)


def actor_optimum(log_old, values, divergence_weight, entropy_weight):
    if divergence_weight == entropy_weight:
        return (values / entropy_weight).log_softmax(-1)
    pull = (divergence_weight - entropy_weight) * log_old
    return ((values + pull) / divergence_weight).log_softmax(-1)


def euclidean_step(policy, advantage, step_size):
    v = policy + 0.5 * step_size * (advantage - advantage.amax(-1, keepdim=True))
    u = v.sort(-1, descending=True).values
    k = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype)
    tau = (u.cumsum(-1) - 1) / k
    last = (u > tau).sum(-1, keepdim=True) - 1
    return (v - tau.gather(-1, last)).relu()
