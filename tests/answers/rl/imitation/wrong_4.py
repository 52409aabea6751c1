"""The library's own solutions, and shapes."""

import torch

from mdtheory.rl import imitation


def weights(steps):
    return imitation.ensemble_weights(steps.shape[-1] + 1, float(steps.flatten()[0]))


def divergence_seen(expert, mixture, bound):
    g = imitation.fit_discriminator(expert, mixture, bound=bound).flatten(-2)
    return 1 - imitation.discriminator_loss(
        g, g, expert_weight=expert.flatten(-2), learner_weight=mixture.flatten(-2)
    )


def account(d, v, e, step):
    after = (1 - step) * d + step * v
    return torch.stack([
        imitation.occupancy_divergence(after, e),
        imitation.frank_wolfe_gap(d, v, e),
        imitation.occupancy_divergence(after, d),
    ], -1)  # fmt: skip


def mixtures(transition, policies, weights, initial, discount):  # single precision
    eye = torch.eye(len(initial))
    average = (weights[:, None, None] * policies).sum(0).float()
    follow = torch.einsum("sa,sat->st", average, transition.float())
    visits = torch.linalg.solve(eye - discount * follow.T, (1 - discount) * initial.float())
    pairs = visits[:, None] * average
    return torch.stack([pairs, pairs])


def bias(x, chance, n):  # samples in place of the expectation, and one number for the batch
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(200, n, generator=generator) < chance.flatten()[0]
    flat = x.reshape(-1, 2)[0]
    values = torch.where(first, flat[0], flat[1])
    exact = torch.logaddexp(chance.flatten()[0].log() + flat[0],
                            (1 - chance.flatten()[0]).log() + flat[1])  # fmt: skip
    return exact - (values.exp().mean(1).log()).mean()


def geometric(x, e, step, rounds):
    flat = x.unsqueeze(-2), e.unsqueeze(-2)
    return imitation.mirror_occupancies(*flat, step, rounds).squeeze(-2)
