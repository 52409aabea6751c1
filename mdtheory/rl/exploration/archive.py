"""The archive: for each cell the best known way to it, and which cell to return to next."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number

F64 = torch.float64
Rule = Literal["2021", "2019", "uniform"]
RULES: tuple[Rule, ...] = get_args(Rule)
# The cell of all that is over: kept, because the best end is kept, and never chosen.
DONE = "DONE"
SHIFT, FLOOR = 1e-3, 1e-5  # e_1 and e_2 of the first version
# Factors of the first version: chosen, chosen since something new was found, seen; and for each
# kind of neighbour: left, right, above, below, and the same place with more objects.
COUNT_WEIGHTS = (0.1, 0.0, 0.3)
NEIGHBOUR_WEIGHTS = (0.3, 0.3, 0.1, 0.1, 10.0)


def selection_weights(
    seen: Tensor,
    chosen: Tensor | None = None,
    since_new: Tensor | None = None,
    neighbours: Tensor | None = None,
    level: Tensor | None = None,
    rule: Rule = "2021",
    *,
    count_weights: tuple[float, float, float] = COUNT_WEIGHTS,
    neighbour_weights: tuple[float, ...] = NEIGHBOUR_WEIGHTS,
) -> Tensor:
    r"""How much each cell wants to be returned to; chances are in proportion.

    Equations ``eq-weights-2021`` and ``eq-weights-2019``: :math:`1/\sqrt{n + 1}` for a cell seen
    ``n`` times; or sums of :math:`w (n + 10^{-3})^{-1/2} + 10^{-5}` over the counts given, plus the
    weights of missing neighbours, plus 1, times :math:`0.1` to the power of the levels below the
    highest.

    Args:
        seen: in how many explorations each cell was met, nonnegative, shape ``(..., n)``.
        chosen: how often each was chosen, of that shape; only the first version counts it.
        since_new: how often since it last led to something new, likewise.
        neighbours: which neighbours are in the archive, truth values ``(..., n, kinds)``.
        level: level of the game that each cell belongs to, shaped like ``seen``.
        rule: ``"2021"``, ``"2019"`` or ``"uniform"``.
        count_weights: factors of ``chosen``, ``since_new`` and ``seen`` in the first version.
        neighbour_weights: weight of each kind of neighbour that is missing.

    Returns:
        Weights above 0, float64, shape ``(..., n)``.

    Raises:
        ValueError: an unknown rule, a negative count, or shapes that do not agree.

    Source:
        Ecoffet et al. (2019), appendix A.5; Ecoffet et al. (2021), methods.
    """
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {RULES}, got {rule!r}")
    given = {"seen": seen, "chosen": chosen, "since_new": since_new, "level": level}
    shape = torch.as_tensor(seen).shape
    numbers: dict[str, Tensor] = {}
    for name, value in given.items():
        if value is None:
            continue
        numbers[name] = torch.as_tensor(value, dtype=F64)
        if numbers[name].shape != shape:
            raise ValueError(
                f"{name}: expected shape {tuple(shape)} like seen, got {tuple(value.shape)}"
            )
        if not bool((numbers[name] >= 0).all()):
            raise ValueError(f"{name}: expected nonnegative numbers")
    if rule == "uniform":
        return torch.ones_like(numbers["seen"])
    if rule == "2021":
        return (numbers["seen"] + 1).rsqrt()
    weight = torch.ones_like(numbers["seen"])
    for name, factor in zip(("chosen", "since_new", "seen"), count_weights, strict=True):
        require_number("count_weights", factor, 0.0)
        if name in numbers:
            weight = weight + factor * (numbers[name] + SHIFT).rsqrt() + FLOOR
    if neighbours is not None:
        kinds = weight.new_tensor(neighbour_weights)
        if neighbours.dtype != torch.bool or neighbours.shape != (*shape, len(kinds)):
            raise ValueError(
                f"neighbours: expected truth values of shape {(*tuple(shape), len(kinds))}, got "
                f"{neighbours.dtype} of shape {tuple(neighbours.shape)}"
            )
        weight = weight + (~neighbours).to(F64) @ kinds.to(neighbours.device)
    if level is not None:
        below = numbers["level"].amax(-1, keepdim=True) - numbers["level"]
        weight = weight * 0.1**below
    return weight


class Choice(NamedTuple):
    """A cell chosen to return to, as it was when it was chosen.

    Attributes:
        place: where the cell stands in the archive.
        snapshot: the state to restore.
        score: sum of the rewards on the way there.
        length: steps of the way.
        node: where the way ends in the tree of all steps.
    """

    place: int
    snapshot: Any
    score: float
    length: int
    node: int


class Visit(NamedTuple):
    """A place on a walk that may interest the archive.

    Attributes:
        step: its number on the walk, from 1.
        cell: where it is.
        snapshot: the state there.
        gain: sum of the rewards on the walk so far.
    """

    step: int
    cell: Hashable
    snapshot: Any
    gain: float


class Walk(NamedTuple):
    """One exploration: the ``actions`` that were made, and the ``visits`` worth keeping.

    The first visit of each cell is among them, and later ones with a higher score: another one
    would come later at the same score, and no archive would keep it.
    """

    actions: list[int]
    visits: list[Visit]


class Archive:
    """What was reached: one entry a cell, and the tree of all steps ever made.

    Definition ``def-archive``. A step is a node that never changes, with its parent and its
    action; a cell points to a node, never to a cell, so that a way stays what it was when the cells
    on it find better ways.

    Args:
        cell: of the start, hashable.
        snapshot: the state there.
        rule: of :func:`selection_weights`.

    Attributes:
        cells: the cells in the order in which they were found.
        index: where a cell stands in these lists.
        snapshots: the state to restore for each.
        scores: sum of the rewards on the best known way to each.
        lengths: steps of that way.
        nodes: its last node.
        chosen: times that each was chosen since its way last improved.
        since_new: times since it last led to something new.
        seen: explorations in which each was met since its way last improved.
    """

    def __init__(self, cell: Hashable, snapshot: Any, rule: Rule = "2021") -> None:
        if rule not in RULES:
            raise ValueError(f"rule: expected one of {RULES}, got {rule!r}")
        self.rule: Rule = rule
        self.parents, self.moves = [-1], [-1]  # node 0 is the start
        self.cells: list[Hashable] = []
        self.index: dict[Hashable, int] = {}
        self.snapshots: list[Any] = []
        self.scores: list[float] = []
        self.lengths: list[int] = []
        self.nodes: list[int] = []
        self.chosen: list[int] = []
        self.since_new: list[int] = []
        self.seen: list[int] = []
        self.update(cell, snapshot, 0.0, 0, 0)

    def __len__(self) -> int:
        return len(self.cells)

    def extend(self, node: int, action: int) -> int:
        """A step after a node.

        Args:
            node: where the step begins.
            action: what was done.

        Returns:
            The new node.
        """
        self.parents.append(node)
        self.moves.append(action)
        return len(self.parents) - 1

    def path(self, node: int) -> list[int]:
        """The actions from the start to a node.

        Args:
            node: as :meth:`extend` returned it, or an entry of ``nodes``.

        Returns:
            The actions, first one first.

        Raises:
            ValueError: there is no such node.
        """
        if not 0 <= node < len(self.parents):
            raise ValueError(f"node: expected one of {len(self.parents)} nodes, got {node!r}")
        actions = []
        while node > 0:
            actions.append(self.moves[node])
            node = self.parents[node]
        return actions[::-1]

    def update(self, cell: Hashable, snapshot: Any, score: float, length: int, node: int) -> bool:
        """Keep a way to a cell if the cell is new, or the way is better.

        Equation ``eq-archive-update``: a higher score is better, and at the same score fewer steps;
        at the same score and length the old way stays. A way that was kept sets the counts of its
        cell back to 0.

        Args:
            cell: what was reached.
            snapshot: the state there.
            score: sum of the rewards on the way.
            length: steps of the way.
            node: its last node.

        Returns:
            Whether it was kept.
        """
        if not self.improves(cell, score, length):
            return False
        at = self.index.setdefault(cell, len(self.cells))
        if at == len(self.cells):
            self.cells.append(cell)
            for column in (self.snapshots, self.scores, self.lengths, self.nodes,
                           self.chosen, self.since_new, self.seen):  # fmt: skip
                column.append(0)
        self.snapshots[at], self.nodes[at] = snapshot, node
        self.scores[at], self.lengths[at] = score, length
        self.chosen[at] = self.since_new[at] = self.seen[at] = 0
        return True

    def improves(self, cell: Hashable, score: float, length: int) -> bool:
        """Whether :meth:`update` would keep such a way."""
        at = self.index.get(cell)
        if at is None:
            return True
        best = self.scores[at]
        return score > best or (score == best and length < self.lengths[at])

    def record(self, choice: Choice, walk: Walk) -> int:
        """Count a walk, and keep what is new or better on it.

        A cell is seen once a walk, however often the walk meets it, and the cell of the start is
        seen, too. Counts of a cell whose way was kept end at 0.

        Args:
            choice: where the walk began, as :meth:`select` returned it.
            walk: what came of it.

        Returns:
            How many ways were kept.
        """
        start, node, made, kept = choice.place, choice.node, 0, 0
        self.chosen[start] += 1
        self.since_new[start] += 1
        self.seen[start] += 1
        met = {start}
        for step, cell, snapshot, gain in walk.visits:
            at = self.index.get(cell)
            if at is not None and at not in met:
                self.seen[at] += 1
                met.add(at)
            score, length = choice.score + gain, choice.length + step
            if self.improves(cell, score, length):
                for action in walk.actions[made:step]:
                    node = self.extend(node, action)
                made, kept = step, kept + 1
                self.update(cell, snapshot, score, length, node)
                met.add(self.index[cell])
        if kept:
            self.since_new[start] = 0
        return kept

    def weights(self) -> Tensor:
        """Weights of all cells by the archive's rule; ``DONE`` has the weight 0.

        Returns:
            Float64, shape ``(cells,)``.
        """
        seen, chosen, since = (
            torch.tensor(c, dtype=F64) for c in (self.seen, self.chosen, self.since_new)
        )
        weight = selection_weights(seen, chosen, since, rule=self.rule)
        if DONE in self.index:
            weight[self.index[DONE]] = 0.0
        return weight

    def select(self, generator: torch.Generator, n: int = 1) -> list[Choice]:
        """Choose cells to return to, independently and by their weights as they are now.

        Args:
            generator: source of randomness, on the CPU.
            n: how many.

        Returns:
            The choices, with what is known of each now; the counts are not changed.
        """
        require_count("n", n)
        total = self.weights().cumsum(0)
        draw = torch.rand(n, generator=generator, dtype=F64) * total[-1]
        # Right: a cell of weight 0 has no width, so that no draw falls into it.
        places = torch.searchsorted(total, draw, right=True).clamp(max=len(total) - 1)
        return [
            Choice(i, self.snapshots[i], self.scores[i], self.lengths[i], self.nodes[i])
            for i in places.tolist()
        ]
