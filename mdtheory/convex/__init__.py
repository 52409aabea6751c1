"""Part one of the book: convex online mirror descent."""
