"""Logarithms, sorting, recursions, pictures upsampled, policies improved."""

import torch


def chances(seen, first):
    if first:
        return torch.softmax((1 + 0.3 * (seen + 1e-3).pow(-0.5) + 1e-5).log(), -1)
    return torch.softmax(-0.5 * torch.log1p(seen), -1)


def enter(score, length, seen, start, cells, gains):
    count, out = seen.clone(), torch.stack([score, length])
    offered = {}
    for k in range(len(cells)):
        way = (float(score[start] + gains[k]), -float(length[start] + k + 1))
        offered.setdefault(int(cells[k]), []).append(way)
    for cell in set(offered) | {start}:
        count[cell] = seen[cell] + 1
    for cell, ways in offered.items():
        way = max(ways)
        if way > (float(score[cell]), -float(length[cell])):
            out[0, cell], out[1, cell], count[cell] = way[0], -way[1], 0
    return torch.cat([out, count[None]])


def trials(actions, depth):
    far, mean, variance = 0.0, 0.0, 0.0
    power = 1.0
    for n in range(1, depth + 1):
        power = power / actions
        mean = mean + actions * n
        variance = variance + actions * n * (actions * n - 1)
        stays = 1.0 if n == 1 else (actions - 1) / actions
        far = far + stays * n * (actions - 1) / (1 - power)
    return torch.tensor([mean, variance, far], dtype=torch.float64)


def cell_of(image, width, height):
    rows, columns = image.shape[-2:]
    total = image.cumsum(-2).cumsum(-1)
    total = torch.nn.functional.pad(total, (1, 0, 1, 0))

    def at(values, axis, parts, pixels):
        """Integrals up to the edges of the parts, times the number of parts."""
        edges = torch.arange(parts + 1) * pixels
        low = torch.div(edges, parts, rounding_mode="floor").clamp(max=pixels - 1)
        rest = edges - low * parts
        shape = [1] * values.ndim
        shape[axis] = -1
        first = values.index_select(axis, low)
        second = values.index_select(axis, low + 1)
        return first * parts + (second - first) * rest.reshape(shape)

    ends = at(at(total, total.ndim - 2, height, rows), total.ndim - 1, width, columns)
    sums = ends.diff(dim=-1).diff(dim=-2)
    return torch.div(8 * sums, 255 * rows * columns, rounding_mode="floor").to(torch.int64)


def starts(successes, length, threshold, back):
    flat = successes.reshape(-1, successes.shape[-1])
    runs = []
    for run in flat.tolist():
        index = [length - 1]
        for share in run:
            index.append(index[-1] if share < threshold else max(0, index[-1] - back))
        runs.append(index)
    return torch.tensor(runs).reshape(*successes.shape[:-1], -1)


def sticky_values(after, reward, end, p, discount):
    states, actions = reward.shape
    wanted = torch.zeros(states, dtype=torch.int64)
    made = torch.arange(actions)
    lands = (after * actions + made).flatten()
    goes = discount * (~end).double().flatten()
    index = torch.arange(states * actions)
    for _ in range(200):
        chosen = torch.arange(states).repeat_interleave(actions) * actions
        chosen = chosen + wanted.repeat_interleave(actions)
        matrix = torch.eye(states * actions, dtype=torch.float64)
        right = torch.zeros(states * actions, dtype=torch.float64)
        for source, chance in ((index, p), (chosen, 1 - p)):
            right = right + chance * reward.flatten()[source]
            matrix.index_put_((index, lands[source]), -chance * goes[source], accumulate=True)
        value = torch.linalg.solve(matrix, right)
        outcome = (reward.flatten() + goes * value[lands]).reshape(states, actions)
        wanted = outcome.argmax(1)
    return value.reshape(states, actions)
