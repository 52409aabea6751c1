"""Closed forms, area shares by differences of a cumulative sum, value iteration."""

import torch


def chances(seen, first):
    weight = 1 + 0.3 / (seen + 0.001) ** 0.5 + 1e-5 if first else 1 / (seen + 1) ** 0.5
    return weight / weight.sum(-1, keepdim=True)


def enter(score, length, seen, start, cells, gains):
    best, short, count = score.tolist(), length.tolist(), seen.tolist()
    begin, steps = best[start], short[start]
    kept = set()
    for cell in {start, *cells.tolist()}:
        count[cell] += 1
    for gain, cell in zip(gains.tolist(), cells.tolist(), strict=True):
        steps += 1
        earned = begin + gain
        if earned > best[cell] or (earned == best[cell] and steps < short[cell]):
            best[cell], short[cell] = earned, steps
            kept.add(cell)
    for cell in kept:
        count[cell] = 0.0
    return torch.tensor([best, short, count], dtype=torch.float64)


def trials(actions, depth):
    n = torch.arange(1, depth + 1, dtype=torch.float64)
    mean = (actions * n).sum()
    variance = ((actions * n) ** 2 - actions * n).sum()
    rests = torch.full_like(n, 1 - 1 / actions)
    rests[0] = 1.0
    far = (rests * n * (actions - 1) / (1 - float(actions) ** -n)).sum()
    return torch.stack([mean, variance, far])


def cell_of(image, width, height):
    rows, columns = image.shape[-2:]
    fine = image.repeat_interleave(height, -2).repeat_interleave(width, -1)
    blocks = fine.unflatten(-1, (width, columns)).unflatten(-3, (height, rows))
    total = blocks.sum((-1, -3))
    return torch.div(8 * total, 255 * rows * columns, rounding_mode="floor").long()


def starts(successes, length, threshold, back):
    index = torch.full(successes.shape[:-1], length - 1)
    found = [index]
    for share in successes.unbind(-1):
        index = torch.where(share >= threshold, (index - back).clamp(min=0), index)
        found.append(index)
    return torch.stack(found, -1)


def sticky_values(after, reward, end, p, discount):
    value = torch.zeros_like(reward)
    for _ in range(600):
        ahead = value.gather(0, after)  # the action made is the action before
        outcome = reward + discount * torch.where(end, 0.0, ahead)
        value = p * outcome + (1 - p) * outcome.max(1, keepdim=True).values
    return value
