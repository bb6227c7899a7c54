"""What decides the bytes of a run: configuration, inputs, code, numeric environment. And the diff of two.

Inputs are identified by content: paths, workers and progress bars do not count. Everything is JSON.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import synthaug
from synthaug.engine import settings
from synthaug.errors import ConfigError, printable

OPERATIONAL: Mapping[str, frozenset[str]] = {
    "read": frozenset({"root"}),
    "write": frozenset({"root"}),
    "engine": frozenset(setting.name for setting in settings.ENGINE if setting.operational),
}
"""Fields that may differ between runs of one dataset, by configuration section; all others are identity.
Stages and readers add their own (`operational`), which their `identity()` then replaces by content.

The device belongs to the environment (its name, not its number). Roots are paths: contents count instead.
"""
_CPU_PACKAGES = ("numpy", "opencv-python-headless", "pillow", "isal")
_DEVICE_PACKAGES = ("torch", "diffusers", "transformers")


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


def environment(needs_device: bool, device: str) -> dict[str, str]:
    """The numeric environment: interpreter, code, library versions, device name, thread count."""
    facts = {"python": platform.python_version(), "machine": platform.machine(), "synthaug": code_version()}
    names = _CPU_PACKAGES + (_DEVICE_PACKAGES if needs_device else ())
    facts.update({name: _version(name) for name in names})
    if needs_device:
        facts.update(_device_facts(device))
    return facts


@cache
def code_version() -> str:
    """Version of the package and a hash of its own source, so that edited code is another code."""
    digest = hashlib.sha256()
    root = Path(synthaug.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return f"{synthaug.__version__}+{digest.hexdigest()[:12]}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


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


def refuse_other_identity(stored: Mapping[str, Any], current: Mapping[str, Any], where: str, allow_env: bool) -> None:
    """Refuses to go on in an output root that was begun with another identity.

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
            + "\nUse the old values, or another write.root."
        )
    rows = differences(stored["environment"], current["environment"], "environment.")
    if rows and not allow_env:
        raise ConfigError(
            f"{where} was begun in another numeric environment, so new samples may differ in their last bits:"
            + _lines(rows)
            + "\nRestore it, use another write.root, or accept with engine.allow_env_change=true "
            "(each shard records the environment that made it)."
        )


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"\n  {row}" for row in rows)
