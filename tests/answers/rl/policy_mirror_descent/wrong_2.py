"""Things that are forgotten."""

import torch


def solved(matrix, right):
    return torch.linalg.solve(matrix, right[..., None])[..., 0]


def chain(transition, policy, discount):
    move = torch.einsum("...sa,...sat->...st", policy, transition)
    return torch.eye(move.shape[-1], dtype=move.dtype) - discount * move


def q_of(transition, reward, discount, policy):
    value = solved(chain(transition, policy, discount), (policy * reward).sum(-1))
    return reward + discount * (transition @ value[..., None, :, None])[..., 0]


def action_values(transition, reward, discount, policy):  # a loop that ends too early
    value = torch.zeros(reward.shape[:-1], dtype=reward.dtype)
    for _ in range(100):
        q = reward + discount * (transition @ value[..., None, :, None])[..., 0]
        value = (policy * q).sum(-1)
    return reward + discount * (transition @ value[..., None, :, None])[..., 0]


def gain_by_state(transition, reward, discount, new, old, initial):  # shares in place of visits
    q = q_of(transition, reward, discount, old)
    visits = (1 - discount) * solved(chain(transition, new, discount).mT, initial)
    return visits * ((new - old) * q).sum(-1)


def natural_gradient_run(transition, reward, discount, temperature, step_size, iterations):
    policy = torch.full_like(reward, 1 / reward.shape[-1])  # probabilities are carried
    for _ in range(iterations):
        q = q_of(transition, reward, discount, policy)  # without the cost of the policy
        b = step_size / (1 - discount)
        logits = (1 - b * temperature) * policy.log() + b * q
        policy = logits.softmax(-1)
    return policy.log()


def projected_run(transition, reward, discount, step_size, iterations):  # a lazy dual
    dual = torch.full_like(reward, 1 / reward.shape[-1])
    policy = dual
    for _ in range(iterations):
        dual = dual + step_size * q_of(transition, reward, discount, policy)
        v = dual - dual.amax(-1, keepdim=True)
        low, high = torch.full_like(v[..., :1], -1.0), torch.zeros_like(v[..., :1])
        for _ in range(100):
            middle = (low + high) / 2
            above = (v - middle).relu().sum(-1, keepdim=True) > 1
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        policy = (v - high).relu()
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
    visits = solved(chain(transition, policy, discount).mT, initial)
    theta = (visits / initial).amax(-1)  # the distance of the policies is left out
    return torch.stack([gap * (1 - 1 / theta) ** k for k in range(iterations + 1)], -1)


def episodic_values(chances, targets, rewards, ends, discount):  # no reward for the last step
    value = torch.zeros(chances.shape[:-2], dtype=chances.dtype)
    for _ in range(800):
        after = value[..., None, None, :].expand(*targets.shape[:-1], -1).gather(-1, targets)
        value = (chances * (1 - ends) * (rewards + discount * after)).sum(-1).amax(-1)
    return value
