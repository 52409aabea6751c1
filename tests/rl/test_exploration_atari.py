"""The door to Atari, with an emulator of three lines in the place of ale-py's."""

import pickle
import sys
import types

import numpy as np
import pytest

from mdtheory.rl import exploration as ex


class FakeInterface:
    """Counts: action 1 goes on, action 2 earns 5, action 3 dies; the picture shows the count."""

    def __init__(self):
        self.settings, self.count, self.left, self.shown = {}, 0, 3, 0

    @staticmethod
    def setLoggerMode(mode): ...

    def setInt(self, name, value):
        self.settings[name] = value

    setFloat = setInt

    def loadROM(self, path):
        self.path = path

    def reset_game(self):
        self.count = self.shown = 0

    def getMinimalActionSet(self):
        return ["no", "on", "earn", "die"]

    def cloneState(self):
        return self.count, self.left

    def restoreState(self, state):
        self.count, self.left = state  # and the picture stays, as ale-py's does

    def act(self, order):
        self.count += order in ("on", "earn")
        self.left -= order == "die"
        self.shown = self.count
        return 5 if order == "earn" else 0

    def lives(self):
        return self.left

    def game_over(self):
        return self.count > 30

    def getRAM(self):
        return np.array([self.count, self.count == 20], dtype=np.uint8)

    def getScreenGrayscale(self):
        return np.full((6, 4), 8 * self.shown, dtype=np.uint8)

    def getScreenRGB(self):
        return np.full((6, 4, 3), 8 * self.shown, dtype=np.uint8)


@pytest.fixture
def atari(monkeypatch):
    fake = types.ModuleType("ale_py")
    fake.ALEInterface = FakeInterface
    fake.LoggerMode = types.SimpleNamespace(Error=0)
    fake.roms = types.SimpleNamespace(
        get_all_rom_ids=lambda: ["counting"], get_rom_path=lambda game: f"{game}.bin"
    )
    monkeypatch.setitem(sys.modules, "ale_py", fake)
    from mdtheory.environments.atari import Atari

    return Atari


def test_settings_are_those_of_phase_one(atari):
    game = atari("counting", skip=3)
    assert game.emulator.settings == {
        "random_seed": 0, "repeat_action_probability": 0.0, "frame_skip": 3
    }  # fmt: skip
    assert (game.actions, game.emulator.path) == (4, "counting.bin")


def test_a_life_lost_or_a_death_shown_ends_it(atari):
    game = atari("counting", death=1)
    assert game.step(2) == (5.0, False)
    assert game.step(3) == (0.0, True)
    game.reset()
    assert [game.step(1)[1] for _ in range(20)] == [False] * 19 + [True]
    unaware = atari("counting")
    assert not any(unaware.step(1)[1] for _ in range(25))


def test_no_picture_is_shown_that_was_not_drawn(atari):
    game = atari("counting")
    game.step(1)
    kept = game.state()
    game.step(1)
    assert (game.screen() == 16).all()
    game.restore(kept)
    assert game.memory()[0] == 1
    for picture in (game.screen, game.colors):
        with pytest.raises(RuntimeError, match="picture"):
            picture()
    game.step(0)
    assert (game.colors() == 8).all()
    game.step(1)
    game.reset()
    assert (game.screen() == 0).all()
    again = pickle.loads(pickle.dumps(game))
    again.step(1)
    assert (again.view().screen() == 8).all()


def test_phase_one_on_it(atari):
    import torch

    game = atari("counting")
    found = ex.go_explore(
        game, lambda g: int(g.memory()[0]), 2000, torch.Generator().manual_seed(1),
        explore=10, hold=2.0, batch=5,
    )  # fmt: skip
    assert len(found.archive) == 32  # 0 to 30, and what is over
    end = found.archive.index[ex.DONE]
    assert found.archive.scores[end] >= max(found.archive.scores[:-1])


def test_what_is_refused(atari, monkeypatch):
    with pytest.raises(ValueError, match="game"):
        atari("chess")
    with pytest.raises(ValueError, match="skip"):
        atari("counting", skip=0)
    with pytest.raises(ValueError, match="death"):
        atari("counting", death=-2)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ImportError, match="atari"):
        atari("counting")
