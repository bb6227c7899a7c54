"""Where loose datasets keep things: usual folder names, splits, pairs of image and label.

An id is the image's path inside its images folder without the suffix, escaped, behind the name of its
split's folder where the dataset has such folders. Two files that would share one id are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from synthaug.errors import ConfigError, InputError, first_of
from synthaug.formats.inputs import InputRoot
from synthaug.formats.paths import apart, natural_key, source_id
from synthaug.sample import escape_id

Dangling = Literal["refuse", "ignore"]

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".exr", ".npy"
)  # fmt: skip
UNREAD_SUFFIXES = (
    ".gif", ".avif", ".heic", ".heif", ".svg", ".jp2", ".jxl", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".psd", ".hdr",
    ".dng", ".cr2", ".nef", ".arw",
)  # fmt: skip
"""Pictures of kinds that are not read: they are planned and rejected as `format`, so that none is lost in silence."""
PICTURE_SUFFIXES = (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)
IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "img", "image", "rgb", "RGB", "frames", "color")
SPLITS: Mapping[str, str] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
"""Folder names of splits and the split that they mean."""

_SPLIT = "{split}"


@dataclass(frozen=True, slots=True)
class Part:
    """One folder of images and the folder of its labels.

    Attributes:
        split: `train`, `val`, `test`, or the folder's own word.
        prefix: First component of the ids: the split's folder as spelt, empty without such a folder.
        images: Folder below the root.
        labels: Folder below the root; the images' own where none stands beside it.
    """

    split: str
    prefix: str
    images: str
    labels: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One image and its label file, None where it has none.

    Attributes:
        split: Its part's, or what a list says.
        twins: Pictures of its stem that are of kinds that are not read.
    """

    id: str
    image: str
    label: str | None
    part: Part
    split: str
    twins: int = 0


def find_parts(
    root: InputRoot,
    *,
    images: str | None,
    labels: str | None,
    split: str | None,
    label_folders: Sequence[str],
    suffixes: tuple[str, ...],
) -> tuple[Part, ...]:
    """The folders of a dataset, one part per split where the splits have folders.

    Args:
        root: The dataset.
        images: Folder of the images, `{split}` in it standing for every split; None looks for usual names.
        labels: Folder of the labels, likewise.
        split: Only this one; None takes all.
        label_folders: Usual names of label folders of the format, by preference.
        suffixes: Of label files; the first usual folder that holds such files is taken.

    Raises:
        InputError: A folder that was named is missing, or none is found.
    """
    templates = [images.strip("/")] if images is not None else _usual_images()
    for template in templates:
        words = _words(root, template, split, suffixes, guessed=images is None)
        if words:
            return tuple(_part(root, template, word, labels, label_folders, suffixes) for word in words)
    if images is not None:
        raise InputError(f"no folder '{images}'{_of(split)} below {root.root}; correct read.images or read.split")
    raise InputError(
        f"no images{_of(split)} below {root.root}: looked for {', '.join(IMAGE_FOLDERS)}, alone and with the folders "
        f"{', '.join(SPLITS)}; name the folder with read.images=..."
    )


def find_pairs(
    root: InputRoot, part: Part, *, suffixes: tuple[str, ...], dangling: Dangling, not_labels: Collection[str] = (),
    files: Collection[str] = (), parts: Sequence[Part] = (),
) -> list[Pair]:  # fmt: skip
    """Images of a part in natural order, each with the label file of its stem.

    Args:
        root: The dataset.
        part: Its folders.
        suffixes: Of label files; empty pairs nothing.
        dangling: What to do with label files without an image.
        not_labels: Names of files that are no labels (`classes.txt`) unless an image has their stem.
        files: Paths of files that are no labels in any case.
        parts: All parts; what lies in another one below this one is that one's.

    Raises:
        InputError: Two images or labels of one stem (E2), or dangling labels (E3), with the first 20.
    """
    pictures = apart(root.listing(part.images, suffixes=PICTURE_SUFFIXES), part.images, [p.images for p in parts])
    images = by_stem((path for path in pictures if is_read(path)), part.images)
    unread = [path for path in pictures if not is_read(path)]
    twins = Counter(stem for path in unread if (stem := _inside(path, part.images)) in images)
    images |= by_stem((path for path in unread if _inside(path, part.images) not in images), part.images)
    found = root.listing(part.labels, suffixes=suffixes) if suffixes else ()
    listed = [p for p in apart(found, part.labels, [p.labels for p in parts]) if p not in files]
    # A picture may be called `train`, and then `train.txt` is its label and no list.
    named = (p for p in listed if p.rpartition("/")[2] not in not_labels or _inside(p, part.labels) in images)
    labels = by_stem(named, part.labels)
    orphans = [path for stem, path in labels.items() if stem not in images]
    if orphans and dangling == "refuse":
        raise InputError(
            f"{len(orphans)} of {len(labels)} label files in {part.labels or '.'} have no image in "
            f"{part.images or '.'}; add the images, remove the files, or read with dangling=ignore:{first_of(orphans)}"
        )
    return [
        Pair(sample_id(part.prefix, stem), path, labels.get(stem), part, part.split, twins[stem])
        for stem, path in sorted(images.items(), key=lambda item: natural_key(item[1]))
    ]


def is_read(path: str) -> bool:
    """Whether a picture file is of a kind that is read, by its suffix."""
    return not path.lower().endswith(UNREAD_SUFFIXES)


