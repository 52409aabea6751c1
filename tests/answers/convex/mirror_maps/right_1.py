"""Bisection wherever one number is sought."""

import torch


def log_barrier_divergence(x, y):
    log_ratio = torch.log1p((x - y) / y)
    return torch.sum(torch.expm1(log_ratio) - log_ratio, dim=-1)


def halve(low, high, too_low):
    for _ in range(200):
        middle = (low + high) / 2
        where = too_low(middle)
        low, high = torch.where(where, middle, low), torch.where(where, high, middle)
    return high


def project_simplex(v):
    top = v.max(-1, keepdim=True).values
    v = v - top
    tau = halve(
        torch.full_like(top, -1),
        torch.zeros_like(top),
        lambda t: (v - t).relu().sum(-1, keepdim=True) > 1,
    )
    return (v - tau).relu()


def magnetic_step(log_x, log_z, gradient, step_size, weight):
    b = 1 / (1 / step_size + weight)
    a = weight * b
    dual = (1 - a) * log_x + a * log_z - b * gradient
    return dual - dual.logsumexp(-1, keepdim=True)


def tsallis_point(theta):
    gaps = theta.max(-1, keepdim=True).values - theta
    one = torch.ones_like(gaps[..., :1])
    level = halve(
        one,
        one * theta.shape[-1] ** 0.5,
        lambda s: ((s + gaps) ** -2).sum(-1, keepdim=True) > 1,
    )
    return 1 / (level + gaps) ** 2


def project_ball(v, matrix, radius):
    eye = torch.eye(v.shape[-1], dtype=v.dtype)

    def at(k):
        system = matrix + k[..., None] * eye
        return torch.linalg.solve(system, (matrix @ v[..., None]))[..., 0]

    def length(x):
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True)

    zero = torch.zeros_like(v[..., :1])
    most = length((matrix @ v[..., None])[..., 0]) / radius
    k = halve(zero, most, lambda k: length(at(k)) > radius)
    return torch.where(length(v) <= radius, v, at(k))


def tilt_to_halfspace(y, c, bound):
    def tilted(m):
        logits = y.log() + m * c
        weights = (logits - logits.max(-1, keepdim=True).values).exp()
        return weights / weights.sum(-1, keepdim=True)

    zero = torch.zeros_like(y[..., :1])
    m = halve(zero, zero + 1e9, lambda m: (tilted(m) * c).sum(-1, keepdim=True) < bound)
    met = (y * c).sum(-1, keepdim=True) >= bound
    return torch.where(met, y, tilted(m))
