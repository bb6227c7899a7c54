"""What decides the bytes of a run: configuration, inputs, code, numeric environment. And the diff of two.

Inputs are identified by content: paths, workers and progress bars do not count. Everything is JSON.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, cast

import synthaug
from synthaug.engine import settings, sources
from synthaug.errors import ConfigError, InputError, first_of, printable

OPERATIONAL: Mapping[str, frozenset[str]] = {
    "read": frozenset({"root"}),
    "write": frozenset({"root"}),
    "engine": frozenset(setting.name for setting in settings.ENGINE if setting.operational),
}
"""Fields that may differ between runs of one dataset, by configuration section; all others are identity.
Stages and readers add their own (`operational`), which their `identity()` then replaces by content.

The device belongs to the environment (its name, not its number). Roots are paths: contents count instead.
"""
_LIBRARIES = frozenset({"numpy", "cv2", "PIL", "isal"})
"""Import names of what every run goes through; the rest is what its own stages import."""
_DEVICE_LIBRARIES = frozenset({"torch", "diffusers", "transformers"})
_NO_BYTES = frozenset({"yaml", "hydra", "omegaconf"})
"""They read configurations, and what they read is identity by itself."""
_DISTRIBUTIONS = {
    "cv2": tuple(f"opencv-{kind}python{head}" for head in ("-headless", "") for kind in ("", "contrib-")),
    "PIL": ("pillow", "pillow-simd"),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
}
"""Distributions that bring a module of another name; several for those of which one may stand in for another."""


def config_identity(resolved: Mapping[str, Any], operational: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """The identity fields of a composed configuration; `operational` names more exceptions by section."""
    kept: dict[str, Any] = {}
    for key, value in resolved.items():
        if key in settings.OPERATIONAL:
            continue
        hidden = OPERATIONAL.get(key, frozenset()) | operational.get(key, frozenset())
        if isinstance(value, Mapping):
            section = cast("Mapping[str, Any]", value)
            kept[key] = {k: v for k, v in section.items() if k not in hidden}
        else:
            kept[key] = value
    return kept


def environment(needs_device: bool, device: str, modules: Iterable[str] = ()) -> dict[str, str]:
    """The numeric environment: interpreter, code, library versions, device name, thread count.

    Args:
        modules: Those that hold the reader, the stages and the writer, imported already; libraries that they
            lean on decide bytes too. Costs a few milliseconds each.
    """
    facts = {"python": platform.python_version(), "machine": platform.machine(), "synthaug": code_version()}
    names = _LIBRARIES | (_DEVICE_LIBRARIES if needs_device else frozenset[str]())
    for module in modules:
        names |= _leans_on(module, needs_device)
    facts.update({name: version_of(name) for name in sorted(names)})
    if needs_device:
        facts.update(_device_facts(device))
    return facts


def _leans_on(module: str, needs_device: bool) -> frozenset[str]:
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file:
        return frozenset()
    found = sources.libraries(Path(file).resolve()) - _NO_BYTES
    # Rooms of ours name torch for their part on a device alone; without one it decides nothing.
    own = module.partition(".")[0] == sources.OWN
    return found - _DEVICE_LIBRARIES if own and not needs_device else found


@cache
def code_version() -> str:
    """Version of the package and a hash of its own source, so that edited code is another code."""
    digest = hashlib.sha256()
    root = Path(synthaug.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return f"{synthaug.__version__}+{digest.hexdigest()[:12]}"


def version_of(library: str) -> str:
    """Version of the distribution that brings a module, by its import name; `absent` where none does."""
    if library in _DISTRIBUTIONS:
        return ", ".join(f"{name} {v}" for name in _DISTRIBUTIONS[library] if (v := _version(name))) or "absent"
    if found := _version(library):
        return found
    if PathFinder.find_spec(library) is None:
        return "absent"
    # The table of all distributions is dear to make, so it comes last.
    return ", ".join(_version(name) for name in metadata.packages_distributions().get(library, ())) or "absent"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _device_facts(device: str) -> dict[str, str]:
    import torch

    facts = {"threads": str(torch.get_num_threads())}
    if device.startswith("cuda"):
        facts["device"] = torch.cuda.get_device_name(device)
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = str(torch.backends.cudnn.version())
    else:
        facts["device"] = "cpu"
    return facts


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON form (sorted keys, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Field by field what differs, as `name: old -> new` lines."""
    rows: list[str] = []
    for key in sorted({*old, *new}):
        name = f"{prefix}{key}"
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            rows += differences(cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after), f"{name}.")
        elif before != after:
            rows.append(f"{name}: {printable(_short(before))} -> {printable(_short(after))}")
    return rows


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def moved_files(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Input files that are gone, changed or new since the plan was made, the gone ones first."""
    rows = [(0, f"{name}: is gone") for name in old if name not in new]
    rows += [(1, f"{name}: changed") for name, digest in old.items() if name in new and new[name] != digest]
    rows += [(2, f"{name}: is new") for name in new if name not in old]
    return [text for _, text in sorted(rows)]


def refuse_other_identity(
    stored: Mapping[str, Any], current: Mapping[str, Any], where: str, allow_env: bool, moved: Sequence[str] = ()
) -> None:
    """Refuses to go on in an output root that was begun with another identity.

    Args:
        moved: Input files that differ, as `moved_files` tells them.

    Raises:
        ConfigError: With the field-by-field difference and the ways out.
    """
    rows = differences(
        {k: v for k, v in stored.items() if k != "environment"},
        {k: v for k, v in current.items() if k != "environment"},
    )
    if rows:
        raise ConfigError(
            f"{where} was begun with another configuration or input; resuming would mix two datasets:"
            + _lines(rows)
            + (f"\nInput files ({len(moved)}):" + first_of(moved, 10) if moved else "")
            + ("\nRestore the input" if moved else "\nUse the old values")
            + ", or give another write.root for a dataset of its own."
        )
    rows = differences(stored["environment"], current["environment"], "environment.")
    if rows and not allow_env:
        raise ConfigError(
            f"{where} was begun in another numeric environment, so new samples may differ in their last bits:"
            + _lines(rows)
            + "\nRestore it, use another write.root, or accept with engine.allow_env_change=true "
            "(each shard records the environment that made it)."
        )


def refuse_other_stages(planned: Mapping[str, Any], loaded: Mapping[str, Any]) -> None:
    """Refuses weights or photos that were loaded in another state than the plan knows them in.

    Raises:
        InputError: Naming the slot and what differs.
    """
    rows = differences(json.loads(json.dumps(planned)), json.loads(json.dumps(loaded)))
    if rows:
        raise InputError(
            "what the stages loaded changed since the plan was made:"
            + _lines(rows)
            + "\nRestore it, or give another write.root for a dataset of its own."
        )


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"\n  {row}" for row in rows)
