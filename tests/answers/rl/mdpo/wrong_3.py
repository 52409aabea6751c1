"""Good for what one sees, not for batches, and not for hard numbers."""

import torch


def policy_step(log_policy, advantage, step_size):  # through probabilities
    weights = log_policy.exp() * (step_size * advantage).exp()
    return (weights / weights.sum(-1, keepdim=True)).log()


def advantages(rewards, values, terminated, truncated, discount, trace):
    """Only for one long episode that the last step may end."""
    found, ahead = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + discount * values[t + 1] * ~terminated[t] - values[t]
        ahead = delta + discount * trace * ahead
        found[t] = ahead
    return found


def objective_gradient(logits, old_logits, actions, advantages, step_size):
    """The mean is over the whole batch, and the divergence is forgotten for long steps."""
    z = logits.clone().requires_grad_()
    new, old = z.log_softmax(-1), old_logits.log_softmax(-1)
    at = actions[..., None]
    ratio = (new.gather(-1, at) - old.gather(-1, at))[..., 0].exp()
    distance = (new.exp() * (new - old)).sum(-1)
    objective = (ratio * advantages - distance / step_size).mean()
    return torch.autograd.grad(objective, z)[0]


def gaussian_divergence(mean, log_std, old_mean, old_log_std):  # digits cancel
    new, old = torch.exp(log_std), torch.exp(old_log_std)
    ratio = (new**2 + (mean - old_mean) ** 2) / (2 * old**2)
    return (torch.log(old / new) + ratio).sum(-1) - mean.shape[-1] / 2


def actor_optimum(log_old, values, divergence_weight, entropy_weight):  # 0 times infinity
    share = 1 - entropy_weight / divergence_weight
    return (share * log_old + values / divergence_weight).log_softmax(-1)


def euclidean_step(policy, advantage, step_size):  # clipped and rescaled
    v = policy + step_size * (advantage - advantage.mean(-1, keepdim=True)) / 2
    v = v.clamp(min=0)
    return v / v.sum(-1, keepdim=True)
