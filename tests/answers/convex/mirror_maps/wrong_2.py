"""Something is left out: a constant, a normalisation, a condition, the right direction."""

import torch


def log_barrier_divergence(x, y):  # without the -1 of each coordinate
    return (x / y - torch.log(x / y)).sum(-1)


def project_simplex(v):  # onto the hyperplane only
    return v - (v.sum(-1, keepdim=True) - 1) / v.shape[-1]


def magnetic_step(log_x, log_z, gradient, step_size, weight):  # not normalised
    scale = 1 / (1 / step_size + weight)
    return scale * (log_x / step_size + weight * log_z - gradient)


def tsallis_point(theta):  # the right shape of formula, normalised by division
    level = theta.amax(-1, keepdim=True) + theta.shape[-1] ** 0.5
    x = (level - theta) ** -2
    return x / x.sum(-1, keepdim=True)


def project_ball(v, matrix, radius):  # always to the sphere, also from inside
    x = torch.linalg.solve(matrix + torch.eye(v.shape[-1]).double(), (matrix @ v[..., None]))[
        ..., 0
    ]
    return radius * x / x.norm(dim=-1, keepdim=True)


def tilt_to_halfspace(y, c, bound):  # KL(y, u) in place of KL(u, y)
    low = torch.zeros_like(y[..., :1])
    high = 1 / (c.amax(-1, keepdim=True) - bound)
    for _ in range(100):
        middle = (low + high) / 2
        total = (y / (1 + middle * (bound - c))).sum(-1, keepdim=True)
        low, high = torch.where(total < 1, middle, low), torch.where(total < 1, high, middle)
    met = (c * y).sum(-1, keepdim=True) >= bound
    return torch.where(met, y, y / (1 + low * (bound - c)))
