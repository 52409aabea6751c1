"""Automatic differentiation of sums over all pairs, and regression."""

import torch


def pair_losses(chosen, rejected, reference_chosen, reference_rejected, temperature):
    h = chosen - reference_chosen
    h = h - (rejected - reference_rejected)
    return h * h - h / temperature + 1 / (4 * temperature**2)


def differentiated(preference, policy, reference, temperature, law):
    logits = policy.detach().clone().requires_grad_()
    rho = torch.log_softmax(logits, -1) - reference
    h = rho[..., :, None] - rho[..., None, :]
    m = law.detach().exp()
    weight = m[..., :, None] * m[..., None, :]
    loss = preference * (h - 0.5 / temperature) ** 2
    loss = loss + (1 - preference) * (h + 0.5 / temperature) ** 2
    [gradient] = torch.autograd.grad((weight * loss).sum(), logits)
    return gradient.detach()


def online_gradient(preference, policy, reference, temperature):
    return differentiated(preference, policy, reference, temperature, policy)


def mixture_gradient(preference, policy, reference, temperature, weight):
    w = policy.exp() ** (1 - weight) * reference.exp() ** weight
    law = (w / w.sum(-1, keepdim=True)).log()
    return differentiated(preference, policy, reference, temperature, law)


def offline_optimum(preference, reference, temperature, law):
    won = (preference * law.exp().unsqueeze(-2)).sum(-1) / temperature
    return (reference + won - won.amax(-1, keepdim=True)).log_softmax(-1)


def dpo_residual(preference, policy, reference, temperature):
    rho = policy - reference
    odds = torch.exp(temperature * (rho[..., None, :] - rho[..., :, None]))
    share = policy.exp()[..., None, :]
    return (share * (preference - 1 / (1 + odds))).sum(-1)


def estimator_variances(preference, policy, reference, temperature):
    p = policy.exp()
    eye = torch.eye(p.shape[-1], dtype=p.dtype)
    s = eye - p[..., None, :]
    rho = policy - reference
    f = preference - 0.5 - temperature * (rho[..., :, None] - rho[..., None, :])
    one = s[..., :, None, :] * f[..., None]
    two = 0.5 * (s[..., :, None, :] - s[..., None, :, :]) * f[..., None]
    weight = (p[..., :, None] * p[..., None, :])[..., None]

    def variance(x):
        mean = (weight * x).sum((-3, -2), keepdim=True)
        return (weight * (x - mean) ** 2).sum((-3, -2, -1))

    return torch.stack([variance(one), variance(two)], -1)
