"""Everything at once, as far as it goes; another solver for the projection; a greedy adversary."""

import torch


def earlier(stream):
    """The stream one round later, with a zero in front."""
    return torch.cat([torch.zeros_like(stream[:1]), stream[:-1]])


def optimistic_descent(gradients, radius, bound, delta):
    hints = earlier(gradients)
    missed = ((gradients - hints) ** 2).sum(-1)
    steps = 2 * radius * torch.rsqrt(delta + 4 * bound**2 + earlier(missed.cumsum(0)))[..., None]
    played = torch.empty_like(gradients)
    anchor = torch.zeros_like(gradients[0])
    for t in range(len(gradients)):
        both = anchor - steps[t] * torch.stack([hints[t], gradients[t]])
        both = both * (radius / both.norm(dim=-1, keepdim=True)).clamp(max=1)
        played[t], anchor = both
    return played


def optimistic_newton(gradients, radius, bound, beta):
    hints = earlier(gradients)
    outer = gradients[..., :, None] * gradients[..., None, :]
    eye = torch.eye(gradients.shape[-1], dtype=gradients.dtype)
    matrices = (1 + beta * bound**2) * eye + beta / 2 * earlier(outer.cumsum(0))
    curvature, axes = torch.linalg.eigh(matrices)
    played = torch.empty_like(gradients)
    anchor = torch.zeros_like(gradients[0])
    for t in range(len(gradients)):
        # Hint and gradient side by side along a new last axis.
        duals = matrices[t] @ anchor[..., None] - torch.stack([hints[t], gradients[t]], -1)
        turned, weights = axes[t].mT @ duals, curvature[t][..., None]
        multiplier = torch.zeros_like(turned[..., :1, :])
        # Newton's method on the reciprocal of the length, which is concave in the multiplier.
        for _ in range(30):
            inside = turned / (weights + multiplier)
            length = inside.norm(dim=-2, keepdim=True)
            slope = (inside**2 / (weights + multiplier)).sum(-2, keepdim=True)
            move = (length / radius - 1).clamp(min=0) * length**2 / slope
            multiplier = multiplier + torch.where(slope > 0, move, torch.zeros_like(move))
        points = axes[t] @ (turned / (weights + multiplier))
        played[t], anchor = points.unbind(-1)
    return played


def drift_terms(points, features, targets):
    def mean(x, a, b):
        # By the matrix of second moments.
        second = a.mT @ a / a.shape[-2]
        first = (a * b[..., None]).mean(-2)
        return torch.einsum("...ij,...j->...i", second, x) - first

    def drawn(x, a, b):
        first = a[..., 0, :]
        return ((first * x).sum(-1, keepdim=True) - b[..., :1]) * first

    luck = drawn(points, features, targets) - mean(points, features, targets)
    now = mean(points[1:], features[1:], targets[1:])
    across = mean(points[1:], features[:-1], targets[:-1])
    before = mean(points[:-1], features[:-1], targets[:-1])
    parts = torch.stack([luck[1:], now - across, across - before, luck[:-1]], -2)
    return (parts**2).sum(-1)


def remaining_moments(gradients):
    # A row of weights for every round.
    n, shape = len(gradients), gradients.shape
    weights = torch.ones(n, n, dtype=gradients.dtype).triu()
    weights = weights / weights.sum(1, keepdim=True)
    offsets = (gradients - gradients[-1]).reshape(n, -1)
    means = (weights @ offsets).reshape(shape)
    gaps = (offsets.reshape(shape)[None] - means[:, None]).square().sum(-1)
    variances = (weights.reshape(n, n, *[1] * (gaps.ndim - 2)) * gaps).sum(1)
    drifts = means.diff(dim=0, prepend=means[:1]).square().sum(-1)
    return torch.stack([variances, drifts], -1)


def beat_optimism(rounds):
    # Against where the optimist stands, once it stands anywhere.
    gradients = [0.5]
    anchor, hint, variation = -0.5, 0.5, 0.25
    while len(gradients) < rounds:
        step = 2 / (4 + variation) ** 0.5
        optimist = min(1.0, max(-1.0, anchor - step * hint))
        gradient = 1.0 if optimist > 0 else -1.0
        gradients.append(gradient)
        anchor = min(1.0, max(-1.0, anchor - step * gradient))
        variation, hint = variation + (gradient - hint) ** 2, gradient
    return torch.tensor(gradients[:rounds], dtype=torch.float64)


def hard_deck(losses):
    # A place for each loss, twice over and with both signs, as far as there is room.
    places = min(20, 2 * losses)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(losses)[:places]
    deck = torch.zeros(losses, places, dtype=torch.float64)
    for place in range(places):
        deck[place // 2 if 2 * losses <= 20 else place % losses, place] = signs[place]
    return deck
