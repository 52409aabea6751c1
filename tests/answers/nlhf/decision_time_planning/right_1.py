"""As the solutions, with einsum, loops over cards, and sums of logarithms."""

import math

import torch


def reply_values(prior, first, payoff):
    joint = torch.einsum("...xy,...xa->...xya", prior, first)
    mass = joint.sum(-3)
    total = torch.einsum("...xya,...xyab->...yab", joint, payoff)
    return torch.where(mass[..., None] > 0, total / mass.clamp(min=1e-300)[..., None], 0.0)


def account(first, second, payoff, step):
    worth = torch.einsum("...ab,...ab->...a", second, payoff)
    early_move = (step * worth + first.log()).log_softmax(-1)
    late_move = (step * payoff + second.log()).log_softmax(-1)
    early = (early_move.exp() - first) * (early_move - first.log())
    late = (late_move.exp() - second) * (late_move - second.log())
    late = early_move.exp() * late.sum(-1)
    return torch.stack((early.sum(-1), late.sum(-1)), dim=-1) / step


def longest_step(same, different, w):
    reward = different - same
    small = w.abs() < 1e-5
    ratio = torch.where(small, 4.0, 2 * w / (torch.where(small, 1.0, w) / 2).tanh())
    never = (reward <= 0) | (w == 0)
    return torch.where(never, torch.full_like(w, math.inf), ratio / reward)


def sampled_values(payoff, second, cards, uniforms):
    law, worth = second[cards], payoff[cards]
    upper = law.cumsum(-1)
    lower = upper - law
    v = uniforms[..., None, None]
    hit = (lower <= v) & (v < upper)
    # Where rounding leaves a gap at the top, the last reply that is possible.
    missed = ~hit.any(-1, keepdim=True)
    positive = law > 0
    last = positive & (positive.flip(-1).cumsum(-1).flip(-1) == 1)
    first = hit & (hit.cumsum(-1) == 1)
    chosen = torch.where(missed, last, first).double()
    return (chosen * worth).sum(-1).mean(-2)


def after_a_draw(law, unseen, card, mine):
    kinds = law.shape[-1]
    found = torch.zeros_like(law)
    for i in range(kinds):
        for j in range(kinds):
            if mine:
                left = unseen[..., i] - int(i == j)
                found[..., i, j] = law[..., card, j] * left.clamp(min=0)
            else:
                left = unseen[..., card] + 1 - int(i == card) - int(j == card)
                found[..., i, j] = law[..., i, j] * left.clamp(min=0)
    return found / found.sum((-2, -1))[..., None, None]


def magnetic_policy(policy, values, magnet, step, temperature):
    a = 1.0 if math.isinf(step) else step * temperature / (1 + step * temperature)
    b = 1 / (1 / step + temperature)
    dual = b * values + a * magnet.log()
    if a < 1:
        dual = dual + (1 - a) * policy.log()
    dual = dual.masked_fill(policy == 0, -math.inf)
    return (dual - dual.logsumexp(-1, keepdim=True)).exp()
