"""The numerical tests with the kernels of other processors.

Usage: python -m tools.processors [NAME ...]
       python -m tools.processors --today

How a sum is ordered and whether a product is fused with it depends on the processor: PyTorch, MKL
and OpenBLAS choose their kernels when Python starts. Variables of the environment make them choose
others, so that one machine can be several. Without a name all settings run, one after another;
``--today`` runs one, another each day, for continuous integration.

MKL lets itself be told only where it takes the processor for Intel's. Where it does not, a library
of two functions is compiled and put before its own, which make it; without a C compiler that
setting changes nothing there. What each setting changes is printed first.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tools.project import ROOT

SETTINGS: dict[str, dict[str, str]] = {
    "own": {},
    "intel": {},
    "sse4": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "plain": {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"},
    "nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
}
# Those in which MKL has to take the processor for Intel's.
AS_INTEL = ("intel", "sse4", "avx2")
VARIABLES = sorted({name for setting in SETTINGS.values() for name in setting})

PRELOADED = """
int mkl_serv_intel_cpu_true(void) { return 1; }
int mkl_serv_intel_cpu(void) { return 1; }
"""

# A digest of what the kernels return, by library.
PROBE = """
import hashlib, numpy, torch
draw = torch.randn(150, 150, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
def digest(*arrays):
    return hashlib.sha256(b"".join(numpy.asarray(a).tobytes() for a in arrays)).hexdigest()[:8]
table = numpy.asarray(draw)
print("MKL", digest(draw @ draw, draw @ draw[0], torch.linalg.eigh(draw + draw.mT)[1], draw.log()))
print("PyTorch", digest(draw.sum(-1), draw.norm(dim=0), draw.log_softmax(-1), draw.float().mean(0)))
print("NumPy", digest(table @ table, numpy.linalg.eigh(table + table.T)[1]))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests under each setting that was asked for; 1 if they fail under one."""
    parser = argparse.ArgumentParser(prog="python -m tools.processors", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(SETTINGS))
    parser.add_argument("--today", action="store_true", help="one setting, another each day")
    parser.add_argument("--pytest", default="-n 2 --dist loadfile", help="options of pytest")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in SETTINGS:
            parser.error(f"{name}: expected one of {', '.join(SETTINGS)}")
    names = given.names or list(SETTINGS)
    if given.today:
        names = [todays(datetime.date.today())]
    with tempfile.TemporaryDirectory() as folder:
        library = preloaded(Path(folder))
        own = changes(environment("own", None))
        results = []
        for name in names:
            variables = environment(name, library)
            found = changes(variables)
            other = [part for part in own if found[part] != own[part]]
            what = (
                "other numbers from " + ", ".join(other) if other else "the machine's own numbers"
            )
            print(f"\n=== {name}: {what}", flush=True)
            if not other and name != "own" and len(names) > 1:
                results.append(f"{name:8} {what}, not run again")
                continue
            start = time.monotonic()
            code = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                 *given.pytest.split(), *numerical(ROOT)],
                cwd=ROOT, env=variables, check=False,
            ).returncode  # fmt: skip
            verdict = "passed" if code == 0 else f"FAILED ({code})"
            results.append(f"{name:8} {what}, {verdict}, {time.monotonic() - start:.0f} s")
    print("\n" + "\n".join(results))
    return int(any("FAILED" in line for line in results))


def todays(day: datetime.date) -> str:
    """The setting of a day; the machine's own is what ``make test`` runs every day."""
    others = [name for name in SETTINGS if name != "own"]
    return others[day.toordinal() % len(others)]


def numerical(root: Path) -> list[str]:
    """Test files that compare numbers: not what is refused, nor where tensors live."""
    files = sorted(root.glob("tests/*/test_*.py"))  # parts and workshops
    ground = [path for name in ("checks", "runs*") for path in root.glob(f"tests/test_{name}.py")]
    skipped = ("_refusals", "_devices")
    return [
        str(path.relative_to(root))
        for path in [*files, *sorted(ground)]
        if not path.stem.endswith(skipped)
    ]


def environment(name: str, library: Path | None) -> dict[str, str]:
    """The variables of a setting in place of the caller's."""
    variables = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    if name in AS_INTEL and library is not None:
        variables["LD_PRELOAD"] = str(library)
    return variables | SETTINGS[name]


def preloaded(folder: Path) -> Path | None:
    """The library that makes MKL take this processor for Intel's; nothing where none is needed."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if platform.system() != "Linux" or platform.machine() != "x86_64" or compiler is None:
        return None
    if "GenuineIntel" in Path("/proc/cpuinfo").read_text("utf-8"):
        return None
    source, library = folder / "processor.c", folder / "processor.so"
    source.write_text(PRELOADED, "utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def changes(variables: dict[str, str]) -> dict[str, str]:
    """Digests of what MKL, PyTorch and NumPy return under these variables."""
    found = subprocess.run(
        [sys.executable, "-c", PROBE], env=variables, cwd=ROOT, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return dict(line.split() for line in found.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
