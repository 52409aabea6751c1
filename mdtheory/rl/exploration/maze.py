"""KeyDoorMaze: rooms, keys, locked doors, deadly tiles, and a treasure far from the start."""

from __future__ import annotations

import functools
from collections.abc import Hashable

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.rl.exploration.cells import downscale
from mdtheory.rl.exploration.tables import F64, TableGame

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right
WALL, FLOOR, DEADLY = 0, 1, 2
KEY_REWARD, TREASURE = 1.0, 10.0
SCALE = 8  # pixels of a tile's side


class KeyDoorMaze(TableGame):
    """A maze of rooms in which a treasure lies behind locked doors; procedural, deterministic.

    The rooms of a square stand in a serpentine; each leads to the next. Some doors are locked, and
    the key of each lies in the room before it. Deadly tiles end the game; so does the treasure.
    A key gives 1, the treasure 10. States are numbered as they are found from the start.

    Args:
        rooms: rooms of a side of the square, at least 2.
        side: tiles of a side of a room, at least 2.
        keys: locked doors, at most the rooms but two.
        deadly: chance that a tile is deadly, in [0, 1).
        generator: source of randomness, on the CPU; mazes without a way are drawn again.
        limit: steps after which an episode of a world is cut.

    Attributes:
        floor: 0 wall, 1 floor, 2 deadly, shape ``(n, n)``.
        doors: place of each locked door to the number of its key.
        keys: place of each key to its number.
        treasure: its place.
        places: row and column of every state, int64, shape ``(S, 2)``.
        held: keys held in every state, as bits of a number, int64, shape ``(S,)``.

    Raises:
        ValueError: a number out of range, or no way in 1000 mazes.
    """

    def __init__(
        self,
        rooms: int = 3,
        side: int = 5,
        keys: int = 3,
        deadly: float = 0.18,
        generator: torch.Generator | None = None,
        *,
        limit: int = 500,
    ) -> None:
        require_count("rooms", rooms, 2)
        require_count("side", side, 2)
        if require_count("keys", keys, 0) > rooms * rooms - 2:
            raise ValueError(f"keys: expected at most {rooms * rooms - 2}, got {keys!r}")
        if require_number("deadly", deadly, 0.0) >= 1:
            raise ValueError(f"deadly: expected a number in [0, 1), got {deadly!r}")
        self.rooms, self.side = rooms, side
        self._generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.order = [(r, c if r % 2 == 0 else rooms - 1 - c)
                      for r in range(rooms) for c in range(rooms)]  # fmt: skip
        for _ in range(1000):
            if self._draw(keys, deadly) and self._number():
                break
        else:
            raise ValueError(f"deadly: expected a number that leaves a way, got {deadly!r}")
        places = self.places
        features = torch.cat([
            torch.eye(self.size)[places[:, 0]], torch.eye(self.size)[places[:, 1]],
            (self.held[:, None] >> torch.arange(keys)) & 1,
        ], 1)  # fmt: skip
        super().__init__(self._next, self._reward, self._end, features, limit)

    def _below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self._generator))

    def _tile(self, room: int) -> tuple[int, int]:
        r, c = self.order[room]
        h = self.side + 1
        return r * h + 1 + self._below(self.side), c * h + 1 + self._below(self.side)

    def _draw(self, keys: int, deadly: float) -> bool:
        """Draw a maze; whether start, treasure and keys lie apart."""
        h, last = self.side + 1, len(self.order) - 1
        self.size = self.rooms * h + 1
        floor = torch.zeros(self.size, self.size, dtype=torch.int64)
        for r, c in self.order:
            block = torch.rand(self.side, self.side, generator=self._generator) < deadly
            rows = slice(r * h + 1, r * h + 1 + self.side)
            floor[rows, c * h + 1 : c * h + 1 + self.side] = torch.where(block, DEADLY, FLOOR)
        locked = [round(x) for x in torch.linspace(1, last - 1, keys).tolist()] if keys else []
        self.doors, self.keys = {}, {}
        for i, ((r, c), (r2, c2)) in enumerate(zip(self.order, self.order[1:], strict=False)):
            across = 1 + self._below(self.side)
            place = (r * h + across, max(c, c2) * h) if r == r2 else (r2 * h, c * h + across)
            floor[place] = FLOOR
            if i in locked:
                self.doors[place] = locked.index(i)
        self.begin, self.treasure = self._tile(0), self._tile(last)
        for number, i in enumerate(locked):
            self.keys[self._tile(max(0, i - 1))] = number
        special = {self.begin, self.treasure, *self.keys}
        for place in special:
            floor[place] = FLOOR
        self.floor = floor
        return len(special) == 2 + keys and len(self.doors) == keys

    def _number(self) -> bool:
        """Number the states that can be reached; whether the treasure is among what can be."""
        floor = self.floor.tolist()
        number = {(*self.begin, 0): 0}
        found = [(*self.begin, 0)]
        rows: list[list[tuple[int, float, bool]]] = []
        won = False
        for y, x, held in found:
            row = []
            for down, right in MOVES:
                place, now, reward = (y + down, x + right), held, 0.0
                door = self.doors.get(place)
                if floor[place[0]][place[1]] == WALL or (door is not None and not held >> door & 1):
                    row.append((number[y, x, held], 0.0, False))
                    continue
                if floor[place[0]][place[1]] == DEADLY or place == self.treasure:
                    won |= place == self.treasure
                    reward = TREASURE if place == self.treasure else 0.0
                    row.append((number[y, x, held], reward, True))
                    continue
                key = self.keys.get(place)
                if key is not None and not held >> key & 1:
                    now, reward = held | 1 << key, KEY_REWARD
                if (*place, now) not in number:
                    number[*place, now] = len(found)
                    found.append((*place, now))
                row.append((number[*place, now], reward, False))
            rows.append(row)
        self._next = torch.tensor([[cell[0] for cell in row] for row in rows])
        self._reward = torch.tensor([[cell[1] for cell in row] for row in rows], dtype=F64)
        self._end = torch.tensor([[cell[2] for cell in row] for row in rows])
        table = torch.tensor(found)
        self.places, self.held = table[:, :2], table[:, 2]
        return won

    def room(self, state: int) -> tuple[int, int]:
        """Row and column of the room; a door belongs to the room that it leads to."""
        y, x = self.places[state].tolist()
        h = self.side + 1
        return min(y // h, self.rooms - 1), min(x // h, self.rooms - 1)

    def domain_cell(self, state: int) -> Hashable:
        """A cell with knowledge of the game: room, place in squares of two tiles, keys held."""
        return self._domain_cells[state]

    def pixel_cell(self, state: int) -> Hashable:
        """A cell that knows pictures only: :func:`downscale` of :meth:`pixels`, as bytes."""
        return self._pixel_cells[state]

    @functools.cached_property
    def _domain_cells(self) -> list[Hashable]:
        return [
            (*self.room(s), y // 2, x // 2, held)
            for s, (y, x, held) in enumerate(
                zip(*self.places.T.tolist(), self.held.tolist(), strict=True)
            )
        ]

    @functools.cached_property
    def _pixel_cells(self) -> list[Hashable]:
        small = downscale(self.pixels(torch.arange(self.states))).flatten(1).numpy()
        return [row.tobytes() for row in small]

    def pixels(self, state: int | Tensor) -> Tensor:
        """What a player sees: the room that she is in, and above it the keys that she holds.

        Args:
            state: a state, or int64 states of any shape.

        Returns:
            Grey from 0 to 255, uint8, shape ``(..., rows, columns)``.
        """
        states = torch.as_tensor(state)
        flat = states.flatten()
        h, n = self.side + 1, len(self.keys)
        room = torch.div(self.places[flat], h, rounding_mode="floor").clamp(max=self.rooms - 1)
        row = room[:, 0, None, None] * h + torch.arange(h + 1)[:, None]
        column = room[:, 1, None, None] * h + torch.arange(h + 1)
        held = self.held[flat][:, None, None]
        shade = 70 + 12 * room[:, 0] + 7 * room[:, 1]
        tile = self.floor[row, column]
        view = torch.where(tile == WALL, 20, shade[:, None, None])
        view = torch.where(tile == DEADLY, 160, view)
        for things, grey in ((self.doors, 40), (self.keys, 210)):
            for (y, x), number in things.items():
                there = (row == y) & (column == x) & (held >> number & 1 == 0)
                view = torch.where(there, grey, view)
        view = torch.where((row == self.treasure[0]) & (column == self.treasure[1]), 230, view)
        y, x = self.places[flat].T[..., None, None]
        view = torch.where((row == y) & (column == x), 255, view)
        bar = torch.zeros(len(flat), 1, max(h + 1, n), dtype=torch.int64)
        bar[:, 0, :n] = 200 * (held[:, 0] >> torch.arange(n) & 1)
        wide = torch.zeros(len(flat), h + 1, bar.shape[-1], dtype=torch.int64)
        wide[..., : h + 1] = view
        tiles = torch.cat([bar, wide], 1).to(torch.uint8)
        image = tiles.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)
        return image.reshape(*states.shape, *image.shape[-2:])
