"""As the solutions, with loops over rounds and logarithms where they help."""

import math

import torch


def weights(steps):
    found = torch.ones_like(steps[..., :1])
    for step in steps.unbind(-1):
        found = torch.cat([found * (1 - step[..., None]), step[..., None]], -1)
    return found


def divergence_seen(expert, mixture, bound):
    tiny = torch.finfo(torch.float64).tiny
    g = (expert.clamp(min=tiny) / mixture.clamp(min=tiny)).log().clamp(-bound, bound)
    return 1 - (expert * (-g).exp()).sum((-2, -1)) - (mixture * g).sum((-2, -1))


def account(d, v, e, step):
    after = torch.lerp(d, v, step)

    def kl(p, q):
        return torch.special.entr(p).neg().sum((-2, -1)) - (p * q.log()).sum((-2, -1))

    gap = (d.log() - e.log()).mul(d - v).sum((-2, -1))
    return torch.stack((kl(after, e), gap, kl(after, d)), dim=-1)


def mixtures(transition, policies, weights, initial, discount):
    states, actions = policies.shape[1:]
    rows = transition.reshape(states * actions, states)

    def occupancy(policy):
        # The flow over pairs: x = (1 - g) rho pi + g P' x pi.
        spread = torch.zeros(states * actions, states, dtype=torch.float64)
        for s in range(states):
            spread[s * actions : (s + 1) * actions, s] = policy[s]
        system = torch.eye(states * actions, dtype=torch.float64) - discount * spread @ rows.T
        found = torch.linalg.solve(system, (1 - discount) * spread @ initial)
        return found.reshape(states, actions)

    episode = sum(w * occupancy(p) for w, p in zip(weights, policies, strict=True))
    step = occupancy(torch.einsum("n,nsa->sa", weights, policies))
    return torch.stack((episode, step))


def bias(x, chance, n):
    k = torch.arange(n + 1, dtype=torch.float64)
    choose = torch.tensor(
        [math.log(math.comb(n, j)) for j in range(n + 1)], dtype=torch.float64
    )  # fmt: skip
    p = chance[..., None]
    logs = choose + torch.xlogy(k, p) + torch.xlogy(n - k, 1 - p)
    high = x.amax(-1, keepdim=True)
    inside = (k * (x[..., :1] - high).exp() + (n - k) * (x[..., 1:] - high).exp()) / n
    low = x.amin(-1, keepdim=True)
    # A batch without the larger value is the smaller one, whose exponential may vanish.
    only = torch.where(x[..., :1] >= x[..., 1:], k == 0, k == n)
    means = torch.where(only, low - high, inside.clamp(min=1e-320).log())
    exact = (p[..., 0] * (x[..., 0] - high[..., 0]).exp()
             + (1 - p[..., 0]) * (x[..., 1] - high[..., 0]).exp()).log()  # fmt: skip
    return exact - (logs.exp() * means).sum(-1)


def geometric(x, e, step, rounds):
    path = [x]
    for _ in range(rounds):
        logs = (1 - step) * path[-1].log() + step * e.log()
        path.append(logs.softmax(-1))
    return torch.stack(path)
