"""Class names: where loose datasets write them down, how they are numbered, and what is none of them (E1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from synthaug.errors import ConfigError, InputError, first_of
from synthaug.formats import lists
from synthaug.formats.inputs import InputRoot

Unknown = Literal["refuse", "ignore"]

NAME_FILES = ("labels.txt", "names.txt", "classes.txt", "obj.names", "data.yaml", "data.yml", "dataset.yaml")

_YAML_LIMIT = 1 << 20


def names_file(root: InputRoot, names: str | None) -> str | None:
    """Path of the file with the class names: as told, else the first usual one that is there."""
    return names or next((name for name in NAME_FILES if root.exists(name)), None)


def load_names(root: InputRoot, names: str | None) -> tuple[str, ...]:
    """Class names in order, from `names` or the first usual file; empty where there is none.

    Raises:
        InputError: A file that cannot be read as class names.
    """
    if names is not None and not root.exists(names):
        raise InputError(f"no file '{names}' below {root.root}; read.names is a path below read.root")
    path = names_file(root, names)
    if path is None:
        return ()
    if path.endswith((".yaml", ".yml")):
        return yaml_names(load_yaml(root, path), path)
    lines = [line.strip() for line in lists.lines(root, path)]
    while lines and not lines[-1]:
        lines.pop()
    return checked_names(lines, path)


def yaml_names(document: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """`names` of a data.yaml, a list or a mapping from 0; empty where the file has none."""
    names: Any = document.get("names", [])
    if isinstance(names, Mapping):
        by_index: dict[Any, Any] = dict(names)  # pyright: ignore[reportUnknownArgumentType]
        if sorted(by_index, key=str) != sorted(range(len(by_index)), key=str):
            raise InputError(
                f"{path}: names must be numbered 0..{len(by_index) - 1}, found {sorted(map(str, by_index))}"
            )
        names = [by_index[index] for index in range(len(by_index))]
    if not isinstance(names, list):
        raise InputError(f"{path}: names is a {type(names).__name__}, expected a list or a mapping")
    return checked_names([str(name) for name in names], path)  # pyright: ignore[reportUnknownVariableType]


def checked_names(names: Sequence[str], source: str) -> tuple[str, ...]:
    """The names, after the check that each is there and none is there twice."""
    if "" in names:
        raise InputError(f"{source}: line {list(names).index('') + 1} is empty; one class a line, no gaps")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InputError(f"{source}: class names occur more than once:{first_of(twice)}")
    return tuple(names)


def load_yaml(root: InputRoot, path: str) -> Mapping[str, Any]:
    """A small YAML mapping: safe types only, at most 1 MiB, no aliases, no key twice.

    Raises:
        InputError: Anything else.
    """
    import yaml

    data = root.read(path)
    if len(data) > _YAML_LIMIT:
        raise InputError(f"{path}: {len(data)} bytes of YAML, at most {_YAML_LIMIT} are read")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, Loader=yaml.SafeLoader)):
            raise InputError(f"{path}: YAML aliases are not read; write the values out")
        _refuse_twins(yaml.compose(data, Loader=yaml.SafeLoader), path)
        document: Any = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: a mapping is expected, found {type(document).__name__}")
    return document  # pyright: ignore[reportUnknownVariableType]


def mirror_of(keypoints: Sequence[str]) -> tuple[int, ...]:
    """For each keypoint its partner under a mirror, by the words left and right; empty where none has one."""
    swapped = {"left": "right", "right": "left", "l": "r", "r": "l"}
    index = {name: place for place, name in enumerate(keypoints)}
    partners: list[int] = []
    for place, name in enumerate(keypoints):
        words = re.split(r"([^A-Za-z]+)", name)
        other = "".join(swapped.get(word.lower(), word) for word in words)
        partners.append(index.get(other, place))
    consistent = all(partners[partner] == place for place, partner in enumerate(partners))
    return tuple(partners) if consistent and partners != list(range(len(keypoints))) else ()


def number_classes(
    words: Sequence[str], renamed: Mapping[str, str], names: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, int], list[str]]:
    """Class ids for the words of a source.

    Args:
        words: As the source spells its classes, in its order.
        renamed: Class name by source word; several words may share a name.
        names: The classes in order; empty takes the words' own order.

    Returns:
        Names (id = index + 1), id by source word, and the words that none of `names` is.
    """
    wanted = [renamed.get(word, word) for word in words]
    table = tuple(names) or tuple(dict.fromkeys(wanted))
    index = {name: place + 1 for place, name in enumerate(table)}
    known = {word: index[name] for word, name in zip(words, wanted, strict=True) if name in index}
    return table, known, [word for word in words if word not in known]


def refuse_unknown(counts: Mapping[str, int], names: Sequence[str], policy: Unknown, where: str) -> None:
    """Refuses labels of classes that nobody declared (E1), or lets them pass where that was asked for.

    Raises:
        InputError: With counts by class.
    """
    if counts and policy == "refuse":
        rows = (f"{word}: {count} labels" for word, count in sorted(counts.items()))
        raise InputError(
            f"{where}: {sum(counts.values())} labels of {len(counts)} classes that are none of {', '.join(names)}; map "
            f"them with read.classes={{source: name}}, or leave them out with unknown=ignore:{first_of(rows)}"
        )


def text_map(name: str, value: Mapping[Any, Any] | None) -> dict[str, str]:
    """A configured mapping with every key and value as text."""
    try:
        return {str(key): str(item) for key, item in dict(value or {}).items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}={value!r}: expected a mapping from the source's word to a class name") from error


def _refuse_twins(node: Any, path: str) -> None:
    """Refuses a YAML key that occurs twice in one mapping: the parser would keep the last one silently."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise InputError(f"{path}: a key occurs twice in one mapping: {sorted(keys)}")
        for _, value in node.value:
            _refuse_twins(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twins(value, path)
