"""The prior; the blueprint's reach; the limit for all starts; other sides of a law; replacement."""

import math

import torch


def reply_values(prior, first, payoff):  # what the action says is not heard
    law = prior / prior.sum(-2, keepdim=True).clamp(min=1e-300)
    values = (law[..., None, None] * payoff).sum(-4)
    return values


def account(first, second, payoff, step):  # the reach of the blueprint
    later = (second * payoff).sum(-1)
    one = (first.log() + step * later).softmax(-1)
    two = (second.log() + step * payoff).softmax(-1)
    early = ((one - first) * (one.log() - first.log())).sum(-1) / step
    late = (first * ((two - second) * (two.log() - second.log())).sum(-1)).sum(-1) / step
    return torch.stack([late, early], -1)


def longest_step(same, different, w):  # the limit near even play, for every start
    return 4 / (different - same).abs()


def sampled_values(payoff, second, cards, uniforms):  # the likeliest reply
    reply = second.argmax(-1)[cards]
    return payoff[cards].gather(-1, reply[..., None])[..., 0].mean(-2)


def after_a_draw(law, unseen, card, mine):  # cards come back
    if not mine:
        return law
    weight = law[..., card, :][..., None, :] * unseen.double()[..., :, None]
    return weight / weight.sum((-2, -1), keepdim=True)


def magnetic_policy(policy, values, magnet, step, temperature):  # no root
    if math.isinf(step):
        return (values / temperature).softmax(-1)
    logits = policy.log() + step * values + step * temperature * magnet.log()
    return logits.softmax(-1)
