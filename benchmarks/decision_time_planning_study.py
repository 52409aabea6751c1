"""Search at decision time, recorded under book/results.

Run from the repository root: ``python benchmarks/decision_time_planning_study.py``; a quarter of an
hour or so on one core. A killed run goes on where it was, from the cells in
``.cache/decision_time_planning_study``. Without the extra ``games`` the two games of OpenSpiel are
left out.

``hanabi_search_study``: the small Hanabi, four hundred decks, the same in every cell, in ten
batches of forty; who searches, with how many samples, which step, from which blueprint.

``magnetic_search_study``: exploitability of what magnetic search plays, from a uniform blueprint,
with exact values and with sampled ones. The mean over many searches in every row is what is played;
its exploitability is measured twice: as if the mean were exact, which is too much, and with a best
response to one half of the searches tried against the other half, which is too little.

``blueprint_search_study``: the same with exact values from blueprints of magnetic mirror descent.

``public_search_study``: the tiny game with 2 to 8 cards, mirror descent search beside a search over
prescriptions, values and CPU time.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdtheory import runs
from mdtheory.nlhf.decision_time_planning import (
    SmallHanabi,
    TinyHanabi,
    action_values,
    exact_search_policy,
    magnetic_search,
    play_hanabi,
    sampled_action_values,
)
from mdtheory.nlhf.games import (
    ExtensiveGame,
    exploitability,
    from_openspiel,
    inverse_root,
    kuhn_poker,
    leduc_poker,
    magnetic_mirror_descent,
)
from mdtheory.nlhf.games.strategies import Strategies

FOLDER = Path(".cache") / "decision_time_planning_study"
COMMAND = "python benchmarks/decision_time_planning_study.py"
GAMES, BATCHES = 400, 10
STEPS = (0.1, 0.3, 1.0, 3.0, 10.0, math.inf)
TEMPERATURES = (0.0, 0.1, 0.5)
SEARCHES, SEEDS = 100, 4
DARK_HEX = "dark_hex(board_size=2,gameversion=adh)"
LIARS_DICE = "liars_dice(numdice=1,dice_sides=3)"
CARDS, TINY_GAMES, ACTIONS, DESCENT = (2, 4, 6, 8), 40, 3, 30


def hanabi_cell(
    searchers: list[int], samples: int, step_size: float, play: str, rollouts: str, noise: float,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Scores of all games of one setting, in the order of the decks."""
    torch.set_num_threads(1)
    game = SmallHanabi()
    state = game.deal(GAMES, torch.Generator().manual_seed(7))
    begin = time.process_time()
    record = play_hanabi(
        game, state, torch.Generator().manual_seed(100 + seed), searchers=searchers,
        samples=samples, step_size=step_size or math.inf, play=play, rollouts=rollouts,
        noise=noise,
    )  # fmt: skip
    return {
        "score": record.score.tolist(),
        "lost": record.lost.long().tolist(),
        "searches": record.searches,
        "rollouts": record.rollouts,
        "changed": record.changed,
        "seconds": time.process_time() - begin,
    }


def hanabi_grids() -> list[dict[str, Any]]:
    """Arguments of one sweep each; a step of 0 stands for an infinite one."""

    def grid(
        searchers: list[int], samples: list[int], steps: list[float], plays: list[str],
        rollouts: str = "sample", noise: float = 0.15,
    ) -> dict[str, Any]:  # fmt: skip
        return {"searchers": [searchers], "samples": samples, "step_size": steps, "play": plays,
                "rollouts": [rollouts], "noise": [noise]}  # fmt: skip

    both = ["argmax", "sample"]
    wanted = [grid([], [1], [5.0], ["sample"], rollouts, noise)
              for rollouts in ("sample", "argmax") for noise in (0.15, 0.5)]  # fmt: skip
    wanted.append(grid([0], [1, 3, 10, 50], [5.0], both))
    wanted.append(grid([0], [10], [0.2, 0.5, 2.0, 20.0, 0.0], both))
    wanted.append(grid([0], [1], [0.2, 0.5, 2.0, 20.0, 0.0], ["argmax"]))
    wanted.append(grid([0, 1], [10], [5.0], both))
    wanted.append(grid([0, 1], [10], [0.0], ["argmax"]))
    for searchers in ([0], [0, 1]):
        wanted.append(grid(searchers, [1, 10], [0.5, 5.0, 0.0], ["argmax"], "argmax"))
        wanted.append(grid(searchers, [10], [5.0], both, "sample", 0.5))
    return wanted


