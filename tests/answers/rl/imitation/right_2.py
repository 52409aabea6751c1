"""Products from the end, Bernoulli laws, series in place of solves, closed forms."""

import torch


def weights(steps):
    rounds = steps.shape[-1]
    left = []
    for i in range(rounds + 1):
        born = steps[..., i - 1] if i else torch.ones_like(steps[..., 0])
        left.append(born * (1 - steps[..., i:]).prod(-1))
    return torch.stack(left, -1)


def divergence_seen(expert, mixture, bound):
    def cost(g):
        return expert * torch.exp(-g) + mixture * g

    low, high = torch.tensor([-bound, bound], dtype=torch.float64)
    ends = torch.minimum(cost(low), cost(high))
    both = (expert > 0) & (mixture > 0)
    ratio = torch.where(both, expert, 1.0) / torch.where(both, mixture, 1.0)
    inside = both & (ratio.log().abs() < bound)
    least = torch.where(inside, mixture * (1 + ratio.log()), ends)
    least = torch.where((expert == 0) & (mixture == 0), 0.0, least)
    return 1 - least.sum((-2, -1))


def account(d, v, e, step):
    after = d + step * (v - d)
    kl = torch.distributions.kl_divergence

    def law(p):
        return torch.distributions.Categorical(probs=p.flatten(-2))

    gap = torch.einsum("...sa,...sa->...", (d / e).log(), d - v)
    return torch.stack([kl(law(after), law(e)), gap, kl(law(after), law(d))], -1)


def mixtures(transition, policies, weights, initial, discount):
    def occupancy(policies):
        law = initial.expand(*policies.shape[:-2], -1)
        total, factor = torch.zeros_like(policies), 1 - discount
        while factor > 1e-17:
            pairs = law[..., None] * policies
            total = total + factor * pairs
            law = torch.einsum("...sa,sat->...t", pairs, transition)
            factor *= discount
        return total

    once = torch.tensordot(weights, occupancy(policies), 1)
    return torch.stack([once, occupancy(torch.tensordot(weights, policies, 1))])


def bias(x, chance, n):
    # The number of first values, by convolving one draw after the other.
    law = torch.ones(*chance.shape, 1, dtype=torch.float64)
    p = chance[..., None]
    none = torch.zeros_like(p)
    for _ in range(n):
        law = torch.cat([law * (1 - p), none], -1) + torch.cat([none, law * p], -1)
    share = torch.arange(n + 1, dtype=torch.float64) / n
    terms = torch.stack([share.log() + x[..., :1], torch.log1p(-share) + x[..., 1:]])
    exact = torch.logaddexp(chance.log() + x[..., 0], torch.log1p(-chance) + x[..., 1])
    return ((exact[..., None] - terms.logsumexp(0)) * law).sum(-1)


def geometric(x, e, step, rounds):
    left = (1 - step) ** torch.arange(rounds + 1, dtype=torch.float64)
    left = left.reshape(-1, *(1,) * x.ndim)
    return (left * x.log() + (1 - left) * e.log()).softmax(-1)
