"""The archive: what it keeps, how it chooses, and that every way leads where it says."""

import itertools
import math

import pytest
import torch

from mdtheory.environments.simulators import play
from mdtheory.rl import exploration as ex
from mdtheory.runs import check_bound, check_identity
from tests.refused import breaks, differ

F64 = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def maze():
    return ex.KeyDoorMaze(3, 5, 3, 0.18, gen(0))


@pytest.fixture(scope="module", params=["pixel", "domain"])
def explored(request, maze):
    cell = maze.pixel_cell if request.param == "pixel" else maze.domain_cell
    return cell, ex.go_explore(maze, cell, 40_000, gen(2), explore=50, hold=4.0, batch=10)


# Selection.


def test_weights_of_both_versions():
    seen = torch.tensor([0.0, 3.0], dtype=F64)
    check = pytest.approx
    assert ex.selection_weights(seen).tolist() == check([1.0, 0.5])
    # Of the first version: .3 (n + .001)^-.5 + .00001, and 1.
    first = ex.selection_weights(seen, rule="2019")
    assert first.tolist() == check([10.486843, 1.173186], abs=1e-6)
    script = ex.selection_weights(seen, rule="2019", count_weights=(0.1, 0.0, 3.0))
    assert script[0].item() == check(1 + 3 * 1000**0.5 + 1e-5)
    more = ex.selection_weights(seen, seen, seen, rule="2019")
    assert (more - first).tolist() == check([0.1 * 1000**0.5 + 2e-5, 0.1 * 3.001**-0.5 + 2e-5])
    near = torch.tensor([[True, True, True, True, True], [False, True, True, False, False]])
    known = ex.selection_weights(seen, neighbours=near, rule="2019")
    assert (known - first).tolist() == check([0.0, 0.3 + 0.1 + 10])
    level = torch.tensor([1.0, 3.0], dtype=F64)
    lower = ex.selection_weights(seen, level=level, rule="2019")
    assert (lower / first).tolist() == check([0.01, 1.0])
    assert ex.selection_weights(seen, rule="uniform").tolist() == [1.0, 1.0]
    batch = ex.selection_weights(torch.arange(6.0).reshape(2, 3))
    assert batch.shape == (2, 3)


def test_what_is_over_is_never_chosen():
    archive = ex.Archive("start", 0)
    archive.update(ex.DONE, None, 5.0, 3, 0)
    assert archive.weights().tolist() == [1.0, 0.0]
    assert {c.place for c in archive.select(gen(), 1000)} == {0}


def test_choices_follow_the_weights():
    archive = ex.Archive("a", 0)
    archive.update("b", 1, 0.0, 1, 0)
    archive.seen[:] = [3, 0]
    choices = archive.select(gen(1), 6000)
    share = sum(c.place == 0 for c in choices) / 6000
    assert abs(share - 1 / 3) < 4 * (2 / 9 / 6000) ** 0.5
    assert choices[0].snapshot == choices[0].place


# The rule of update.


def test_update_rule():
    archive = ex.Archive("start", "s0")
    assert archive.update("a", "s1", 1.0, 5, 0)
    assert not archive.update("a", "worse", 0.5, 1, 0)
    assert not archive.update("a", "tie", 1.0, 5, 0)
    assert not archive.update("a", "longer", 1.0, 6, 0)
    assert archive.snapshots[archive.index["a"]] == "s1"
    archive.seen[1] = archive.chosen[1] = archive.since_new[1] = 7
    assert archive.update("a", "shorter", 1.0, 4, 0)
    assert (archive.seen[1], archive.chosen[1], archive.since_new[1]) == (0, 0, 0)
    assert archive.update("a", "richer", 2.0, 9, 0)
    assert (archive.snapshots[1], archive.scores[1], archive.lengths[1]) == ("richer", 2.0, 9)


def test_counts_of_a_walk():
    archive = ex.Archive("start", 0)
    archive.update("a", 1, 0.0, 1, archive.extend(0, 7))
    choice = archive.select(gen(), 1)[0]._replace(place=0, snapshot=0, score=0.0, length=0, node=0)
    visits = [ex.Visit(1, "a", 1, 0.0), ex.Visit(2, "start", 0, 0.0), ex.Visit(3, "b", 2, 0.0),
              ex.Visit(4, "a", 1, 1.0), ex.Visit(5, ex.DONE, None, 1.0)]  # fmt: skip
    kept = archive.record(choice, ex.Walk([7, 8, 9, 7, 6], visits))
    assert kept == 3  # "b", the better way to "a", the end
    # The start was chosen and seen once, and led to something new.
    assert (archive.chosen[0], archive.seen[0], archive.since_new[0]) == (1, 1, 0)
    assert archive.seen[1] == 0  # seen, but its way improved
    assert archive.path(archive.nodes[1]) == [7, 8, 9, 7]
    assert archive.path(archive.nodes[archive.index[ex.DONE]]) == [7, 8, 9, 7, 6]
    archive.record(choice, ex.Walk([7, 7], [ex.Visit(1, "a", 1, 0.0)]))
    assert (archive.seen[1], archive.chosen[0], archive.since_new[0]) == (1, 2, 1)


