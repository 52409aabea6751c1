"""Every algorithm on the grammar of texts, for the record in book/results.

Run from the repository root: ``python benchmarks/language_models_study.py``; about 15 s of one
core a run. It can be killed and started again: finished runs are kept in ``.cache``, and
``--finished`` writes the record of those that are there.

One decoder a seed is trained from scratch on the corpus. 3,000 pairs of its answers are labelled by
noisy annotators, and a network learns their preferences from the labels. The rival's reward is the
best that there is: Bradley and Terry's fit to the true probabilities of the classes, weighted
as the decoder's answers are. All start from the same decoder. Every 25 steps the exact class shares
of the policy are taken, and from them the exact exploitability under the annotators' true
preferences (without a penalty), the mean over the four prompts, and the divergence of the shares.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.agents.checkpoints import load_checkpoint, save_checkpoint
from mdtheory.nlhf.language_models import PreferenceTrainer, Rewards, sample_answers
from mdtheory.nlhf.language_models import grammar as world
from mdtheory.nlhf.nash_md import PreferenceGame, kl, regularized_nash
from mdtheory.nlhf.reward_models import (
    Comparisons,
    NeuralPreference,
    bradley_terry,
    fit_preference,
)

SEEDS, PAIRS, STEPS, EVERY = 8, 3000, 250, 25
HIDDEN = 64
FOLDER = Path(".cache/language_models")
NAME = "language_models_grammar"
COMMAND = "python benchmarks/language_models_study.py"
CPU = torch.device("cpu")
# What a run is: its loss, its temperature, and what else is not as by default.
RUNS: dict[str, dict[str, Any]] = {
    "nash-md": {},
    "ipo-md": {},
    "mirror-prox": {"step_size": 10.0},
    "rlhf": {},
    "rlhf, 4 tau": {"loss": "rlhf", "temperature": 0.4},
    "self-play, tau 0": {"loss": "self-play", "temperature": 0.0},
    "online-ipo": {},
    "nash-ema": {},
    "online-dpo": {},
    "nash-md, weight 0": {"loss": "nash-md", "mixture": 0.0},
    "nash-md, weight 0.125": {"loss": "nash-md", "mixture": 0.125},
    "nash-md, weight 0.5": {"loss": "nash-md", "mixture": 0.5},
    "nash-md, weight 0.75": {"loss": "nash-md", "mixture": 0.75},
    "nash-md, weight 1": {"loss": "nash-md", "mixture": 1.0},
}


def prepared(seed: int) -> tuple[torch.nn.Module, NeuralPreference, Tensor]:
    """A seed's decoder, its preference network and its classes' rewards, made once."""
    generator = torch.Generator().manual_seed(seed)
    decoder = world.decoder(generator)
    network = NeuralPreference(world.FEATURES, HIDDEN, generator)
    path, identity = FOLDER / f"prepared-{seed}.pt", f"seed {seed}, {PAIRS} pairs"
    if path.exists():
        state = load_checkpoint(path, identity, CPU)
        decoder.load_state_dict(state["decoder"])
        network.load_state_dict(state["network"])
        return decoder, network, state["reward"]
    world.supervise(decoder, generator)
    prompts, first, second = pairs_of(decoder, generator)
    chance = world.Annotators()(prompts, first, second)
    won = torch.bernoulli(chance, generator=generator).float()
    data = Comparisons(world.features(prompts, first), world.features(prompts, second), won)
    fit_preference(network, data, generator, steps=600, learning_rate=1e-3)
    shares = world.exact_shares(decoder).exp().mean(0)
    weights = shares[:, None] * shares
    reward = bradley_terry(world.class_preferences(), weights)
    state = {"decoder": decoder.state_dict(), "network": network.state_dict(), "reward": reward}
    save_checkpoint(path, identity, state)
    return decoder, network, reward


def pairs_of(
    model: torch.nn.Module, generator: torch.Generator
) -> tuple[list[str], list[str], list[str]]:
    """Pairs of a model's answers, equally many to each prompt."""
    words, topics = world.tokenizer(), list(world.TOPICS)
    tokens, each = torch.tensor(words(topics)["input_ids"]), PAIRS // len(topics)
    drawn = sample_answers(
        model, tokens, torch.ones_like(tokens), 2 * each, world.LONGEST, ends=[0],
        generator=generator,
    )  # fmt: skip
    texts = [words.batch_decode(answers, skip_special_tokens=True) for answers in drawn]
    texts = [[text.strip() for text in group] for group in texts]
    prompts = [topic for topic in topics for _ in range(each)]
    return (
        prompts,
        [text for group in texts for text in group[:each]],
        [text for group in texts for text in group[each:]],
    )


