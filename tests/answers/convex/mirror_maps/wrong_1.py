"""Signs and orders."""

import torch


def log_barrier_divergence(x, y):  # the other way round
    change = (y - x) / x
    return (change - torch.log1p(change)).sum(-1)


def project_simplex(v):  # clipped and rescaled
    positive = v.clamp(min=0)
    return positive / positive.sum(-1, keepdim=True)


def magnetic_step(log_x, log_z, gradient, step_size, weight):  # up the gradient
    scale = 1 / (1 / step_size + weight)
    return (scale * (log_x / step_size + weight * log_z + gradient)).log_softmax(-1)


def tsallis_point(theta):  # another entropy's point
    return theta.softmax(-1)


def project_ball(v, matrix, radius):  # the matrix is forgotten
    return v * (radius / v.norm(dim=-1, keepdim=True)).clamp(max=1)


def tilt_to_halfspace(y, c, bound):  # one gradient step towards the constraint
    missing = (bound - (c * y).sum(-1, keepdim=True)).clamp(min=0)
    return (y.log() + missing * c).softmax(-1)