class Remembering(ex.Archive):
    """Keeps every way that it was offered, and what its entries were after each walk."""

    def __init__(self, *args):
        self.offered, self.history, self.stale = {}, [], {}
        super().__init__(*args)

    def record(self, choice, walk):
        for visit in walk.visits:
            way = (choice.score + visit.gain, -(choice.length + visit.step))
            self.offered.setdefault(visit.cell, []).append(way)
        before = list(self.nodes)
        kept = super().record(choice, walk)
        for visit in walk.visits:
            at = self.index[visit.cell]
            if at >= len(before) or self.nodes[at] != before[at]:
                self.stale[visit.cell] = self.cells[choice.place], walk.actions[: visit.step]
        self.history.append((list(self.scores), list(self.lengths)))
        return kept

    def stale_path(self, cell):
        """The way as one would have it whose parents are cells."""
        pieces, steps = [], 0
        while cell != self.cells[0] and steps < 10_000:
            cell, piece = self.stale[cell]
            pieces.insert(0, piece)
            steps += 1
        return [action for piece in pieces for action in piece]


@pytest.fixture(scope="module")
def remembered(maze):
    maze.reset()
    archive = Remembering(maze.domain_cell(0), 0)
    generator = gen(4)
    for _ in range(400):
        choices = archive.select(generator, 4)
        plans = ex.held_actions(4, 40, 4, 4.0, generator).tolist()
        for choice, plan in zip(choices, plans, strict=True):
            archive.record(choice, ex.walk(maze, choice.snapshot, maze.domain_cell, plan))
    return archive


@pytest.mark.theorem("prop-archive", "bound")
def test_entries_only_improve(remembered):
    before, after = [], []
    for (scores, lengths), (higher, shorter) in itertools.pairwise(remembered.history):
        for s, n, s2, n2 in zip(scores, lengths, higher, shorter, strict=False):
            # One number for both: lengths are below 10^6.
            before.append(s - 1e-6 * n)
            after.append(s2 - 1e-6 * n2)
    left, right = torch.tensor(before, dtype=F64), torch.tensor(after, dtype=F64)
    assert check_bound("prop-archive", left, right, tolerance=1e-12) == pytest.approx(1)
    assert (left < right).any()
    # Mutant: a way that is merely shorter takes the place of a richer one.
    poorer = torch.tensor([-1e-6 * n for _, lengths in remembered.history[-1:] for n in lengths])
    full = torch.tensor([s - 1e-6 * n for s, n in zip(*remembered.history[-1], strict=True)])
    assert breaks("prop-archive", full.double(), poorer.double())


@pytest.mark.theorem("prop-archive", "equality")
@pytest.mark.theorem("prop-archive", "mutant")
def test_an_entry_is_the_best_that_was_offered(remembered):
    cells = [c for c in remembered.cells[1:] if c in remembered.offered]
    assert len(cells) > 50
    ways = [remembered.offered[c] for c in cells]
    places = [remembered.index[c] for c in cells]
    mine = torch.tensor([(remembered.scores[i], -remembered.lengths[i]) for i in places], dtype=F64)
    best = torch.tensor([max(offered) for offered in ways], dtype=F64)
    check_identity("prop-archive", mine, best)
    # Mutant: the last way is kept.
    last = torch.tensor([offered[-1] for offered in ways], dtype=F64)
    assert differ("prop-archive", mine, last)


def ends_of(maze, cell, archive, ways):
    """For every cell that is not over: whether its way leads to it, its score and its length."""
    right, scores, lengths = [], [], []
    for i, way in enumerate(ways):
        score, over = play(maze, way)
        name = archive.cells[i]
        there = over if name == ex.DONE else not over and cell(maze.state()) == name
        right.append(float(there and (name == ex.DONE or maze.state() == archive.snapshots[i])))
        scores.append(score)
        lengths.append(float(len(way)))
    return torch.tensor([right, scores, lengths], dtype=F64)


def stated(archive):
    ones = [1.0] * len(archive)
    return torch.tensor([ones, archive.scores, [float(n) for n in archive.lengths]], dtype=F64)


@pytest.mark.theorem("prop-archive", "equality")
def test_every_way_leads_to_its_cell(maze, explored):
    cell, (archive, *_) = explored
    assert len(archive) > 50
    ways = [archive.path(node) for node in archive.nodes]
    check_identity("prop-archive", ends_of(maze, cell, archive, ways), stated(archive))


