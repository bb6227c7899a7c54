"""A model folder is checked before anything in it is loaded: by content, against our own tables.

Rules: only data files; safetensors by content, not by name; no Python and no field that asks for Python;
known classes only; and where `synthaug.lock.json` stands in the folder, every byte as it was locked.
Flags such as `trust_remote_code=False` have been bypassed more than once; what is not there cannot run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from synthaug.errors import ConfigError, InputError, SecurityError, first_of, nearest, printable
from synthaug.models.families import PRIOR, Family, Runner
from synthaug.models.hashes import digest_of, hashes_of, joined, sha256_of
from synthaug.models.plain import check_fields, check_safetensors, read_json
from synthaug.models.table import COMPONENTS, MOVED, OPTIONS, PIPELINES

_DATA = frozenset(
    {".json", ".safetensors", ".txt", ".model", ".md", ".jinja", ".png", ".jpg", ".jpeg", ".webp", ".gif"}
)
_NAMES = frozenset({"license", "notice", ".gitattributes", ".gitignore"})
_NEVER_READ = frozenset({".cache", ".git"})
VOCABULARY = frozenset({"vocab.json", "tokenizer.json", "added_tokens.json"})
_ADAPTERS = "adapter_config.json"
"""Where it stands, transformers hands the folder to peft, and takes the weights from wherever the file says."""
_PRIOR = frozenset({"prior", "image_encoder", "text_encoder", "tokenizer", "scheduler", "image_processor"})
_COMPONENT = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model that passed every check.

    Attributes:
        path: The diffusers folder; of a single file, its base.
        pipeline: Class named by `model_index.json`.
        family: Its row in our table.
        components: Component name to class, absent components left out.
        digest: SHA-256 over names and contents of every file that takes part in computing.
        file: The single file whose weights go before those of the folder.
        prior: Component name to library and class of the prior, for a family with one.
        prior_path: The folder that those components lie in.
    """

    path: Path
    pipeline: str
    family: Family
    components: Mapping[str, str] = field(default_factory=dict[str, str])
    digest: str = ""
    file: Path | None = None
    prior: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    prior_path: Path = Path()

    @property
    def shown(self) -> str:
        """What the user has named as model."""
        return printable(str(self.file or self.path))


def inspect(path: str | Path, base: str | Path = "", word: str = "model") -> Snapshot:
    """Checks a model without loading it: a diffusers pipeline folder, or a safetensors file with a base folder.

    Hashes every file once per process and stamp (size, times, inode); the first call reads all weights.

    Args:
        path: A folder; or one safetensors file as makers of models share them.
        base: What the model lacks. For a file, a diffusers folder of its family: its configurations and tokenizers
            are used, and its weights for networks that the file has none of. For a decoder of Kandinsky, the folder
            of the prior. Empty for all others.
        word: What the user calls it.

    Raises:
        ConfigError: No pipeline there, one that cannot serve here, or a base that is missing or not needed.
        InputError: A file is missing, truncated or differs from the lock.
        SecurityError: Something in it could run code, or a class is not in our table.
    """
    if Path(path).is_file():
        return _inspect_file(Path(path), base)
    found = inspect_folder(Path(path), word)
    if not found.family.img2img:
        raise ConfigError(f"{word}={printable(str(path))}: {found.pipeline} is {found.family.name}")
    if found.family.runner is Runner.PRIOR:
        return _with_prior(found, base)
    if str(base):
        raise ConfigError(
            f"base={printable(str(base))} is set, but {found.family.name} in {printable(str(path))} lacks nothing;"
            " leave it empty"
        )
    return found


