"""Unity SOLO: the real frames, and a made one whose geometry has closed forms."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthaug.errors import ConfigError, InputError, Rejected, SecurityError
from synthaug.formats import strays
from synthaug.formats.solo.reader import SoloReader
from synthaug.sample import escape_id

WIDTH, HEIGHT = 64, 48
RED, GREEN, BLUE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)
TYPE = "type.unity.com/unity.solo."
M00, M11 = 1.5, 2.0
FX, FY = M00 * WIDTH / 2, M11 * HEIGHT / 2


def quaternion(axis: list[float], degrees: float) -> list[float]:
    """x, y, z, w of a turn about a unit axis."""
    half = np.radians(degrees) / 2
    return [*(np.array(axis) * np.sin(half)).tolist(), float(np.cos(half))]


def turned(q: list[float], v: np.ndarray) -> np.ndarray:
    """v turned by q, by quaternion algebra (Unity multiplies the same way, whatever its handedness)."""
    x, w = np.array(q[:3]), q[3]
    return v + 2 * np.cross(x, np.cross(x, v) + w * v)


def project(points: np.ndarray) -> np.ndarray:
    """Unity camera-space points (x right, y up, z forward) to pixels, straight from the projection matrix."""
    ndc_x, ndc_y = M00 * points[:, 0] / points[:, 2], M11 * points[:, 1] / points[:, 2]
    return np.stack([(ndc_x + 1) * WIDTH / 2, (1 - ndc_y) * HEIGHT / 2], axis=1)


def colours() -> np.ndarray:
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    picture[..., 3] = 255
    picture[10:20, 5:25] = RED
    picture[15:40, 20:50] = GREEN
    return picture


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def exr(array: np.ndarray, *names: str) -> bytes:
    import OpenEXR

    channels = {name: np.ascontiguousarray(array[..., k]) for k, name in enumerate(names)}
    buffer = io.BytesIO()
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, channels).write(buffer)
    return buffer.getvalue()


def annotation(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{TYPE}{kind}Annotation", "id": kind, "sensorId": "camera", **fields}


def boxes() -> dict[str, Any]:
    return annotation(
        "BoundingBox2D",
        values=[
            {
                "instanceId": 90000,
                "labelId": 2,
                "labelName": "Person",
                "origin": [5.0, 10.0],
                "dimension": [20.0, 10.0],
            },
            {"instanceId": 7, "labelId": 1, "labelName": "Crate", "origin": [20.0, 15.0], "dimension": [30.0, 25.0]},
        ],
    )


def instances(**more: Any) -> dict[str, Any]:
    table = [
        {"instanceId": 90000, "labelId": 2, "labelName": "Person", "color": RED},
        {"instanceId": 7, "labelId": 1, "labelName": "Crate", "color": GREEN},
        {"instanceId": 8, "labelId": 1, "labelName": "Crate", "color": BLUE},
    ]
    return annotation("InstanceSegmentation", filename="step0.ids.png", instances=table, **more)


def put(root: Path, *annotations: dict[str, Any], files: dict[str, bytes] | None = None, **capture: Any) -> SoloReader:
    """One frame of one camera; settings of the capture as keywords."""
    folder = root / "sequence.0"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    (folder / "step0.camera.png").write_bytes(png(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)))
    (folder / "step0.ids.png").write_bytes(png(colours()))
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data)
    told = {
        "@type": f"{TYPE}RGBCamera", "id": "camera", "position": [1.0, 2.0, -3.0],
        "rotation": quaternion([0, 1, 0], 30), "filename": "step0.camera.png",
        "dimension": [float(WIDTH), float(HEIGHT)], "projection": "Perspective",
        "matrix": [M00, 0, 0, 0, M11, 0, 0, 0, -1.0006], "annotations": list(annotations),
    }  # fmt: skip
    metrics = capture.pop("metrics", [])
    document = {"frame": 2, "sequence": 0, "step": 0, "captures": [told | capture], "metrics": metrics}
    (folder / "step0.frame_data.json").write_text(json.dumps(document))
    spec = [{"label_id": 2, "label_name": "Person"}, {"label_id": 1, "label_name": "Crate"}]
    points = [{"label": name, "index": k} for k, name in enumerate(["nose", "left_eye", "right_eye"])]
    template = {"templateId": "t", "keypoints": points, "skeleton": [{"joint1": 0, "joint2": 2}]}
    definitions = [
        {"@type": f"{TYPE}BoundingBox2DAnnotation", "id": "b", "spec": spec},
        {"@type": f"{TYPE}KeypointAnnotation", "id": "k", "template": template},
    ]
    (root / "annotation_definitions.json").write_text(json.dumps({"annotationDefinitions": definitions}))
    return SoloReader(root=str(root))


ID = escape_id("sequence.0/step0.camera")


# The real frames


def test_real_frames_agree_with_their_own_boxes_and_pixel_counts(data_root: Path) -> None:
    reader = SoloReader(root=str(data_root / "solo"))
    assert len(reader.ids()) == 2
    assert [c.name for c in reader.categories()] == ["Crate", "Cube", "Box", "Terrain", "Character"]
    # Parsed by hand: what the frames' JSON says.
    wanted = {
        1: ("Character", (418, 243, 546, 579)),
        2: ("Crate", (669, 400, 903, 666)),
        3: ("Crate", (167, 308, 395, 500)),
    }
    counts = {3: 35950, 1: 16777, 2: 47768}
    for number, name in enumerate(reader.ids()):
        told, made = reader.describe(name), reader.read(name)
        assert told.size == made.labels.size == (768, 1024)
        assert told.group == made.group == f"solo/sequence.{number}"
        assert (told.frame, told.view) == (0, "camera")
        assert set(told.passes) == set(made.labels.passes) == ({"instance", "semantic"} if number == 0 else set())
        assert made.trail == ()
        found = {i.attributes["solo_instance_id"]: i for i in made.labels.instances}
        assert found.keys() == wanted.keys()
        for unity, instance in found.items():
            assert made.labels.category(instance).name == wanted[unity][0]
            assert instance.box == pytest.approx(wanted[unity][1], abs=2)
            assert instance.attributes["visible_pixels"] == counts[unity]
            if number == 0:
                mask = made.labels.mask(instance)
                assert mask is not None
                assert int(mask.sum()) == counts[unity]


def test_real_solids_project_onto_their_2d_boxes(data_root: Path) -> None:
    reader = SoloReader(root=str(data_root / "solo"))
    labels = reader.read(reader.ids()[0]).labels
    assert labels.camera is not None
    solids = [i for i in labels.instances if i.pose is not None]
    assert len(solids) == 2
    signs = np.array([[a, b, c] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (-0.5, 0.5)])
    for instance in solids:
        pose = np.array(instance.pose)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        pixels = labels.camera.project(signs * np.array(instance.extent) @ pose[:3, :3].T + pose[:3, 3])
        assert (*pixels.min(axis=0), *pixels.max(axis=0)) == pytest.approx(instance.box, abs=1)


def test_real_keypoints_lie_on_their_person(data_root: Path) -> None:
    reader = SoloReader(root=str(data_root / "solo"))
    labels = reader.read(reader.ids()[0]).labels
    person = next(i for i in labels.instances if i.keypoints)
    category = labels.category(person)
    assert category.name == "Character"
    assert category.keypoints[:3] == ("nose", "neck", "right_shoulder")
    assert category.keypoints[category.mirror[2]] == "left_shoulder"
    assert len(category.skeleton) > 10
    assert person.keypoints[0] == (0.0, 0.0, 0)
    assert person.keypoints[1] == pytest.approx((483.8889, 313.687439, 2))
    mask = labels.mask(person)
    assert mask is not None
    near = [
        mask[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].any() for x, y, state in person.keypoints if state == 2
    ]
    assert all(near)
    assert len(near) == 13


# Geometry, on a made frame


def test_solid_and_camera_follow_unitys_projection(tmp_path: Path) -> None:
    q = quaternion([1, 0, 0], 25)
    solid = {
        "instanceId": 7,
        "labelName": "Crate",
        "translation": [0.3, 0.4, 5.0],
        "size": [1.0, 2.0, 3.0],
        "rotation": q,
    }
    made = put(tmp_path, boxes(), annotation("BoundingBox3D", values=[solid])).read(ID)
    assert made.labels.camera is not None
    crate = made.labels.instances[0]
    assert crate.extent == (1.0, 2.0, 3.0)
    pose = np.array(crate.pose)
    signs = np.array([[a, b, c] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (-0.5, 0.5)]) * [1.0, 2.0, 3.0]
    unity = np.array([turned(q, corner) for corner in signs]) + np.array([0.3, 0.4, 5.0])
    ours = (signs * [1, -1, 1]) @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(made.labels.camera.project(ours), project(unity), atol=1e-9)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)


def test_extrinsics_take_world_points_to_the_camera(tmp_path: Path) -> None:
    q = [0.1, -0.3, 0.2, 0.5]
    q = (np.array(q) / np.linalg.norm(q)).tolist()
    made = put(tmp_path, boxes(), rotation=q).read(ID)
    camera = made.labels.camera
    assert camera is not None
    extrinsics = camera.world_to_camera
    assert extrinsics is not None
    assert np.linalg.det(extrinsics[:3, :3]) == pytest.approx(1)
    for local in np.random.default_rng(0).normal(size=(5, 3)):
        world = turned(q, local) + np.array([1.0, 2.0, -3.0])
        found = extrinsics @ [*(world * [1, -1, 1]), 1.0]
        np.testing.assert_allclose(found[:3], local * [1, -1, 1], atol=1e-12)


@pytest.mark.parametrize("columns_first", [True, False])
def test_off_centre_projection_moves_the_principal_point(tmp_path: Path, columns_first: bool) -> None:
    m = np.array([[M00, 0, 0.25], [0, M11, -0.5], [0, 0, -1.0]])
    camera = put(tmp_path, boxes(), matrix=(m.T if columns_first else m).reshape(-1).tolist()).read(ID).labels.camera
    assert camera is not None
    np.testing.assert_allclose(camera.K, [[FX, 0, 0.75 * WIDTH / 2], [0, FY, 0.5 * HEIGHT / 2], [0, 0, 1]])


def test_no_pinhole_no_camera(tmp_path: Path) -> None:
    assert put(tmp_path, boxes(), projection="Isometric").read(ID).labels.camera is None


# Labels


def test_instances_are_joined_by_unitys_id_and_numbered_anew(tmp_path: Path) -> None:
    points = [{"index": 2, "location": [12.5, 13.25], "state": 1}, {"index": 0, "location": [9, 9], "state": 0}]
    keypoints = annotation("Keypoint", templateId="t", values=[{"instanceId": 90000, "keypoints": points}])
    metric = {
        "@type": f"{TYPE}RenderedObjectInfoMetric", "sensorId": "camera",
        "values": [{"instanceId": 7, "visiblePixels": 750}],
    }  # fmt: skip
    reader = put(tmp_path, boxes(), instances(), keypoints, metrics=[metric])
    assert [c.name for c in reader.categories()] == ["Crate", "Person"]
    assert reader.categories()[1].keypoints == ("nose", "left_eye", "right_eye")
    assert reader.categories()[1].skeleton == ((0, 2),)
    assert reader.categories()[1].mirror == (0, 2, 1)
    made = reader.read(ID)
    crate, person = made.labels.instances
    assert (crate.id, crate.class_id, crate.box) == (1, 1, (20.0, 15.0, 50.0, 40.0))
    assert crate.attributes == {"solo_instance_id": 7, "visible_pixels": 750}
    assert int(made.labels.passes["instance"].max()) == 2
    assert person.object_id == "sequence.0/90000"
    assert person.keypoints == ((0.0, 0.0, 0), (0.0, 0.0, 0), (12.5, 13.25, 1))
    assert person.box == (5.0, 10.0, 25.0, 20.0)
    assert made.labels.attributes == {"hidden_objects": 1}


def test_box_of_the_source_that_is_another_one_is_kept_aside(tmp_path: Path) -> None:
    told = boxes()
    told["values"][1]["dimension"] = [35.0, 25.0]
    crate = put(tmp_path, told, instances()).read(ID).labels.instances[0]
    assert crate.box == (20.0, 15.0, 50.0, 40.0)
    assert crate.attributes["solo_bbox"] == [20.0, 15.0, 55.0, 40.0]


def test_smoothed_segmentation_is_rejected_or_counted(tmp_path: Path) -> None:
    smooth = colours()
    smooth[9, 5:9] = (128, 0, 0, 255)
    put(tmp_path, boxes(), instances(), files={"step0.ids.png": png(smooth)})
    with pytest.raises(Rejected, match=r"4 pixels of 1 colours.*#800000 \(4 px\)"):
        SoloReader(root=str(tmp_path)).read(ID)
    away = SoloReader(root=str(tmp_path), off_table="background").read(ID)
    assert strays.counts(away.trail)["instance"] == {
        "read": 1, "samples": 1, "count": 4, "near": 0, "values": {"#800000": 4}, "other": 0
    }  # fmt: skip
    assert "ignore" not in away.labels.passes
    with pytest.raises(Rejected, match=r"max_unknown=0\.001") as caught:
        SoloReader(root=str(tmp_path), off_table="background", max_unknown=0.001).read(ID)
    assert caught.value.reason == "unknown_classes"
    ignoring = SoloReader(root=str(tmp_path), off_table="ignore")
    assert ignoring.describe(ID).passes == ("instance", "ignore")
    assert int(ignoring.read(ID).labels.passes["ignore"].sum()) == 4


def test_semantic_pass_has_the_classes_numbers_and_black_is_background(tmp_path: Path) -> None:
    table = [{"labelName": "Person", "pixelValue": RED}, {"labelName": "Sky", "pixelValue": GREEN}]
    semantic = annotation("SemanticSegmentation", filename="step0.ids.png", instances=table)
    reader = put(tmp_path, boxes(), semantic)
    assert [c.name for c in reader.categories()] == ["Crate", "Person", "Sky"]
    found = reader.read(ID).labels.passes["semantic"]
    assert found[12, 8] == 2
    assert found[30, 30] == 3
    assert found[0, 0] == 0


def test_depth_meaning_is_the_frames_word_or_the_users(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR")
    stored = np.zeros((HEIGHT, WIDTH, 4), np.float32)
    stored[..., 0] = 5.0
    stored[..., 3] = 1.0
    stored[0, 0, 0] = 0.0
    files = {"step0.depth.exr": exr(stored, "R", "G", "B", "A")}
    silent = annotation("Depth", filename="step0.depth.exr")
    reader = put(tmp_path, boxes(), silent, files=files)
    for call in (reader.describe, reader.read):
        with pytest.raises(Rejected, match="depth=planar or range"):
            call(ID)
    planar = SoloReader(root=str(tmp_path), depth="planar").read(ID).labels.passes["depth"]
    assert np.isnan(planar[0, 0])
    assert planar[1, 1] == 5.0
    ray = SoloReader(root=str(tmp_path), depth="range").read(ID).labels.passes["depth"]
    x, y = (10 + 0.5 - WIDTH / 2) / FX, (40 + 0.5 - HEIGHT / 2) / FY
    assert ray[40, 10] == pytest.approx(5.0 / np.sqrt(1 + x * x + y * y), rel=1e-6)
    told = put(tmp_path, boxes(), silent | {"measurementStrategy": "Range"}, files=files)
    np.testing.assert_array_equal(told.read(ID).labels.passes["depth"], ray)
    with pytest.raises(Rejected, match=r"depth is range by the frame, planar by read\.depth"):
        SoloReader(root=str(tmp_path), depth="planar").read(ID)


def test_world_normals_and_positions_are_turned_into_camera_axes(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR")
    q = quaternion([0, 1, 0], 30)
    local = np.array([0.36, 0.48, -0.8])  # in Unity's camera axes: right, up, towards the camera
    world = turned(q, local)
    stored = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    stored[1:] = world / 2 + 0.5
    points = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    points[1:] = [0.5, 0.25, 4.0]
    files = {"n.exr": exr(stored, "R", "G", "B"), "p.exr": exr(points, "R", "G", "B")}
    told = annotation("Normal", filename="n.exr"), annotation("PixelPosition", filename="p.exr")
    reader = put(tmp_path, boxes(), *told, files=files, rotation=q)
    assert reader.describe(ID).passes == ("normals", "position")
    passes = reader.read(ID).labels.passes
    np.testing.assert_allclose(passes["normals"][5, 5], local * [1, -1, 1], atol=1e-6)
    np.testing.assert_array_equal(passes["position"][5, 5], np.array([0.5, -0.25, 4.0], np.float32))
    assert np.isnan(passes["normals"][0]).all()
    assert np.isnan(passes["position"][0]).all()


# Classes and faults


def test_classes_are_renamed_fixed_and_refused(tmp_path: Path) -> None:
    put(tmp_path, boxes())
    merged = SoloReader(root=str(tmp_path), classes={"Person": "thing", "Crate": "thing"})
    assert [c.name for c in merged.categories()] == ["thing"]
    (tmp_path / "names.txt").write_text("Person\n")
    with pytest.raises(InputError, match="Crate: 1 labels"):
        SoloReader(root=str(tmp_path), names="names.txt").ids()
    some = SoloReader(root=str(tmp_path), names="names.txt", unknown="ignore")
    assert [i.class_id for i in some.read(ID).labels.instances] == [1]
    assert some.notes()["labels of unknown categories"] == 1


def test_picture_that_was_never_saved_is_rejected_alone(tmp_path: Path) -> None:
    reader = put(tmp_path, boxes(), filename=None)
    assert reader.ids() == (ID,)
    for call in (reader.describe, reader.read):
        with pytest.raises(Rejected, match="no picture was saved"):
            call(ID)


@pytest.mark.security
def test_file_names_of_the_json_do_not_leave_the_root(tmp_path: Path) -> None:
    for name in ("../../etc/passwd", "..\\x.png"):
        with pytest.raises(SecurityError):
            put(tmp_path, boxes(), filename=name).read(ID)


def test_annotations_that_contradict_each_other_are_rejected(tmp_path: Path) -> None:
    told = instances()
    told["instances"][0]["labelName"] = "Crate"
    with pytest.raises(Rejected, match="instance 90000 is 'Crate' and 'Person'"):
        put(tmp_path, boxes(), told).read(ID)
    told = instances()
    told["instances"][1]["color"] = RED
    with pytest.raises(Rejected, match="share the colour"):
        put(tmp_path, told).read(ID)
    with pytest.raises(Rejected, match="2 annotations of type BoundingBox2DAnnotation"):
        put(tmp_path, boxes(), boxes()).read(ID)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"rotation": [0.0, 0.0, 0.0, 2.0]}, "unit quaternion"),
        ({"rotation": [0.0, 0.0, 1.0]}, "expected 4 finite numbers"),
        ({"matrix": [0.0] * 9}, "no perspective projection"),
        ({"dimension": [64.5, 48]}, "dimension"),
        ({"dimension": [32, 48]}, "sizes are not adapted"),
        ({"annotations": [{"@type": "x.BoundingBox2DAnnotation", "values": [{"labelName": "Crate"}]}]}, "instanceId"),
    ],
)
def test_broken_captures_are_rejected_with_their_reason(tmp_path: Path, broken: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        put(tmp_path, boxes(), **broken).read(ID)


def test_schema_names_of_the_documentation_are_read_too(tmp_path: Path) -> None:
    put(tmp_path, boxes())
    (tmp_path / "sequence.0" / "step0.frame_data.json").rename(tmp_path / "sequence.0" / "step.0000.frame.json")
    reader = SoloReader(root=str(tmp_path))
    assert reader.ids() == (escape_id("sequence.0/step.0000.camera"),)
    assert reader.describe(reader.ids()[0]).files[0] == "sequence.0/step.0000.frame.json"


def test_no_frames_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no step<N>"):
        SoloReader(root=str(tmp_path)).ids()
    with pytest.raises(ConfigError, match="depth='z'"):
        SoloReader(root=str(tmp_path), depth="z")  # type: ignore[arg-type]
