"""Sums over the wrong card, one sample, no normalisation, the library's own step."""

import torch


def reply_values(prior, first, payoff):  # y from its law, x as if it were seen
    weight = prior[..., None] * first[..., :, None, :]
    weight = weight / weight.sum(-2, keepdim=True)
    return (weight[..., None] * payoff).sum(-4)


def account(first, second, payoff, step):  # not divided by the step
    later = (second * payoff).sum(-1)
    one = (first.log() + step * later).softmax(-1)
    two = (second.log() + step * payoff).softmax(-1)
    early = ((one - first) * (one.log() - first.log())).sum(-1)
    late = ((one - first)[..., None] * two * payoff).sum((-2, -1))
    return torch.stack([early, late], -1)


def longest_step(same, different, w):  # from the payoffs' size, not their range
    size = torch.maximum(same.abs(), different.abs())
    return 2 * w / (size * (w / 2).tanh())


def sampled_values(payoff, second, cards, uniforms):  # one sample
    one, v = cards[..., :1], uniforms[..., :1]
    reply = (second.cumsum(-1)[one] < v[..., None, None]).sum(-1)
    reply = reply.clamp(max=second.shape[-1] - 1)
    return payoff[one].gather(-1, reply[..., None])[..., 0].mean(-2)


def after_a_draw(law, unseen, card, mine):  # the counts before, and not normalised
    same = torch.eye(law.shape[-1], dtype=torch.float64)
    if mine:
        return law[..., card, :][..., None, :] * (unseen.double()[..., :, None] + 1 - same)
    return law * (unseen.double()[..., card, None, None] + 1)


def magnetic_policy(policy, values, magnet, step, temperature):  # the book's own
    from mdtheory.nlhf.decision_time_planning import magnetic_search

    return magnetic_search(policy.log(), values, step, temperature, magnet.log()).exp()
