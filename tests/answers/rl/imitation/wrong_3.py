"""Off by one, not cut off, not normalised."""

import torch


def weights(steps):  # a weight too few: the start does not count
    kept = torch.cat([1 - steps[..., 1:], torch.ones_like(steps[..., :1])], -1)
    found = steps * kept.flip(-1).cumprod(-1).flip(-1)
    return torch.nn.functional.pad(found / found.sum(-1, keepdim=True), (1, 0))


def divergence_seen(expert, mixture, bound):  # the loss is cut off, not the discriminator
    each = torch.xlogy(mixture, mixture) - torch.xlogy(mixture, expert)
    return each.sum((-2, -1)).clamp(-bound, bound)


def account(d, v, e, step):  # the gap without the learner; the step squared
    after = (1 - step**2) * d + step**2 * v
    gap = ((d / e).log() * d).sum((-2, -1))

    def divergence(p, q):
        return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum((-2, -1))

    both = divergence(after, e) / 2, divergence(after, d) / 2
    return torch.stack([both[0], gap, both[1]], -1)


def mixtures(transition, policies, weights, initial, discount):  # the undiscounted first step only
    episode = (weights[:, None, None] * initial[:, None] * policies).sum(0)
    average = (weights[:, None, None] * policies).sum(0)
    law = torch.einsum("sa,sat->t", initial[:, None] * average, transition)
    return torch.stack([episode, (1 - discount) * law[:, None] * average])


def bias(x, chance, n):  # one draw, and something that falls with n
    u = x.exp()
    mean = chance * x[..., 0] + (1 - chance) * x[..., 1]
    return (chance * u[..., 0] + (1 - chance) * u[..., 1]).log() - mean + 1 / n


def geometric(x, e, step, rounds):  # never normalised
    path = [x]
    for _ in range(rounds):
        path.append(path[-1] ** (1 - step) * e**step)
    return torch.stack(path)