def by_stem(paths: Any, folder: str) -> dict[str, str]:
    """Paths by their path inside `folder` without the suffix.

    Raises:
        InputError: Several files share one stem (E2).
    """
    found: dict[str, str] = {}
    twice: list[str] = []
    for path in paths:
        stem = _inside(path, folder)
        if stem in found:
            twice.append(f"{found[stem]} and {path}")
        found.setdefault(stem, path)
    if twice:
        raise InputError(f"{len(twice)} files share the stem of another one; keep one of each:{first_of(twice)}")
    return found


def sample_id(prefix: str, stem: str) -> str:
    """The id of an image: `prefix` is the split's folder or empty, `stem` its path without suffix.

    A stem that begins with the prefix was written from such an id, and does not get it once more.
    """
    return source_id(f"{prefix}/{stem}" if prefix and not stem.startswith(f"{prefix}/") else stem)


def by_id(pairs: Sequence[Pair]) -> dict[str, Pair]:
    """Pairs by id. Where two names would share one (`a b` and `a~20b`), both are escaped once more.

    Raises:
        InputError: They share one even then (E2).
    """
    counts = Counter(pair.id for pair in pairs)
    found: dict[str, Pair] = {}
    twice: list[str] = []
    for pair in pairs:
        if counts[pair.id] > 1:
            inside = _inside(pair.image, pair.part.images)
            pair = replace(pair, id=escape_id(f"{pair.part.prefix}/{inside}" if pair.part.prefix else inside))
        if found.setdefault(pair.id, pair) is not pair:
            twice.append(f"{found[pair.id].image} and {pair.image}")
    if twice:
        raise InputError(f"{len(twice)} images have the id of another one; rename one of each:{first_of(twice)}")
    return found


def stem_of(path: str) -> str:
    """A path without the suffix of its last component; dots elsewhere are kept (F5)."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def canonical_split(word: str) -> str:
    """`train`, `val` or `test` for the usual spellings, else the word itself."""
    return SPLITS.get(word.lower(), word)


def one_of(name: str, value: str, choices: Collection[str]) -> None:
    """Refuses a field whose value is none of its choices, naming the field, the value and the choices."""
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(sorted(choices))}")


def _inside(path: str, folder: str) -> str:
    """A path's stem inside a folder."""
    return stem_of(path[len(folder) :].lstrip("/") if folder else path)


def _usual_images() -> list[str]:
    nested = [form for name in IMAGE_FOLDERS for form in (f"{name}/{{split}}", f"{{split}}/{name}", name)]
    return [*nested, _SPLIT, ""]


def _words(root: InputRoot, template: str, split: str | None, suffixes: tuple[str, ...], *, guessed: bool) -> list[str]:
    """The split folders that a template finds; an empty word for a template without a split."""
    if _SPLIT not in template:
        usable = (split is None or not guessed) and root.is_folder(template)
        return [""] if usable and (template or root.listing("", suffixes=PICTURE_SUFFIXES)) else []
    spellings = [split, *(w for w in SPLITS if w != split and SPLITS[w] == canonical_split(split))] if split else SPLITS
    words = [word for word in spellings if root.is_folder(template.replace(_SPLIT, word))]
    if split is not None:
        return words[:1]
    return _all_words(root, template, words, suffixes, guessed=guessed) if words or not guessed else []


def _all_words(
    root: InputRoot, template: str, words: list[str], suffixes: tuple[str, ...], *, guessed: bool
) -> list[str]:
    """The known words and the other folders beside them that hold images, so that no image is lost.

    Raises:
        InputError: Images lie between the folders of two splits or more, where they belong to none of them.
    """
    parent, _, tail = (part.strip("/") for part in template.partition(_SPLIT))
    if not root.is_folder(parent):
        return []
    found = [path[len(parent) :].lstrip("/") for path in root.listing(parent, suffixes=PICTURE_SUFFIXES)]
    if not parent and not tail:
        # In the root itself anything may lie: an image shows by its label file that it is one of the set.
        labels = {stem_of(path) for path in root.listing("", suffixes=suffixes)} if suffixes else set[str]()
        found = [path for path in found if stem_of(path) in labels]
    start = f"{tail}/" if tail else ""
    others = dict.fromkeys(
        w for w, _, rest in (path.partition("/") for path in found) if rest and rest.startswith(start)
    )
    strangers = [word for word in others if word not in words]
    loose = [f"{parent}/{path}".lstrip("/") for path in found if "/" not in path and not tail]
    if not guessed or tail:
        return words + strangers
    if len({SPLITS[word] for word in words}) < 2:
        return [] if loose or strangers else words  # one folder called `train` among others may be anything
    if loose:
        raise InputError(
            f"{len(loose)} images lie beside the folders {', '.join(words)} and in no split; move them, or leave them "
            f"out with read.images='{template}':{first_of(loose)}"
        )
    return words + strangers


def _part(
    root: InputRoot,
    template: str,
    word: str,
    labels: str | None,
    label_folders: Sequence[str],
    suffixes: tuple[str, ...],
) -> Part:
    images = template.replace(_SPLIT, word)
    split = source_id(canonical_split(word)) if word else "train"
    if labels is not None:
        folder = labels.strip("/").replace(_SPLIT, word)
        if not root.is_folder(folder):
            raise InputError(f"no folder '{folder}' below {root.root}; correct read.labels")
        return Part(split, word, images, folder)
    components = template.split("/")
    place = next((k for k, component in enumerate(components) if component != _SPLIT), 0)
    beside = ("/".join([*components[:place], name, *components[place + 1 :]]) for name in label_folders)
    there = [folder for folder in (form.replace(_SPLIT, word) for form in beside) if root.is_folder(folder)]
    return Part(split, word, images, next((f for f in there if root.listing(f, suffixes=suffixes)), images))


def _of(split: str | None) -> str:
    return f" for split '{split}'" if split else ""
