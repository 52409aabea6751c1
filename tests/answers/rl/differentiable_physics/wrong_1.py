"""One norm for all; squares without a root; feedback forgotten; the cut on the wrong side."""

import torch


def pass_back(cotangent, limit):  # one norm for the whole batch
    sent = cotangent.nan_to_num(nan=0.0)
    return sent * (limit / (sent.norm() + 1e-12)).clamp(max=1)


def chamfer(states, shown, alpha):  # squared distances
    x = states.detach().requires_grad_()
    apart = (x[..., :, None, :] - shown).square().mean(-1)
    loss = alpha * apart.amin(-1).mean(-1) + apart.amin(-2).mean(-1)
    (slope,) = torch.autograd.grad(loss.sum(), x)
    return torch.cat([loss.detach()[..., None], slope.flatten(-2)], -1)


def adjoint(transitions, influences, slopes):  # what a moved state does later is forgotten
    return torch.einsum("...tn,...tnp->...p", slopes[..., 1:, :] * 0.5, influences)


def lost_share(rho, states, every):  # detached before it is stored
    sums = (rho[..., None] ** torch.arange(states, dtype=torch.float64)).cumsum(-1)
    kept = torch.zeros_like(rho)
    for t in range(1, states + 1):
        if t % every:
            kept = kept + sums[..., t % every - 1]
    return 1 - kept / sums.sum(-1)


def impact_step(height, speed, step, restitution):  # the speed turns, then a free step
    hits = height + step * speed < 0
    v = torch.where(hits, -restitution * speed, speed)
    one = torch.ones_like(height)
    return torch.stack([height + step * v, v, one, step * one], -1)


def ratio_variance(weights, theta, baseline, deviation):  # factors taken for independent
    n = weights.shape[-1]
    m = (theta * weights.sum(-1) - baseline) / deviation
    return n * weights.square().sum(-1) + n * m**2
