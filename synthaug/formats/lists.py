"""Text files that say which image belongs to which split, and what follows from them for the images that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from synthaug.errors import InputError, first_of
from synthaug.formats.inputs import InputRoot
from synthaug.formats.naming import Dangling, Pair


@dataclass(frozen=True, slots=True)
class Listed:
    """One list.

    Attributes:
        path: Of its file, or of the folder whose images it stands for.
        split: Of its images.
        names: Of the images, as `follow` is told to compare them.
    """

    path: str
    split: str
    names: tuple[str, ...]


def lines(root: InputRoot, path: str) -> list[str]:
    """The lines of a text file, a byte order mark left out. Raises `InputError` where it is not UTF-8."""
    try:
        return root.read(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def follow(
    pairs: Mapping[str, Pair], lists: Sequence[Listed], name_of: Callable[[Pair], str], dangling: Dangling
) -> tuple[dict[str, Pair], dict[str, int]]:
    """The pairs that the lists name, each in the split of the first list that names it, and counts for notes.

    Args:
        pairs: By id.
        lists: By precedence.
        name_of: The name of an image as lists have it.
        dangling: What to do with names of images that are not there.

    Raises:
        InputError: Such names, under `refuse`, or no image is on a list.
    """
    splits: dict[str, str] = {}
    several = 0
    for one in lists:
        names = dict.fromkeys(one.names)
        several += sum(name in splits for name in names)
        splits |= {name: one.split for name in names if name not in splits}
    found = {key: replace(pair, split=splits[n]) for key, pair in pairs.items() if (n := name_of(pair)) in splits}
    there = Counter(name_of(pair) for pair in pairs.values())
    shared = [f"{name}: {count} images" for name, count in there.items() if count > 1 and name in splits]
    if shared:
        raise InputError(
            f"{len(shared)} names on lists are those of several images, so their splits are unknown; give each image a "
            f"name of its own, or name the folder with read.images=...:{first_of(shared)}"
        )
    lost = [f"{one.path}: {name}" for one in lists for name in dict.fromkeys(one.names) if name not in there]
    told = ", ".join(one.path for one in lists)
    if lost and dangling == "refuse":
        raise InputError(
            f"{told} list {len(splits)} images, {len(found)} of them are there; add the others, take them off the "
            f"list, or read with dangling=ignore:{first_of(lost)}"
        )
    if not found:
        raise InputError(
            f"not one image is on a list ({told}); correct the lists, or name the folder with read.images=..."
        )
    counts = Counter(
        {
            "images on no list": len(pairs) - len(found),
            "images on more than one list": several,
            "names on a list without an image": len(lost),
        }
    )
    return found, {name: count for name, count in counts.items() if count}
