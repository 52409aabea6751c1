"""The library's own solutions, under several names."""

import torch

import mdtheory.nlhf.online_preference as op
from mdtheory.nlhf import nash_md
from mdtheory.nlhf.online_preference import contrastive_variance, ipo_loss
from mdtheory.nlhf.online_preference.exact import ipo_md_gradient as same


def pair_losses(chosen, rejected, reference_chosen, reference_rejected, temperature):
    return ipo_loss(chosen, rejected, reference_chosen, reference_rejected, temperature)


def online_gradient(preference, policy, reference, temperature):
    return op.online_ipo_gradient(
        nash_md.PreferenceGame(preference, reference, temperature), policy
    )


def mixture_gradient(preference, policy, reference, temperature, weight):
    game = nash_md.PreferenceGame(preference, reference, temperature)
    return same(game, policy, weight)


def offline_optimum(preference, reference, temperature, law):
    return nash_md.PreferenceGame(preference, reference, temperature).best_response(law)


def dpo_residual(preference, policy, reference, temperature):
    gradient = op.dpo_gradient(nash_md.PreferenceGame(preference, reference, temperature), policy)
    return gradient / (-2 * temperature * policy.exp())


def estimator_variances(preference, policy, reference, temperature):
    return torch.stack(
        contrastive_variance(nash_md.PreferenceGame(preference, reference, temperature), policy), -1
    )
