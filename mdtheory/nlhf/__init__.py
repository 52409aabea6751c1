"""Learning from human feedback: the third part of the book."""
