"""Newton's method and active sets; rows one by one where that is simplest."""

import math

import torch


def log_barrier_divergence(x, y):
    h = x / y - 1
    near = h.abs() < 1e-3
    series = h**2 / 2 - h**3 / 3 + h**4 / 4 - h**5 / 5
    far = h - torch.log(torch.where(near, torch.ones_like(h), x / y))
    return torch.where(near, series, far).sum(dim=-1)


def by_rows(function, first, *others):
    d = first.shape[-1]
    rows = zip(
        first.reshape(-1, d), *(o.expand(first.shape).reshape(-1, d) for o in others), strict=True
    )
    return torch.stack([function(*row) for row in rows]).reshape(first.shape)


def project_simplex(v):
    def one(row):
        row = row - row.max()
        active = torch.ones_like(row, dtype=torch.bool)
        while True:
            tau = (row[active].sum() - 1) / active.sum()
            still = active & (row > tau)
            if bool((still == active).all()):
                return torch.where(active, row - tau, torch.zeros_like(row))
            active = still

    return by_rows(one, v)


def magnetic_step(log_x, log_z, gradient, step_size, weight):
    def one(x, z, g):
        logits = [
            (step_size * weight * b + a - step_size * c) / (1 + step_size * weight)
            for a, b, c in zip(x.tolist(), z.tolist(), g.tolist(), strict=True)
        ]
        top = max(logits)
        total = top + math.log(sum(math.exp(value - top) for value in logits))
        return torch.tensor([value - total for value in logits], dtype=torch.float64)

    return by_rows(one, log_x, log_z, gradient)


def tsallis_point(theta):
    gaps = theta.amax(-1, keepdim=True) - theta
    # Newton on 1/sqrt(sum) = 1, which is nearly a straight line.
    level = torch.ones_like(gaps[..., :1])
    for _ in range(40):
        total = ((level + gaps) ** -2).sum(-1, keepdim=True)
        slope = ((level + gaps) ** -3).sum(-1, keepdim=True) * total**-1.5
        level = level - (total**-0.5 - 1) / slope
    return (level + gaps) ** -2


def project_ball(v, matrix, radius):
    values, vectors = torch.linalg.eigh(matrix)
    z = torch.einsum("...ij,...i->...j", vectors, v)
    k = torch.zeros_like(v[..., :1])
    for _ in range(100):
        x = values * z / (values + k)
        square = (x**2).sum(-1, keepdim=True)
        change = (x**2 / (values + k)).sum(-1, keepdim=True)
        # Newton on 1/|x| = 1/R; inside the ball k would fall below 0.
        ratio = torch.where(change > 0, square / change, 0.0)
        k = (k + ratio * (square.sqrt() / radius - 1)).clamp(min=0)
    return torch.einsum("...ij,...j->...i", vectors, values * z / (values + k))


def tilt_to_halfspace(y, c, bound):
    def one(y, c):
        if float(c @ y) >= bound:
            return y
        low, high, m = 0.0, math.inf, 0.0
        for _ in range(500):
            x = torch.softmax(y.log() + m * c, -1)
            mean = float(c @ x)
            low, high = (m, high) if mean < bound else (low, m)
            variance = float(x @ (c - mean) ** 2)
            guess = m + (bound - mean) / variance if variance > 0 else math.inf
            if not low < guess < high:
                guess = 2 * low + 1 if high == math.inf else (low + high) / 2
            m = guess
        return torch.softmax(y.log() + m * c, -1)

    return by_rows(one, y, c)
