"""Atari 2600 games by the emulator of ``ale-py``.

The chapter 'Exploration' returns to rooms of Montezuma's Revenge; the recorded run needs the extra
``atari``, nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdtheory.checks import require_count, require_extra
from mdtheory.environments.simulators import Simulator


class Atari(Simulator):
    r"""A game of the Atari 2600, without sticky actions; it is over when a life is lost.

    Args:
        game: its name in ``ale-py``, such as ``"montezuma_revenge"``.
        skip: frames that an action is held, :math:`\ge 1`.
        death: a byte of the memory that is not 0 while a death is shown, -1 for none: the pictures
            of a death are no places to return to.

    Raises:
        ImportError: ``ale-py`` is not installed.
        ValueError: it has no such game.
    """

    def __init__(self, game: str, *, skip: int = 4, death: int = -1) -> None:
        library = require_extra("ale_py", "atari")
        require_count("skip", skip)
        require_count("death", death, -1)
        if game not in library.roms.get_all_rom_ids():
            raise ValueError(f"game: expected one that ale-py has, got {game!r}")
        self.game, self.skip, self.death = game, skip, death
        library.ALEInterface.setLoggerMode(library.LoggerMode.Error)
        self.emulator: Any = library.ALEInterface()
        self.emulator.setInt("random_seed", 0)
        self.emulator.setFloat("repeat_action_probability", 0.0)
        self.emulator.setInt("frame_skip", skip)
        self.emulator.loadROM(library.roms.get_rom_path(game))
        self.emulator.reset_game()
        self.orders = list(self.emulator.getMinimalActionSet())
        self.actions = len(self.orders)
        self.begin, self.lives = self.emulator.cloneState(), self.emulator.lives()
        # The emulator restores its machine, but draws no picture before the next step.
        self.opening = self.emulator.getScreenGrayscale(), self.emulator.getScreenRGB()
        self.shown: tuple[Any, Any] | None = self.opening
        self.drawn = True

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.game, self.skip, self.death, self.state())

    def reset(self) -> None:
        """Begin at the start; see :meth:`Simulator.reset`."""
        self.emulator.restoreState(self.begin)
        self.shown, self.drawn = self.opening, True

    def state(self) -> Any:
        """The emulator's state; see :meth:`Simulator.state`."""
        return self.emulator.cloneState()

    def restore(self, state: Any) -> None:
        """Go back to a state; see :meth:`Simulator.restore`. There is no picture until a step."""
        self.emulator.restoreState(state)
        self.shown, self.drawn = None, False

    def step(self, action: int) -> tuple[float, bool]:
        """Act once, for ``skip`` frames; see :meth:`Simulator.step`."""
        reward = float(self.emulator.act(self.orders[action]))
        self.shown, self.drawn = None, True
        dying = self.death >= 0 and self.emulator.getRAM()[self.death] != 0
        over = dying or self.emulator.lives() < self.lives or self.emulator.game_over()
        return reward, bool(over)

    def view(self) -> Atari:
        """The game itself, for its :meth:`screen` and :meth:`memory`."""
        return self

    def screen(self) -> NDArray[np.uint8]:
        """The picture in grey, 210 rows of 160 pixels, whole numbers from 0 to 255.

        Raises:
            RuntimeError: a state was restored and no step made: the emulator has no picture yet.
        """
        return self._picture(0, self.emulator.getScreenGrayscale)

    def colors(self) -> NDArray[np.uint8]:
        """The picture in colours, shape ``(210, 160, 3)``; see :meth:`screen`."""
        return self._picture(1, self.emulator.getScreenRGB)

    def memory(self) -> NDArray[np.uint8]:
        """The 128 bytes of the machine's memory."""
        return np.asarray(self.emulator.getRAM())

    def _picture(self, kind: int, draw: Callable[[], Any]) -> NDArray[np.uint8]:
        if not self.drawn:
            raise RuntimeError("screen: no picture between a restored state and the next step")
        return np.asarray(draw() if self.shown is None else self.shown[kind])


def _again(game: str, skip: int, death: int, state: Any) -> Atari:
    copy = Atari(game, skip=skip, death=death)
    copy.restore(state)
    return copy
