"""What builds, executes and checks the book; not part of the library."""
