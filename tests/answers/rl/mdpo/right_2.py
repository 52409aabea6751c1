"""Automatic differentiation, bisection, loops."""

import torch


def policy_step(log_policy, advantage, step_size):
    # The gradient of log-sum-exp is the softmax: here only its value is needed.
    shifted = step_size * (advantage - advantage.amax(-1, keepdim=True)) + log_policy
    top = shifted.amax(-1, keepdim=True)
    return shifted - top - (shifted - top).exp().sum(-1, keepdim=True).log()


def advantages(rewards, values, terminated, truncated, discount, trace):
    steps, copies = rewards.shape
    found = torch.zeros(steps, copies, dtype=rewards.dtype)
    for c in range(copies):
        start = 0
        while start < steps:
            end = start
            while end < steps - 1 and not (terminated[end, c] or truncated[end, c]):
                end += 1
            total = 0.0
            for t in range(end, start - 1, -1):
                next_value = 0.0 if terminated[t, c] else values[t + 1, c]
                delta = rewards[t, c] + discount * next_value - values[t, c]
                total = delta + discount * trace * total
                found[t, c] = total
            start = end + 2  # the step in between only resets
    return found


def objective_gradient(logits, old_logits, actions, advantages, step_size):
    z = logits.detach().clone().requires_grad_()
    new = torch.distributions.Categorical(logits=z)
    old = torch.distributions.Categorical(logits=old_logits)
    ratio = (new.log_prob(actions) - old.log_prob(actions)).exp()
    distance = torch.distributions.kl_divergence(new, old)
    objective = (ratio * advantages - distance / step_size).mean(-1)
    return torch.autograd.grad(objective.sum(), z)[0]


def gaussian_divergence(mean, log_std, old_mean, old_log_std):
    gap = (log_std - old_log_std).to(torch.float64)
    # (e^2g - 1 - 2g) / 2 as an alternating pair of series in h = 2g.
    h = 2 * gap
    series = h**2 / 4 + h**3 / 12 + h**4 / 48 + h**5 / 240 + h**6 / 1440
    width = torch.where(h.abs() < 0.02, series, (torch.exp(h) - 1 - h) / 2)
    squared = ((mean - old_mean) / torch.exp(old_log_std)) ** 2
    return torch.sum(width + squared / 2, -1)


def actor_optimum(log_old, values, divergence_weight, entropy_weight):
    share = (divergence_weight - entropy_weight) / divergence_weight
    memory = torch.zeros_like(log_old) if share == 0 else share * log_old
    logits = memory + values / divergence_weight
    return logits - torch.logsumexp(logits, -1, keepdim=True)


def euclidean_step(policy, advantage, step_size):
    v = policy + step_size * (advantage - advantage.amax(-1, keepdim=True)) / 2
    high = v.amax(-1, keepdim=True)
    low = high - 1
    for _ in range(100):
        middle = (low + high) / 2
        too_much = (v - middle).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    return (v - low).clamp(min=0)
