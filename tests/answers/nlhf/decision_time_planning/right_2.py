"""Plain sums, the gain by playing, the threshold by its closed form in exponentials."""

import math

import torch


def reply_values(prior, first, payoff):
    total, mass = 0.0, 0.0
    for x in range(prior.shape[-2]):
        weight = prior[..., x, :, None] * first[..., x, None, :]
        mass = mass + weight
        total = total + weight[..., None] * payoff[..., x, :, :, :]
    safe = torch.where(mass == 0, torch.ones_like(mass), mass)
    return total / safe[..., None]


def account(first, second, payoff, step):
    value = (second * payoff).sum(-1)

    def tilt(law, q):
        weight = law * (step * (q - q.amax(-1, keepdim=True))).exp()
        return weight / weight.sum(-1, keepdim=True)

    one, two = tilt(first, value), tilt(second, payoff)
    early = ((one - first) * value).sum(-1)
    late = (one * ((two - second) * payoff).sum(-1)).sum(-1)
    return torch.stack([early, late], -1)


def longest_step(same, different, w):
    size = w.abs()
    # tanh(w / 2) = (1 - e^-w) / (1 + e^-w)
    slope = -torch.expm1(-size) / (1 + (-size).exp())
    found = 2 * size / ((different - same) * slope)
    found[(different <= same) | (size == 0)] = math.inf
    return found


def sampled_values(payoff, second, cards, uniforms):
    actions = payoff.shape[1]
    flat, v = cards.flatten(), uniforms.flatten()
    columns = []
    for a in range(actions):
        law = second[flat, a]
        reply = torch.searchsorted(law.cumsum(-1), v[:, None], right=True)[:, 0]
        highest = (law > 0).long() * torch.arange(law.shape[-1])
        reply = torch.minimum(reply, highest.amax(-1))
        columns.append(payoff[flat, a, reply])
    return torch.stack(columns, -1).reshape(*cards.shape, actions).mean(-2)


def after_a_draw(law, unseen, card, mine):
    counts = unseen.to(torch.float64)
    eye = torch.eye(law.shape[-1], dtype=torch.float64)
    if mine:
        weight = law[..., card, :].unsqueeze(-2) * (counts.unsqueeze(-1) - eye).relu()
    else:
        left = counts[..., card][..., None, None] + 1 - eye[card][:, None] - eye[card][None, :]
        weight = law * left.relu()
    return weight / weight.flatten(-2).sum(-1)[..., None, None]


def magnetic_policy(policy, values, magnet, step, temperature):
    inverse = 0.0 if math.isinf(step) else 1 / step
    shifted = values - values.amax(-1, keepdim=True)
    logs = shifted + temperature * magnet.log()
    if inverse:
        logs = logs + inverse * policy.log()
    logs = logs / (inverse + temperature)
    logs[policy == 0] = -math.inf
    weight = (logs - logs.amax(-1, keepdim=True)).exp()
    return weight / weight.sum(-1, keepdim=True)
