"""Einsum, a Newton method, and weights from the root down."""

import math

import torch


def costs(payoff, log_x, log_y):
    received = torch.einsum("...ij,...j->...i", payoff, log_y.exp())
    paid = torch.einsum("...ij,...i->...j", payoff, log_x.exp())
    return received, paid


def exploitability_of(payoff, log_x, log_y):
    received, paid = costs(payoff, log_x, log_y)
    return 0.5 * received.max(-1).values - 0.5 * paid.min(-1).values


def magnetic_run(payoff, log_x, log_y, magnet_x, magnet_y, temperature, step_size, iterations):
    b = 1 / (1 / step_size + temperature)
    a = b * temperature
    for _ in range(iterations):
        received, paid = costs(payoff, log_x, log_y)
        log_x = torch.log_softmax((1 - a) * log_x + a * magnet_x + b * received, -1)
        log_y = torch.log_softmax((1 - a) * log_y + a * magnet_y - b * paid, -1)
    return torch.cat([log_x, log_y], -1)


def fixed_point(payoff, tau):
    """Newton's method, the temperature lowered little by little."""
    m, n = payoff.shape[-2:]
    size = m + n
    logs = payoff.new_zeros(*payoff.shape[:-2], size)
    eye = torch.eye(size, dtype=payoff.dtype)
    top = max(2 * float(payoff.abs().max()), tau)
    heats = [top * (tau / top) ** (k / 40) for k in range(41)]
    for heat in heats:
        for _ in range(8):
            log_x, log_y = logs[..., :m].log_softmax(-1), logs[..., m:].log_softmax(-1)
            received, paid = costs(payoff, log_x, log_y)
            x, y = log_x.exp(), log_y.exp()
            # A change d of the duals moves the probabilities by J d.
            jx = torch.diag_embed(x) - x[..., None] * x[..., None, :]
            jy = torch.diag_embed(y) - y[..., None] * y[..., None, :]
            up = torch.cat([torch.zeros_like(jx), payoff @ jy], -1)
            down = torch.cat([-payoff.mT @ jx, torch.zeros_like(jy)], -1)
            system = heat * eye - torch.cat([up, down], -2)
            # Constants are no change; without them a change can be kept small.
            up, down = received - heat * log_x, -paid - heat * log_y
            up, down = (v - v.mean(-1, keepdim=True) for v in (up, down))
            target = torch.cat([up, down], -1)
            change = torch.linalg.solve(system, target[..., None])[..., 0]
            logs = torch.cat([log_x, log_y], -1) + change.clamp(-1, 1)
    return logs[..., :m].softmax(-1), logs[..., m:].softmax(-1)


def longest_step(payoff, temperature):
    x, y = fixed_point(payoff, temperature)
    jx = torch.diag_embed(x) - x[..., None] * x[..., None, :]
    jy = torch.diag_embed(y) - y[..., None] * y[..., None, :]
    # Eigenvalues of the turning part are +-i w, and -w^2 are those of its square.
    square = payoff @ jy @ payoff.mT @ jx
    w = torch.linalg.eigvals(square).real.amax(-1).clamp(min=0).sqrt()
    finite = 2 * temperature / (w * w - temperature * temperature)
    return torch.where(w > temperature, finite, torch.full_like(w, math.inf))


def mixed_behaviour(parents, first, second, share):
    width = first.shape[-1]
    both = torch.stack([first, second])
    weights = torch.zeros_like(both)
    coin = torch.tensor([share, 1 - share], dtype=first.dtype)
    coin = coin.reshape(2, *[1] * (first.ndim - 2))
    for j, above in enumerate(parents.tolist()):
        led = coin if above < 0 else weights[..., above // width, above % width]
        weights[..., j, :] = led[..., None] * both[..., j, :]
    total = weights.sum(0)
    size = total.sum(-1, keepdim=True).expand_as(total)
    result = torch.full_like(total, 1 / width)
    result[size > 0] = (total / size)[size > 0]
    return result


def values_given_reached(parents, others, ends, payoff, chance, mine, theirs):
    width = mine.shape[1]
    weights = torch.zeros_like(theirs)
    for j, above in enumerate(others.tolist()):
        led = 1.0 if above < 0 else weights[above // width, above % width]
        weights[j] = led * theirs[j]
    flat = torch.cat([weights.flatten(), torch.ones(1, dtype=mine.dtype)])
    given = chance * flat[ends[:, 1]]  # -1 is the last entry
    pay, often = (torch.zeros(mine.numel() + 1, dtype=mine.dtype) for _ in range(2))
    pay.index_add_(0, ends[:, 0] % (mine.numel() + 1), given * payoff)
    often.index_add_(0, ends[:, 0] % (mine.numel() + 1), given)
    pay, often = pay[:-1].reshape(mine.shape), often[:-1].reshape(mine.shape)
    for j in reversed(range(len(mine))):
        above = int(parents[j])
        if above >= 0:
            pay[above // width, above % width] += (mine[j] * pay[j]).sum()
            often[above // width, above % width] += (mine[j] * often[j]).sum()
    led = (mine * often).sum(-1, keepdim=True)
    return torch.nan_to_num(pay / led, nan=0.0, posinf=0.0, neginf=0.0)


def certified_strategies(payoff, gap):
    """Regret matching plus with plain means of squares."""
    m, n = payoff.shape[-2:]
    x = torch.ones_like(payoff[..., :, 0]) / m
    y = torch.ones_like(payoff[..., 0, :]) / n
    rx, ry, sx, sy = (torch.zeros_like(v) for v in (x, y, x, y))
    for t in range(1, 100_000):
        gain = torch.einsum("...ij,...j->...i", payoff, y)
        rx = (rx + gain - (gain * x).sum(-1, keepdim=True)).relu()
        size = rx.sum(-1, keepdim=True)
        x = torch.where(size > 0, rx / size, x)
        gain = -torch.einsum("...ij,...i->...j", payoff, x)
        ry = (ry + gain - (gain * y).sum(-1, keepdim=True)).relu()
        size = ry.sum(-1, keepdim=True)
        y = torch.where(size > 0, ry / size, y)
        sx, sy = sx + t * t * x, sy + t * t * y
        if t % 50 == 0:
            p, q = sx / sx.sum(-1, keepdim=True), sy / sy.sum(-1, keepdim=True)
            found = 2 * exploitability_of(payoff, p.log(), q.log())
            if bool((found <= gap).all()):
                break
    return torch.cat([p, q], -1).log()
