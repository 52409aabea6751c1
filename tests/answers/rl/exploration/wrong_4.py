"""Nearly right: float32, the start forgotten, a variance without its last term, wishes."""

import torch


def chances(seen, first):  # in float32
    seen = seen.float()
    weight = 1 + 0.3 * (seen + 1e-3).rsqrt() + 1e-5 if first else (seen + 1).rsqrt()
    return weight / weight.sum(-1, keepdim=True)


def enter(score, length, seen, start, cells, gains):  # the values of the start as they are now
    best, short, count = score.clone(), length.clone(), seen.clone()
    count[cells.unique()] += 1
    for k, cell in enumerate(cells.tolist()):
        earned, steps = best[start] + gains[k], short[start] + k + 1
        if earned > best[cell] or (earned == best[cell] and steps < short[cell]):
            best[cell], short[cell], count[cell] = earned, steps, 0
    return torch.stack([best, short, count])


def trials(actions, depth):  # the start is no state; every state is a place of rest
    a = float(actions)
    mean = a + a * depth * (depth - 1) / 2
    variance = a * a * depth * (depth + 1) * (2 * depth + 1) / 6
    far = (a - 1) * sum(n / (1 - a**-n) for n in range(1, depth + 1))
    return torch.tensor([mean, variance, far], dtype=torch.float64)


def cell_of(image, width, height):  # means first, levels below the grey of white
    rows, columns = image.shape[-2:]
    fine = image.repeat_interleave(height, -2).repeat_interleave(width, -1)
    mean = fine.unflatten(-1, (width, columns)).unflatten(-3, (height, rows)).mean((-1, -3))
    return (mean * 8 / 256).long()


def starts(successes, length, threshold, back):  # one run's moves for all, and no first index
    moves = (successes >= threshold).long().cumsum(-1)
    return (length - 1 - back * moves).clamp(min=0)


def sticky_values(after, reward, end, p, discount):  # the action wanted is remembered, not made
    made, value = torch.arange(reward.shape[1]), torch.zeros_like(reward)
    for _ in range(600):
        ahead = value[after, made].masked_fill(end, 0.0)
        best = (reward + discount * ahead).argmax(1)
        rows = torch.arange(len(reward))
        own = reward + discount * ahead
        forced = reward + discount * value[after, best[:, None]].masked_fill(end, 0.0)
        value = p * forced + 0.99 * (1 - p) * own[rows, best][:, None]
    return value