def inspect_folder(root: Path, word: str = "model") -> Snapshot:
    """Checks a diffusers folder of any class in our table, such as a prior. Raises as `inspect`.

    Args:
        word: What the user calls it.
    """
    shown = f"{word}={printable(str(root))}"
    if not root.is_dir():
        raise ConfigError(
            f"{shown}: no such folder; expected a diffusers pipeline folder"
            + (", or a .safetensors file with `base`" if word == "model" else "")
        )
    files = _files(root)
    if "model_index.json" not in files:
        hint = "; this is a refiner, which refine=restore runs" if "refiner.json" in files else ""
        raise ConfigError(f"{shown}: no model_index.json in it; expected a diffusers pipeline folder{hint}")
    check_contents(root, files)
    refuse_adapters(files)
    pipeline, family, components = read_index(root)
    for component in components:
        if not any(name.startswith(f"{component}/") for name in files):
            raise InputError(
                f"model_index.json names the component '{component}', but {component}/ is missing or empty"
            )
    return Snapshot(root, pipeline, family, components, digest_of(hashes_of(root, files)))


def _inspect_file(file: Path, base: str | Path) -> Snapshot:
    """A single file, by the configurations of its base."""
    shown = printable(str(file))
    if file.suffix != ".safetensors" or file.is_symlink():
        raise SecurityError(
            f"model={shown}: expected a folder or a .safetensors file (no link); nothing else is loaded"
        )
    check_safetensors(file, file.name)
    if not str(base):
        raise ConfigError(
            f"model={shown} is a single file: it holds weights, but no configuration and no tokenizer, and runs load"
            " nothing from the network; set base=DIR to a diffusers folder of the same family"
        )
    found = inspect_folder(Path(base), "base")
    if "single_file" not in found.family.knobs:
        others = sorted({f.name for f in PIPELINES.values() if "single_file" in f.knobs})
        raise ConfigError(
            f"model={shown}: diffusers reads no single files of {found.family.name}; of {', '.join(others)} it does."
            " Use the folder"
        )
    digest = joined(sha256_of(file), found.digest)
    return replace(found, file=file, digest=digest)


def _with_prior(found: Snapshot, base: str | Path) -> Snapshot:
    """A decoder with its prior: from the same folder, as diffusers saves the two together, or from another."""
    wanted = {word for word in _PRIOR if f"prior_{word}" not in found.components}
    if not wanted:
        if str(base):
            raise ConfigError(f"base={printable(str(base))} is set, but {found.shown} brings its prior; leave it empty")
        names = {f"prior_{word}" for word in _PRIOR}
        return replace(found, prior=_classes(found, names), prior_path=found.path)
    if not str(base):
        raise ConfigError(
            f"model={found.shown}: {found.family.name} needs a prior, which is not in this folder; set base=DIR to the"
            " folder of KandinskyV22PriorPipeline"
        )
    other = inspect_folder(Path(base), "base")
    if _PRIOR - set(other.components):
        raise ConfigError(
            f"base={printable(str(base))}: {other.pipeline} is no prior of {found.family.name}; expected"
            " KandinskyV22PriorPipeline"
        )
    digest = joined(found.digest, other.digest)
    return replace(found, prior=_classes(other, _PRIOR), prior_path=other.path, digest=digest)


def _classes(found: Snapshot, names: Collection[str]) -> dict[str, tuple[str, str]]:
    return {name: (COMPONENTS[found.components[name]], found.components[name]) for name in sorted(names)}


