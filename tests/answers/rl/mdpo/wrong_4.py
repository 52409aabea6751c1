"""The library's own solutions, under several names."""

import math

import torch

import mdtheory.convex.mirror_maps as maps
from mdtheory.convex.mirror_maps import mirror_step as step
from mdtheory.rl.mdpo import Categorical, Gaussian, generalized_advantages, mdpo_loss

project = maps.Simplex().project


def policy_step(log_policy, advantage, step_size):
    return maps.dual_step(log_policy, -advantage, step_size).log_softmax(-1)


def advantages(rewards, values, terminated, truncated, discount, trace):
    ended = terminated | truncated
    resets = torch.cat([torch.zeros_like(ended[:1]), ended[:-1]])
    return generalized_advantages(
        rewards, values, terminated, truncated, discount=discount, gae_lambda=trace, resets=resets
    )[0]


def objective_gradient(logits, old_logits, actions, advantages, step_size):
    z = logits.clone().requires_grad_()
    new, old = Categorical(z), Categorical(old_logits)
    loss = mdpo_loss(
        new.log_prob(actions), old.log_prob(actions), advantages, new.kl(old), step_size
    )
    return -torch.autograd.grad(loss.sum(), z)[0]


def gaussian_divergence(mean, log_std, old_mean, old_log_std):
    return Gaussian(mean, log_std).kl(Gaussian(old_mean, old_log_std))


def actor_optimum(log_old, values, divergence_weight, entropy_weight):
    uniform = torch.full_like(values, 1 / values.shape[-1])
    size = math.inf
    if divergence_weight > entropy_weight:
        size = 1 / (divergence_weight - entropy_weight)
    magnet = (uniform, entropy_weight) if entropy_weight > 0 else ()
    return step(maps.Entropy(), log_old.exp(), -values, size, *magnet).log()


def euclidean_step(policy, advantage, step_size):
    return project(policy + step_size * advantage / 2)
