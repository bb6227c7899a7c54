"""How it is usually done: files written in place, and done means that a marker exists. A bait for the drivers."""

from __future__ import annotations

import sys
from pathlib import Path


def main(root: Path) -> int:
    """Three shards of one file and one marker each."""
    root.mkdir(exist_ok=True)
    for shard in range(3):
        marker = root / f"{shard}.done"
        if not marker.exists():
            (root / f"{shard}.bin").write_bytes(bytes([shard + 1]) * 9000)
            marker.write_text("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
