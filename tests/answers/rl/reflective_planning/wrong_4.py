"""The first of a batch for all of it; counts as they come; nothing at the ends."""

import torch


def encode(x, low, step, size):  # without the first value, and nothing outside
    code = (x / step).round() - low.round()
    return code.clamp(-1, size).long()


def decode(logits, tokens, calls):  # by entropy, all in the last calls
    law = logits.softmax(-1)
    sure = (law * law.log()).sum(-1)
    proposal = law.argmax(-1)
    masked = tokens == logits.shape[-1]
    sure = torch.where(masked, sure, -torch.inf)
    rank = sure.argsort(dim=-1, stable=True).argsort(dim=-1) + 1
    n = masked.sum(-1, keepdim=True)
    call = (rank * calls + n - 1) // n.clamp(min=1)
    return torch.stack([torch.where(masked, tokens, proposal), torch.where(masked, call, 0)])


def mean_loss(costs, weighted):  # bits from the other end
    length = costs.shape[-1]
    masked = (torch.arange(2**length)[:, None] >> torch.arange(length).flip(0)) & 1 == 1
    m = masked.sum(-1)
    ways = (
        (
            torch.lgamma(torch.tensor(length + 1.0))
            - torch.lgamma(m + 1.0)
            - torch.lgamma(length - m + 1.0)
        )
        .exp()
        .double()
    )
    weight = 1 / ((m + 1.0 if weighted else length + 0.0) * ways)
    return (weight * torch.where(masked, costs, 0.0).sum(-1)).sum(-1).double()


def suppress(points, likely, distance, count):  # the library's own
    from mdtheory.rl.reflective_planning import non_maximum_suppression

    kept = non_maximum_suppression(points, likely, distance, count)
    marks = torch.zeros(*likely.shape[:-1], likely.shape[-1] + 1, dtype=torch.bool)
    return marks.scatter(-1, kept % (likely.shape[-1] + 1), True)[..., :-1]


def reflect(plan, safety, fill, value, rounds, radius):  # the first plan decides for all
    n = safety.shape[0]
    y, anchors = plan.reshape(-1, n)[0].tolist(), []
    for _ in range(rounds + 1):
        bad = [t for t in range(n) if safety[t, y[t]] < 1 and t not in anchors]
        if not bad:
            break
        t = bad[0]
        y[t] = int(safety[t].argmax())
        anchors.append(t)
        for later in range(t + 1, n):
            y[later] = int(fill[later, y[t]])
    return torch.tensor([*y, len(anchors)]).expand(*plan.shape[:-1], n + 1).clone()


def compare(p, score, n):  # the worst of n
    order = score.argsort(dim=-1, descending=True)
    p, score = p.gather(-1, order), score.gather(-1, order)
    upto = p.cumsum(-1)
    q = upto**n - (upto - p) ** n
    tilt = (p.log() - n * score).softmax(-1)
    return torch.stack(
        [-torch.xlogy(q, q / p).sum(-1), (q * score).sum(-1), (tilt * score).sum(-1)], -1
    )