def hanabi(run: Any) -> None:
    """The record of the small Hanabi."""
    rows: list[dict[str, Any]] = []
    base: dict[tuple[str, float], Tensor] = {}
    for grid in hanabi_grids():
        for cell in run(hanabi_cell, grid, seeds=[0], folder=FOLDER):
            told, result = cell.arguments, cell.result
            score = torch.tensor(result["score"], dtype=torch.float64).reshape(BATCHES, -1)
            lost = torch.tensor(result["lost"], dtype=torch.float64).reshape(BATCHES, -1)
            kind = (told["rollouts"], told["noise"])
            if not told["searchers"]:
                base[kind] = score
            gain = score - base[kind]
            moves = max(result["searches"], 1)
            print(
                f"search {told['searchers']!s:6} M {told['samples']:3} eta {told['step_size']:4} "
                f"{told['play']:6} rollouts {told['rollouts']:6} noise {told['noise']}: "
                f"{score.mean():.2f}, gain {gain.mean():+.2f} +- "
                f"{1.96 * gain.std() / GAMES**0.5:.2f}, lost {lost.mean():.2f}, changed "
                f"{result['changed']:.2f}, {result['seconds']:.0f} CPU s",
                flush=True,
            )
            for batch in range(BATCHES):
                rows.append({
                    "searchers": len(told["searchers"]), "samples": told["samples"],
                    "step": told["step_size"] or math.inf, "play": told["play"],
                    "rollouts": told["rollouts"], "noise": told["noise"], "batch": batch,
                    "score": f"{score[batch].mean():.4f}", "gain": f"{gain[batch].mean():.4f}",
                    "lost": f"{lost[batch].mean():.4f}", "changed": f"{result['changed']:.4f}",
                    "rollouts_a_move": f"{result['rollouts'] / moves:.1f}",
                    "ms_a_move": f"{1e3 * result['seconds'] / moves:.3f}",
                })  # fmt: skip
    _write(
        "hanabi_search_study", rows, BATCHES,
        f"{GAMES} decks, the same in all cells, in {BATCHES} batches; gain over the blueprint on "
        "the same decks; small Hanabi of 2 colours and 3 ranks, hands of 2, 4 hints, 2 lives, the "
        "score counts when the lives are gone. rollouts argmax: the blueprint plays its likeliest "
        "move, in the search and outside. ms_a_move: CPU time of whole games by searches",
    )  # fmt: skip


def zero_sum(name: str) -> ExtensiveGame:
    """The game that a name stands for."""
    if name in ("kuhn", "leduc"):
        return kuhn_poker() if name == "kuhn" else leduc_poker()
    return from_openspiel({"dark hex": DARK_HEX, "liar's dice": LIARS_DICE}[name])


def settings() -> list[tuple[float, float]]:
    """Temperatures and steps, all pairs."""
    return [(tau, eta) for tau in TEMPERATURES for eta in STEPS]


def searched(law: Tensor, values: Tensor) -> Tensor:
    """What is played with each setting, ``(settings, ..., rows, actions)``."""
    return torch.stack([magnetic_search(law, values, eta, tau) for tau, eta in settings()])


