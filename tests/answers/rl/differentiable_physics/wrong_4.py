"""Takes the library's answers where it can, and mistakes where it cannot."""

import torch

from mdtheory.rl import differentiable_physics as physics


def pass_back(cotangent, limit):  # the library's own
    x = torch.zeros_like(cotangent, requires_grad=True)
    (got,) = torch.autograd.grad(physics.clip_cotangent(x, limit), x, cotangent)
    return got


def chamfer(states, shown, alpha):  # the library's own
    x = states.detach().requires_grad_()
    loss = physics.chamfer_loss(x, shown, alpha)
    (slope,) = torch.autograd.grad(loss.sum(), x)
    return torch.cat([loss.detach()[..., None], slope.flatten(-2)], -1)


def adjoint(transitions, influences, slopes):  # the library's own
    parts = physics.Linearisation(transitions, influences)
    return physics.adjoint_gradient(parts, slopes)


def lost_share(rho, states, every):  # one step too many is kept
    t = torch.arange(1, states + 1)
    sums = (rho[..., None] ** torch.arange(states + 1, dtype=torch.float64)).cumsum(-1)
    kept = torch.minimum((t - 1) % every + 1, t)
    return 1 - sums[..., kept].sum(-1) / sums[..., :-1].sum(-1)


def impact_step(height, speed, step, restitution):  # signs of the derivatives
    hits = height + step * speed < 0
    place = torch.where(hits, restitution * (height - speed * step), height + step * speed)
    v = torch.where(hits, -restitution * speed, speed)
    one = torch.ones_like(height)
    slopes = [torch.where(hits, restitution * one, one), step * one]
    return torch.stack([place, v, *slopes], -1)


def ratio_variance(weights, theta, baseline, deviation):  # sigma kept where it cancels
    n, total = weights.shape[-1], weights.sum(-1)
    m = (theta * total - baseline) / deviation
    return deviation**2 * (n * weights.square().sum(-1) + total**2) + n * m**2
