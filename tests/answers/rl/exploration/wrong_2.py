"""Things left out: the 1, the length, an action, the work, the beginning, the state."""

import torch


def chances(seen, first):  # without the 1, and with the same law for both
    weight = 0.3 * (seen + 1e-3).rsqrt() + 1e-5
    return weight / weight.sum(-1, keepdim=True)


def enter(score, length, seen, start, cells, gains):  # only the score counts
    best, short, count = score.clone(), length.clone(), seen.clone()
    count[torch.cat([cells, torch.tensor([start])]).unique()] += 1
    for k, cell in enumerate(cells.tolist()):
        if score[start] + gains[k] > best[cell]:
            best[cell], short[cell] = score[start] + gains[k], k + 1
            count[cell] = 0
    return torch.stack([best, short, count])


def trials(actions, depth):  # only wrong actions count
    a = float(actions - 1)
    mean = a * depth * (depth + 1) / 2
    variance = a * a * depth * (depth + 1) * (2 * depth + 1) / 6 - mean
    far = sum(n * a for n in range(1, depth + 1))
    return torch.tensor([mean, variance, far], dtype=torch.float64)


def cell_of(image, width, height):  # the library's own
    from mdtheory.rl.exploration import downscale

    return downscale(image.long(), width, height).long()


def starts(successes, length, threshold, back):  # not stopped at the beginning
    moves = (successes > threshold).long().cumsum(-1)
    moves = torch.cat([torch.zeros_like(moves[..., :1]), moves], -1)
    return length - 1 - back * moves


def sticky_values(after, reward, end, p, discount):  # the last action is not in the state
    value = torch.zeros(len(reward), dtype=torch.float64)
    for _ in range(600):
        outcome = reward + discount * value[after].masked_fill(end, 0.0)
        value = p * outcome.mean(1) + (1 - p) * outcome.amax(1)
    return value[:, None].expand(reward.shape).clone()
