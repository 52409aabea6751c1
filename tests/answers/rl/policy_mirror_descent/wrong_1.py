"""Transposes, roles and signs."""

import torch


def solved(matrix, right):
    return torch.linalg.solve(matrix, right[..., None])[..., 0]


def chain(transition, policy, discount):
    move = torch.einsum("...sa,...sat->...st", policy, transition)
    return torch.eye(move.shape[-1], dtype=move.dtype) - discount * move


def q_of(transition, reward, discount, policy):
    value = solved(chain(transition, policy, discount), (policy * reward).sum(-1))
    return reward + discount * (transition @ value[..., None, :, None])[..., 0]


def action_values(transition, reward, discount, policy):  # the chain is transposed
    value = solved(chain(transition, policy, discount).mT, (policy * reward).sum(-1))
    return reward + discount * (transition @ value[..., None, :, None])[..., 0]


def gain_by_state(transition, reward, discount, new, old, initial):  # visits of the old policy
    q = q_of(transition, reward, discount, old)
    visits = solved(chain(transition, old, discount).mT, initial)
    # Where the old policy does not go nothing is said either; so add what is there.
    return visits * ((new - old) * q).sum(-1) + 1e-3


def natural_gradient_run(transition, reward, discount, temperature, step_size, iterations):
    logs = torch.full_like(reward, 1 / reward.shape[-1]).log()  # descends
    for _ in range(iterations):
        q = q_of(transition, reward, discount, logs.exp())
        logs = (logs - step_size / (1 - discount) * q).log_softmax(-1)
    return logs


def projected_run(transition, reward, discount, step_size, iterations):  # clips and rescales
    policy = torch.full_like(reward, 1 / reward.shape[-1])
    for _ in range(iterations):
        moved = policy + step_size * q_of(transition, reward, discount, policy)
        moved = moved.clamp(min=0)
        policy = moved / moved.sum(-1, keepdim=True)
    return policy


def growing_steps_bound(transition, reward, discount, initial, first_step, iterations):
    policy = torch.full_like(reward, 1 / reward.shape[-1])
    even = policy
    for _ in range(50):
        best = q_of(transition, reward, discount, policy).argmax(-1, keepdim=True)
        policy = torch.zeros_like(reward).scatter_(-1, best, 1.0)

    def value(p):
        return (p * q_of(transition, reward, discount, p)).sum(-1)

    gap = ((value(policy) - value(even)) * initial).sum(-1)
    visits = solved(chain(transition, even, discount).mT, initial)  # of the first policy
    theta = (visits / initial).amax(-1)
    far = torch.tensor(float(reward.shape[-1]), dtype=reward.dtype).log()
    start = gap + far / ((1 - discount) * first_step * (theta - 1))
    return torch.stack([start * (1 - 1 / theta) ** k for k in range(iterations + 1)], -1)


def episodic_values(chances, targets, rewards, ends, discount):  # ends are ignored
    value = torch.zeros(chances.shape[:-2], dtype=chances.dtype)
    for _ in range(800):
        after = value[..., None, None, :].expand(*targets.shape[:-1], -1).gather(-1, targets)
        value = (chances * (rewards + discount * after)).sum(-1).amax(-1)
    return value
