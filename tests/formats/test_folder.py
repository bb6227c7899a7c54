from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.formats import strays
from synthaug.formats.folder.reader import FolderReader
from synthaug.labels import Category
from tests.formats.sets import picture_file

COLOURS = {"background": [255, 0, 0], "people": [0, 255, 0], "hero": [0, 0, 255]}
CONF = Path(__file__).parents[2] / "conf" / "read" / "follow_me.yaml"


def array_file(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


def colour_mask(size: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros((*size, 3), np.uint8)
    mask[:] = COLOURS["background"]
    mask[5:15, 5:15] = COLOURS["people"]
    mask[5:15, 30:40] = COLOURS["people"]
    mask[20:30, 20:40] = COLOURS["hero"]
    return mask


def follow_me(root: Path) -> dict[str, Any]:
    """Arguments of the shipped configuration."""
    settings = yaml.safe_load(CONF.read_text())
    settings.pop("_target_")
    return settings | {"root": str(root), "background": tuple(settings["background"])}


def semantic(**more: Any) -> dict[str, Any]:
    return {"semantic": {"path": "masks/{stem}.png", "encoding": "colours", "colours": COLOURS} | more}


def one(root: Path, mask: np.ndarray | None = None, **settings: Any) -> FolderReader:
    picture_file(root / "images" / "a.png")
    array_file(root / "masks" / "a.png", colour_mask() if mask is None else mask)
    return FolderReader(root=str(root), **({"passes": semantic()} | settings))


# Declared folders


def test_follow_me_gives_400_pairs_in_two_splits_and_three_colours(data_root: Path) -> None:
    reader = FolderReader(**follow_me(data_root / "follow_me"))
    ids = reader.ids()
    assert len(ids) == 400
    assert reader.categories() == (Category("people"), Category("hero"))
    splits: Counter[str] = Counter()
    pixels: Counter[int] = Counter()
    told: list[Mapping[str, Any]] = []
    for name in ids:
        made = reader.read(name)
        splits[made.split] += 1
        told.append(strays.counts(made.trail))
        values, counts = np.unique(made.labels.passes["semantic"], return_counts=True)
        pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    assert splits == {"train": 300, "val": 100}
    # Counted by hand from the files: 400 pictures of 256x256 in exactly three colours.
    assert pixels == {0: 25758325, 1: 336639, 2: 119436}
    assert strays.total(told) == {
        "semantic": {"read": 400, "samples": 0, "count": 0, "near": 0, "values": {}, "other": 0}
    }
    assert strays.lines(strays.total(told)) == ["0 pixels of 'semantic' off its table in 0 of 400 samples"]
    assert FolderReader(**follow_me(data_root / "follow_me") | {"split": "validation"}).ids() == ids[300:]


def test_follow_me_reports_colours_off_the_table(tmp_path: Path) -> None:
    mask = colour_mask()
    mask[0, 0] = (250, 4, 0)  # off by a little
    mask[0, 1:3] = (128, 128, 128)  # off by far
    picture_file(tmp_path / "train/images/x_cam1_7.jpeg")
    array_file(tmp_path / "train/masks/x_mask_7.png", mask)
    (tmp_path / "validation").mkdir()
    reader = FolderReader(**follow_me(tmp_path))
    made = reader.read(reader.ids()[0])
    assert made.id == "train/x_cam1_7"
    assert strays.counts(made.trail) == {
        "semantic": {"read": 1, "samples": 1, "count": 2, "near": 1, "values": {"#808080": 2}, "other": 0}
    }
    assert made.labels.passes["ignore"].sum() == 2
    assert set(reader.describe(made.id).passes) == set(made.labels.passes) == {"semantic", "ignore"}


def test_d14_unknown_colours_reject_or_become_background_as_declared(tmp_path: Path) -> None:
    mask = colour_mask()
    mask[0, :3] = (128, 128, 128)
    with pytest.raises(Rejected, match=r"3 pixels are off the table[\s\S]*#808080 \(3 px\)"):
        one(tmp_path, mask).read("a")
    made = one(tmp_path, mask, passes=semantic(unknown="background")).read("a")
    assert (made.labels.passes["semantic"][0, :3] == 0).all()
    assert strays.counts(made.trail)["semantic"]["values"] == {"#808080": 3}


def test_components_make_instances_and_small_parts_none(tmp_path: Path) -> None:
    mask = colour_mask()
    mask[39, 59] = COLOURS["hero"]
    made = one(tmp_path, mask, instances="components", min_area=2).read("a")
    assert [(i.class_id, i.box) for i in made.labels.instances] == [
        (1, (5.0, 5.0, 15.0, 15.0)),
        (1, (30.0, 5.0, 40.0, 15.0)),
        (2, (20.0, 20.0, 40.0, 30.0)),
    ]
    assert made.labels.passes["semantic"][39, 59] == 2
    assert made.labels.passes["instance"][39, 59] == 0


def test_ids_classes_ignore_value_and_instances_by_majority(tmp_path: Path) -> None:
    raw = np.zeros((40, 60), np.uint8)
    raw[5:15, 5:15] = 11
    raw[20:30, 20:40] = 24
    raw[0] = 255
    ids = np.zeros((40, 60), np.uint16)
    ids[5:15, 5:16] = 700
    ids[20:30, 20:40] = 3
    array_file(tmp_path / "seg" / "a_seg.png", raw)
    array_file(tmp_path / "inst" / "a.png", ids)
    rule = {"path": "seg/{stem}_seg.png", "classes": {0: "background", 24: "lane", 11: "person"}, "ignore": [255]}
    passes = {"semantic": rule, "instance": {"path": "inst/{stem}.png"}}
    reader = one(tmp_path, passes=passes)
    made = reader.read("a")
    assert [c.name for c in reader.categories()] == ["lane", "person"]
    assert [(i.id, i.class_id, i.box) for i in made.labels.instances] == [
        (3, 1, (20.0, 20.0, 40.0, 30.0)),
        (700, 2, (5.0, 5.0, 16.0, 15.0)),
    ]
    assert made.labels.passes["ignore"][0].all()
    assert not made.labels.passes["ignore"][1:].any()
    assert set(reader.describe("a").passes) == set(made.labels.passes)


def test_instance_classes_from_a_json_and_colour_instances(tmp_path: Path) -> None:
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[0:5, 0:5] = (9, 0, 0)
    colours[10:15, 0:5] = (0, 0, 9)
    array_file(tmp_path / "inst" / "a.png", colours)
    (tmp_path / "a.json").write_text(json.dumps({"1": "dog", "2": "cat"}))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    settings = {"passes": {"instance": {"path": "inst/{stem}.png", "encoding": "colours"}}}
    made = one(tmp_path, **settings, instance_classes="{stem}.json").read("a")
    assert [(i.id, i.class_id, i.box[1]) for i in made.labels.instances] == [(1, 2, 10.0), (2, 1, 0.0)]
    with pytest.raises(Rejected, match="have no class"):
        one(tmp_path, **settings).read("a")


def test_ray_depth_becomes_planar_metres_and_far_is_nothing(tmp_path: Path) -> None:
    # A wall at z = 2 m: the length of the ray through each pixel's centre, in centimetres.
    y, x = np.mgrid[0:40, 0:60] + 0.5
    rays = np.stack([(x - 30) / 50, (y - 20) / 50, np.ones_like(x)], axis=2)
    ray = (200 * np.linalg.norm(rays, axis=2)).astype(np.float32)
    ray[0, 0] = 1e10
    array_file(tmp_path / "depth" / "a.npy", ray)
    rule = {"path": "depth/{stem}.npy", "unit": 0.01, "measure": "ray", "invalid": [1e10]}
    camera = {"intrinsics": [[50, 0, 30], [0, 50, 20], [0, 0, 1]]}
    made = one(tmp_path, passes={"depth": rule}, camera=camera).read("a")
    depth = made.labels.passes["depth"]
    assert np.isnan(depth[0, 0])
    np.testing.assert_allclose(depth.reshape(-1)[1:], 2.0, atol=1e-5)
    with pytest.raises(Rejected, match="needs a camera"):
        one(tmp_path, passes={"depth": rule}).read("a")


@pytest.mark.parametrize(("axes", "sign"), [("opencv", 1.0), ("opengl", -1.0)])
def test_normals_are_turned_into_camera_axes(tmp_path: Path, axes: str, sign: float) -> None:
    normals = np.zeros((40, 60, 3), np.float32)
    normals[:] = (0.6, 0.0, 0.8)
    array_file(tmp_path / "n" / "a.npy", normals)
    rule = {"path": "n/{stem}.npy", "encoding": "signed", "axes": axes}
    made = one(tmp_path, passes={"normals": rule}).read("a")
    np.testing.assert_allclose(made.labels.passes["normals"][3, 3], (0.6, 0.0, 0.8 * sign), atol=1e-6)


def test_world_normals_and_a_camera_file(tmp_path: Path) -> None:
    world_to_camera = [[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 200], [0, 0, 0, 1]]
    told = {
        "intrinsics": [[50, 0, 29.5], [0, 50, 19.5], [0, 0, 1]],
        "extrinsics": np.linalg.inv(world_to_camera).tolist(),
    }
    (tmp_path / "a_cam.json").write_text(json.dumps(told))
    normals = np.zeros((40, 60, 3), np.float32)
    normals[:] = (1.0, 0.0, 0.0)
    array_file(tmp_path / "n" / "a.npy", normals)
    view = {"path": "{stem}_cam.json", "centre": 0, "pose": "camera_to_world"}
    rule = {"path": "n/{stem}.npy", "encoding": "signed", "frame": "world"}
    made = one(tmp_path, passes={"normals": rule}, camera=view).read("a")
    np.testing.assert_allclose(made.labels.passes["normals"][0, 0], (0, 0, -1), atol=1e-6)
    assert made.labels.camera is not None
    np.testing.assert_allclose(made.labels.camera.K[:2, 2], (30, 20))
    np.testing.assert_allclose(made.labels.camera.world_to_camera, world_to_camera, atol=1e-9)
    assert "a_cam.json" in one(tmp_path, passes={"normals": rule}, camera=view).describe("a").files


@pytest.mark.parametrize("size", [(39, 60), (40, 61), (60, 40)])
@pytest.mark.parametrize("instances", ["none", "components"])
def test_d13_a_pass_of_another_size_is_rejected(tmp_path: Path, size: tuple[int, int], instances: Any) -> None:
    with pytest.raises(Rejected, match="never adapted") as caught:
        one(tmp_path, colour_mask(size), instances=instances).read("a")
    assert caught.value.reason == "size"


def test_e3_missing_and_dangling_masks_are_refused_or_counted(tmp_path: Path) -> None:
    reader = one(tmp_path)
    picture_file(tmp_path / "images" / "b.png")
    array_file(tmp_path / "masks" / "ghost.png", colour_mask())
    with pytest.raises(InputError, match=r"1 of 2 images lack[\s\S]*images/b\.png: no masks/b\.png"):
        reader.ids()
    with pytest.raises(InputError, match=r"1 label files belong to no image[\s\S]*masks/ghost\.png"):
        one(tmp_path, missing="drop").ids()
    reader = one(tmp_path, missing="drop", dangling="ignore")
    assert reader.ids() == ("a",)
    assert reader.notes() == {"images": 1, "images without a pass": 1, "images without labels": 0}


def test_pictures_and_passes_in_one_folder_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for stem in ("000001", "000002"):
        picture_file(tmp_path / f"{stem}.png")
        array_file(tmp_path / f"{stem}_seg.png", colour_mask())
    rule = {"path": "{stem}_seg.png", "encoding": "colours", "colours": COLOURS}
    reader = FolderReader(root=str(tmp_path), images="", pattern=r"\d+\.png", passes={"semantic": rule})
    assert reader.ids() == ("000001", "000002")


@pytest.mark.parametrize(
    ("passes", "word"),
    [
        ({"depht": {"path": "{stem}"}}, "Did you mean 'depth'"),
        ({"depth": {"path": "{stem}", "units": 1}}, "Did you mean 'unit'"),
        ({"depth": {"path": "d.png"}}, "stem"),
        ({"depth": {"path": "{stem}", "measure": "z"}}, "measure"),
        ({"depth": {"path": "{stem}", "unit": 0}}, "unit"),
        ({"semantic": {"path": "{stem}", "encoding": "colours"}}, "colours"),
        ({"semantic": {"path": "{stem}", "encoding": "colours", "colours": {"a": [1, 2, 300]}}}, "0 to 255"),
        ({"semantic": {"path": "{stem}", "encoding": "colours", "colours": {"a": [1, 2, 3], "b": [1, 2, 3]}}}, "share"),
        ({"semantic": {"path": "{stem}", "stem": ["(", "x"]}}, "semantic"),
        ({"semantic": {"path": "{stem}", "tolerance": 300}}, "tolerance"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(passes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        FolderReader(root="/nowhere", passes=passes)


@pytest.mark.parametrize(
    "settings",
    [{"min_area": 0}, {"camera": {"fov": 200}}, {"camera": {"fov": 60, "path": "x"}}, {"camera": {"fovy": 60}},
     {"instances": "components", "passes": {}}, {"pattern": "("}, {"camera": {"fov": 60, "centre": 1}}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FolderReader(root="/nowhere", **settings)


@pytest.mark.parametrize("passes", [None, {}])
def test_pictures_without_a_declared_pass_are_refused_unless_asked_for(tmp_path: Path, passes: Any) -> None:
    with pytest.raises(InputError, match=r"labels for 0 of 1 images[\s\S]*read\.passes[\s\S]*read\.unlabelled=true"):
        one(tmp_path, passes=passes).ids()
    bare = one(tmp_path, passes=passes, unlabelled=True)
    assert bare.ids() == ("a",)
    assert bare.read("a").labels.passes == {}
    assert bare.notes() == {"images": 1, "images without a pass": 0, "images without labels": 1}


def test_a_camera_without_a_focal_length_is_refused(tmp_path: Path) -> None:
    flat = [[0, 0, 30], [0, 50, 20], [0, 0, 1]]
    with pytest.raises(ConfigError, match="fx and fy not 0"):
        one(tmp_path, camera={"intrinsics": flat})
    (tmp_path / "a.txt").write_text(" ".join(str(v) for row in flat for v in row))
    with pytest.raises(Rejected, match="fx and fy not 0"):
        one(tmp_path, camera={"path": "{stem}.txt"}).read("a")


@pytest.mark.parametrize("encoding", ["ids", "colours"])
def test_a_table_without_background_says_what_to_add(tmp_path: Path, encoding: str) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[:9] = 1
    rule = {"path": "masks/{stem}.png", "encoding": encoding}
    rule |= {"classes": {1: "cat"}} if encoding == "ids" else {"colours": {"cat": [1, 1, 1]}}
    reader = one(tmp_path, mask if encoding == "ids" else np.dstack([mask] * 3), passes={"semantic": rule})
    with pytest.raises(
        Rejected, match="add '0: background'" if encoding == "ids" else r"add 'background: \[0, 0, 0\]'"
    ):
        reader.read("a")
    mask[mask == 0] = 7
    reader = one(tmp_path, mask if encoding == "ids" else np.dstack([mask] * 3), passes={"semantic": rule})
    with pytest.raises(Rejected, match="off the table") as caught:
        reader.read("a")
    assert "add '" not in caught.value.message
