"""What an executed chapter leaves behind: numbers for the prose, checks for the ledger, records."""

from mdtheory.files import write_atomically as write_atomically  # an old path, see CHANGELOG.md
from mdtheory.runs.numerals import typeset
from mdtheory.runs.page import check_bound, check_identity, glue, show
from mdtheory.runs.records import (
    Record,
    describe_device,
    read_record,
    results_folder,
    write_record,
)
from mdtheory.runs.statistics import bootstrap_interval
from mdtheory.runs.sweeps import Cell, ProgressBar, finished_cells, sweep
from mdtheory.runs.tables import table

__all__ = [
    "Cell",
    "ProgressBar",
    "Record",
    "bootstrap_interval",
    "check_bound",
    "check_identity",
    "describe_device",
    "finished_cells",
    "glue",
    "read_record",
    "results_folder",
    "show",
    "sweep",
    "table",
    "typeset",
    "write_record",
]
