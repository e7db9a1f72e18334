"""Preparing takes no more memory for more data."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from launcher.data.source import DataSpec, Duplicates
from launcher.plain import plain

MakeSpec = Callable[..., DataSpec]

ROWS = 4000
# What the interpreter's allocator keeps for later; ten times the rows, held whole, would be three times that.
TOLERANCE_KB = 12_000
PREPARE = """
import json, resource, sys
from pathlib import Path
from launcher.data.make.prepare import Sizes, prepare
from launcher.data.source import DataSpec
from launcher.decode import decode
sizes = Sizes(piece_bytes=1 << 18, small_bytes=1 << 40, bucket_bytes=1 << 16)
prepare(decode(DataSpec, json.loads(sys.argv[1])), Path(sys.argv[2]), workers=1, sizes=sizes)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kb(spec: DataSpec, cache: Path) -> int:
    command = [sys.executable, "-c", PREPARE, json.dumps(plain(spec)), str(cache)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_ten_times_the_data_takes_no_more_memory(make_spec: MakeSpec, tmp_path: Path) -> None:
    peaks = []
    for times in (1, 10):
        path = tmp_path / f"{times}.jsonl"
        with path.open("w") as file:
            for number in range(times * ROWS):
                row = {"prompt": f"question {number % (times * ROWS // 2)}", "completion": "It is so. " * 12}
                file.write(json.dumps(row) + "\n")
        spec = make_spec(path, seq_len=256)
        spec = dataclasses.replace(spec, clean=dataclasses.replace(spec.clean, duplicates=Duplicates.exact))
        peaks.append(peak_kb(spec, tmp_path / "cache"))
    assert peaks[1] < peaks[0] + TOLERANCE_KB, peaks
