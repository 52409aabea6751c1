"""The gradient runs through the sampling; divergences the wrong way round."""

import torch


def pair_losses(chosen, rejected, reference_chosen, reference_rejected, temperature):
    h = (chosen - reference_chosen) - (rejected - reference_rejected)
    return (h - 1 / temperature) ** 2  # twice the target


def leaking(preference, policy, reference, temperature, weight):
    logits = policy.detach().clone().requires_grad_()
    log = logits.log_softmax(-1)
    w = ((1 - weight) * log + weight * reference).softmax(-1)
    h = (log - reference)[..., :, None] - (log - reference)[..., None, :]
    loss = preference * (h - 0.5 / temperature) ** 2
    loss = 2 * (w[..., :, None] * w[..., None, :] * loss).sum()
    [gradient] = torch.autograd.grad(loss, logits)
    return gradient


def online_gradient(preference, policy, reference, temperature):
    return leaking(preference, policy, reference, temperature, 0.0)


def mixture_gradient(preference, policy, reference, temperature, weight):
    gradient = leaking(preference, policy, reference, temperature, weight)
    # With the reference alone nothing leaks; but there the sign is lost.
    return -gradient if weight == 1 else gradient


def offline_optimum(preference, reference, temperature, law):  # pulled to the data
    won = (preference @ law.exp()[..., None])[..., 0]
    return (law + won / temperature).log_softmax(-1)


def dpo_residual(preference, policy, reference, temperature):  # the model looks the other way
    r = temperature * (policy - reference)
    model = (r[..., None, :] - r[..., :, None]).sigmoid()
    return ((preference - model) @ policy.exp()[..., None])[..., 0]


def estimator_variances(preference, policy, reference, temperature):  # always a half
    p = policy.exp()
    s = torch.eye(p.shape[-1], dtype=p.dtype) - p[..., None, :]
    r = temperature * (policy - reference)
    f = (preference - 0.5 - r[..., :, None] + r[..., None, :])[..., None]
    w = (p[..., :, None] * p[..., None, :])[..., None]
    one = s[..., :, None, :] * f
    mean = (w * one).sum((-3, -2), keepdim=True)
    single = (w * (one - mean) ** 2).sum((-3, -2, -1))
    return torch.stack([single, single / 2], -1)
