"""What a recipe is made of, for `synthaug help` and `--cfg job`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from synthaug.engine import build, configure, recipes, settings, targets, vet
from synthaug.engine.annotations import hints, name_of, parameters
from synthaug.errors import ConfigError

_WIDTH = 116
_INDENT = "      "


def recipes_text() -> str:
    """The recipes of the package, each with the first line of its comment."""
    rows = ["Recipes (synthaug help PIPELINE shows the slots and fields of one):", ""]
    for name in recipes.packaged():
        rows.append(f"  {name:16} {_first_comment(name)}")
    return "\n".join(rows) + "\n"


def _first_comment(name: str) -> str:
    text = (targets.find_conf("pipelines") / f"{name}.yaml").read_text("utf-8")
    return next((line.lstrip("# ") for line in text.splitlines() if line.startswith("#")), "")


def as_yaml(
    pipeline: str, overrides: Sequence[str], config_dir: str | None, package: str | None, *, resolve: bool = False
) -> str:
    """The composed configuration as YAML, mandatory fields without a value included.

    Args:
        package: Dotted key of the part wanted; None for everything.

    Raises:
        ConfigError, SecurityError: As `configure.compose`, the checks of single fields apart.
    """
    import yaml

    stored, plain = configure.plain_of(configure.raw(pipeline, overrides, config_dir=config_dir))
    node: Any = plain if resolve else stored
    for step in package.split(".") if package else []:
        if not isinstance(node, Mapping) or step not in node:
            raise ConfigError(f"--package {package}: the configuration has no '{step}' there")
        node = cast("Mapping[str, Any]", node)[step]
    return yaml.safe_dump(node, sort_keys=False, allow_unicode=True, width=_WIDTH)


def describe(
    pipeline: str, overrides: Sequence[str] = (), config_dir: str | None = None, plugins: Sequence[str] = ()
) -> str:
    """The slots of a pipeline in the order of running: class, purpose, and every field with its default.

    Raises:
        ConfigError, SecurityError: As `configure.compose`; fields may still be without a value.
    """
    _, plain = configure.plain_of(configure.raw(pipeline, overrides, config_dir=config_dir))
    vet.check_targets(plain, targets.own() | targets.of(plugins))
    stages = configure.slots_of(plain)
    rows = [f"{recipes.name_of(pipeline)}: read -> " + "".join(f"{slot} -> " for slot in stages) + "write", ""]
    for slot, node in {"read": plain.get("read"), **stages, "write": plain.get("write")}.items():
        if isinstance(node, dict):
            rows += [*_slot(slot, cast("dict[str, Any]", node)), ""]
    rows += ["engine", *_settings("engine.", settings.ENGINE, plain.get("engine") or {}), ""]
    rows += ["settings", *_settings("", settings.RUN, plain)]
    return "\n".join(rows) + "\n"


def _slot(slot: str, node: Mapping[str, Any]) -> Iterator[str]:
    cls = build.find_class(str(node["_target_"]), slot)
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    yield f"{slot}  {node['_target_']}"
    yield f"  {summary}"
    documented, types = arguments_of(cls), hints(cls)
    for name, parameter in parameters(cls).items():
        default = "mandatory" if parameter.default is parameter.empty else f"default {_word(parameter.default)}"
        kind = name_of(types[name]) if name in types else "any"
        yield from _field(f"{slot}.{name}", node.get(name, "???"), f"{kind}, {default}", documented.get(name, ""))
    for name in sorted(build.OUTSIDE.get(slot, frozenset()) - set(parameters(cls))):
        yield from _field(f"{slot}.{name}", node.get(name, "???"), "str, mandatory", "Output folder of the run.")


def _settings(prefix: str, table: tuple[settings.Setting, ...], values: Mapping[str, Any]) -> Iterator[str]:
    for setting in table:
        mark = ", operational" if setting.operational else ""
        yield from _field(f"{prefix}{setting.name}", values.get(setting.name), setting.expected() + mark, setting.text)


def _field(name: str, value: object, kind: str, text: str) -> Iterator[str]:
    yield f"    {name}={_word(value)}  ({kind})"
    yield from textwrap.wrap(text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)


def _word(value: object) -> str:
    """A value as an override would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_word, cast("Sequence[object]", value))) + "]"
    return str(value)


def arguments_of(cls: type) -> dict[str, str]:
    """Descriptions under `Args:` in the Google docstring of a class or of its constructor, by name."""
    described: dict[str, str] = {}
    for text in (inspect.getdoc(cls), inspect.getdoc(cls.__init__)):
        for name, words in _entries(text or ""):
            described.setdefault(name, words)
    return described


def _entries(text: str) -> Iterator[tuple[str, str]]:
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    if not section:
        return
    body = textwrap.dedent(section.group(1))
    for entry in re.split(r"\n(?=\S)", body.strip("\n")):
        match = re.match(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)", entry, re.DOTALL)
        if match:
            yield match.group(1), " ".join(match.group(2).split())
