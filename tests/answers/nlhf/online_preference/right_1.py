"""Closed forms, batched."""

import torch


def pair_losses(chosen, rejected, reference_chosen, reference_rejected, temperature):
    h = (chosen - rejected) - (reference_chosen - reference_rejected)
    return torch.square(h - 0.5 / temperature)


def slope(preference, policy, reference, temperature, law):
    m = law.exp()
    rho = policy - reference
    rho = rho - (m * rho).sum(-1, keepdim=True)
    won = torch.einsum("...yz,...z->...y", preference, m)
    return m * (4 * rho - 4 / temperature * (won - 0.5))


def online_gradient(preference, policy, reference, temperature):
    return slope(preference, policy, reference, temperature, policy)


def mixture_gradient(preference, policy, reference, temperature, weight):
    law = torch.log_softmax(policy + weight * (reference - policy), -1)
    return slope(preference, policy, reference, temperature, law)


def offline_optimum(preference, reference, temperature, law):
    won = torch.einsum("...yz,...z->...y", preference, law.exp())
    logits = reference + (won - 0.5) / temperature
    return logits - logits.logsumexp(-1, keepdim=True)


def dpo_residual(preference, policy, reference, temperature):
    r = temperature * (policy - reference)
    model = torch.sigmoid(r.unsqueeze(-1) - r.unsqueeze(-2))
    return torch.einsum("...yz,...z->...y", preference - model, policy.exp())


def estimator_variances(preference, policy, reference, temperature):
    p, n = policy.exp(), policy.shape[-1]
    r = temperature * (policy - reference)
    f = preference - 0.5 - r.unsqueeze(-1) + r.unsqueeze(-2)
    pairs = p.unsqueeze(-1) * p.unsqueeze(-2) * f**2
    ahead = (p.unsqueeze(-2) * f).sum(-1)
    mean = p * (ahead - (p * ahead).sum(-1, keepdim=True))
    square = (mean**2).sum(-1)
    length = 1 - 2 * p + (p**2).sum(-1, keepdim=True)
    single = (length * pairs.sum(-1)).sum(-1) - square
    other = 1 - torch.eye(n, dtype=p.dtype)  # |e_y - e_z|^2 is 2 for different answers
    both = (pairs * other / 2).sum((-2, -1)) - square
    return torch.stack([single, both], -1)
