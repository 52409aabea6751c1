"""Loops over data sets, outer and inner steps; autograd; lists."""

import itertools
import math

import torch


def flat(tensor, axes):
    """The batch as a list, each with the given number of axes."""
    return list(tensor.reshape(-1, *tensor.shape[tensor.ndim - axes :]).unbind(0))


def inner_descent(features, labels, start, step_size, alpha, inner_steps, outer_steps):
    runs = []
    for x, y, omega in zip(flat(features, 2), flat(labels, 1), flat(start, 1), strict=True):
        path = [omega]
        for _ in range(outer_steps):
            anchor = x @ omega
            slope = torch.special.expit(anchor) - y
            for _ in range(inner_steps):
                variable = omega.clone().requires_grad_()
                z = x @ variable
                surrogate = (slope * z + (z - anchor) ** 2 / (2 * step_size)).mean()
                omega = omega - alpha * torch.autograd.grad(surrogate, variable)[0]
            path.append(omega)
        runs.append(torch.stack(path))
    return torch.stack(runs, 1).reshape(outer_steps + 1, *start.shape)


def surrogate_gap(logits, anchor, labels, step_size):
    # From the definitions, term by term.
    def log_sum(z):
        top = z.amax(-1, keepdim=True)
        return (z - top).exp().sum(-1).log() + top[..., 0]

    hit = torch.nn.functional.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    p = (anchor - log_sum(anchor)[..., None]).exp()
    change = logits - anchor
    loss = log_sum(logits) - (hit * logits).sum(-1)
    old = log_sum(anchor) - (hit * anchor).sum(-1)
    divergence = log_sum(logits) - log_sum(anchor) - (p * change).sum(-1)
    return (old + ((p - hit) * change).sum(-1) + divergence / step_size - loss).mean(-1)


def projected_descent(features, labels, start, step_size, outer_steps):
    runs = []
    for x, y, omega in zip(flat(features, 2), flat(labels, 1), flat(start, 1), strict=True):
        # An orthonormal basis by Gram and Schmidt, twice over, columns of length one.
        basis = []
        for column in x.mT:
            column = column / column.norm()
            for _ in range(2):
                for vector in basis:
                    column = column - (vector @ column) * vector
            if column.norm() > 1e-9:
                basis.append(column / column.norm())
        z = x @ omega
        path = [z]
        for _ in range(outer_steps):
            half = z - step_size * (torch.sigmoid(z) - y)
            z = sum((vector @ half) * vector for vector in basis)
            path.append(z)
        runs.append(torch.stack(path))
    return torch.stack(runs, 1).reshape(outer_steps + 1, *labels.shape)


def softmax_smoothness(weights, temperature):
    # The eigenvalue of one row's Hessian where two classes share everything.
    p = torch.tensor([0.5, 0.5], dtype=weights.dtype)
    row = torch.linalg.eigvalsh(torch.diag(p) - torch.outer(p, p))[-1]
    return weights.max(-1).values * row / temperature**2


def worst_batch(features, labels, start, step_size, size):
    worst, rows = -math.inf, None
    for chosen in itertools.combinations(range(len(labels)), size):
        x = features[list(chosen)]
        half = x @ start - step_size * (x @ start - labels[list(chosen)])
        # gelsy finds the least-norm solution, of any rank.
        move = torch.linalg.lstsq(x, (half - x @ start)[:, None], driver="gelsy").solution
        loss = ((features @ (start + move[:, 0]) - labels) ** 2).sum()
        if loss > worst:
            worst, rows = loss, chosen
    return torch.tensor(rows)


def cheapest_inner_steps(features, labels, step_size, alpha, oracle_cost, optimum, tolerance, most):
    def gap(omega):
        z = features @ omega
        return float((torch.logaddexp(z, 0 * z) - labels * z).mean()) - optimum

    hessian = features.mT @ features / (len(labels) * step_size)
    costs = []
    for inner in range(1, most + 1):
        omega, outer = torch.zeros(features.shape[-1], dtype=features.dtype), 0
        while gap(omega) > tolerance:
            slope = features.mT @ (torch.sigmoid(features @ omega) - labels) / len(labels)
            move = torch.zeros_like(omega)
            for _ in range(inner):
                move = move - alpha * (slope + hessian @ move)
            omega = omega + move
            outer += 1
        costs.append(outer * (oracle_cost + inner))
    return costs.index(min(costs)) + 1
