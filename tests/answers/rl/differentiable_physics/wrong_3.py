"""Entry by entry; sums over coordinates; not transposed; the last state alone; squares."""

import torch


def pass_back(cotangent, limit):  # each entry by itself
    return cotangent.nan_to_num(nan=0.0).clamp(-limit, limit)


def chamfer(states, shown, alpha):  # Euclidean length in place of the root mean square
    x = states.detach().requires_grad_()
    square = (x[..., :, None, :] - shown).square().sum(-1)
    some = square > 0
    apart = torch.where(some, torch.where(some, square, 1.0).sqrt(), 0.0)
    loss = alpha * apart.amin(-1).sum(-1) + apart.amin(-2).sum(-1)
    (slope,) = torch.autograd.grad(loss.sum(), x)
    return torch.cat([loss.detach()[..., None], slope.flatten(-2)], -1)


def adjoint(transitions, influences, slopes):  # not transposed, and the last state alone
    costate = slopes[..., -1, :]
    total = torch.zeros_like(influences[..., 0, 0, :])
    for t in range(transitions.shape[-3] - 1, -1, -1):
        total = total - (influences[..., t, :, :].mT @ costate[..., None])[..., 0]
        costate = (transitions[..., t, :, :] @ costate[..., None])[..., 0]
    return total


def lost_share(rho, states, every):  # of the last state in place of the mean
    sums = (rho[..., None] ** torch.arange(states, dtype=torch.float64)).cumsum(-1)
    return 1 - sums[..., min(every, states) - 1] / sums[..., -1]


def impact_step(height, speed, step, restitution):  # the rest of the step is forgotten
    hits = height + step * speed < 0
    place = torch.where(hits, 0.0, height + step * speed)
    v = torch.where(hits, -speed, speed)
    one = torch.ones_like(height)
    zero = torch.zeros_like(height)
    slopes = [torch.where(hits, zero, one), torch.where(hits, zero, step * one)]
    return torch.stack([place, v, *slopes], -1)


def ratio_variance(weights, theta, baseline, deviation):  # the second moment
    n, total = weights.shape[-1], weights.sum(-1)
    m = (theta * total - baseline) / deviation
    return n * weights.square().sum(-1) + 2 * total**2 + n * m**2
