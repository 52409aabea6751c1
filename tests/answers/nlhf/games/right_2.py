"""Duals, derivatives by autograd, recursion."""

import math

import torch


def exploitability_of(payoff, log_x, log_y):
    pairs = payoff * log_y.exp()[..., None, :], payoff * log_x.exp()[..., :, None]
    return (pairs[0].sum(-1).amax(-1) + (-pairs[1].sum(-2)).amax(-1)) / 2


def step(payoff, log_x, log_y, magnet_x, magnet_y, tau, eta):
    up = (payoff @ log_y.exp().unsqueeze(-1)).squeeze(-1)
    down = (payoff.transpose(-1, -2) @ log_x.exp().unsqueeze(-1)).squeeze(-1)
    new_x = (log_x + eta * tau * magnet_x + eta * up) / (1 + eta * tau)
    new_y = (log_y + eta * tau * magnet_y - eta * down) / (1 + eta * tau)
    return (
        new_x - new_x.logsumexp(-1, keepdim=True),
        new_y - new_y.logsumexp(-1, keepdim=True),
    )


def magnetic_run(payoff, log_x, log_y, magnet_x, magnet_y, temperature, step_size, iterations):
    pair = log_x, log_y
    for _ in range(iterations):
        pair = step(payoff, *pair, magnet_x, magnet_y, temperature, step_size)
    return torch.cat(pair, -1)


def longest_step_of_one(payoff, tau):
    m, n = payoff.shape
    top = float(payoff.abs().max())
    eta = 1 / top
    zeros = torch.zeros(m, dtype=payoff.dtype), torch.zeros(n, dtype=payoff.dtype)
    pair = zeros[0].log_softmax(0), zeros[1].log_softmax(0)

    def toward(at, start):
        up, down = payoff @ at[1].exp(), payoff.T @ at[0].exp()
        return (
            ((start[0] + eta * up) / (1 + eta * tau)).log_softmax(0),
            ((start[1] - eta * down) / (1 + eta * tau)).log_softmax(0),
        )

    for _ in range(max(200, math.ceil(60 * (1 + top / tau)))):
        pair = toward(toward(pair, pair), pair)

    def costs(z):
        x, y = z[:m].softmax(0), z[m:].softmax(0)
        return torch.cat([payoff @ y, -payoff.T @ x])

    turn = torch.autograd.functional.jacobian(costs, torch.cat(pair))
    w = torch.linalg.eigvals(turn).abs().max()
    if w <= tau:
        return torch.tensor(math.inf, dtype=payoff.dtype)
    return 2 * tau / (w**2 - tau**2)


def longest_step(payoff, temperature):
    flat = payoff.reshape(-1, *payoff.shape[-2:])
    found = torch.stack([longest_step_of_one(game, temperature) for game in flat])
    return found.reshape(payoff.shape[:-2])


def mixed_behaviour(parents, first, second, share):
    width = first.shape[-1]
    above = parents.tolist()

    def led(plan, j):
        if above[j] < 0:
            return torch.ones_like(plan[..., 0, 0])
        row, action = divmod(above[j], width)
        return led(plan, row) * plan[..., row, action]

    rows = []
    for j in range(len(above)):
        one = share * led(first, j)[..., None]
        two = (1 - share) * led(second, j)[..., None]
        even = torch.full_like(first[..., j, :], 1 / width)
        mean = (one * first[..., j, :] + two * second[..., j, :]) / (one + two)
        rows.append(torch.where(one + two > 0, mean, even))
    return torch.stack(rows, -2)


def values_given_reached(parents, others, ends, payoff, chance, mine, theirs):
    rows, width = mine.shape

    def choices(above, last):
        return [] if last < 0 else [*choices(above, above[last // width]), divmod(last, width)]

    ways = []
    for k in range(len(payoff)):
        weight = float(chance[k])
        for j, a in choices(others.tolist(), int(ends[k, 1])):
            weight *= float(theirs[j, a])
        ways.append((choices(parents.tolist(), int(ends[k, 0])), weight, float(payoff[k])))
    result = torch.zeros_like(mine)
    for j in range(rows):
        for a in range(width):
            gained = often = 0.0
            for path, weight, pay in ways:
                if (j, a) in path:
                    for row, action in path[path.index((j, a)) + 1 :]:
                        weight = weight * float(mine[row, action])
                    gained += weight * pay
                    often += weight
            # All actions of a row are led to equally often.
            result[j, a] = gained / often if often > 0 else 0.0
    return result


def certified_strategies(payoff, gap):
    """Alternating predictive regret matching, one game after the other."""
    flat = payoff.reshape(-1, *payoff.shape[-2:])
    found = torch.stack([_one(game, gap) for game in flat])
    return found.reshape(*payoff.shape[:-2], -1)


def _one(payoff, gap):
    m, n = payoff.shape
    plays = [torch.full((m,), 1 / m).double(), torch.full((n,), 1 / n).double()]
    regrets = [torch.zeros(m).double(), torch.zeros(n).double()]
    means = [p.clone() for p in plays]
    total = 0.0
    for t in range(1, 100_000):
        for side in (0, 1):
            gain = payoff @ plays[1] if side == 0 else -payoff.T @ plays[0]
            instant = gain - gain @ plays[side]
            regrets[side] = (regrets[side] + instant).clamp(min=0)
            guess = (regrets[side] + instant).clamp(min=0)
            if guess.sum() > 0:
                plays[side] = guess / guess.sum()
        total += t**2
        means = [s + (p - s) * (t**2 / total) for s, p in zip(means, plays, strict=True)]
        x, y = (s / s.sum() for s in means)
        if (payoff @ y).max() - (payoff.T @ x).min() <= gap:
            break
    return torch.cat([x, y]).log()
