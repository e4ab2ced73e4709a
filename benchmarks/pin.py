"""Pin every version in pyproject.toml's [tool.uv] constraint-dependencies to what uv resolves today.

    uv run python benchmarks/pin.py

A lock file would record the hosts that the packages came from; constraints record names and versions only.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
BLOCK = re.compile(r"constraint-dependencies = \[.*?\n\]\n", re.S)


def main() -> None:
    text = BLOCK.sub("", PYPROJECT.read_text())
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(text)
        export = [
            "uv",
            "export",
            "--quiet",
            "--no-hashes",
            "--no-annotate",
            "--no-header",
            "--all-groups",
            "--all-extras",
        ]
        done = subprocess.run(export, cwd=folder, capture_output=True, text=True, check=True)
    lines = [line.strip() for line in done.stdout.splitlines() if "==" in line]
    names = Counter(line.partition("==")[0] for line in lines)
    # a marker matters only where one package has two versions; elsewhere a constraint binds if it is installed at all
    kept = [line if names[line.partition("==")[0]] > 1 else line.partition(";")[0].strip() for line in lines]
    quoted = "".join(f'  "{line.replace(chr(34), chr(39))}",\n' for line in kept)
    anchor = "[tool.uv]\n"
    block = f"{anchor}constraint-dependencies = [      # made by benchmarks/pin.py\n{quoted}]\n"
    PYPROJECT.write_text(text.replace(anchor, block))


if __name__ == "__main__":
    main()
