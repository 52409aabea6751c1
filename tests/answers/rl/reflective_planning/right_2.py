"""One instance after the other, without batches; sorts and sets instead of ranks."""

import itertools
import math

import torch

F64 = torch.float64


def each(function, shape, *tensors):
    """The function of every instance, stacked."""
    flat = [t.reshape(-1, *t.shape[len(shape) :]) for t in tensors]
    found = [function(*row) for row in zip(*flat, strict=True)]
    return torch.stack(found).reshape(*shape, *found[0].shape)


def encode(x, low, step, size):
    values = low[..., None] + step[..., None] * torch.arange(size, dtype=F64)
    away, code = (x[..., None] - values).abs().min(-1)
    return torch.where(away <= step / 2, code, -1)


def decode(logits, tokens, calls):
    mask = logits.shape[-1]

    def one(rows, plan):
        law = [[math.exp(v - max(row)) for v in row] for row in rows.tolist()]
        sure = [max(row) / sum(row) for row in law]
        holes = [i for i, v in enumerate(plan.tolist()) if v == mask]
        holes.sort(key=lambda i: (-sure[i], i))
        filled, when = plan.clone(), torch.zeros_like(plan)
        for place, i in enumerate(holes):
            filled[i] = rows[i].argmax()
            when[i] = next(b for b in range(1, calls + 1) if -(-len(holes) * b // calls) > place)
        return torch.stack([filled, when])

    return each(one, tokens.shape[:-1], logits, tokens).movedim(-2, 0)


def mean_loss(costs, weighted):
    length = costs.shape[-1]
    total = torch.zeros(costs.shape[:-2], dtype=F64)
    # Mean over the number of masks and over the sets of this size.
    for m in range(1, length + 1):
        sets = list(itertools.combinations(range(length), m))
        paid = [costs[..., sum(2**i for i in s), list(s)].sum(-1) for s in sets]
        mean = torch.stack(paid).mean(0)
        total = total + mean / (m if weighted else length + 1)
    return total


def suppress(points, likely, distance, count):
    def one(place, value):
        kept = []
        order = sorted(range(len(value)), key=lambda i: (-value[i].item(), i))
        for i in order:
            if len(kept) == count:
                break
            if all(math.dist(place[i].tolist(), place[j].tolist()) >= distance for j in kept):
                kept.append(i)
        return torch.tensor([i in kept for i in range(len(value))])

    return each(one, likely.shape[:-1], points, likely)


def reflect(plan, safety, fill, value, rounds, radius):
    n, size = safety.shape

    def one(draft):
        y, anchors, seen = draft.tolist(), [], [draft.tolist()]
        while len(anchors) < rounds:
            bad = [t for t in range(n) if safety[t, y[t]] < 1 and t not in anchors]
            if not bad:
                break
            t, old = bad[0], y[bad[0]]
            codes = [v for v in range(size) if abs(v - old) <= radius]
            points = [round(100 * safety[t, v].item()) - abs(v - old) for v in codes]
            y = list(y)
            y[t] = codes[points.index(max(points))]
            anchors.append(t)
            for later in range(t + 1, n):
                if later not in anchors:
                    y[later] = int(fill[later, y[t]])
            seen.append(y)
        worth = [sum(value[t, v].item() for t, v in enumerate(p)) for p in seen]
        return torch.tensor([*seen[worth.index(max(worth))], len(anchors)])

    return each(one, plan.shape[:-1], plan)


def compare(p, score, n):
    def one(law, points):
        rank = points.argsort()
        law, points = law[rank], points[rank]
        upto = torch.cat([torch.zeros(1, dtype=F64), law.cumsum(0)])
        q = (
            sum(
                (upto[1:] ** k * upto[:-1] ** (n - 1 - k) for k in range(n)),
                torch.zeros(1, dtype=F64),
            )
            * law
        )
        moved = (q[q > 0] * (q[q > 0] / law[q > 0]).log()).sum()

        def tilted(eta):
            return (law.log() + eta * points).softmax(0)

        ends = [0.0, 1e5]
        for _ in range(200):
            eta = sum(ends) / 2
            tilt = tilted(eta)
            ends[int((tilt * (tilt / law + 1e-300).log()).sum() >= moved)] = eta
        return torch.stack([moved, q @ points, tilted(ends[0]) @ points])

    return each(one, p.shape[:-1], p, score)
