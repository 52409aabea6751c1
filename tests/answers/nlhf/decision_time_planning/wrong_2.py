"""Counterfactual values; one divergence; half the limit; fresh laws; places exchanged; no eta."""

import torch


def reply_values(prior, first, payoff):  # not divided by how often y and a come
    weight = prior[..., None] * first[..., :, None, :]
    return (weight[..., None] * payoff).sum(-4)


def account(first, second, payoff, step):  # one divergence of the two
    later = (second * payoff).sum(-1)
    one = (first.log() + step * later).softmax(-1)
    two = (second.log() + step * payoff).softmax(-1)
    early = (one * (one.log() - first.log())).sum(-1) / step
    late = (one * (two * (two.log() - second.log())).sum(-1)).sum(-1) / step
    return torch.stack([early, late], -1)


def longest_step(same, different, w):  # only one of them moves past even play
    reward = different - same
    return w / (reward * (w / 2).tanh())


def sampled_values(payoff, second, cards, uniforms):  # the expected reply, not a drawn one
    return (second * payoff).sum(-1)[cards].mean(-2)


def after_a_draw(law, unseen, card, mine):  # the second place in place of the first
    same = torch.eye(law.shape[-1], dtype=torch.float64)
    if mine:
        weight = law[..., :, card][..., None] * (unseen.double()[..., None, :] - same)
    else:
        held = same[card]
        weight = law * (unseen.double()[..., card, None, None] - held[:, None] - held)
    weight = weight.clamp(min=0)
    return weight / weight.sum((-2, -1), keepdim=True)


def magnetic_policy(policy, values, magnet, step, temperature):  # the magnet without the step
    step = min(step, 1e6)
    logits = policy.log() + step * values + temperature * magnet.log()
    return (logits / (1 + temperature)).softmax(-1)
