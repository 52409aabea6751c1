"""Where what used to stand elsewhere stands now: an old import fails and names the new path.

``CHANGELOG.md`` lists the same paths, and a test holds the two together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Old path to new path: modules, and names of modules that still exist. A module in which a name is
# missed asks for it at its end: ``__getattr__ = moved.names_of(__name__)``.
MOVED: dict[str, str] = {
    "mdtheory.convex.mirror_maps.dual_step_unchecked": "mdtheory.convex.mirror_maps.dual_step",
    "mdtheory.nlhf.nash_md.regularized_exploitability": "mdtheory.nlhf.games.exploitability",
    "mdtheory.nlhf.nash_md.sequences": "mdtheory.sequences",
    "mdtheory.rl.mdpo.advantages": "mdtheory.agents.advantages",
    "mdtheory.rl.mdpo.checkpoints": "mdtheory.agents.checkpoints",
    "mdtheory.rl.mdpo.distributions": "mdtheory.agents.distributions",
    "mdtheory.rl.mdpo.environments": "mdtheory.environments",
    "mdtheory.rl.mdpo.networks": "mdtheory.agents.networks",
    "mdtheory.rl.mdpo.normalization": "mdtheory.agents.normalization",
    "mdtheory.rl.mdpo.pictures": "mdtheory.environments.pictures",
    "mdtheory.rl.mdpo.policies": "mdtheory.agents.policies",
    "mdtheory.rl.mdpo.replay": "mdtheory.agents.replay",
}


def names_of(module: str, table: Mapping[str, str] = MOVED) -> Callable[[str], object]:
    """A module's ``__getattr__``: names that have moved fail and say where they are.

    Args:
        module: the module's name.
        table: old path to new path.

    Returns:
        A function that raises for every name: ``ImportError`` where the name has moved, so that
        ``from module import name`` shows the text, else ``AttributeError``.
    """

    def missing(name: str) -> object:
        old = f"{module}.{name}"
        if old in table:
            raise ImportError(f"{old} has moved: it is {table[old]} now", name=module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return missing


class Finder(MetaPathFinder):
    """Finds no module, but knows where those that have moved are.

    Args:
        table: old path to new path.
    """

    def __init__(self, table: Mapping[str, str] = MOVED) -> None:
        self.table = table

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing, or an error for a module that has moved.

        Args:
            fullname: the module that is wanted.
            path: where its package looks.
            target: a module that is loaded again.

        Raises:
            ImportError: the module has moved; the text names the new path.
        """
        if fullname in self.table:
            new = self.table[fullname]
            raise ImportError(f"{fullname} has moved: it is {new} now", name=fullname)
        return None


def install() -> None:
    """Let imports of modules that have moved fail with their new path; once is enough."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        # Last: it is asked about what no other finder knows.
        sys.meta_path.append(Finder())
