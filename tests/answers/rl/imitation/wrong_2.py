"""Reversed and renormalised; probabilities for logits; one law in the place of another."""

import torch


def weights(steps):  # the newest first
    one = torch.ones_like(steps[..., :1])
    born = torch.cat([one, steps], -1)
    kept = torch.cat([1 - steps, one], -1)
    return (born * kept.flip(-1).cumprod(-1).flip(-1)).flip(-1)


def divergence_seen(expert, mixture, bound):  # a probability in the place of the logit
    g = (expert / (expert + mixture)).clamp(-bound, bound)
    return 1 - (expert * (-g).exp() + mixture * g).sum((-2, -1))


def account(d, v, e, step):  # the gap at the new point, the step's divergence from the expert
    after = (1 - step) * d + step * v
    gap = ((after / e).log() * (d - v)).sum((-2, -1))
    far = (torch.xlogy(after, after) - after * e.log()).sum((-2, -1))
    before = (d * (d / e).log()).sum((-2, -1))
    return torch.stack([before, gap, far], -1)


def mixtures(transition, policies, weights, initial, discount):  # the transition not transposed
    eye = torch.eye(len(initial), dtype=torch.float64)

    def occupancy(policy):
        follow = torch.einsum("...sa,sat->...st", policy, transition)
        start = (1 - discount) * initial.expand(policy.shape[:-1])
        return torch.linalg.solve(eye - discount * follow, start[..., None]) * policy

    share = weights[:, None, None]
    pair = [(share * occupancy(policies)).sum(0), occupancy((share * policies).sum(0))]
    return torch.stack(pair[::-1])  # and the order


def bias(x, chance, n):  # second order, where the exact value was asked for
    u = x.exp()
    mean = chance * u[..., 0] + (1 - chance) * u[..., 1]
    variance = chance * (1 - chance) * (u[..., 0] - u[..., 1]) ** 2
    return variance / (2 * n * mean**2)


def geometric(x, e, step, rounds):  # the weights of both exchanged
    path = [x.log()]
    for _ in range(rounds):
        path.append((step * path[-1] + (1 - step) * e.log()).log_softmax(-1))
    return torch.stack(path).exp()
