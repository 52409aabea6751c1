"""Reinforcement learning: the second part of the book."""