@pytest.mark.theorem("prop-archive", "mutant")
def test_ways_whose_parents_are_cells_go_astray(maze, remembered):
    archive, cell = remembered, maze.domain_cell
    ways = [archive.path(node) for node in archive.nodes]
    check_identity("prop-archive", ends_of(maze, cell, archive, ways), stated(archive))
    wrong = torch.zeros(len(archive))
    for i, name in enumerate(archive.cells):
        stale = archive.stale_path(name)
        try:
            found = ends_of(maze, cell, archive, [*ways[:i], stale, *ways[i + 1 :]])[:, i]
        except ValueError:  # the way ends in a death on its way
            wrong[i] = 1
            continue
        wrong[i] = differ("prop-archive", found, stated(archive)[:, i])
    assert wrong.mean() > 0.05


# Phase one.


def test_steps_are_made_exactly(maze):
    for steps in (1, 49, 1000, 1234):
        found = ex.go_explore(maze, maze.domain_cell, steps, gen(1), explore=50, hold=4.0, batch=7)
        assert found.simulated == steps == found.curve[-1].simulated
        assert found.replayed >= steps
    curve = torch.tensor(found.curve, dtype=F64)
    assert (curve.diff(dim=0) >= 0).all()
    assert found.curve[-1].best == max(found.archive.scores)


def test_explorations_repeat_themselves_and_differ_by_seed(maze):
    runs = [ex.go_explore(maze, maze.pixel_cell, 3000, gen(s), explore=50, hold=4.0)
            for s in (1, 1, 2)]  # fmt: skip
    assert same(runs[0].archive, runs[1].archive)
    assert not same(runs[0].archive, runs[2].archive)


def same(one, other):
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("cells", "snapshots", "scores", "lengths", "nodes", "seen", "chosen",
                     "since_new", "parents", "moves")
    )  # fmt: skip


def test_processes_make_the_same_archive():
    lock = ex.CombinationLock(12, 3, gen(1))
    one, two = (
        ex.go_explore(lock, int, 2000, gen(3), explore=5, hold=1.0, batch=20, workers=workers)
        for workers in (1, 2)
    )
    assert same(one.archive, two.archive)
    assert one.curve == two.curve
    assert one[2:] == two[2:]


def test_go_explore_opens_a_lock_that_play_does_not(maze):
    lock = ex.CombinationLock(20, 4, gen(1))
    found = ex.go_explore(lock, int, 10_000, gen(3), explore=20, hold=1.0, batch=5)
    end = found.archive.index[ex.DONE]
    assert found.archive.scores[end] == 1.0
    assert found.archive.path(found.archive.nodes[end]) == lock.combination.tolist()
    assert ex.random_play(lock, int, 10_000, gen(3), hold=1.0).curve[-1].best == 0.0


def test_trials_of_the_loop_are_those_of_the_theorem():
    """The loop on a lock of 2, cell by cell and action by action: A H (H + 1) / 2 trials."""
    lock, counts = ex.CombinationLock(2, 3, gen(2)), []
    for seed in range(200):
        found = ex.go_explore(
            lock, int, 70, gen(seed), explore=1, hold=1.0, rule="uniform", batch=1
        )
        counts.append(next(p.simulated for p in found.curve if p.best == 1.0))
    spread = ex.lock_variance(3, 2) ** 0.5
    assert abs(sum(counts) / 200 - ex.lock_trials(3, 2, 1)) < 4 * spread / 200**0.5


def test_actions_are_held_for_a_geometric_time():
    plans = ex.held_actions(400, 200, 5, 4.0, gen(1))
    assert plans.shape == (400, 200)
    # A change is a fresh draw that differs: 1/4 times 4/5 of the steps.
    changes = plans.diff(dim=1).ne(0).double()
    assert abs(changes.mean() - 0.2) < 4 * (0.16 / changes.numel()) ** 0.5
    share = torch.bincount(plans[:, 0], minlength=5) / 400
    assert (share - 0.2).abs().max() < 4 * (0.16 / 400) ** 0.5
    assert (ex.held_actions(3, 50, 4, 1e9, gen(1)).diff(dim=1) == 0).all()


def test_a_walk_keeps_first_visits_and_richer_ones(maze):
    found = ex.go_explore(maze, maze.pixel_cell, 30_000, gen(5), explore=50, hold=4.0)
    plan = ex.held_actions(1, 300, 4, 4.0, gen(6))[0].tolist()
    for start in (0, found.archive.snapshots[len(found.archive) // 2]):
        trip = ex.walk(maze, start, maze.pixel_cell, plan)
        best = {}
        for visit in trip.visits:
            assert visit.gain > best.get(visit.cell, -math.inf)
            best[visit.cell] = visit.gain
        assert len(trip.actions) == len(plan) or trip.visits[-1].cell == ex.DONE
