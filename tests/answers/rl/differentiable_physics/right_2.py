"""Scaling first; gradients pair by pair; closed forms."""

import torch


def pass_back(cotangent, limit):
    rows = cotangent.nan_to_num(nan=0.0, posinf=None, neginf=None)
    top = rows.abs().max(-1, keepdim=True).values
    safe = torch.where(top == 0, 1.0, top)
    unit = rows / safe
    length = unit.square().sum(-1, keepdim=True).sqrt()
    long = length * safe > limit
    return torch.where(long, unit / torch.where(long, length, 1.0) * limit, rows)


def chamfer(states, shown, alpha):
    k, h, n = states.shape[-1], states.shape[-2], len(shown)
    gap = states[..., :, None, :] - shown
    apart = gap.square().mean(-1).sqrt()
    down, right = apart.min(-1), apart.min(-2)
    loss = alpha * down.values.mean(-1) + right.values.mean(-1)
    weight = torch.zeros_like(apart)
    weight.scatter_add_(-1, down.indices[..., None], torch.full_like(apart, alpha / h))
    weight.scatter_add_(-2, right.indices[..., None, :], torch.full_like(apart, 1 / n))
    unit = torch.where(apart > 0, 1 / (k * apart), 0.0)
    slope = ((weight * unit)[..., None] * gap).sum(-2)
    return torch.cat([loss[..., None], slope.flatten(-2)], -1)


def adjoint(transitions, influences, slopes):
    costates = [slopes[..., -1:, :]]
    for t in reversed(range(1, transitions.shape[-3])):
        costates.insert(0, slopes[..., t : t + 1, :] + costates[0] @ transitions[..., t, :, :])
    rows = torch.cat(costates, -2)
    return torch.einsum("...tn,...tnp->...p", rows, influences)


def lost_share(rho, states, every):
    ages = torch.arange(states)
    full = ((states - ages) * rho[..., None] ** ages.double()).sum(-1)
    # A power survives in a state if it is younger than the last cut.
    t = torch.arange(1, states + 1)
    kept = (t - 1) % every + 1
    alive = (ages[None, :] < kept[:, None]).sum(0)
    return (full - (alive * rho[..., None] ** ages.double()).sum(-1)) / full


def impact_step(height, speed, step, restitution):
    ahead = height + step * speed
    one = torch.ones_like(height)
    factor = torch.where(ahead < 0, -restitution * one, one)
    return torch.stack([factor * ahead, factor * speed, factor, factor * step], -1)


def ratio_variance(weights, theta, baseline, deviation):
    n = weights.shape[-1]
    one = torch.ones_like(weights)
    # Var(S (C + m)) with C split into its part along S and the rest.
    along = weights.mean(-1, keepdim=True)
    rest = (weights - along * one).square().sum(-1)
    m = (theta * weights.sum(-1) - baseline) / deviation
    return 2 * n**2 * along[..., 0] ** 2 + n * rest + n * m**2
