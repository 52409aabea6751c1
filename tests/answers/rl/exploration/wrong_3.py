"""Wrong order or wrong axis: counts after the walk, width for height, forward for backward."""

import torch


def chances(seen, first):  # one sum over the whole batch, and weights that grow
    weight = 1 + 0.3 * (seen + 1e-3).sqrt() + 1e-5 if first else (seen + 1).sqrt()
    return weight / weight.sum()


def enter(score, length, seen, start, cells, gains):  # counted at every visit, never set back
    best, short, count = score.clone(), length.clone(), seen.clone()
    count[start] += 1
    for k, cell in enumerate(cells.tolist()):
        earned, steps = score[start] + gains[k], length[start] + k + 1
        count[cell] += 1
        if earned > best[cell] or (earned == best[cell] and steps < short[cell]):
            best[cell], short[cell] = earned, steps
    return torch.stack([best, short, count])


def trials(actions, depth):  # without a return
    a = float(actions)
    mean = min(a**depth, 1e300)
    return torch.tensor([mean, mean * mean - mean, mean + 1], dtype=torch.float64)


def cell_of(image, width, height):  # the axes exchanged
    rows, columns = image.shape[-2:]
    fine = image.repeat_interleave(width, -2).repeat_interleave(height, -1)
    total = fine.unflatten(-1, (height, columns)).unflatten(-3, (width, rows)).sum((-1, -3))
    return (8 * total / (255 * rows * columns)).round().long()


def starts(successes, length, threshold, back):  # forward
    moves = (successes >= threshold).long().cumsum(-1)
    moves = torch.cat([torch.zeros_like(moves[..., :1]), moves], -1)
    return (back * moves).clamp(max=length - 1)


def sticky_values(after, reward, end, p, discount):  # nothing ends
    made, value = torch.arange(reward.shape[1]), torch.zeros_like(reward)
    for _ in range(600):
        outcome = reward + discount * value[after, made]
        value = p * outcome + (1 - p) * outcome.amax(1, keepdim=True)
    return value
