"""As the solutions."""

import math

import torch


def encode(x, low, step, size):
    code = ((x - low) / step).round()
    inside = (code >= 0) & (code <= size - 1)
    return torch.where(inside, code, -1.0).long()


def decode(logits, tokens, calls):
    law = logits.softmax(-1)
    sure, proposal = law.max(-1)
    masked = tokens == logits.shape[-1]
    sure = torch.where(masked, sure, -1.0)
    order = sure.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1) + 1
    n = masked.sum(-1, keepdim=True)
    # The first call after which at least `rank` masks are filled.
    call = torch.zeros_like(tokens)
    for b in range(calls, 0, -1):
        filled = (n * b + calls - 1) // calls
        call = torch.where(rank <= filled, b, call)
    call = torch.where(masked, call, 0)
    return torch.stack([torch.where(masked, proposal, tokens), call])


def mean_loss(costs, weighted):
    length = costs.shape[-1]
    rows = torch.arange(2**length)
    masked = (rows[:, None] >> torch.arange(length)) & 1 == 1
    weight = torch.zeros(2**length, dtype=torch.float64)
    for row in range(1, 2**length):
        m = int(masked[row].sum())
        ways = math.comb(length, m)
        weight[row] = 1 / ((m if weighted else length + 1) * ways)
    paid = torch.where(masked, costs, 0.0).sum(-1)
    return (weight * paid).sum(-1)


def suppress(points, likely, distance, count):
    kept = torch.zeros_like(likely, dtype=torch.bool)
    order = likely.argsort(dim=-1, descending=True, stable=True)
    far = (points[..., None, :] - points[..., None, :, :]).norm(dim=-1)
    for i in range(likely.shape[-1]):
        at = order[..., i : i + 1]
        row = far.gather(-2, at[..., None].expand(*at.shape, far.shape[-1]))
        clear = (~kept | (row[..., 0, :] >= distance)).all(-1, keepdim=True)
        room = kept.sum(-1, keepdim=True) < count
        kept = kept.scatter(-1, at, clear & room)
    return kept


def reflect(plan, safety, fill, value, rounds, radius):
    batch, n, size = plan.shape[:-1], plan.shape[-1], safety.shape[-1]
    here, codes = torch.arange(n), torch.arange(size)
    y = plan.reshape(-1, n).clone()
    anchor = torch.zeros_like(y, dtype=torch.bool)
    used = torch.zeros(len(y), dtype=torch.int64)
    best, worth = y.clone(), value[here, y].sum(-1)
    for _ in range(rounds):
        unsafe = (safety[here, y] < 1) & ~anchor
        busy = unsafe.any(-1)
        t = unsafe.long().argmax(-1)
        old = y.gather(-1, t[:, None])
        away = (codes - old).abs()
        # In hundredths, whole numbers: equals are equal.
        local = (100 * safety[t]).round().long() - away
        local = torch.where(away <= radius, local, -(10**6))
        v = (local == local.amax(-1, keepdim=True)).long().argmax(-1)
        anchor = anchor | ((here == t[:, None]) & busy[:, None])
        new = torch.where(here == t[:, None], v[:, None], y)
        later = (here > t[:, None]) & ~anchor
        new = torch.where(later, fill[:, v].T, new)
        y = torch.where(busy[:, None], new, y)
        used = used + busy
        now = value[here, y].sum(-1)
        better = now > worth
        best = torch.where(better[:, None], y, best)
        worth = torch.where(better, now, worth)
    return torch.cat([best, used[:, None]], -1).reshape(*batch, n + 1)


def compare(p, score, n):
    order = score.argsort(dim=-1)
    p, score = p.gather(-1, order), score.gather(-1, order)
    upto = p.cumsum(-1)
    below = torch.cat([torch.zeros_like(upto[..., :1]), upto[..., :-1]], -1)
    # A sum instead of a difference of powers.
    q = p * sum(upto**k * below ** (n - 1 - k) for k in range(n))
    moved = (q * (q / p).log()).nan_to_num().sum(-1)

    def tilt(eta):
        return (p.log() + eta[..., None] * score).softmax(-1)

    low, high = torch.zeros_like(moved), torch.full_like(moved, 1e5)
    for _ in range(200):
        eta = (low + high) / 2
        law = tilt(eta)
        far = torch.xlogy(law, law / p).sum(-1)
        low = torch.where(far < moved, eta, low)
        high = torch.where(far < moved, high, eta)
    ideal = (tilt((low + high) / 2) * score).sum(-1)
    return torch.stack([moved, (q * score).sum(-1), ideal], -1)