def inspect_part(path: str | Path, classes: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Checks a folder of one network, such as a ControlNet, without loading it.

    Args:
        classes: That its `config.json` may name.

    Returns:
        Its configuration, and the SHA-256 of what computes.

    Raises:
        ConfigError: No such folder, or no `config.json`.
        InputError, SecurityError: As `inspect`.
    """
    root, shown = Path(path), printable(str(path))
    files = _files(root) if root.is_dir() else []
    if "config.json" not in files or not any(name.endswith(".safetensors") for name in files):
        raise ConfigError(f"{shown}: expected a folder with config.json and safetensors weights")
    check_contents(root, files)
    refuse_adapters(files)
    config = cast("dict[str, Any]", read_json(root / "config.json", "config.json"))
    kind = str(config.get("_class_name")) if isinstance(cast(Any, config), dict) else ""
    if kind not in classes:
        raise SecurityError(f"{shown}/config.json asks for class '{printable(kind)}'; expected {', '.join(classes)}")
    return config, digest_of(hashes_of(root, files))


def contents(path: str | Path) -> dict[str, str]:
    """SHA-256 by relative name of a folder that holds plain data alone, whatever kind of model it is.

    Raises:
        InputError, SecurityError: As `inspect`; also where the folder differs from its lock.
    """
    root = Path(path)
    files = _files(root)
    check_contents(root, files)
    return hashes_of(root, files)


def check_contents(root: Path, files: Sequence[str]) -> None:
    """Checks JSON and safetensors among the named files by what is in them; others are left alone."""
    for name in files:
        if name.endswith(".safetensors"):
            check_safetensors(root / name, name)
        elif name.endswith(".json") and Path(name).name not in VOCABULARY:
            check_fields(read_json(root / name, name), name)


def refuse_adapters(files: Iterable[str]) -> None:
    """Raises `SecurityError` for an adapter beside a network: its loader would go where that file points."""
    for name in files:
        if Path(name).name == _ADAPTERS:
            raise SecurityError(
                f"{printable(name)} would have weights loaded from the place that it names, which nobody has checked;"
                " merge the adapter into the network, or remove the file"
            )


def weights_digest(path: str | Path, base: str | Path = "") -> str:
    """The identity of a model, for a run's fingerprint: `inspect(path, base).digest`."""
    return inspect(path, base).digest


def _files(root: Path) -> list[str]:
    """Relative names of all files, sorted; refuses what is no plain data."""
    names: list[str] = []
    bad: list[str] = []
    for folder, subfolders, found in os.walk(root):
        here = Path(folder)
        if here == root:
            subfolders[:] = [name for name in subfolders if name not in _NEVER_READ]
        bad += [f"{(here / n).relative_to(root)} (a link)" for n in subfolders if (here / n).is_symlink()]
        for name in found:
            item = here / name
            relative = item.relative_to(root).as_posix()
            if item.is_symlink():
                bad.append(f"{relative} (a link)")
            elif not item.is_file():
                bad.append(f"{relative} (not a plain file)")
            elif item.suffix.lower() not in _DATA and name.lower() not in _NAMES:
                bad.append(relative)
            names.append(relative)
    if bad:
        raise SecurityError(
            "the model folder holds files that are not plain data:" + first_of(sorted(bad)) + "\nOnly JSON, safetensors"
            " and tokenizer text are loaded, never code or pickles. Fetch the snapshot with these files left out and"
            " links resolved (for example `hf download --local-dir ... --include '*.json' '*.txt' '*.safetensors'`)."
        )
    return sorted(names)


def read_index(root: Path) -> tuple[str, Family, dict[str, str]]:
    """Pipeline class, family and components by the words of `model_index.json`."""
    index = cast("dict[str, Any]", read_json(root / "model_index.json", "model_index.json"))
    pipeline = str(index.get("_class_name"))
    family = PIPELINES.get(pipeline)
    if family is None:
        raise SecurityError(
            f"model_index.json asks for the pipeline class '{printable(pipeline)}', which is not in our"
            f" table.{nearest(pipeline, PIPELINES)}"
        )
    if not family.img2img and family is not PRIOR:
        raise ConfigError(f"{pipeline} is {family.name}; it makes no one picture of a picture. Use another model")
    components: dict[str, str] = {}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if name in OPTIONS and type(value) in (OPTIONS[name], type(None)):
            continue
        if not isinstance(value, list) or len(cast("list[Any]", value)) != 2 or not _COMPONENT.fullmatch(name):
            raise SecurityError(f"model_index.json: '{printable(name)}' is neither a component nor a known option")
        library, cls = cast("list[Any]", value)
        if library is None and cls is None:
            continue
        if not isinstance(cls, str) or not library or library not in (COMPONENTS.get(cls), MOVED.get(cls)):
            raise SecurityError(
                f"model_index.json: component '{name}' asks for class '{printable(str(cls))}' of"
                f" '{printable(str(library))}', which is not in our table.{nearest(str(cls), COMPONENTS)}"
            )
        components[name] = cls
    return pipeline, family, components
