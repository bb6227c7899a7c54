"""Words from what is true of a picture: templates, lists, phrases; the same draw gives the same prompt."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from synthaug.errors import ConfigError, InputError, nearest, printable
from synthaug.formats.inputs import InputRoot
from synthaug.labels import Labels
from synthaug.refine.protect import word

_LONGEST_FILE = 16 << 20
_OWN = ("classes", "count")


@dataclass(frozen=True, slots=True)
class Choices:
    """Texts of which one is drawn.

    Attributes:
        texts: One or more.
        weights: As many, each above 0.
    """

    texts: tuple[str, ...]
    weights: tuple[float, ...]

    def at(self, share: float) -> str:
        """The text at a place in [0, 1) of the weights laid end to end."""
        ends = np.cumsum(self.weights)
        return self.texts[min(int(np.searchsorted(ends, share * ends[-1], side="right")), len(self.texts) - 1)]

    @staticmethod
    def parse(where: str, given: object) -> Choices:
        """From configuration: one text, a list of them, a mapping from text to weight, or `@FILE`.

        A file has one text per line, in UTF-8, with a weight and a tab before it where it is not 1; blank lines
        and lines that begin with `#` are left out.

        Raises:
            ConfigError: Something else, nothing at all, or a weight that is not above 0.
            InputError, SecurityError, Rejected: A file that cannot be read, as `InputRoot.read`.
        """
        if isinstance(given, str):
            rows = _file(where, given[1:]) if given.startswith("@") else [(given, 1.0)]
        elif isinstance(given, Mapping):
            rows = [(text, weight) for text, weight in cast("Mapping[Any, Any]", given).items()]
        elif isinstance(given, Sequence):
            rows = [(text, 1.0) for text in cast("Sequence[Any]", given)]
        else:
            rows = []
        if not rows:
            raise ConfigError(f"{where}={given}: expected a text, a list, a mapping from text to weight, or @FILE")
        for text, weight in rows:
            good = isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < weight < float("inf")
            if not isinstance(text, str) or not good:
                raise ConfigError(f"{where}: {printable(str(text))!r} with weight {weight}: expected text, above 0")
        return Choices(tuple(str(text) for text, _ in rows), tuple(float(weight) for _, weight in rows))


@dataclass(frozen=True, slots=True)
class Drawn:
    """The exact words for one picture; JSON, for its draw and so for its trail."""

    prompt: str
    negative: str


@dataclass(frozen=True, slots=True)
class Prompts:
    """Templates, and what may stand in them.

    `{classes}`: the classes in the picture, most area first, each by its phrase; `{count}`: how many instances;
    the name of a list in `words`: a text drawn from it; the name of an attribute in `attributes`: the picture's
    value, or else the one that most instances have. `{{` and `}}` stand for braces.

    Attributes:
        templates: One is drawn for each sample.
        negative: One is drawn likewise; what goes into `{...}` is the same in both.
        words: Lists by placeholder.
        attributes: What to say where a picture has no such attribute, by name of the attribute.
        phrases: What to say for a class; its own name where it is not listed, nothing for an empty text.
        most_classes: Classes named at most, from 1.
        nothing: What `{classes}` says of a picture without any.
    """

    templates: Choices = Choices(("",), (1.0,))
    negative: Choices = Choices(("",), (1.0,))
    words: Mapping[str, Choices] = field(default_factory=dict[str, Choices])
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    phrases: Mapping[str, Choices] = field(default_factory=dict[str, Choices])
    most_classes: int = 6
    nothing: str = "nothing"

    def __post_init__(self) -> None:
        for name in (*self.words, *self.attributes):
            both = name in self.words and name in self.attributes
            if not name.isidentifier() or name in _OWN or both:
                raise ConfigError(f"'{{{name}}}' cannot be a placeholder: expected a word of its own, not {_OWN}")
        if self.most_classes < 1:
            raise ConfigError(f"most_classes={self.most_classes}: expected 1 or more")
        known = (*_OWN, *self.words, *self.attributes)
        for text in (*self.templates.texts, *self.negative.texts):
            for _, name in _pieces(text):
                if name is not None and name not in known:
                    raise ConfigError(
                        f"prompt '{printable(text)}': unknown placeholder {{{printable(name)}}}.{nearest(name, known)}"
                    )

    @staticmethod
    def parse(
        prompt: object,
        negative: object = "",
        *,
        words: Mapping[str, object] | None = None,
        attributes: Mapping[str, object] | None = None,
        phrases: Mapping[str, object] | None = None,
        most_classes: int = 6,
    ) -> Prompts:
        """From configuration; texts as `Choices.parse` reads them. Raises `ConfigError` as it does."""
        return Prompts(
            Choices.parse("prompt", prompt),
            Choices.parse("negative_prompt", negative),
            {name: Choices.parse(f"words.{name}", given) for name, given in (words or {}).items()},
            {name: word(given) for name, given in (attributes or {}).items()},
            {name: Choices.parse(f"phrases.{name}", given) for name, given in (phrases or {}).items()},
            most_classes,
        )

    def check(self, known: Sequence[str]) -> None:
        """Holds the phrases against the dataset's class names. Raises `ConfigError` with the nearest one."""
        for name in self.phrases:
            if name not in known:
                raise ConfigError(f"phrases: the dataset has no class '{name}'.{nearest(name, known)}")

    @property
    def negates(self) -> bool:
        """Whether any negative prompt says something."""
        return any(self.negative.texts)

    @property
    def knobs(self) -> tuple[str, ...]:
        """Which of `models.families.KNOBS` are asked for."""
        found = {"prompt": any(self.templates.texts), "negative_prompt": self.negates}
        return tuple(name for name, asked in found.items() if asked)

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that can come into a prompt, for or against."""
        lists = (self.templates, self.negative, *self.words.values(), *self.phrases.values())
        return tuple(text for choices in lists for text in choices.texts)

    def identity(self) -> dict[str, Any]:
        """All texts as they were read, JSON: what stood in files belongs to the identity of a run."""
        lists = {f"words.{k}": v for k, v in self.words.items()} | {f"phrases.{k}": v for k, v in self.phrases.items()}
        rows = {"prompt": self.templates, "negative_prompt": self.negative, **lists}
        return {name: [[t, w] for t, w in zip(c.texts, c.weights, strict=True)] for name, c in rows.items()}

    def draw(self, rng: np.random.Generator, labels: Labels) -> Drawn:
        """The words for one sample.

        Numbers are drawn for every template, list and phrase there is, used or not, so that rewording one
        template leaves all else as it was.

        Args:
            rng: The draw's own.
            labels: Of the sample; boxes and classes are enough, the `semantic` pass adds classes without instances.
        """
        template, negative = self.templates.at(rng.random()), self.negative.at(rng.random())
        values = {name: self.words[name].at(rng.random()) for name in sorted(self.words)}
        phrases = {name: self.phrases[name].at(rng.random()) for name in sorted(self.phrases)}
        for name, otherwise in self.attributes.items():
            values[name] = _attribute(name, labels, otherwise)
        values["count"] = str(sum(not instance.ignore for instance in labels.instances))
        said = [phrases.get(name, name) for name in classes_of(labels)]
        values["classes"] = _listed([text for text in said if text][: self.most_classes]) or self.nothing
        return Drawn(_filled(template, values), _filled(negative, values))


def classes_of(labels: Labels) -> list[str]:
    """Names of the classes in a picture, most area first: of the `semantic` pass, else of the boxes."""
    area = Counter[int]()
    for instance in labels.instances:
        if not instance.ignore:
            x0, y0, x1, y1 = instance.box
            area[instance.class_id] += max(round((x1 - x0) * (y1 - y0)), 1)
    if "semantic" in labels.passes:
        counted = np.bincount(labels.passes["semantic"].reshape(-1), minlength=1)
        area.update({c: int(n) for c, n in enumerate(counted) if c and n and c not in area})
    return [labels.categories[c - 1].name for c, _ in sorted(area.items(), key=lambda row: (-row[1], row[0]))]


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """Text and the name of the placeholder after it; no formats, conversions, attributes or indices."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"prompt '{printable(template)}': {error}; write {{{{ and }}}} for braces") from error
    for _, name, form, conversion in parsed:
        if name is not None and (form or conversion or not name.isidentifier()):
            raise ConfigError(f"prompt '{printable(template)}': '{{{printable(name)}}}' is no plain placeholder")
    return [(text, name) for text, name, _, _ in parsed]


def _filled(template: str, values: Mapping[str, str]) -> str:
    return "".join(text + ("" if name is None else values[name]) for text, name in _pieces(template))


def _listed(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def _attribute(name: str, labels: Labels, otherwise: str) -> str:
    if name in labels.attributes:
        return word(labels.attributes[name])
    votes = Counter(word(i.attributes[name]) for i in labels.instances if name in i.attributes and not i.ignore)
    return min(votes.items(), key=lambda row: (-row[1], row[0]))[0] if votes else otherwise


def _file(where: str, path: str) -> list[tuple[str, float]]:
    place = Path(path)
    try:
        text = InputRoot(place.parent).read(place.name, _LONGEST_FILE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: {printable(path)} is not UTF-8: {error}") from error
    rows: list[tuple[str, float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        head, tab, rest = line.partition("\t")
        if not line.strip() or line.startswith("#"):
            continue
        try:
            rows.append((rest.strip(), float(head)) if tab else (line.strip(), 1.0))
        except ValueError as error:
            raise InputError(f"{where}: {printable(path)}:{number}: '{printable(head)}' is no weight") from error
    return rows
