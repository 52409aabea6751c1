"""The code below; fixed tokens revealed; no weight; strictly farther; last iterate; KL reversed."""

import math

import torch


def encode(x, low, step, size):  # the code below
    code = ((x - low) / step).floor()
    return torch.where((code >= 0) & (code <= size - 1), code, -1.0).long()


def decode(logits, tokens, calls):  # replaces what is given, too
    sure, proposal = logits.softmax(-1).max(-1)
    n = tokens.shape[-1]
    rank = sure.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1) + 1
    call = torch.zeros_like(tokens)
    for b in range(calls, 0, -1):
        call = torch.where(rank <= (n * b + calls - 1) // calls, b, call)
    return torch.stack([proposal, call])


def mean_loss(costs, weighted):  # the mean over sets
    length = costs.shape[-1]
    masked = (torch.arange(2**length)[:, None] >> torch.arange(length)) & 1 == 1
    return torch.where(masked, costs, 0.0).sum(-1).mean(-1)


def suppress(points, likely, distance, count):  # farther than the distance, equals lose
    kept = torch.zeros_like(likely, dtype=torch.bool)
    order = likely.argsort(dim=-1, descending=True)
    for i in range(likely.shape[-1]):
        at = order[..., i : i + 1]
        here = points.gather(-2, at[..., None].expand(*at.shape, 2))
        far = (points - here).norm(dim=-1)
        clear = (~kept | (far > distance)).all(-1, keepdim=True)
        kept = kept.scatter(-1, at, clear & (kept.sum(-1, keepdim=True) < count))
    return kept


def reflect(plan, safety, fill, value, rounds, radius):  # the last plan
    n, size = safety.shape
    found = []
    for draft in plan.reshape(-1, n).tolist():
        y, anchors = list(draft), []
        while len(anchors) < rounds:
            bad = [t for t in range(n) if safety[t, y[t]] < 1 and t not in anchors]
            if not bad:
                break
            t = bad[0]
            codes = [v for v in range(size) if abs(v - y[t]) <= radius]
            y[t] = max(codes, key=lambda v: round(100 * safety[t, v].item()) - abs(v - y[t]))
            anchors.append(t)
            for later in range(t + 1, n):
                if later not in anchors:
                    y[later] = int(fill[later, y[t]])
        found.append([*y, len(anchors)])
    return torch.tensor(found).reshape(*plan.shape[:-1], n + 1)


def compare(p, score, n):  # divergences the other way round
    order = score.argsort(dim=-1)
    p, score = p.gather(-1, order), score.gather(-1, order)
    upto = p.cumsum(-1)
    q = upto**n - (upto - p) ** n
    moved = torch.xlogy(p, p / q).sum(-1)
    low, high = torch.zeros_like(moved), torch.full_like(moved, 1e4)
    for _ in range(100):
        eta = (low + high) / 2
        law = (p.log() + eta[..., None] * score).softmax(-1)
        less = torch.xlogy(p, p / law).sum(-1) < moved
        low, high = torch.where(less, eta, low), torch.where(less, high, eta)
    return torch.stack([moved, (q * score).sum(-1), (law * score).sum(-1)], -1) + math.ulp(1.0)