def run(name: str, seed: int) -> list[list[float]]:
    """Rows of step, exploitability, that of pooled shares, divergences, and shares."""
    torch.set_num_threads(1)
    decoder, network, reward = prepared(seed)
    start = world.exact_shares(decoder)
    game = PreferenceGame(world.class_preferences(), start, 0.0)

    def rewards(prompts: Any, answers: Any) -> list[float]:
        kinds = [world.class_of(p, a) for p, a in zip(prompts, answers, strict=True)]
        return reward[kinds].tolist()

    settings = {"loss": name, "temperature": 0.1, "mixture": 0.25, **RUNS[name]}
    judge = Rewards(rewards) if settings["loss"] == "rlhf" else world.NetworkJudge(network)
    trainer = PreferenceTrainer(
        copy.deepcopy(decoder), preference=judge, prompts=list(world.TOPICS),
        tokenizer=world.tokenizer(), group=4, prompts_per_step=8, new_tokens=world.LONGEST,
        learning_rate=1.5e-3, max_steps=STEPS, decay=0.5, progress=False, seed=seed, **settings,
    )  # fmt: skip
    rows = []
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            shares = world.exact_shares(trainer.model)
            pooled = shares.exp().mean(0)
            seen = [row["kl"] for row in trainer.logbook.rows[-EVERY:]]
            rows.append([
                step,
                game.exploitability(shares).mean().item(),
                game.exploitability(pooled.log()).mean().item(),
                kl(shares, start).mean().item(),
                sum(seen) / max(len(seen), 1),
                *pooled.tolist(),
            ])  # fmt: skip
        if step < STEPS:
            trainer.step()
    return rows


def equilibria(seed: int) -> list[list[float]]:
    """Exploitability and divergence of the regularised equilibria, by temperature."""
    start = world.exact_shares(prepared(seed)[0])
    rows = []
    for tau in (0.02, 0.05, 0.1, 0.2):
        game = PreferenceGame(world.class_preferences(), start, tau)
        star = regularized_nash(game)
        plain = game.at(0.0)
        pooled = star.exp().mean(0)
        rows.append([
            tau, plain.exploitability(star).mean().item(),
            plain.exploitability(pooled.log()).mean().item(), kl(star, start).mean().item(),
            kl(star, start).mean().item(), *pooled.tolist(),
        ])  # fmt: skip
    return rows


COLUMNS = ["method", "seed", "at", "exploitability", "pooled", "class_kl", "kl",
           *(f"share {name}" for name in world.CLASSES)]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", action="store_true", help="write what is there, run nothing")
    given = parser.parse_args()
    cells = []
    for seed in range(SEEDS):  # all methods of one seed, then the next
        act = runs.finished_cells if given.finished else runs.sweep
        cells += act(run, {"name": list(RUNS)}, seeds=[seed], folder=FOLDER)
    found = [
        [cell.arguments["name"], cell.seed, *row] for cell in cells for row in cell.result
    ]  # fmt: skip
    found += [["equilibrium", seed, *row] for seed in range(SEEDS) for row in equilibria(seed)]
    columns = {name: [row[at] for row in found] for at, name in enumerate(COLUMNS)}
    note = (
        f"{len(cells)} of {len(RUNS) * SEEDS} runs; `at` is the step, or the temperature of an "
        "equilibrium; kl is the mean log-ratio of the answers of the last steps, which for ipo-md "
        "the mixture has drawn"
    )
    runs.write_record(
        NAME, columns, command=COMMAND, device=runs.describe_device(CPU), seeds=SEEDS, note=note
    )


if __name__ == "__main__":
    main()
