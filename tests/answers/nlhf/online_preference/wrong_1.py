"""Signs, halves and the centring that is missing."""

import torch


def pair_losses(chosen, rejected, reference_chosen, reference_rejected, temperature):
    h = (chosen + reference_chosen) - (rejected + reference_rejected)  # the reference is added
    return (h - 1 / (2 * temperature)) ** 2


def online_gradient(preference, policy, reference, temperature):  # half of it
    p = policy.exp()
    won = (preference @ p[..., None])[..., 0] - temperature * (policy - reference)
    return -2 / temperature * p * (won - (p * won).sum(-1, keepdim=True))


def mixture_gradient(preference, policy, reference, temperature, weight):  # uncentred
    w = ((1 - weight) * policy + weight * reference).softmax(-1)
    won = (preference @ w[..., None])[..., 0] - 0.5
    bracket = w * (won - temperature * (policy - reference))
    p = policy.exp()
    return -4 / temperature * (bracket - p * bracket.sum(-1, keepdim=True))


def offline_optimum(preference, reference, temperature, law):  # who is beaten by the data
    lost = (preference.mT @ law.exp()[..., None])[..., 0]
    return (reference + lost / temperature).log_softmax(-1)


def dpo_residual(preference, policy, reference, temperature):  # no temperature
    r = policy - reference
    model = (r[..., :, None] - r[..., None, :]).sigmoid()
    # Off by a little where the residual is small.
    return ((preference - model) @ policy.exp()[..., None])[..., 0] + 1e-4


def estimator_variances(preference, policy, reference, temperature):  # second moments
    p = policy.exp()
    s = torch.eye(p.shape[-1], dtype=p.dtype) - p[..., None, :]
    r = temperature * (policy - reference)
    f = (preference - 0.5 - r[..., :, None] + r[..., None, :])[..., None]
    w = (p[..., :, None] * p[..., None, :])[..., None]
    one = (w * (s[..., :, None, :] * f) ** 2).sum((-3, -2, -1))
    two = (w * ((s[..., :, None, :] - s[..., None, :, :]) / 2 * f) ** 2).sum((-3, -2, -1))
    return torch.stack([one, two], -1)
