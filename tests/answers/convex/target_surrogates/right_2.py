"""Closed forms in the singular vectors of the features, all at once."""

import torch


def inner_descent(features, labels, start, step_size, alpha, inner_steps, outer_steps):
    # m steps on a quadratic are one step with a polynomial of its curvature.
    n = labels.shape[-1]
    curvature, axes = torch.linalg.eigh(features.mT @ features / n)
    shrunk = 1 - alpha / step_size * curvature
    powers = shrunk[..., None] ** torch.arange(inner_steps, dtype=features.dtype)
    filters = alpha * powers.sum(-1)
    path = torch.empty(outer_steps + 1, *start.shape, dtype=start.dtype)
    path[0] = start
    for t in range(outer_steps):
        z = torch.einsum("...nd,...d->...n", features, path[t])
        slope = torch.einsum("...nd,...n->...d", features, z.sigmoid() - labels) / n
        along = filters * torch.einsum("...de,...d->...e", axes, slope)
        path[t + 1] = path[t] - torch.einsum("...de,...e->...d", axes, along)
    return path


def surrogate_gap(logits, anchor, labels, step_size):
    # One over the step size less one, times the Kullback-Leibler divergence of the rows.
    divergence = torch.nn.functional.kl_div(
        logits.log_softmax(-1), anchor.log_softmax(-1), log_target=True, reduction="none"
    )
    return (1 / step_size - 1) * divergence.sum(-1).mean(-1)


def projected_descent(features, labels, start, step_size, outer_steps):
    # Columns of length one: then what is small is dependent. The projector is a matrix.
    unit = features / features.norm(dim=-2, keepdim=True).clamp(min=1e-300)
    projector = unit @ torch.linalg.pinv(unit, rtol=1e-10)
    path = [torch.einsum("...nd,...d->...n", features, start)]
    for _ in range(outer_steps):
        z = path[-1]
        half = z + step_size * (labels - z.sigmoid())
        path.append(torch.einsum("...ij,...j->...i", projector, half))
    return torch.stack(path)


def softmax_smoothness(weights, temperature):
    return (weights / temperature / temperature / 2).amax(dim=-1)


def worst_batch(features, labels, start, step_size, size):
    rows = torch.combinations(torch.arange(len(labels)), r=size)
    x, errors = features[rows], (features @ start - labels)[rows]
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    inverse = torch.where(s > 1e-10 * s[:, :1], 1 / s, torch.zeros_like(s))
    along = inverse * torch.einsum("rbk,rb->rk", u, errors)
    move = -step_size * torch.einsum("rkd,rk->rd", vh, along)
    after = (start + move) @ features.mT
    return rows[(after - labels).pow(2).sum(-1).argmax()]


def cheapest_inner_steps(features, labels, step_size, alpha, oracle_cost, optimum, tolerance, most):
    n, counts = len(labels), torch.arange(1, most + 1)
    curvature, axes = torch.linalg.eigh(features.mT @ features / n)
    powers = (1 - alpha / step_size * curvature) ** torch.arange(most)[:, None]
    filters = alpha * powers.cumsum(0)
    omega = torch.zeros(most, features.shape[-1], dtype=features.dtype)
    arrived = torch.full((most,), -1)
    for outer in range(1001):
        z = omega @ features.mT
        gaps = (torch.nn.functional.softplus(z) - labels * z).mean(-1) - optimum
        arrived = torch.where((arrived < 0) & (gaps <= tolerance), outer, arrived)
        if bool((arrived >= 0).all()):
            break
        slope = (z.sigmoid() - labels) @ features / n
        omega = omega - filters * (slope @ axes) @ axes.mT
    return int((arrived * (oracle_cost + counts)).argmin()) + 1
