"""From a recipe and overrides to a checked `RunConfig`. Hydra composes; what it may compose is decided here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from synthaug.engine import build, complaints, recipes, roots, settings, targets, vet
from synthaug.errors import ConfigError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

RESERVED = ("read", "write", "engine", *(setting.name for setting in settings.RUN))
"""Top-level keys that are no slots."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One run, composed and checked; every class is named, none is built.

    Attributes:
        name: Of the recipe.
        settings: The scalars of `conf/config.yaml` and `split`.
        read: Reader node, with `_target_`.
        write: Writer node, with `_target_`, and `root`, which belongs to the engine.
        engine: Of `conf/engine/`, without `_target_`.
        stages: Stage nodes by slot, in the order of running.
        resolved: Everything as composed, with interpolations in their unresolved form: what is stored.
        targets: Every `_target_` that occurs, in order.
        plugins: SHA-256 of the source, by plug-in module.
    """

    name: str
    settings: dict[str, Any]
    read: dict[str, Any]
    write: dict[str, Any]
    engine: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    resolved: dict[str, Any]
    targets: list[str]
    plugins: dict[str, str]


def compose(
    pipeline: str,
    overrides: Sequence[str] = (),
    *,
    config_dir: str | None = None,
    plugins: Sequence[str] = (),
    output: bool = True,
) -> RunConfig:
    """Composes a recipe with overrides and checks the result. Costs about 0.3 s and writes nothing.

    Args:
        pipeline: Name of a recipe in `pipelines/` (or in `config_dir`), or path to a YAML file.
        overrides: Hydra's grammar: `key=value`, `group=option`, `+new=1`, `~slot`.
        config_dir: A folder of the user's own groups and recipes.
        plugins: Plug-in modules, imported here; their classes may be named by `_target_`.
        output: False lets `write.root` be left out; it is then empty.

    Raises:
        ConfigError: Unknown key or option, missing value, wrong type, out of range.
        SecurityError: A class, a YAML tag or an interpolation that a configuration may not use.
    """
    composed = raw(pipeline, overrides, config_dir=config_dir)
    return checked(composed, recipes.name_of(pipeline), plugins, output=output)


def raw(pipeline: str, overrides: Sequence[str] = (), *, config_dir: str | None = None) -> DictConfig:
    """What Hydra composes, with its own node, before our checks: for `--cfg` and for `checked`.

    Raises:
        ConfigError: Hydra cannot compose it.
        SecurityError: A recipe or an override that configures Hydra or reads the environment.
    """
    import hydra

    overrides, dropped = prepared(overrides)
    with recipes.staged(pipeline, config_dir) as config_name:
        where = str(targets.find_conf())
        with hydra.initialize_config_dir(where, job_name="synthaug", **version_base()):

            def attempt(some: Sequence[str]) -> DictConfig:
                return hydra.compose(config_name, list(some), return_hydra_config=True)

            with complaints.translated(attempt, overrides):
                return without(dropped, attempt(overrides))


_DROP = re.compile(r"~[A-Za-z_]\w*")


def without(dropped: Sequence[str], composed: DictConfig) -> DictConfig:
    """Drops slots after composing: Hydra takes `~gate` for a group, and misses a slot that a recipe spells out."""
    from omegaconf import open_dict

    with open_dict(composed):
        for name in dropped:
            if name not in composed or name == "hydra":
                raise ConfigError(f"there is no '{name}' to override.{nearest(name, map(str, composed))}")
            del composed[name]
    return composed


def version_base() -> dict[str, str]:
    """Hydra 1.3 needs to be told to behave like itself; 1.4 warns when told."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def prepared(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides as Hydra shall have them, vetted, and the names of slots to drop after composing.

    A mapping as value may bring new keys, which Hydra allows under `++` alone, and its grammar has no `~/`.

    Raises:
        ConfigError, SecurityError: As `vet.check_override`, and where one key is given twice: a line that
            contradicts itself is a slip, and the last word would win in silence.
    """
    for override in overrides:
        vet.check_override(override)
    given: dict[str, str] = {}
    for override in overrides:
        key = vet.key_of(override)
        if key in given:
            raise ConfigError(f"'{key}' is given twice: '{given[key]}' and '{override}'; say it once")
        given[key] = override
    dropped = [o[1:] for o in overrides if _DROP.fullmatch(o)]
    kept = [_homely(o) for o in overrides if not _DROP.fullmatch(o)]
    return [f"++{o}" if re.match(r"[A-Za-z_][\w.]*=\{", o) else o for o in kept], dropped


def _homely(override: str) -> str:
    """Quotes around the values that begin with `~/`."""
    key, equals, value = override.partition("=")
    if set(value) & set("'\"[]{}()"):
        return override
    return key + equals + ",".join(f"'{v}'" if v == "~" or v.startswith("~/") else v for v in value.split(","))


def checked(composed: DictConfig, name: str, plugins: Sequence[str] = (), *, output: bool = True) -> RunConfig:
    """The composed configuration as plain data, every rule of this module applied; `output` as in `compose`.

    Raises:
        ConfigError, SecurityError: As `compose`.
    """
    stored, plain = plain_of(composed)
    allowed = targets.own() | targets.of(plugins)
    found = vet.check_targets(plain, allowed)
    stages = slots_of(plain)
    for required in ("read", "write", "engine"):
        if not isinstance(plain.get(required), dict):
            raise ConfigError(f"the recipe has no '{required}'; name one in its defaults list: /{required}: OPTION")
    if not output and plain["write"].get("root") == "???":
        plain["write"]["root"] = ""
    _refuse_missing(plain, ("read", "write") if output else ("read",))
    run = settings.check({k: plain[k] for k in plain if k in _SCALARS}, settings.RUN)
    engine = settings.check(plain["engine"], settings.ENGINE, "engine.")
    for slot, node in {"read": plain["read"], **stages, "write": plain["write"]}.items():
        build.verify(node, slot, plugins)
    hashes = {module: targets.source_hash(module) for module in plugins}
    read, write = (roots.spelt_out(plain[slot], slot) for slot in ("read", "write"))
    stages = {slot: roots.spelt_out(node, slot) for slot, node in stages.items()}
    return RunConfig(name, run, read, write, engine, stages, stored, found, hashes)


_SCALARS = frozenset(setting.name for setting in settings.RUN)


def plain_of(composed: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plain data twice, without Hydra's node: interpolations as written, and resolved.

    Raises:
        ConfigError: An interpolation that leads nowhere.
        SecurityError: An interpolation that is not allowed. Nothing was resolved.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    copied = composed.copy()
    OmegaConf.set_struct(copied, False)
    copied.pop("hydra", None)
    stored = cast("dict[str, Any]", OmegaConf.to_container(copied, resolve=False))
    vet.check_references(stored, "configuration")
    try:
        plain = cast("dict[str, Any]", OmegaConf.to_container(copied, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(f"an interpolation cannot be resolved: {error}") from error
    return stored, plain


def slots_of(plain: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Stage nodes by slot, in composed order; a slot set to null is dropped.

    Raises:
        ConfigError: A top-level key that is neither a setting nor a slot.
    """
    stages: dict[str, dict[str, Any]] = {}
    for key, value in plain.items():
        if key in RESERVED or value is None:
            continue
        if not isinstance(value, dict):
            raise ConfigError(f"'{key}' is neither a setting nor a slot.{nearest(key, plain.keys() - {key})}")
        if "_target_" not in value:
            groups = [*plain.keys() - {key}, *(p.name for p in targets.find_conf().iterdir() if p.is_dir())]
            raise ConfigError(f"slot '{key}' has no _target_, so there is nothing to run.{nearest(key, groups)}")
        stages[key] = cast("dict[str, Any]", value)
    return stages


def _refuse_missing(plain: Mapping[str, Any], rooted: Sequence[str]) -> None:
    missing = [where for where, text in vet.strings(plain) if text == "???"]
    if len(missing) > 1:
        raise ConfigError(build.mandatory(missing[0]) + "".join(f", {where}=VALUE" for where in missing[1:]))
    for slot in rooted:
        roots.refuse_empty(slot, plain[slot])
    if missing:
        raise ConfigError(build.mandatory(missing[0]))
