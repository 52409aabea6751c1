"""One process after the other; an absorbing end; value iteration; active sets."""

import math

import torch


def each(function, reward, *tensors):
    """Apply to every process of the batch."""
    batch = reward.shape[:-2]
    count = math.prod(batch)
    flat = [t.reshape(count, *t.shape[len(batch) :]) for t in (reward, *tensors)]
    results = [function(*parts) for parts in zip(*flat, strict=True)]
    return torch.stack(results).reshape(*batch, *results[0].shape)


def value_of(transition, reward, discount, policy, cost=0.0):
    move = torch.stack([p @ t for p, t in zip(policy, transition, strict=True)])
    paid = (policy * reward).sum(-1) - cost
    return torch.linalg.inv(torch.eye(len(move), dtype=move.dtype) - discount * move) @ paid


def visits_of(transition, discount, policy, initial):
    move = torch.stack([p @ t for p, t in zip(policy, transition, strict=True)])
    return initial @ torch.linalg.inv(torch.eye(len(move), dtype=move.dtype) - discount * move)


def action_values(transition, reward, discount, policy):
    def one(r, t, p):
        return r + discount * t @ value_of(t, r, discount, p)

    return each(one, reward, transition, policy)


def gain_by_state(transition, reward, discount, new, old, initial):
    def one(r, t, n, o, rho):
        v = value_of(t, r, discount, o)
        advantage = r + discount * t @ v - v[:, None]
        return visits_of(t, discount, n, rho) * (n * advantage).sum(-1)

    return each(one, reward, transition, new, old, initial)


def natural_gradient_run(transition, reward, discount, temperature, step_size, iterations):
    def one(r, t):
        logs = torch.full_like(r, -math.log(r.shape[-1]))
        for _ in range(iterations):
            p = logs.exp()
            cost = temperature * (math.log(r.shape[-1]) + (p * logs).sum(-1))
            v = value_of(t, r, discount, p, cost)
            advantage = r + discount * t @ v - v[:, None]
            logs = logs + step_size / (1 - discount) * (advantage - temperature * logs)
            logs = logs - logs.logsumexp(-1, keepdim=True)
        return logs

    return each(one, reward, transition)


def nearest(v):
    active = torch.ones_like(v, dtype=torch.bool)
    while True:
        cut = (v[active].sum() - 1) / active.sum()
        kept = active & (v > cut)
        if bool((kept == active).all()):
            return torch.where(active, v - cut, torch.zeros_like(v))
        active = kept


def projected_run(transition, reward, discount, step_size, iterations):
    def one(r, t):
        p = torch.full_like(r, 1 / r.shape[-1])
        for _ in range(iterations):
            v = value_of(t, r, discount, p)
            moved = p + step_size * (r + discount * t @ v - v[:, None])
            p = torch.stack([nearest(row) for row in moved])
        return p

    return each(one, reward, transition)


def planned(t, r, discount):
    v = torch.zeros(len(r), dtype=r.dtype)
    for _ in range(math.ceil(32 / (1 - discount))):
        v = (r + discount * t @ v).amax(-1)
    return v


def growing_steps_bound(transition, reward, discount, initial, first_step, iterations):
    def one(r, t, rho):
        best = (r + discount * t @ planned(t, r, discount)).argmax(-1)
        best = torch.eye(r.shape[-1], dtype=r.dtype)[best]
        even = torch.full_like(r, 1 / r.shape[-1])
        gap = rho @ (value_of(t, r, discount, best) - value_of(t, r, discount, even))
        theta = (visits_of(t, discount, best, rho) / rho).max()
        start = gap + math.log(r.shape[-1]) / ((1 - discount) * first_step * (theta - 1))
        return start * (1 - 1 / theta) ** torch.arange(iterations + 1, dtype=r.dtype)

    return each(one, reward, transition, initial)


def episodic_values(chances, targets, rewards, ends, discount):
    def one(reward, chance, target, gain, end):
        states, actions = reward.shape
        transition = torch.zeros(states + 1, actions, states + 1, dtype=chance.dtype)
        transition[states, :, states] = 1
        for s in range(states):
            for a in range(actions):
                for c, to, over in zip(chance[s, a], target[s, a], end[s, a], strict=True):
                    transition[s, a, states if over else int(to)] += c
        padded = torch.cat([reward, torch.zeros(1, actions, dtype=reward.dtype)])
        return planned(transition, padded, discount)[:states]

    return each(one, (chances * rewards).sum(-1), chances, targets, rewards, ends)
