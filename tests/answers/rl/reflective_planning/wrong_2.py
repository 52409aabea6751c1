"""Clipped to the edge; raw logits; a level for each number; unsorted; latest violation; formula."""

import math

import torch


def encode(x, low, step, size):  # what is outside goes to the edge
    return ((x - low) / step).round().clamp(0, size - 1).long()


def decode(logits, tokens, calls):  # compares logits of different tokens
    sure, proposal = logits.max(-1)
    masked = tokens == logits.shape[-1]
    sure = torch.where(masked, sure, -torch.inf)
    rank = sure.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1) + 1
    n = masked.sum(-1, keepdim=True)
    call = torch.zeros_like(tokens)
    for b in range(calls, 0, -1):
        call = torch.where(rank <= (n * b) // calls, b, call)
    call = torch.where(masked, call, 0)
    return torch.stack([torch.where(masked, proposal, tokens), call])


def mean_loss(costs, weighted):  # forgets how many sets there are
    length = costs.shape[-1]
    masked = (torch.arange(2**length)[:, None] >> torch.arange(length)) & 1 == 1
    m = masked.sum(-1).clamp(min=1)
    weight = 1 / (m if weighted else torch.full_like(m, length + 1))
    return (weight * torch.where(masked, costs, 0.0).sum(-1)).sum(-1)


def suppress(points, likely, distance, count):  # walks in the order of the points
    kept = torch.zeros_like(likely, dtype=torch.bool)
    for i in range(likely.shape[-1]):
        far = (points - points[..., i : i + 1, :]).norm(dim=-1)
        clear = (~kept | (far >= distance)).all(-1) & (kept.sum(-1) < count)
        kept[..., i] = clear
    return kept


def reflect(plan, safety, fill, value, rounds, radius):  # the latest violation first
    n, size = safety.shape
    found = []
    for draft in plan.reshape(-1, n).tolist():
        y, anchors, seen = list(draft), [], [list(draft)]
        while len(anchors) < rounds:
            bad = [t for t in range(n) if safety[t, y[t]] < 1 and t not in anchors]
            if not bad:
                break
            t = bad[-1]
            codes = [v for v in range(size) if abs(v - y[t]) <= radius]
            y[t] = max(codes, key=lambda v: round(100 * safety[t, v].item()) - abs(v - y[t]))
            anchors.append(t)
            for later in range(t + 1, n):
                if later not in anchors:
                    y[later] = int(fill[later, y[t]])
            seen.append(list(y))
        best = max(seen, key=lambda p: sum(value[t, v].item() for t, v in enumerate(p)))
        found.append([*best, len(anchors)])
    return torch.tensor(found).reshape(*plan.shape[:-1], n + 1)


def compare(p, score, n):  # the formula of many plans in the place of the divergence
    order = score.argsort(dim=-1)
    p, score = p.gather(-1, order), score.gather(-1, order)
    upto = p.cumsum(-1)
    q = upto**n - (upto - p) ** n
    moved = torch.full_like(q[..., 0], math.log(n) - (n - 1) / n + 0.01)
    low, high = torch.zeros_like(moved), torch.full_like(moved, 1e4)
    for _ in range(100):
        eta = (low + high) / 2
        law = (p.log() + eta[..., None] * score).softmax(-1)
        less = torch.xlogy(law, law / p).sum(-1) < moved
        low, high = torch.where(less, eta, low), torch.where(less, high, eta)
    return torch.stack([moved, (q * score).sum(-1), (law * score).sum(-1)], -1)
