"""Files are there whole or not at all."""

import os
from pathlib import Path

import pytest

from mdtheory import files, runs


@pytest.mark.parametrize("content", ["ψ*(θ)\n", b"\x00\x01"])
def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path, content):
    path = tmp_path / "file"
    path.write_text("old and longer than the new one")
    files.write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_into_a_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_atomically(Path(tmp_path / "missing" / "file"), "x")


def test_the_old_path_of_the_function_still_works():
    assert runs.write_atomically is files.write_atomically
