"""Linear systems, batched."""

import math

import torch


def solved(matrix, right):
    return torch.linalg.solve(matrix, right.unsqueeze(-1)).squeeze(-1)


def chain(transition, policy, discount):
    """Identity less the discounted chain of a policy."""
    move = (policy.unsqueeze(-1) * transition).sum(-2)
    return torch.eye(move.shape[-1], dtype=move.dtype) - discount * move


def q_of(transition, reward, discount, policy, cost=0.0):
    value = solved(chain(transition, policy, discount), (policy * reward).sum(-1) - cost)
    return reward + discount * (transition * value[..., None, None, :]).sum(-1)


def action_values(transition, reward, discount, policy):
    return q_of(transition, reward, discount, policy)


def gain_by_state(transition, reward, discount, new, old, initial):
    q = q_of(transition, reward, discount, old)
    visits = solved(chain(transition, new, discount).transpose(-1, -2), initial)
    return visits * ((new - old) * q).sum(-1)


def natural_gradient_run(transition, reward, discount, temperature, step_size, iterations):
    b = step_size / (1 - discount)
    a = b * temperature
    logits = torch.zeros_like(reward)
    for _ in range(iterations):
        logs = torch.log_softmax(logits, -1)
        policy = logs.exp()
        cost = temperature * (policy * (logs + math.log(reward.shape[-1]))).sum(-1)
        logits = (1 - a) * logits + b * q_of(transition, reward, discount, policy, cost)
    return torch.log_softmax(logits, -1)


def projected_run(transition, reward, discount, step_size, iterations):
    policy = torch.ones_like(reward) / reward.shape[-1]
    for _ in range(iterations):
        v = policy + step_size * q_of(transition, reward, discount, policy)
        v = v - v.max(-1, keepdim=True).values
        low, high = torch.full_like(v[..., :1], -1.0), torch.zeros_like(v[..., :1])
        for _ in range(100):
            middle = (low + high) / 2
            above = (v - middle).relu().sum(-1, keepdim=True) > 1
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        policy = (v - high).relu()
        policy = policy / policy.sum(-1, keepdim=True)
    return policy


def improved(transition, reward, discount):
    policy = torch.ones_like(reward) / reward.shape[-1]
    for _ in range(60):
        best = q_of(transition, reward, discount, policy).argmax(-1, keepdim=True)
        policy = torch.zeros_like(reward).scatter_(-1, best, 1.0)
    return policy


def growing_steps_bound(transition, reward, discount, initial, first_step, iterations):
    best = improved(transition, reward, discount)
    share = (1 - discount) * solved(chain(transition, best, discount).transpose(-1, -2), initial)
    theta = (share / initial).max(-1).values / (1 - discount)
    even = torch.ones_like(reward) / reward.shape[-1]

    def value(policy):
        return (policy * q_of(transition, reward, discount, policy)).sum(-1)

    gap = ((value(best) - value(even)) * initial).sum(-1)
    far = (share * (torch.special.xlogy(best, best) - best * even.log()).sum(-1)).sum(-1)
    start = gap + far / ((1 - discount) * first_step * (theta - 1))
    return torch.stack([start * (1 - 1 / theta) ** k for k in range(iterations + 1)], -1)


def episodic_values(chances, targets, rewards, ends, discount):
    states = chances.shape[-3]
    onto = torch.nn.functional.one_hot(targets, states).to(chances.dtype)
    weight = chances * (1 - ends)
    transition = (weight.unsqueeze(-1) * onto).sum(-2)
    reward = (chances * rewards).sum(-1)
    best = improved(transition, reward, discount)
    return (best * q_of(transition, reward, discount, best)).sum(-1)
