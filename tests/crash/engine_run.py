"""The fake run of the engine as a victim: `python -m tests.crash.engine_run ROOT [override ...]`."""

from __future__ import annotations

import sys

from synthaug.errors import SynthaugError
from tests.engine import runs


def main(arguments: list[str]) -> int:
    """One run, with the statuses of the command line."""
    try:
        return runs.run(arguments[0], *arguments[1:])
    except SynthaugError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
