"""The folders that a run reads from, and the one it writes to: given, spelt out, apart, and left tidy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.engine import build
from synthaug.engine.publish import PRIVATE, Output
from synthaug.errors import ConfigError, Refusal

if TYPE_CHECKING:
    from synthaug.engine.configure import RunConfig

_ROOTS = {"read": "the folder of the dataset that is read", "write": "the folder that the dataset goes to"}


def paths_in(node: Mapping[str, Any], slot: str) -> dict[str, str]:
    """Fields of a slot that hold paths: its root, and what counts by content (`operational` texts)."""
    cls = build.find_class(str(node["_target_"]), slot)
    names: Collection[str] = getattr(cls, "operational", frozenset[str]())
    return {name: value for name, value in node.items() if name in {"root", *names} and isinstance(value, str)}


def spelt_out(node: dict[str, Any], slot: str) -> dict[str, Any]:
    """The node with a leading `~/` of its paths replaced by the user's home, which no shell does after a `=`."""
    homely = {n: os.path.expanduser(v) for n, v in paths_in(node, slot).items() if v == "~" or v.startswith("~/")}
    return {**node, **homely}


def refuse_empty(slot: str, node: Mapping[str, Any]) -> None:
    """Refuses a root that is left out or empty; `Path("")` would silently be the working directory.

    Raises:
        ConfigError: Naming the field and how to give it.
    """
    root = node.get("root", "given")
    if isinstance(root, str) and root.strip() in ("", "???"):
        what = "has no value" if root == "???" else "is empty"
        raise ConfigError(f"{slot}.root is mandatory and {what}; give {slot}.root=DIR, {_ROOTS[slot]}")


def refuse_overlap(config: RunConfig) -> None:
    """Refuses an output inside an input, or around one: a later run would read what this one wrote.

    Raises:
        ConfigError: Naming both fields.
    """
    output = Path(os.path.realpath(str(config.write["root"])))
    for slot, node in {"read": config.read, **config.stages}.items():
        for name, value in paths_in(node, slot).items():
            given = Path(os.path.realpath(value))
            if not value or not given.exists():
                continue
            where = "is" if output == given else "lies in" if given in output.parents else ""
            where = where or ("holds" if output in given.parents else "")
            if where:
                raise ConfigError(
                    f"write.root={output} {where} {slot}.{name}={given}; inputs are never written to, "
                    "so choose an output folder beside them"
                )


@contextlib.contextmanager
def tidied(output: Output, before: frozenset[Path]) -> Generator[None]:
    """Takes away the traces of a run that was refused, or stopped before it had a plan, if this run made them.

    Used within the run's lock, so that nobody else works there.

    Args:
        before: Which of `traces(output)` were there before the run.
    """
    try:
        yield
    except BaseException as error:
        made = [path for path in traces(output) if path not in before]
        planned = (output.root / PRIVATE / "plan.json").exists()
        if made and not _has_shards(output) and (isinstance(error, Refusal) or not planned):
            with contextlib.suppress(OSError):  # somebody else's file in it: then it stays, the error is what matters
                _clear(output, made)
        raise


def traces(output: Output) -> tuple[Path, ...]:
    """What a run makes first, from the inside out."""
    return output.root / PRIVATE, output.root


def existing(output: Output) -> frozenset[Path]:
    """Those of `traces` that are there."""
    return frozenset(path for path in traces(output) if path.exists())


def _has_shards(output: Output) -> bool:
    return any((output.root / PRIVATE / "shards").glob("*.json"))


def _clear(output: Output, made: list[Path]) -> None:
    for here, folders, files in os.walk(output.root / PRIVATE, topdown=False):
        for name in files:
            output.files.unlink(os.path.join(here, name))
        for name in folders:
            output.files.rmdir(os.path.join(here, name))
    for path in made:
        output.files.rmdir(str(path))
