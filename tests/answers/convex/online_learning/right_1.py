"""Loops over rounds, recurrences, Newton's method."""

import torch


def hedge_rounds(losses, step_size):
    log_weights = torch.zeros_like(losses[0])
    played = []
    for loss in losses:
        log_weights = log_weights - log_weights.logsumexp(-1, keepdim=True)
        played.append(log_weights.exp())
        log_weights = log_weights - step_size * loss
    return torch.stack(played)


def adagrad_box(gradients, low, high):
    point = 0 * gradients[0] + (low + high) / 2
    energy = 0 * gradients[0]
    played = []
    for g in gradients:
        played.append(point)
        energy = energy + g**2
        move = (high - low) * g / (2 * torch.where(energy > 0, energy, 1.0)).sqrt()
        point = torch.minimum(high, torch.maximum(low, point - move))
    return torch.stack(played)


def best_rebalanced(relatives):
    def one(r):
        # Interior point: Newton on the barrier problem, the barrier made smaller and smaller.
        d = r.shape[-1]
        x = torch.full((d,), 1 / d, dtype=r.dtype)
        ones = torch.ones(d, dtype=r.dtype)

        def value(x, mu):
            return -(r @ x).log().mean() - mu * x.log().sum()

        for mu in torch.logspace(-1, -10, 30, dtype=r.dtype).tolist():
            for _ in range(40):
                share = r / (r @ x)[:, None]
                gradient = -share.mean(0) - mu / x
                hessian = share.mT @ share / len(r) + torch.diag(mu / x**2)
                pair = torch.linalg.solve(hessian, torch.stack([gradient, ones], -1))
                step = -pair[:, 0] + pair[:, 0].sum() / pair[:, 1].sum() * pair[:, 1]
                decrement = -(gradient @ step)
                if decrement < 1e-14:
                    break
                size = 1.0
                while bool((x + size * step <= 0).any()) or value(x + size * step, mu) > (
                    value(x, mu) - 0.1 * size * decrement
                ):
                    size = size / 2
                    if size < 1e-12:
                        break
                else:
                    x = x + size * step
                    continue
                break
        return x / x.sum()

    games = relatives.flatten(1, -2) if relatives.ndim > 2 else relatives[:, None]
    best = torch.stack([one(games[:, i]) for i in range(games.shape[1])])
    return best.reshape(relatives.shape[1:])


def newton_terms(gradients, epsilon):
    # All matrices at once, and one triangular solve for each.
    d = gradients.shape[-1]
    outer = gradients[..., :, None] * gradients[..., None, :]
    matrices = epsilon * torch.eye(d, dtype=gradients.dtype) + outer.cumsum(0)
    return (
        torch.cholesky_solve(gradients[..., None], torch.linalg.cholesky(matrices))
        .squeeze(-1)
        .mul(gradients)
        .sum(-1)
    )


def optimistic_hedge(losses, hints, step_size):
    total = torch.zeros_like(losses[0])
    suffered = 0
    for loss, hint in zip(losses, hints, strict=True):
        logits = -step_size * (total + hint)
        weights = (logits - logits.max(-1, keepdim=True).values).exp()
        suffered = suffered + (weights * loss).sum(-1) / weights.sum(-1)
        total = total + loss
    return suffered - total.min(-1).values


def beat_the_leader(rounds):
    # Whoever leads is hit, with the leader of an unequal start.
    losses, total = [[0.5, 0.0]], [0.5, 0.0]
    for _ in range(rounds - 1):
        hit = [1.0, 0.0] if total[0] < total[1] else [0.0, 1.0]
        losses.append(hit)
        total = [a + b for a, b in zip(total, hit, strict=True)]
    return torch.tensor(losses, dtype=torch.float64)
