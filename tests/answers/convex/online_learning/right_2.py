"""Cumulative sums, determinants, exponentiated gradient."""

import torch


def hedge_rounds(losses, step_size):
    shifted = torch.cat([torch.zeros_like(losses[:1]), losses[:-1]])
    return torch.softmax(-step_size * torch.cumsum(shifted, 0), dim=-1)


def adagrad_box(gradients, low, high):
    scale = (gradients.square().cumsum(0) * 2).sqrt()
    moves = torch.nan_to_num((high - low) * gradients / scale, nan=0.0)
    played = torch.empty_like(gradients)
    played[0] = (low + high) / 2
    for t in range(1, len(gradients)):
        played[t] = torch.clip(played[t - 1] - moves[t - 1], low, high)
    return played


def best_rebalanced(relatives):
    # Exponentiated gradient on the mean log growth, with a step that shrinks when it fails.
    def growth(logits):
        return (relatives * logits.softmax(-1)).sum(-1).log().mean(0)

    logits = torch.zeros_like(relatives[0])
    step = torch.ones_like(logits[..., :1])
    for _ in range(5_000):
        x = logits.softmax(-1)
        gradient = (relatives / (relatives * x).sum(-1, keepdim=True)).mean(0)
        if bool((gradient.amax(-1) - 1 < 1e-9).all()):
            break
        proposed = logits + step * gradient
        better = (growth(proposed) >= growth(logits) - 1e-15)[..., None]
        logits = torch.where(better, proposed, logits)
        step = torch.where(better, step * 1.3, step / 2).clamp(max=1e4)
    return logits.softmax(-1)


def newton_terms(gradients, epsilon):
    d = gradients.shape[-1]
    inverse = torch.eye(d, dtype=gradients.dtype).expand(*gradients.shape[1:], d) / epsilon
    result = torch.empty(gradients.shape[:-1], dtype=gradients.dtype)
    for t in range(len(gradients)):
        g = gradients[t]
        u = torch.einsum("...ij,...j->...i", inverse, g)
        s = 1 + torch.einsum("...i,...i->...", g, u)
        inverse = inverse - torch.einsum("...i,...j->...ij", u, u) / s[..., None, None]
        inverse = (inverse + inverse.mT) / 2
        result[t] = 1 - 1 / s
    return result


def optimistic_hedge(losses, hints, step_size):
    scores = torch.cat([torch.zeros_like(losses[:1]), losses.cumsum(0)[:-1]]) + hints
    p = torch.softmax(-step_size * scores, -1)
    return ((p * losses).sum(-1)).sum(0) - losses.sum(0).min(-1).values


def beat_the_leader(rounds):
    # The other way round, and with a quarter: any head start below one will do.
    losses = torch.zeros(rounds, 2, dtype=torch.float64)
    losses[0, 1] = 0.25
    losses[1::2, 0] = 1
    losses[2::2, 1] = 1
    return losses
