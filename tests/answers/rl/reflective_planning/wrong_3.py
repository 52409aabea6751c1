"""One grid for all; equals the other way; weights exchanged; far from the first; anchors filled."""

import torch


def encode(x, low, step, size):  # one grid for all coordinates, and the edge is too wide
    low, step = low.reshape(-1)[0], step.reshape(-1)[0]
    code = ((x - low) / step).round()
    return torch.where((code >= -1) & (code <= size), code.clamp(0, size - 1), -1.0).long()


def decode(logits, tokens, calls):  # equals: the last first; the same number in each call
    sure, proposal = logits.softmax(-1).max(-1)
    masked = tokens == logits.shape[-1]
    sure = torch.where(masked, sure, -1.0)
    rank = sure.flip(-1).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).flip(-1) + 1
    each = (masked.sum(-1, keepdim=True) // calls).clamp(min=1)
    call = torch.where(masked, ((rank + each - 1) // each).clamp(max=calls), 0)
    return torch.stack([torch.where(masked, proposal, tokens), call])


def mean_loss(costs, weighted):  # weights exchanged, and infinite costs count
    length = costs.shape[-1]
    masked = ((torch.arange(2**length)[:, None] >> torch.arange(length)) & 1).double()
    m = masked.sum(-1)
    ways = (
        torch.lgamma(torch.tensor(length + 1.0))
        - torch.lgamma(m + 1)
        - torch.lgamma(length - m + 1)
    ).exp()
    weight = 1 / ((length + 1.0 if weighted else m.clamp(min=1)) * ways)
    return (weight * (masked * costs.nan_to_num(posinf=1.0)).sum(-1)).sum(-1).double()


def suppress(points, likely, distance, count):  # far from the first alone
    first = likely.argmax(-1, keepdim=True)
    here = points.gather(-2, first[..., None].expand(*first.shape, 2))
    far = (points - here).norm(dim=-1) >= distance
    far = far.scatter(-1, first, True)
    rank = torch.where(far, likely, -torch.inf).argsort(dim=-1, descending=True).argsort(dim=-1)
    return far & (rank < count)


def reflect(plan, safety, fill, value, rounds, radius):  # anchors are filled, and moved again
    n, size = safety.shape
    found = []
    for draft in plan.reshape(-1, n).tolist():
        y, seen, used = list(draft), [list(draft)], 0
        while used < rounds:
            bad = [t for t in range(n) if safety[t, y[t]] < 1]
            if not bad:
                break
            t = bad[0]
            used += 1
            codes = [v for v in range(size) if abs(v - y[t]) <= radius]
            y[t] = max(codes, key=lambda v: (safety[t, v].item(), -abs(v - y[t])))
            for later in range(t + 1, n):
                y[later] = int(fill[later, y[t]])
            seen.append(list(y))
        best = max(seen, key=lambda p: sum(value[t, v].item() for t, v in enumerate(p)))
        found.append([*best, used])
    return torch.tensor(found).reshape(*plan.shape[:-1], n + 1)


def compare(p, score, n):  # one draw too many, and a step in the place of a divergence
    order = score.argsort(dim=-1)
    p, score = p.gather(-1, order), score.gather(-1, order)
    upto = p.cumsum(-1)
    q = upto ** (n + 1) - (upto - p) ** (n + 1)
    law = (p.log() + n * score).softmax(-1)
    return torch.stack(
        [torch.xlogy(q, q / p).sum(-1), (q * score).sum(-1), (law * score).sum(-1)], -1
    )
