"""What is said of each photo: a prompt for all, or captions, or both in a template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from synthaug.errors import ConfigError, InputError, first_of, nearest, printable
from synthaug.formats.inputs import InputRoot
from synthaug.refine.prompts import Choices
from synthaug.train.photos import SUFFIXES, Photos

BESIDE = "beside"
"""Setting: each photo's caption stands in NAME.txt beside it."""
CAPTION = "{caption}"
_LONGEST = 64 << 10
_LONGEST_LIST = 64 << 20


@dataclass(frozen=True, slots=True)
class Words:
    """Prompts of photos.

    Attributes:
        templates: One is drawn for every crop; `{caption}` stands for the photo's own.
        captions: By photo, one mapping per folder; empty where there are none.
    """

    templates: Choices
    captions: tuple[Mapping[str, str], ...]

    def of(self, share: float, folder: int, name: str) -> str:
        """The prompt of one crop. `share` in [0, 1) says which template."""
        return self.templates.at(share).replace(CAPTION, self.captions[folder].get(name, ""))


def words_for(photos: Photos, prompt: object, captions: Sequence[str]) -> Words:
    """Reads all captions.

    Args:
        photos: Of the training.
        prompt: As `Choices.parse` takes it; empty stands for the caption, or without captions for "a photo".
        captions: Per folder or once for all: empty for none, `beside`, or a file with a photo's name, a tab and its
            caption on each line, in UTF-8.

    Raises:
        ConfigError: Photos without a caption, captions without a photo, or a template that does not fit.
        InputError: A file that is missing or not text.
    """
    each = list(captions) * len(photos.roots) if len(captions) == 1 else list(captions)
    said = any(each)
    if said and not all(each):
        raise ConfigError(f"captions={each}: expected captions for every folder, or for none")
    templates = Choices.parse("prompt", prompt or (CAPTION if said else "a photo"))
    for text in templates.texts:
        if set("{}") & set(text.replace(CAPTION, "")):
            raise ConfigError(f"prompt '{printable(text)}': unknown placeholder, expected {CAPTION} or none")
        if (CAPTION in text) != said:
            way = "there are none; set captions=" if not said else "it would be left out; write {caption} into it"
            raise ConfigError(f"prompt '{printable(text)}' and captions do not fit together: {way}")
    return Words(templates, tuple(_captions(photos, folder, where) for folder, where in enumerate(each)))


def _captions(photos: Photos, folder: int, where: str) -> dict[str, str]:
    names, root = photos.names[folder], photos.roots[folder]
    if not where:
        return {}
    found = _beside(root, names) if where == BESIDE else _listed(where, root)
    bare = [name for name in names if not found.get(name)]
    if bare:
        raise ConfigError(
            f"captions={where}: {len(bare)} of {len(names)} photos in {root.root} have none (or an empty one); write"
            f" them, or move those photos elsewhere:{first_of(bare)}"
        )
    return {name: found[name] for name in names}


def _beside(root: InputRoot, names: Sequence[str]) -> dict[str, str]:
    there = set(root.listing(suffixes=(".txt",)))
    found: dict[str, str] = {}
    for name in names:
        text = str(PurePosixPath(name).with_suffix(".txt"))
        if text in there:
            found[name] = " ".join(_decoded(root.read(text, _LONGEST), text).split())
    return found


def _listed(where: str, root: InputRoot) -> dict[str, str]:
    path = Path(where)
    if not path.is_file():
        raise InputError(
            f"captions={printable(where)}: no such file; expected `beside`, or a file of name, tab, caption"
        )
    text = _decoded(InputRoot(path.parent).read(path.name, _LONGEST_LIST), path.name)
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, tab, caption = line.partition("\t")
        if not line.strip() or line.startswith("#"):
            continue
        if not tab or name in found:
            fault = "twice" if tab else "expected a name, a tab and a caption"
            raise InputError(f"{printable(where)}:{number}: '{printable(name)}': {fault}")
        found[name] = caption.strip()
    listed = root.listing(suffixes=SUFFIXES)
    missing = sorted(set(found) - set(listed))
    if missing:
        raise ConfigError(
            f"captions={printable(where)}: {len(missing)} captions are for photos that are not in {root.root}"
            f"{first_of(missing)}\n{nearest(missing[0], listed).strip()[:200]}"
        )
    return found


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(name)} is not UTF-8: {error}") from error
