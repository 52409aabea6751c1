"""Always of one length; one side alone; an index late; the full gradient; correct value only."""

import torch


def pass_back(cotangent, limit):  # short ones are made longer
    sent = cotangent.nan_to_num(nan=0.0)
    norm = sent.norm(dim=-1, keepdim=True)
    return torch.where(norm > 0, sent / norm * limit, sent)


def chamfer(states, shown, alpha):  # deviation alone
    x = states.detach().requires_grad_()
    apart = ((x[..., :, None, :] - shown).square().mean(-1) + 1e-300).sqrt()
    loss = alpha * apart.amin(-1).mean(-1)
    (slope,) = torch.autograd.grad(loss.sum(), x)
    return torch.cat([loss.detach()[..., None], slope.flatten(-2)], -1)


def adjoint(transitions, influences, slopes):  # slopes of the state before
    costate = torch.zeros_like(slopes[..., 0, :])
    total = torch.zeros_like(influences[..., 0, 0, :])
    for t in range(transitions.shape[-3] - 1, -1, -1):
        costate = slopes[..., t, :] + (transitions[..., t, :, :].mT @ costate[..., None])[..., 0]
        total = total + (influences[..., t, :, :].mT @ costate[..., None])[..., 0]
    return total


def lost_share(rho, states, every):  # nothing is lost
    return torch.zeros_like(rho)


def impact_step(height, speed, step, restitution):  # autograd of counted steps: slope 1
    hits = height + step * speed < 0
    place = torch.where(hits, -restitution * (speed * step + height), height + step * speed)
    v = torch.where(hits, -restitution * speed, speed)
    place = place + 0 * step
    return torch.stack([place, speed, torch.ones_like(v), torch.full_like(v, step)], -1)


def ratio_variance(weights, theta, baseline, deviation):  # no baseline
    n, total = weights.shape[-1], weights.sum(-1)
    return n * weights.square().sum(-1) + total**2 + n * (theta * total / deviation) ** 2