def magnetic_cell(game: str, samples: int, seed: int) -> dict[str, Any]:
    """Exploitability of the mean of many searches, twice; exact values where samples are 0."""
    torch.set_num_threads(1)
    tree = zero_sum(game)
    even = tree.uniform()
    if not samples:
        exact = action_values(tree, even)
        played = tuple(searched(law, q) for law, q in zip(even, exact, strict=True))
        found = exploitability(tree, (played[0], played[1])).tolist()
        return {"uniform": float(exploitability(tree, even)), "mean": found, "halves": found}
    generator = torch.Generator().manual_seed(1000 + seed)
    many = tuple(law.expand(SEARCHES, *law.shape) for law in even)
    values = sampled_action_values(tree, many, samples, generator)
    means, halves = [], []
    for law, q in zip(many, values, strict=True):
        every = searched(law, q).exp()
        means.append(every.mean(1).log())
        halves.append([half.mean(1).log() for half in every.chunk(2, 1)])
    mean: Strategies = (means[0], means[1])
    low = torch.stack([_held_out(tree, halves, k) for k in (0, 1)]).mean(0)
    return {
        "uniform": float(exploitability(tree, even)),
        "mean": exploitability(tree, mean).tolist(),
        "halves": low.tolist(),
    }


def _held_out(tree: ExtensiveGame, halves: list[list[Tensor]], k: int) -> Tensor:
    """Best responses to one half of the searches, tried against the other half."""
    model: Strategies = (halves[0][k], halves[1][k])
    first, second = tree.best_response(model)
    theirs = (halves[0][1 - k], halves[1][1 - k])
    return (tree.value((first, theirs[1])) - tree.value((theirs[0], second))) / 2


def magnetic(run: Any) -> None:
    """The record of magnetic search from uniform blueprints."""
    games = ["kuhn", "leduc"]
    if importlib.util.find_spec("pyspiel") is not None:
        games += ["dark hex", "liar's dice"]
    rows = []
    for game in games:
        cells = run(magnetic_cell, {"game": [game], "samples": [0]}, seeds=[0], folder=FOLDER)
        cells += run(magnetic_cell, {"game": [game], "samples": [1, 3, 10, 30, 100]},
                     seeds=range(SEEDS), folder=FOLDER)  # fmt: skip
        for cell in cells:
            result = cell.result
            for k, (tau, eta) in enumerate(settings()):
                rows.append({
                    **cell.arguments, "temperature": tau, "step": eta, "seed": cell.seed,
                    "uniform": f"{result['uniform']:.5f}",
                    "exploitability": f"{result['mean'][k]:.5f}",
                    "held_out": f"{result['halves'][k]:.5f}",
                })  # fmt: skip
            if cell.seed == 0:
                print(game, cell.arguments["samples"], f"uniform {result['uniform']:.3f}",
                      " ".join(f"{v:.3f}/{w:.3f}" for v, w in
                               zip(result["mean"], result["halves"], strict=True)),
                      flush=True)  # fmt: skip
    _write(
        "magnetic_search_study", rows, SEEDS,
        f"uniform blueprint and magnet; {SEARCHES} searches in every row; exploitability: of their "
        "mean, which is too much; held_out: best responses to half of them against the other half, "
        "which is too little; samples 0: exact values. dark hex: 2 by 2, abrupt; liar's dice: one "
        "die of three sides each",
    )  # fmt: skip


def blueprint_cell(game: str, iterations: int, seed: int) -> dict[str, Any]:
    """Search with exact values from a blueprint of magnetic mirror descent."""
    torch.set_num_threads(1)
    tree = zero_sum(game)
    scale = 5.0 if game == "leduc" else 1.0
    law = magnetic_mirror_descent(
        tree, iterations, inverse_root(scale), inverse_root(1.0), magnet=tree.uniform(),
        form="behavioural",
    )  # fmt: skip
    found = {}
    for tau in TEMPERATURES:
        for eta in (0.01, 0.03, *STEPS):
            played = exact_search_policy(tree, law, eta, temperature=tau)
            found[f"{tau} {eta}"] = float(exploitability(tree, played))
    return {"blueprint": float(exploitability(tree, law)), "found": found}


