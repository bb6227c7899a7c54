"""COCO out: exact masks, ids from 1, and beside it what COCO cannot hold.

    images/<id>.png|jpg                 the pictures; `file_name` is relative to `images/`
    <pass>/<id>.png|npy                 label passes, named in `synthaug.passes` of the image row
    annotations/instances_<split>.json  one per split, written last

Image and annotation ids count from 1 in plan order (an annotation id of 0 reads as "not matched" in
COCOeval). `iscrowd` is 1 for ignored instances and for nothing else, because that is what evaluation and
training do with it; a key `ignore` is never written, because Detectron2 fails on it. What is ours
stands under `synthaug`: ids, camera, attributes, poses, visibility.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np

from synthaug import rle
from synthaug.contracts import Encoded, File, Fragment
from synthaug.errors import ConfigError, Rejected
from synthaug.formats import facts, naming, strictjson
from synthaug.formats.coco.painting import paint
from synthaug.formats.coco.reader import HALF_PIXEL
from synthaug.formats.facts import Json
from synthaug.formats.loose import DepthFormat, ImageFormat, LooseWriter, outside
from synthaug.formats.shapes import mask_iou, outlines
from synthaug.labels import Category, Instance, Labels
from synthaug.sample import Sample


class CocoWriter(LooseWriter):
    """Writes COCO instances and keypoints. `area` is the mask's pixels and `bbox` its tight box.

    Args:
        masks: `rle` is exact. `polygons` walk the edges of the pixels, holes joined by seams; how well each
            gives back its mask under COCO's own rasteriser is measured and stored as `polygon_iou`.
        min_iou: Under `polygons`, below this the sample is rejected, 0..1.
        half_pixel: Write keypoints as pixel indices (Detectron2's rule), 0.5 px less; read them back with
            the same setting.
        image: `auto` writes an untouched picture's own bytes and PNG otherwise; `png`; `jpeg`.
        quality: Of JPEG, 1..100; colour is never subsampled.
        min_psnr: A JPEG must decode to the picture at least this well, dB; else the sample is rejected.
        passes: Label passes to store beside the images; None stores all.
        depth: `npy` is exact; `png16` takes a tenth of the space and rounds to whole millimetres, up to 65.535 m.
    """

    def __init__(
        self,
        *,
        masks: Literal["rle", "polygons"] = "rle",
        min_iou: float = 0.95,
        half_pixel: bool = False,
        image: ImageFormat = "auto",
        quality: int = 95,
        min_psnr: float = 28.0,
        passes: Sequence[str] | None = None,
        depth: DepthFormat = "npy",
    ) -> None:
        super().__init__(image=image, quality=quality, min_psnr=min_psnr, passes=passes, depth=depth)
        naming.one_of("masks", masks, ("rle", "polygons"))
        if not 0.0 <= min_iou <= 1.0:
            raise ConfigError(f"min_iou={min_iou}: expected 0 to 1")
        self.masks: Literal["rle", "polygons"] = masks
        self.min_iou = min_iou
        self.half_pixel = half_pixel

    def reader(self) -> Mapping[str, Any]:
        return {"_target_": "synthaug.formats.coco.reader.CocoReader", "half_pixel": self.half_pixel}

    def encode(self, sample: Sample) -> Encoded:
        picture = self.picture(sample.image, f"images/{sample.id}")
        sidecars, paths = self.sidecars(sample)
        labels = sample.labels
        height, width = labels.size
        own = facts.sample_to(sample) | ({"passes": paths} if paths else {})
        image = {
            "file_name": picture.name.removeprefix("images/"), "height": height, "width": width, "synthaug": own,
        }  # fmt: skip
        found = _masks(labels)
        annotations = [self._annotation(instance, labels, found.get(instance.id)) for instance in labels.instances]
        row = {"split": sample.split, "image": image, "annotations": annotations}
        off_canvas = sum(outside(instance.keypoints, labels.size) for instance in labels.instances)
        left_out = {"keypoints off the canvas": off_canvas, "label passes": self.passes_left_out(sample)}
        return Encoded(sample.id, (picture, *sidecars), row=row, left_out=left_out)

    def finalise(self, fragments: Iterable[Fragment]) -> Sequence[File]:
        documents = {split: self._document() for split in self.dataset.splits}
        for fragment in fragments:
            for row in fragment.rows:
                document = documents.setdefault(str(row["split"]), self._document())
                image_id = len(document["images"]) + 1
                document["images"].append({"id": image_id, **row["image"]})
                for annotation in row["annotations"]:
                    number = len(document["annotations"]) + 1
                    document["annotations"].append({"id": number, "image_id": image_id, **annotation})
        return tuple(
            File(f"annotations/instances_{split}.json", strictjson.dumps(document))
            for split, document in sorted(documents.items())
        )

    def _document(self) -> dict[str, Any]:
        """A split without rows. Nothing in it depends on the clock."""
        card = dict(self.dataset.card)
        licences: Any = card.get("licences", card.get("licenses", ()))
        named = [licences] if isinstance(licences, str) else list(licences)
        return {
            "info": {
                "description": "written by synthaug",
                "version": str(card.get("version", card.get("synthaug", ""))),
                "synthaug": card,
            },
            "licenses": [{"id": k, "name": str(name), "url": ""} for k, name in enumerate(named, start=1)],
            "categories": [_category(k, c) for k, c in enumerate(self.dataset.categories, start=1)],
            "images": [],
            "annotations": [],
        }

    def _annotation(self, instance: Instance, labels: Labels, found: rle.Found | None) -> Json:
        own = facts.instance_to(instance)
        box = instance.box if found is None else found.box
        x0, y0, x1, y1 = (float(v) for v in box)
        segmentation: Any = []
        if found is not None:
            own |= {"in_pass": True} if instance.mask is None else {}
            segmentation, iou = self._segmentation(instance, found)
            own |= {} if iou is None else {"polygon_iou": round(iou, 6)}
        annotation: Json = {
            "category_id": instance.class_id,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": float((x1 - x0) * (y1 - y0)) if found is None else found.area,
            "segmentation": segmentation,
            "iscrowd": int(instance.ignore),
            "synthaug": own,
        }
        if labels.category(instance).keypoints:
            annotation |= self._keypoints(instance, labels)
        return annotation

    def _segmentation(self, instance: Instance, found: rle.Found) -> tuple[Any, float | None]:
        """The mask in COCO's words, and how well a polygon gives it back."""
        if self.masks == "rle":
            return {"size": list(found.rle.size), "counts": found.rle.counts.decode("ascii")}, None
        mask = rle.decode(found.rle)
        polygons = [ring.reshape(-1).tolist() for ring in outlines(mask)]
        iou = mask_iou(mask, rle.decode(rle.from_polygons(polygons, found.rle.size)))
        if iou < self.min_iou:
            raise Rejected(
                "label",
                f"instance {instance.id}: its polygons give back {iou:.3f} IoU of the mask, min_iou={self.min_iou}; "
                "write masks=rle",
            )
        return polygons, iou

    def _keypoints(self, instance: Instance, labels: Labels) -> Json:
        """Triplets; a point outside the canvas is absent, as the format wants it."""
        height, width = labels.size
        shift = HALF_PIXEL if self.half_pixel else 0.0
        points = instance.keypoints or ((0.0, 0.0, 0),) * len(labels.category(instance).keypoints)
        flat: list[float] = []
        for x, y, state in points:
            inside = bool(state) and 0.0 <= x <= width and 0.0 <= y <= height
            flat += [x - shift, y - shift, state] if inside else [0, 0, 0]
        return {"keypoints": flat, "num_keypoints": sum(1 for state in flat[2::3] if state)}


def _masks(labels: Labels) -> dict[int, rle.Found]:
    """Mask, tight box and area of every instance that has one, checked against the id map."""
    own = {i.id: rle.Found(i.mask, rle.box(i.mask), rle.area(i.mask)) for i in labels.instances if i.mask is not None}
    shared = [i.id for i in labels.instances if i.mask is None]
    if "instance" not in labels.passes or not shared:
        return own
    ids = labels.passes["instance"]
    found = rle.find(ids, shared)
    _verify(found, ids)
    return own | found


def _verify(found: Mapping[int, rle.Found], ids: Any) -> None:
    """Paints the encoded masks into an id map again, in one pass whatever their number, and compares."""
    for number, item in found.items():
        if item.area == 0:
            raise Rejected("label", f"instance {number} has no pixel in the instance pass")
    painted = paint({number: item.rle for number, item in found.items()}, ids.shape)
    upright = cv2.transpose(ids)
    # Ids of instances with masks of their own may be left over; asking for them is the slow way.
    if not np.array_equal(painted, upright) and not np.array_equal(
        painted, np.where(np.isin(upright, list(found)), upright, 0)
    ):
        raise Rejected("encode", "masks read back differ from the instance pass")


def _category(number: int, category: Category) -> Json:
    row: Json = {"id": number, "name": category.name, "supercategory": "none"}
    if category.keypoints:
        row["keypoints"] = list(category.keypoints)
        row["skeleton"] = [[a + 1, b + 1] for a, b in category.skeleton]
        row["synthaug"] = {"mirror": list(category.mirror)}
    return row
