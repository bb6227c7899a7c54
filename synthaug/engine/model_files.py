"""Which files of a model repository are worth fetching: plain data that a loader reads, nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from synthaug.engine.hub import Remote
from synthaug.errors import InputError, SecurityError, first_of, printable
from synthaug.models.hashes import LOCK

_KINDS = (".json", ".safetensors", ".txt", ".model")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
_VARIANT = re.compile(
    r"(.+?)[.-](?:fp16|bf16|fp32|fp8|non_ema|ema)(?=[.-]).*\.safetensors|(.+)\.index\.(?:fp16|bf16)\.json"
)


def choose(listed: Sequence[Remote], patterns: Sequence[str]) -> tuple[list[Remote], list[str]]:
    """Splits a listing.

    Args:
        patterns: Of names, as `unet/*`; empty for all, and where it is a diffusers folder without single-file
            checkpoints at its root and without second copies of weights in another precision.

    Returns:
        What to fetch, small kinds first, so that what is wrong shows early; and the names left out.

    Raises:
        InputError: No safetensors among it, a component with pickles alone, a file without a hash, a pattern
            that matches nothing.
        SecurityError: Names that cannot be in one folder.
    """
    _refuse_clashes([file.name for file in listed])
    plain = [file for file in listed if _is_plain(file.name)]
    for pattern in patterns:
        if not any(fnmatchcase(file.name, pattern) for file in plain):
            raise InputError(f"files={printable(pattern)} matches no plain data file of the repository")
    names = {file.name for file in plain}
    wanted = [
        f for f in plain if (any(fnmatchcase(f.name, p) for p in patterns) if patterns else _needed(f.name, names))
    ]
    taken = {file.name for file in wanted}
    _refuse_pickles([file.name for file in listed], taken, patterns)
    bare = [file.name for file in wanted if not (file.sha256 or file.blob)]
    if bare:
        raise InputError(f"the host lists no hash for{first_of(bare, 5)}\nWhat cannot be checked is not fetched")
    wanted.sort(key=lambda file: (file.name != "model_index.json", _KINDS.index(_kind(file.name)) == 1, file.name))
    return wanted, sorted(file.name for file in listed if file.name not in taken)


def _kind(name: str) -> str:
    return next((kind for kind in _KINDS if name.endswith(kind)), "")


def _is_plain(name: str) -> bool:
    return bool(_kind(name)) and name != LOCK and not any(part[0] in "._" for part in name.split("/"))


def _needed(name: str, names: set[str]) -> bool:
    if "model_index.json" in names and "/" not in name and name.endswith(".safetensors"):
        return False  # a single-file copy of the whole pipeline
    variant = _VARIANT.fullmatch(name)
    if variant is None:
        return True
    stem = variant[1] or variant[2]
    return not any(
        other.startswith((f"{stem}.safetensors", f"{stem}-0")) and not _VARIANT.fullmatch(other) for other in names
    )


def _refuse_pickles(listed: Sequence[str], taken: set[str], patterns: Sequence[str]) -> None:
    """Refuses a folder whose weights would be missing."""
    filled = {name.rpartition("/")[0] for name in taken if name.endswith(".safetensors")}
    if not filled:
        raise InputError(
            "the repository has no safetensors weights to take; pickles are not fetched. Look for a commit or a"
            " repository that has them"
        )
    if patterns or "model_index.json" not in taken:
        return
    lost = [n for n in listed if n.endswith(_PICKLES) and "/" in n and n.rpartition("/")[0] not in filled
            and any(t.startswith(n.rpartition("/")[0] + "/") for t in taken)]  # fmt: skip
    if lost:
        raise InputError(
            f"components whose weights are pickles alone, which are not fetched:{first_of(lost, 5)}\n"
            "Look for a commit or a repository that has safetensors"
        )


def _refuse_clashes(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise SecurityError(
                f"the repository lists '{printable(name)}' twice, or in two spellings; nothing is fetched"
            )
        seen.add(name.lower())
    for name in seen:
        parts = name.split("/")
        if any("/".join(parts[:n]) in seen for n in range(1, len(parts))):
            raise SecurityError(f"the repository lists '{printable(name)}' below a file; nothing is fetched")
