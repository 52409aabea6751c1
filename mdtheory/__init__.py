"""Mirror descent: from online learning to Nash learning from human feedback.

Each module is the code behind one chapter of the book and carries its name.
"""

__version__ = "0.1.0"
