"""The wrong player's values; a look at the searched continuation; signs; the wrong edge."""

import math

import torch


def reply_values(prior, first, payoff):  # given a alone: his own card forgotten
    weight = prior[..., None] * first[..., :, None, :]
    weight = weight / weight.sum((-3, -2), keepdim=True)
    return (weight[..., None] * payoff).sum(-4, keepdim=True).sum(-4).expand(
        payoff.shape[:-4] + payoff.shape[-3:]
    )  # fmt: skip


def account(first, second, payoff, step):  # Q of what will be searched
    two = (second.log() + step * payoff).softmax(-1)
    later = (two * payoff).sum(-1)
    one = (first.log() + step * later).softmax(-1)
    early = ((one - first) * (one.log() - first.log())).sum(-1) / step
    late = (first * ((two - second) * (two.log() - second.log())).sum(-1)).sum(-1) / step
    return torch.stack([early, late], -1)


def longest_step(same, different, w):  # half the limit 4 / R that is safe for all
    reward = different - same
    return torch.where(reward > 0, 2 / reward, math.inf) + 0 * w


def sampled_values(payoff, second, cards, uniforms):  # from the other end
    above = second.flip(-1).cumsum(-1).flip(-1)[cards]
    reply = (above > uniforms[..., None, None]).sum(-1) - 1
    return payoff[cards].gather(-1, reply.clamp(min=0)[..., None])[..., 0].sum(-2)


def after_a_draw(law, unseen, card, mine):  # his draw says nothing about my hand
    same = torch.eye(law.shape[-1], dtype=torch.float64)
    if not mine:
        return law
    weight = law.sum(-2)[..., None, :] * (unseen.double()[..., :, None] - same).clamp(min=0)
    return weight / weight.sum((-2, -1), keepdim=True)


def magnetic_policy(policy, values, magnet, step, temperature):  # costs in place of values
    if math.isinf(step):
        step = 1e8
    logits = policy.log() - step * values + step * temperature * magnet.log()
    return (logits / (1 + step * temperature)).softmax(-1)
