"""Mirror descent: from online learning to Nash learning from human feedback.

Each module is the code behind one chapter of the book and carries its name.
"""

from mdtheory import moved as _moved

__version__ = "0.1.0"

_moved.install()
