"""Factors, and steps that leave something out."""

import torch


def exploitability_of(payoff, log_x, log_y):  # NashConv
    x, y = log_x.exp(), log_y.exp()
    return (payoff @ y[..., None]).amax((-2, -1)) - (x[..., None, :] @ payoff).amin((-2, -1))


def magnetic_run(payoff, log_x, log_y, magnet_x, magnet_y, temperature, step_size, iterations):
    for _ in range(iterations):  # no normalisation on the way, and the magnet is not mixed in
        up = (payoff @ log_y.exp()[..., None])[..., 0]
        down = (log_x.exp()[..., None, :] @ payoff)[..., 0, :]
        log_x, log_y = log_x + step_size * up, log_y - step_size * down
    return torch.cat([log_x, log_y], -1)


def longest_step(payoff, temperature):  # as if the fixed point were even play, units forgotten
    return torch.full(
        payoff.shape[:-2], 2 * temperature / abs(1 - temperature**2), dtype=payoff.dtype
    )


def mixed_behaviour(parents, first, second, share):  # the root weights are left out, geometric
    mixed = first**share * second ** (1 - share)
    return mixed / mixed.sum(-1, keepdim=True)


def values_given_reached(parents, others, ends, payoff, chance, mine, theirs):
    """Divides by the player's own weight, too: the mean payoff of the whole way."""
    width = mine.shape[1]

    def choices(above, last):
        return [] if last < 0 else [*choices(above, above[last // width]), divmod(last, width)]

    gained, often = torch.zeros_like(mine), torch.zeros_like(mine)
    for k in range(len(payoff)):
        path = choices(parents.tolist(), int(ends[k, 0]))
        for j, a in path:  # neither the opponent nor what follows is weighed
            gained[j, a] += chance[k] * payoff[k]
            often[j, a] += chance[k]
    return torch.where(often > 0, gained / often, 0.0)


def certified_strategies(payoff, gap):  # the last iterate of regret matching, too few rounds
    m, n = payoff.shape[-2:]
    x = torch.full_like(payoff[..., :, 0], 1 / m)
    y = torch.full_like(payoff[..., 0, :], 1 / n)
    rx, ry = torch.zeros_like(x), torch.zeros_like(y)
    for _ in range(30):
        up, down = (payoff @ y[..., None])[..., 0], (x[..., None, :] @ payoff)[..., 0, :]
        rx = (rx + up - (up * x).sum(-1, keepdim=True)).clamp(min=0)
        ry = (ry - down + (down * y).sum(-1, keepdim=True)).clamp(min=0)
        x = torch.where(rx.sum(-1, keepdim=True) > 0, rx / rx.sum(-1, keepdim=True), x)
        y = torch.where(ry.sum(-1, keepdim=True) > 0, ry / ry.sum(-1, keepdim=True), y)
    return torch.cat([x, y], -1).log()
