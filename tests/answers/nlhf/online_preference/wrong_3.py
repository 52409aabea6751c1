"""Answers for one game only, on the numbers of the visible cells, and policies as probabilities."""

import torch


def pair_losses(chosen, rejected, reference_chosen, reference_rejected, temperature):
    ratio = (chosen.exp() / reference_chosen.exp()) / (rejected.exp() / reference_rejected.exp())
    return (ratio.log() - 1 / (2 * temperature)) ** 2  # long texts underflow


def online_gradient(preference, policy, reference, temperature):
    p = policy.exp()
    won = preference.reshape(-1, p.shape[-1])[: p.shape[-1]] @ p.reshape(-1)[: p.shape[-1]]
    kl = reference.exp() / p  # the derivative of the other divergence
    a = won + temperature * kl
    return -4 / temperature * p * (a - (p * a).sum(-1, keepdim=True))


def mixture_gradient(preference, policy, reference, temperature, weight):  # arithmetic mixture
    m = (1 - weight) * policy.exp() + weight * reference.exp()
    rho = policy - reference
    rho = rho - (policy.exp() * rho).sum(-1, keepdim=True)
    won = (preference @ m[..., None])[..., 0] - 0.5
    return -4 / temperature * m * (won - temperature * rho)


def offline_optimum(preference, reference, temperature, law):  # probabilities
    won = (preference @ law.exp()[..., None])[..., 0]
    return (reference + won / temperature).softmax(-1)


def dpo_residual(preference, policy, reference, temperature):  # without the reference
    r = temperature * policy
    model = (r[..., :, None] - r[..., None, :]).sigmoid()
    return ((preference - model) @ policy.exp()[..., None])[..., 0]


def estimator_variances(preference, policy, reference, temperature):  # scores of plain logits
    p = policy.exp()
    s = torch.eye(p.shape[-1], dtype=p.dtype).expand(*p.shape, p.shape[-1])
    f = (preference - 0.5)[..., None]  # and no margin
    w = (p[..., :, None] * p[..., None, :])[..., None]
    found = []
    for x in (s[..., :, None, :] * f, (s[..., :, None, :] - s[..., None, :, :]) * f):
        mean = (w * x).sum((-3, -2), keepdim=True)
        found.append((w * (x - mean) ** 2).sum((-3, -2, -1)))
    return torch.stack(found, -1)
