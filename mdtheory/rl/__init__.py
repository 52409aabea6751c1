"""Part two of the book: policy optimisation in reinforcement learning."""
