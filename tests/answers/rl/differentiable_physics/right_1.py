"""By autograd, sums of products, and one loop over time."""

import torch


def pass_back(cotangent, limit):
    sent = torch.where(cotangent.isnan(), 0.0, cotangent)
    big = sent.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    norm = torch.linalg.vector_norm(sent / big, dim=-1, keepdim=True)
    # The two factors apart: their product may overflow where the result does not.
    return torch.where(norm * big <= limit, sent, sent / big / norm * limit)


def chamfer(states, shown, alpha):
    apart = torch.cdist(
        states, shown.expand(*states.shape[:-2], *shown.shape),
        compute_mode="donot_use_mm_for_euclid_dist",
    )  # fmt: skip
    u, t = apart.argmin(-1), apart.argmin(-2)
    x = states.detach().requires_grad_()
    width = states.shape[-1]
    first = x - shown[u]
    second = x.gather(-2, t[..., None].expand(*t.shape, width)) - shown
    loss = alpha * root(first).mean(-1) + root(second).mean(-1)
    (slope,) = torch.autograd.grad(loss.sum(), x)
    return torch.cat([loss.detach().unsqueeze(-1), slope.flatten(-2)], -1)


def root(gap):
    square = gap.square().mean(-1)
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def adjoint(transitions, influences, slopes):
    sensitivity = torch.zeros_like(influences[..., 0, :, :])
    total = 0.0
    for t in range(transitions.shape[-3]):
        sensitivity = transitions[..., t, :, :] @ sensitivity + influences[..., t, :, :]
        total = total + torch.einsum("...n,...np->...p", slopes[..., t + 1, :], sensitivity)
    return total


def lost_share(rho, states, every):
    t = torch.arange(1, states + 1)
    powers = rho[..., None] ** torch.arange(states, dtype=torch.float64)
    sums = powers.cumsum(-1)
    return 1 - sums[..., (t - 1) % every].sum(-1) / sums.sum(-1)


def impact_step(height, speed, step, restitution):
    y = height.detach().requires_grad_()
    v = speed.detach().requires_grad_()
    ahead = y + step * v
    hits = ahead < 0
    until = -y / torch.where(hits, v, 1.0)
    place = torch.where(hits, -restitution * v * (step - until), ahead)
    slopes = torch.autograd.grad(place.sum(), (y, v))
    after = torch.where(hits, -restitution * speed, speed)
    return torch.stack([place.detach(), after, *slopes], -1)


def ratio_variance(weights, theta, baseline, deviation):
    n = weights.shape[-1]
    mean = weights.sum(-1)
    second = n * (weights**2).sum(-1) + 2 * mean**2
    off = theta * mean - baseline
    return second - mean**2 + n * off**2 / deviation**2
