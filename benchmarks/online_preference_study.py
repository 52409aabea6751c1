"""Losses of pairs on a policy that writes sequences: who beats whom, under book/results.

Run from the repository root: ``python benchmarks/online_preference_study.py``; a few minutes on
one core. Policies are trees of logits over all sequences, so that every win rate is exact; pairs
and labels are sampled. A cell is a loss, a temperature and a seed; all temperatures and seeds of a
loss are one batch. The temperature of a loss is the one whose policies lose least to a best answer,
on seeds of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.device import default_device
from mdtheory.nlhf.online_preference import dpo_loss, ipo_contrast_loss, slic_loss
from mdtheory.nlhf.reward_models import bradley_terry
from mdtheory.sequences import SequenceSpace

TOKENS, LENGTH, BATCH, STEPS, RATE, WEIGHT = 4, 4, 32, 1500, 0.03, 0.125
TEMPERATURES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
CHOOSING, REPORTED = 8, 16
SEEDS = CHOOSING + REPORTED
PairLoss = Callable[..., Tensor]
PAIRS: dict[str, tuple[PairLoss, float]] = {
    "Online IPO": (ipo_contrast_loss, 0.0),
    "IPO-MD": (ipo_contrast_loss, WEIGHT),
    "online DPO": (dpo_loss, 0.0),
    "online SLiC": (slic_loss, 0.0),
}
METHODS = (*PAIRS, "Nash-MD-PG", "RL")


def judge(space: SequenceSpace, device: torch.device) -> Tensor:
    """Three classes in a circle, and a quality: how many different tokens an answer has."""
    sequences = space.sequences.to(device)
    kind = sequences.sum(-1) % 3
    turn = (kind[None, :] - kind[:, None]) % 3  # 1: the row beats the column
    cycle = torch.where(turn == 1, 1.0, torch.where(turn == 2, -1.0, 0.0)).double()
    different = torch.nn.functional.one_hot(sequences, TOKENS).amax(-2).sum(-1).double()
    return (1.5 * cycle + 0.5 * (different[:, None] - different[None, :])).sigmoid()


def pick(table: Tensor, index: Tensor) -> Tensor:
    return torch.take_along_dim(table, index, -1)


def train(method: str, space: SequenceSpace, preference: Tensor, old: Tensor) -> Tensor:
    """All temperatures and seeds of one method; log-probabilities (temperatures, seeds, n)."""
    device = old.device
    generator = torch.Generator(device).manual_seed(7)
    tau = torch.tensor(TEMPERATURES, dtype=old.dtype, device=device)[:, None, None]
    reference = space.log_probs(old)
    logits = old.expand(len(TEMPERATURES), *old.shape).clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], RATE)
    # A reward for pairs of the reference.
    drawn = reference.exp()
    pairs = drawn[..., :, None] * drawn[..., None, :]
    score = bradley_terry(preference, pairs, 1e-9) if method == "RL" else reference

    def draw(law: Tensor, count: int) -> Tensor:
        flat = law.detach().exp().flatten(0, 1)
        index = torch.multinomial(flat, count, replacement=True, generator=generator)
        return index.reshape(*law.shape[:2], count)

    for _ in range(STEPS):
        policy = space.log_probs(logits)
        base = reference.expand_as(policy)
        loss, weight = PAIRS.get(method, (None, WEIGHT))
        with torch.no_grad():
            mixed = policy
            if weight and method != "RL":
                mixed = space.log_probs(space.token_mixture(logits, old, weight))
        first = draw(mixed if loss else policy, BATCH)
        second = draw(mixed, BATCH)
        coin = torch.rand(first.shape, generator=generator, dtype=old.dtype, device=device)
        won = coin < preference[first, second]
        if loss is not None:
            chosen = torch.where(won, first, second)
            rejected = torch.where(won, second, first)
            each = loss(
                pick(policy, chosen), pick(policy, rejected), pick(base, chosen),
                pick(base, rejected), tau,
            )  # fmt: skip
        else:
            own = pick(policy, first)
            ratio = (own - pick(base, first)).detach()
            if method == "RL":
                gain = pick(score.expand_as(policy), first)
            else:
                gain = won.to(old.dtype) - 0.5
            gain = gain - tau * ratio
            each = -(gain - gain.mean(-1, keepdim=True)) * own
        optimiser.zero_grad()
        each.mean(-1).sum().backward()
        optimiser.step()
    return space.log_probs(logits).detach()


def main() -> None:
    """Run every cell and write the record."""
    device = default_device()
    space = SequenceSpace(TOKENS, LENGTH)
    preference = judge(space, device)
    generator = torch.Generator(device).manual_seed(0)
    shape = (SEEDS, space.prefixes, TOKENS)
    old = 0.7 * torch.randn(shape, generator=generator, dtype=torch.float64, device=device)
    policies = []
    for method in METHODS:
        policies.append(train(method, space, preference, old).exp())
        print(f"{method}: done")
    table = torch.stack(policies)  # methods, temperatures, seeds, n
    rows: list[tuple[object, ...]] = []
    # What the best answer to a policy gains: small for what cannot be beaten.
    gap = (table @ preference.mT).amax(-1) - 0.5
    chosen = gap[..., :CHOOSING].mean(-1).argmin(-1)
    kept = torch.stack([table[m, t, CHOOSING:] for m, t in enumerate(chosen.tolist())])
    wins = torch.einsum("isn,nk,jsk->sij", kept, preference, kept)
    value, low, high = runs.bootstrap_interval(wins, generator, statistic="mean")
    for i, row in enumerate(METHODS):
        for j, column in enumerate(METHODS):
            rows.append(("win", row, column, value[i, j], low[i, j], high[i, j]))
    for i, row in enumerate(METHODS):
        tau = TEMPERATURES[int(chosen[i])]
        rows.append(("temperature", row, "", tau, tau, tau))
    spread = gap[..., CHOOSING:].permute(2, 0, 1)
    value, low, high = runs.bootstrap_interval(spread, generator, statistic="mean")
    for i, row in enumerate(METHODS):
        for k, tau in enumerate(TEMPERATURES):
            rows.append(("gap", row, f"{tau:g}", value[i, k], low[i, k], high[i, k]))
    names = ("kind", "row", "column", "value", "low", "high")
    columns = {
        name: [f"{float(row[i]):.6g}" if i >= 3 else row[i] for row in rows]  # type: ignore[arg-type]
        for i, name in enumerate(names)
    }
    path = runs.write_record(
        "online_preference_study", columns,
        command="python benchmarks/online_preference_study.py",
        device=runs.describe_device(device), seeds=REPORTED,
        note=f"{TOKENS} tokens, length {LENGTH}, {STEPS} Adam steps at {RATE:g}, batch {BATCH}; "
        f"temperatures chosen on {CHOOSING} other seeds",
    )  # fmt: skip
    print(path)


if __name__ == "__main__":
    main()
