"""YOLO text labels out: `images/<split>/`, `labels/<split>/`, data.yaml at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from synthaug import rle
from synthaug.contracts import DatasetInfo, Encoded, File, Fragment
from synthaug.errors import ConfigError, Rejected
from synthaug.formats import naming
from synthaug.formats.loose import ImageFormat, LooseWriter, outside
from synthaug.formats.paths import IMAGES, KEPT_APART
from synthaug.formats.shapes import join, mask_iou, outlines
from synthaug.formats.yolo import rows
from synthaug.labels import Category, Instance, Labels, Size
from synthaug.sample import Sample


class YoloWriter(LooseWriter):
    """Writes what ultralytics reads. Background images get an empty file. What a task cannot say is counted.

    Class numbers count from 0 in the order of the dataset's classes. A mask of several parts, or with
    holes, becomes one polygon with seams; its loss is measured. Poses are written with three numbers a
    keypoint. data.yaml names no `path`, so the folder may be moved. It names the splits that are there and no
    other: ultralytics refuses a data.yaml without `val`, and scores on pictures that were trained on are worth
    less than that refusal. A comment in the file says what to do.

    Args:
        task: Boxes (`detect`), polygons (`segment`; instances need masks) or keypoints (`pose`; every class
            must have the same number of them).
        ignored: The format has no ignore flag: `drop` such instances, as ultralytics' own converters do, or
            `keep` them as ordinary ones.
        min_iou: A polygon must give back its mask at least this well, 0..1; else the sample is rejected.
        image: `auto` writes an untouched picture's own bytes and PNG otherwise; `png`; `jpeg`.
        quality: Of JPEG, 1..100; colour is never subsampled.
        min_psnr: A JPEG must decode to the picture at least this well, dB; else the sample is rejected.
        passes: Label passes to store beside the images; None stores none.
        val_is_train: Where there is no `val` split, let data.yaml's `val` name the pictures that are trained
            on, and likewise `train`; a comment in the file says that scores are no validation then.
    """

    def __init__(
        self,
        *,
        task: rows.Task = "detect",
        ignored: Literal["drop", "keep"] = "drop",
        min_iou: float = 0.9,
        image: ImageFormat = "auto",
        quality: int = 95,
        min_psnr: float = 28.0,
        passes: Sequence[str] | None = None,
        val_is_train: bool = False,
    ) -> None:
        super().__init__(image=image, quality=quality, min_psnr=min_psnr, passes=passes or ())
        naming.one_of("task", task, ("detect", "segment", "pose"))
        naming.one_of("ignored", ignored, ("drop", "keep"))
        if not 0.0 <= min_iou <= 1.0:
            raise ConfigError(f"min_iou={min_iou}: expected 0 to 1")
        self.task: rows.Task = task
        self.ignored: Literal["drop", "keep"] = ignored
        self.min_iou = min_iou
        self.val_is_train = val_is_train

    def open(self, dataset: DatasetInfo) -> None:
        super().open(dataset)
        counts = {len(category.keypoints) for category in dataset.categories}
        if self.task == "pose" and (len(counts) != 1 or 0 in counts):
            raise ConfigError(
                f"task=pose: YOLO has one kpt_shape for all classes, these have {sorted(counts)} keypoints; choose "
                "task=detect, or map the classes"
            )
        if self.task == "pose" and len({_mirror(category) for category in dataset.categories}) != 1:
            raise ConfigError("task=pose: YOLO has one flip_idx for all classes, these differ; choose task=detect")

    def reader(self) -> Mapping[str, Any]:
        return {"_target_": "synthaug.formats.yolo.reader.YoloReader", "task": self.task}

    def encode(self, sample: Sample) -> Encoded:
        stem = "/".join(KEPT_APART if part == IMAGES else part for part in sample.id.split("/"))
        picture = self.picture(sample.image, f"images/{sample.split}/{stem}")
        size = sample.labels.size
        kept = [i for i in sample.labels.instances if not i.ignore or self.ignored == "keep"]
        lines: list[str] = []
        losses: list[float] = []
        for instance in kept:
            values, iou = self._values(instance, sample.labels)
            lines.append(rows.line_text(instance.class_id - 1, values))
            losses.append(round(1.0 - iou, 6))
        data = "".join(lines).encode("ascii")
        self._verify(data, kept, size)
        files = (picture, File(f"labels/{sample.split}/{stem}.txt", data), *self.sidecars(sample)[0])
        row = {
            "split": sample.split, "image": picture.name, "labels": len(kept), "worst_loss": max(losses, default=0.0),
        }  # fmt: skip
        return Encoded(sample.id, files, row=row, left_out=self._left_out(sample, kept))

    def _left_out(self, sample: Sample, kept: Sequence[Instance]) -> dict[str, int]:
        """What the sample says and a line of this task cannot."""
        labels = sample.labels
        in_pass = "instance" in labels.passes
        posed = self.task == "pose"
        return {
            "ignored instances": len(labels.instances) - len(kept),
            "masks": 0 if self.task == "segment" else sum(in_pass or i.mask is not None for i in kept),
            "keypoints": 0 if posed else sum(bool(state) for i in kept for _, _, state in i.keypoints),
            "keypoints off the canvas": sum(outside(i.keypoints, labels.size) for i in kept) if posed else 0,
            "object poses": sum(i.pose is not None for i in kept),
            "cameras": int(labels.camera is not None),
            "label passes": self.passes_left_out(sample),
        }

    def finalise(self, fragments: Iterable[Fragment]) -> Sequence[File]:
        for _ in fragments:
            pass  # nothing but the plan decides what data.yaml says
        lines = self._split_lines()
        if self.task == "pose":
            category = self.dataset.categories[0]
            lines.append(f"kpt_shape: [{len(category.keypoints)}, 3]")
            lines.append(f"flip_idx: {list(_mirror(category))}")
            lines.append(f"kpt_names: {{0: [{', '.join(map(_quoted, category.keypoints))}]}}")
        lines.append("names:")
        lines += [f"  {place}: {_quoted(category.name)}" for place, category in enumerate(self.dataset.categories)]
        return (File("data.yaml", ("\n".join(lines) + "\n").encode("utf-8")),)

    def _split_lines(self) -> list[str]:
        """The folders of the splits; a key that ultralytics wants and that has no pictures is said to be missing."""
        folders = {split: f"images/{split}" for split in self.dataset.splits}
        lines: list[str] = []
        for key, other in (("train", "val"), ("val", "train")):
            if key in folders or not folders:
                lines.append(f"{key}: {_quoted(folders.get(key, f'images/{key}'))}")
            elif self.val_is_train:
                lines.append(
                    f"# There is no {key} split: the same pictures stand in for it, so scores validate nothing."
                )
                lines.append(f"{key}: {_quoted(folders.get(other, next(iter(folders.values()))))}")
            else:
                lines.append(
                    f"# There is no {key} split, and ultralytics wants one. Name other pictures here, or write"
                )
                lines.append("# the dataset again with split={train:0.9,val:0.1}, or with write.val_is_train=true.")
        others = [split for split in folders if split not in ("train", "val")]
        return lines + [f"{_quoted(split)}: {_quoted(folders[split])}" for split in others]

    def _values(self, instance: Instance, labels: Labels) -> tuple[list[float], float]:
        """The numbers of a line, and how well they give back the mask."""
        height, width = labels.size
        if self.task == "segment":
            return self._polygon(instance, labels)
        values = rows.box_values(instance.box, labels.size)
        if self.task == "pose":
            points = instance.keypoints or ((0.0, 0.0, 0),) * len(labels.category(instance).keypoints)
            for x, y, state in points:
                inside = state and 0.0 <= x <= width and 0.0 <= y <= height
                values += [x / width, y / height, state] if inside else [0.0, 0.0, 0]
        return values, 1.0

    def _polygon(self, instance: Instance, labels: Labels) -> tuple[list[float], float]:
        height, width = labels.size
        mask = labels.mask(instance)
        if mask is None:
            raise Rejected("label", f"instance {instance.id} has no mask, which task=segment needs; use task=detect")
        ring = join(outlines(mask))
        iou = mask_iou(mask, rle.decode(rle.from_polygons([ring.reshape(-1).astype(float).tolist()], labels.size)))
        if iou < self.min_iou:
            raise Rejected(
                "label", f"instance {instance.id}: its polygon gives back {iou:.3f} IoU, min_iou={self.min_iou}"
            )
        return (ring / np.array([width, height])).reshape(-1).tolist(), iou

    def _verify(self, data: bytes, kept: Sequence[Instance], size: Size) -> None:
        """Reads the lines back and compares classes and boxes within a thousandth of a pixel."""
        read = rows.parse(data, "written label")
        if [line.index + 1 for line in read] != [instance.class_id for instance in kept]:
            raise Rejected("encode", "classes read back differ from those written")
        for line, instance in zip(read, kept, strict=True):
            if self.task == "segment":
                box = rle.box(rows.mask_of(line, size, clip=False))
                slack = 1.0 + (1.0 - self.min_iou) * max(size)
            else:
                box, slack = rows.box_of(line, size, clip=False), 1e-3
            if max(abs(a - b) for a, b in zip(box, instance.box, strict=True)) > slack:
                raise Rejected("encode", f"instance {instance.id}: box {box} read back, {instance.box} written")


def _mirror(category: Category) -> tuple[int, ...]:
    """Partners under a mirror, spelt out."""
    return category.mirror or tuple(range(len(category.keypoints)))


def _quoted(text: str) -> str:
    """A YAML scalar that is text whatever it holds."""
    return json.dumps(text, ensure_ascii=False)
