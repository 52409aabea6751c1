"""One game after the other, with the normaliser by hand."""

import itertools

import torch


def normal(logits):
    return logits - torch.logsumexp(logits, -1, keepdim=True)


def wins(preference, policy):
    return (preference * policy.exp().unsqueeze(-2)).sum(-1)


def step_against(preference, policy, opponent, reference, temperature, step_size):
    share = step_size * temperature / (1 + step_size * temperature)
    rest = wins(preference, opponent) * step_size / (1 + step_size * temperature)
    return normal(torch.lerp(policy, reference, share) + rest)


def nash_run(preference, reference, temperature, iterations, step_size):
    policy = reference + torch.zeros_like(preference[..., 0])
    for t in range(iterations):
        eta = step_size if step_size is not None else 2 / temperature / (t + 2)
        mixed = normal(torch.lerp(policy, reference + 0 * policy, eta * temperature))
        policy = normal(mixed + eta * wins(preference, mixed))
    return policy


def exploitable(preference, policy, reference, temperature):
    best = normal(reference + wins(preference, policy) / temperature)
    ratio = best - policy
    return temperature * (policy.exp() * (ratio.expm1() - ratio)).sum(-1)


def divergence_gradient(first, second, reference_first, reference_second):
    p, q = normal(first), normal(second)
    ratio = (p - normal(reference_first)).unsqueeze(-1) + q - normal(reference_second)
    whole = (p.unsqueeze(-1) + q).exp() * ratio
    each = whole.sum(-1)
    return each - p.exp() * each.sum(-1, keepdim=True)


def cycle_equilibria(ratings):
    m, c = ratings.shape
    votes = torch.zeros(m, m, dtype=ratings.dtype)
    for r in range(c):
        difference = ratings[:, r, None] - ratings[None, :, r]
        votes += torch.sign(difference) / (2 * c)
    out = torch.zeros(m, m, m, dtype=ratings.dtype)
    for i, j, k in itertools.permutations(range(m), 3):
        edges = torch.stack([votes[i, j], votes[j, k], votes[k, i]])
        if edges.min() > 1e-9:
            out[i, j, k] = edges[1] / edges.sum()
    return out


def fitted_reward(preference, weights):
    n = preference.shape[-1]
    shape = preference.shape[:-2]
    flat = zip(preference.reshape(-1, n, n), weights.reshape(-1, n, n), strict=True)
    found = []
    for p, w in flat:
        reward = torch.zeros(n, dtype=p.dtype)
        drawn = w - torch.diag(w.diagonal())
        for _ in range(60):
            chance = torch.sigmoid(reward[:, None] - reward[None, :])
            curve = drawn * chance * (1 - chance)
            hessian = torch.diag(curve.sum(1)) - curve + 1 / n
            change = torch.linalg.solve(hessian, (drawn * (chance - p)).sum(1))
            reward = reward - change.clamp(-1, 1)
        found.append(reward - reward.mean())
    return torch.stack(found).reshape(*shape, n)
