"""Two recorded runs of the chapter 'Nash mirror descent', under book/results.

Run from the repository root: ``python benchmarks/nash_md_study.py``; a few minutes on one core.
``games`` or ``sequences`` as its argument makes one of them alone.

- ``nash_md_games``: 200 random preference matrices for each of n = 4, 8, 12, 20, at six
  temperatures, with random references: how far from the equilibrium Nash-MD's schedule is after
  15,000 iterations, and after how many it is within 1e-8. One batched call per n.
- ``nash_md_study``: policies over sequences, trained by Nash-MD-PG with a grid of mixture weights,
  by Nash-EMA-PG and by RLHF on the Bradley-Terry reward; judged by enumeration.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.nlhf import nash_md as nm

F64 = torch.float64
COMMAND = "python benchmarks/nash_md_study.py"
GAMES, SIZES, ITERATIONS, CLOSE = 200, (4, 8, 12, 20), 15_000, 1e-8
TEMPERATURES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
SEEDS = 10
BETAS = (0.0, 0.05, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
DECAYS = (0.9, 0.99, 0.999)
# Vocabulary, length, temperature, steps of Adam, samples (0: exact expectations), learning rate.
SETTINGS = (
    (3, 4, 0.3, 300, 0, 0.05),
    (3, 4, 0.1, 300, 0, 0.05),
    (3, 4, 0.1, 1000, 0, 0.05),
    (3, 4, 0.1, 600, 0, 0.02),
    (3, 4, 0.1, 600, 0, 0.01),
    (3, 4, 0.1, 1200, 0, 0.005),
    (3, 4, 0.1, 300, 32, 0.05),
    (3, 4, 0.03, 300, 0, 0.05),
    (3, 4, 0.01, 300, 0, 0.05),
    (3, 5, 0.1, 300, 0, 0.05),
    (4, 4, 0.1, 300, 0, 0.05),
)


def class_game(space: nm.SequenceSpace, seeds: int) -> tuple[Tensor, Tensor]:
    """A cycle over classes plus a quality: preferences and reference logits for each seed.

    The class of a sequence is which of the first three tokens it holds most often (the lower one
    where they tie). Class 0 is preferred to 1, 1 to 2 and 2 to 0, by log-odds of 2; to these the
    difference of two random qualities is added, with standard deviation 1/2 each.
    """
    counts = torch.nn.functional.one_hot(space.sequences, space.vocabulary)[..., :3].sum(1)
    group = counts.argmax(-1)
    circle = torch.tensor([[0.0, 2, -2], [-2, 0, 2], [2, -2, 0]], dtype=F64)[group][:, group]
    preferences, references = [], []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        quality = 0.5 * torch.randn(space.count, generator=generator, dtype=F64)
        preferences.append((circle + quality[:, None] - quality).sigmoid())
        shape = (space.prefixes, space.vocabulary)
        references.append(0.7 * torch.randn(shape, generator=generator, dtype=F64))
    return torch.stack(preferences), torch.stack(references)


def games() -> None:
    """How fast the schedule is on random games."""
    rows: list[tuple[object, ...]] = []
    tau = torch.tensor(TEMPERATURES, dtype=F64)[:, None].expand(-1, GAMES)
    for n in SIZES:
        generator = torch.Generator().manual_seed(n)
        preference = nm.random_preference(n, generator, (GAMES,))
        reference = torch.randn(GAMES, n, generator=generator, dtype=F64).log_softmax(-1)
        game = nm.PreferenceGame(preference, reference, tau)
        nash, last = nm.regularized_nash(game), nm.nash_md(game, ITERATIONS)
        far = nm.kl(nash, last)
        needed = torch.zeros_like(far)
        run = nm.nash_md_iterates(game, 4 * ITERATIONS)
        for t, policy in enumerate(run):
            if t % 50 == 0:
                away = nm.kl(nash, policy) > CLOSE
                needed = torch.where(away, float(t + 50), needed)
                if not bool(away.any()):
                    break
        for k, temperature in enumerate(TEMPERATURES):
            rows.append((n, temperature, far[k].max().item(), int(needed[k].max().item()),
                         int(needed[k].median().item())))  # fmt: skip
        print(f"n = {n}: done", flush=True)
    names = ("n", "temperature", "kl_max", "needed_max", "needed_median")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    runs.write_record(
        "nash_md_games", columns, command=COMMAND, device=runs.describe_device(torch.device("cpu")),
        seeds=GAMES, note=f"kl_max after {ITERATIONS} iterations; needed: within {CLOSE:g}, by 50s",
    )  # fmt: skip


def sequences() -> None:
    """The inverted U."""
    rows: list[tuple[object, ...]] = []
    betas, decays = (torch.tensor(v, dtype=F64)[:, None] for v in (BETAS, DECAYS))
    for vocabulary, length, tau, steps, samples, rate in SETTINGS:
        space = nm.SequenceSpace(vocabulary, length)
        preference, logits = class_game(space, SEEDS)
        mu = space.log_probs(logits)
        law = mu.exp()
        # Pairs of answers drawn from the reference, as preference data are.
        reward = nm.bradley_terry(preference, law[:, :, None] * law[:, None, :])
        rlhf = space.log_probs(nm.reward_pg(space, reward, logits, tau, steps, learning_rate=rate))
        game = nm.PreferenceGame(preference, mu, tau)
        trained = {"RLHF": ([0.0], rlhf[None])}
        trained["Nash"] = ([0.0], nm.regularized_nash(game)[None])
        more = {
            "samples": samples or None,
            "generator": torch.Generator().manual_seed(99),
            "learning_rate": rate,
        }
        found = nm.nash_md_pg(space, game, steps, betas, **more)
        trained["Nash-MD-PG"] = (BETAS, space.log_probs(found))
        found = nm.nash_ema_pg(space, game, steps, decays, **more)
        trained["Nash-EMA-PG"] = (DECAYS, space.log_probs(found))
        for method, (weights, policies) in trained.items():
            gain = game.exploitability(policies)
            wins = (policies.exp() * game.preferred(rlhf)).sum(-1)
            value = game.value(policies, rlhf)
            for k, weight in enumerate(weights):
                low, high = gain[k].min().item(), gain[k].max().item()
                means = (gain[k].mean().item(), low, high, wins[k].mean().item(),
                         value[k].mean().item())  # fmt: skip
                setting = (vocabulary, length, tau, steps, samples, rate)
                rows.append((*setting, method, weight, *(f"{x:.4f}" for x in means)))
        print(vocabulary, length, tau, steps, samples, rate, "done", flush=True)
    names = ("vocabulary", "length", "temperature", "steps", "samples", "rate", "method", "weight",
             "exploitability", "lowest", "highest", "win_rate", "value")  # fmt: skip
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    runs.write_record(
        "nash_md_study", columns, command=COMMAND, device=runs.describe_device(torch.device("cpu")),
        seeds=SEEDS, note="win_rate and value against RLHF; means, lowest and highest over seeds",
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] != ["games"]:
        sequences()
    if sys.argv[1:] != ["sequences"]:
        games()