def blueprints(run: Any) -> None:
    """The record of search from blueprints that are already good."""
    rows = []
    grid = {"game": ["kuhn", "leduc"], "iterations": [10, 100, 1000]}
    for cell in run(blueprint_cell, grid, seeds=[0], folder=FOLDER):
        for key, value in cell.result["found"].items():
            tau, eta = key.split()
            rows.append({
                **cell.arguments, "temperature": tau, "step": eta,
                "blueprint": f"{cell.result['blueprint']:.5f}", "exploitability": f"{value:.5f}",
            })  # fmt: skip
    _write(
        "blueprint_search_study", rows, 1,
        "exact values; blueprints: last iterates of the behavioural form with a temperature of "
        "c / sqrt(t) (c = 1 on Kuhn, 5 on Leduc) and steps of 1 / sqrt(t), uniform magnet",
    )  # fmt: skip


def public_cell(cards: int, seed: int) -> dict[str, Any]:
    """Values of search in random tiny games, and CPU seconds."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    shape = (cards, cards, ACTIONS, ACTIONS)
    payoff = torch.rand(TINY_GAMES, *shape, generator=generator, dtype=torch.float64)
    game, one = TinyHanabi(payoff), TinyHanabi(payoff[0])
    even = game.uniform()
    start = tuple(
        torch.randn(TINY_GAMES, *law.shape, generator=generator, dtype=law.dtype).log_softmax(-1)
        for law in even
    )  # fmt: skip
    single = exact_search_policy(game, start, 30.0, players=0)
    now = start
    both = exact_search_policy(game, start, 30.0)
    for _ in range(DESCENT):
        now = exact_search_policy(game, now, 30.0)
    alone = tuple(law[0] for law in start)
    fast = _seconds(lambda: exact_search_policy(one, alone, 30.0), 20)
    slow = _seconds(one.optimum, 10)
    return {
        "blueprint": game.value(start).tolist(), "one": game.value(single).tolist(),
        "both": game.value(both).tolist(), "descent": game.value(now).tolist(),
        "optimum": game.optimum().tolist(), "seconds_search": fast, "seconds_joint": slow,
    }  # fmt: skip


def _seconds(work: Any, repeats: int) -> float:
    """CPU time: the wall clock of a shared machine also counts the others' work."""
    work()
    best = math.inf
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def public(run: Any) -> None:
    """The record of search over prescriptions beside mirror descent search."""
    rows = []
    for cell in run(public_cell, {"cards": list(CARDS)}, seeds=[0], folder=FOLDER):
        told = cell.result
        cards = cell.arguments["cards"]
        names = ("blueprint", "one", "both", "descent", "optimum")
        print(cards, *(f"{name} {sum(told[name]) / TINY_GAMES:.3f}" for name in names),
              f"{1e3 * told['seconds_search']:.2f} ms, {1e3 * told['seconds_joint']:.2f} ms",
              flush=True)  # fmt: skip
        for k in range(TINY_GAMES):
            rows.append({
                "cards": cards, "game": k, **{name: f"{told[name][k]:.5f}" for name in names},
                "ms_search": f"{1e3 * told['seconds_search']:.4f}",
                "ms_joint": f"{1e3 * told['seconds_joint']:.4f}",
            })  # fmt: skip
    _write(
        "public_search_study", rows, TINY_GAMES,
        "tiny games of 3 actions with payoffs uniform in [0, 1], random blueprints, step 30; "
        f"descent: {DESCENT} steps; optimum: all prescriptions of the first player; ms: least CPU "
        "time of several runs, one thread, one game, search in all rows of both players against "
        "one public search",
    )  # fmt: skip


def _write(name: str, rows: list[dict[str, Any]], seeds: int, note: str) -> None:
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    runs.write_record(
        name, columns, command=COMMAND,
        device=f"float64 on {runs.describe_device(torch.device('cpu'))}", seeds=seeds, note=note,
    )  # fmt: skip


def main() -> None:
    """Run what is missing and write the records."""
    options = argparse.ArgumentParser()
    options.add_argument("--finished", action="store_true", help="record what is on disk alone")
    run = runs.finished_cells if options.parse_args().finished else runs.sweep
    for part in (public, blueprints, hanabi, magnetic):
        part(run)


if __name__ == "__main__":
    main()
