"""Maps beside photos: found by name, cut as the photo is, refused in one sentence each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from synthaug import testing
from synthaug.errors import ConfigError, InputError
from synthaug.formats import npy, passes
from synthaug.models.maps import UNKNOWN, MapSpec, relative
from synthaug.models.refiner import WEIGHTS, read_facts
from synthaug.refine.restore import Restore
from synthaug.train import fitting
from synthaug.train.maps import find_maps
from synthaug.train.photos import Crops, Folder, Window, find
from synthaug.train.refiner import Settings, train
from tests.train.photos import make_photos

torch.set_num_threads(1)
SPEC = MapSpec(("depth", "normals", "classes"), ("disc", "wall"))
SIZE = (80, 100)


def arrays(number: int) -> dict[str, Any]:
    """Depth that rises to the right, normals that tell left from right, classes in two halves."""
    ys, xs = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    depth = (2 + number + xs / 10).astype(np.float32)
    depth[:3] = np.nan
    x = (xs / SIZE[1] - 0.5).astype(np.float32)
    normals = np.stack([x, 0 * x, -np.sqrt(1 - x * x)], axis=2).astype(np.float32)
    return {"depth": depth, "normals": normals, "classes": np.where(ys < 40, 1, 2).astype(np.int32)}


def write(folder: Path, kind: str, name: str, array: Any, how: Any = None) -> Path:
    suffix, data = passes.encode_pass({"classes": "semantic"}.get(kind, kind), array, how)
    path = folder / kind / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten photos; the first six have all maps, in both kinds of files."""
    make_photos(tmp_path / "photos", 10, SIZE)
    for i in range(6):
        for kind, array in arrays(i).items():
            write(tmp_path, kind, f"photo{i:02d}", array, "png16" if i % 2 and kind != "classes" else None)
    return tmp_path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthaug.train.measure.BATCHES", 1)


def asked(root: Path) -> dict[str, str]:
    return {kind: str(root / kind) for kind in SPEC.kinds}


def settings(root: Path, out: Path, **changes: Any) -> Settings:
    tiny = {
        "data": str(root / "photos"), "out": str(out), "steps": 6, "batch": 2, "crop": 32, "smallest": 40,
        "channels": [8, 16], "device": "cpu", "save_every": 2, "show_every": 6, "threads": 1,
        "maps": asked(root), "classes": list(SPEC.classes),
    }  # fmt: skip
    return Settings.of({**tiny, **changes})


def found(data: Path) -> Any:
    photos = find([Folder(str(data / "photos"))], 32)
    return find_maps({kind: (str(data / kind),) for kind in SPEC.kinds}, SPEC, photos, 0.001)


def test_found_by_name_and_counted(data: Path) -> None:
    maps = found(data)
    assert [maps.count(kind) for kind in SPEC.kinds] == [6, 6, 6]
    assert "photo07.jpg" not in maps.files["depth"][0]
    assert maps.files["depth"][0]["photo01.jpg"] == "photo01.png"


@pytest.mark.parametrize("name", ["photo02.jpg", "photo03.jpg"])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_crop_of_the_maps_is_where_the_photos_crop_is(data: Path, name: str, mirror: bool) -> None:
    window = Window(10, 20, 64, mirror)
    out = found(data).crop(0, name, window, 32, SPEC.kinds)
    truth = arrays(int(name[5:7]))
    # Nearest pixel of each cell of 2x2, then the mirror.
    rows, columns = 10 + 2 * np.arange(32) + 1, 20 + 2 * np.arange(32) + 1
    columns = columns[::-1] if mirror else columns
    place = np.ix_(rows, columns)
    close = 1e-6 if name == "photo02.jpg" else 2e-3
    assert np.allclose(out[0], relative(truth["depth"])[place], atol=close)
    assert np.allclose(out[2], truth["normals"][..., 0][place] * (-1 if mirror else 1), atol=close)
    assert np.allclose(out[4], truth["normals"][..., 2][place], atol=close)
    assert np.array_equal(out[6], truth["classes"][place] == 1)
    assert out[[1, 5, 8]].min() == 1


def test_invalid_depth_stays_absent_and_void_classes_too(data: Path) -> None:
    classes = arrays(0)["classes"]
    classes[5:9] = 255
    write(data, "classes", "photo00", classes)
    out = found(data).crop(0, "photo00.jpg", Window(0, 0, 32, False), 32, SPEC.kinds)
    assert not out[:2, :3].any()
    assert out[1, 3:].min() == 1
    assert not out[6:, 5:9].any()


def test_photos_without_maps_and_withheld_kinds_are_absent(data: Path) -> None:
    maps = found(data)
    assert not maps.crop(0, "photo08.jpg", Window(0, 0, 32, False), 32, SPEC.kinds).any()
    some = maps.crop(0, "photo00.jpg", Window(10, 0, 32, False), 32, ["normals"])
    assert not some[:2].any()
    assert not some[6:].any()
    assert some[5].min() == 1


def test_dropout_withholds_kinds_by_share_and_photos_stay_the_same(data: Path) -> None:
    photos = find([Folder(str(data / "photos"))], 32)
    maps = found(data)
    plain = Crops(photos, 32, 40, 3)
    for share in (0.0, 0.5, 1.0):
        crops = Crops(photos, 32, 40, 3, maps, share)
        present = []
        for step in range(25):
            one, other, told = crops.batch_with_maps(step, range(2))
            assert all(np.array_equal(a, b) for a, b in zip((one, other), plain.batch(step, range(2)), strict=True))
            assert told is not None
            present += [told[:, 5].max(axis=(1, 2))]
            again = crops.batch_with_maps(step, range(2))[2]
            assert again is not None
            assert np.array_equal(told, again)
        # Six photos of ten have maps.
        assert float(np.mean(present)) == pytest.approx(0.6 * (1 - share), abs=0.2)
        assert share < 1 or not np.any(present)


def test_trains_resumes_to_the_same_bytes_and_the_stage_takes_what_there_is(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(data, tmp_path / "straight"))
    step = fitting.Fit._step

    def killed(self: Any, drawn: Any, number: int) -> Any:
        if number == 5:
            raise KeyboardInterrupt
        return step(self, drawn, number)

    monkeypatch.setattr(fitting.Fit, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings(data, tmp_path / "killed"))
    monkeypatch.setattr(fitting.Fit, "_step", step)
    train(settings(data, tmp_path / "killed"))
    straight, resumed = ((tmp_path / name / "model" / WEIGHTS).read_bytes() for name in ("straight", "killed"))
    assert straight == resumed
    model = tmp_path / "straight" / "model"
    assert read_facts(model).maps == SPEC
    stage = Restore(model=str(model), steps=1)
    assert stage.wants == SPEC.passes
    stage.load("cpu")
    testing.check(stage)
    grid = cv2.imread(str(tmp_path / "straight" / "samples" / "0000006.png"))
    assert grid is not None
    assert grid.shape[1] == 4 * 36 - 4
    card = (model / "README.md").read_text()
    for part in ("depth of 6 photos", "withheld in 50%", "Classes: disc, wall", "maps={depth: depth, normals: normals"):
        assert part in card
    assert str(tmp_path) not in card


def test_the_network_learns_from_maps_that_are_shown_and_from_no_others(data: Path, tmp_path: Path) -> None:
    for share in (0.0, 1.0):
        out = tmp_path / f"out{share}"
        train(settings(data, out, map_dropout=share, steps=3))
        # What Adam has gathered of the first layer's gradients: 24 channels of picture and noise, then the maps'.
        seen = load_file(out / "checkpoint.safetensors")["optimiser.0.exp_avg_sq"]
        assert seen[:, :24].min() > 0
        assert bool(seen[:, 24:].any()) == (share == 0)


def test_several_folders_each_with_its_own(data: Path, tmp_path: Path) -> None:
    other = make_photos(tmp_path / "other", 8, SIZE)
    folders = {kind: [str(data / kind), ""] for kind in SPEC.kinds}
    both = settings(data, tmp_path / "out", data=[str(data / "photos"), str(other)], maps=folders)
    maps = find_maps(both.maps, both.spec, find(both.folders(), 32), 0.001)
    assert [len(files) for files in maps.files["depth"]] == [6, 0]


def test_a_map_of_another_size(data: Path, tmp_path: Path) -> None:
    write(data, "depth", "photo02", np.ones((40, 50), np.float32))
    with pytest.raises(InputError, match=r"maps\.depth(.|\n)*photo02\.npy is 50x40, its photo 100x80"):
        train(settings(data, tmp_path / "out"))


def test_a_class_without_a_name(data: Path, tmp_path: Path) -> None:
    for i in range(6):
        write(data, "classes", f"photo{i:02d}", np.full(SIZE, 7, np.int32))
    with pytest.raises(InputError, match=r"photo\d+\.png holds the class 7; expected 0 \(background\), 1 to 2"):
        train(settings(data, tmp_path / "out", map_dropout=0.0))


@pytest.mark.parametrize("number", [UNKNOWN - 1, 3])
def test_a_class_map_in_npy_is_held_to_the_same(data: Path, number: int) -> None:
    (data / "classes" / "photo00.png").unlink()
    (data / "classes" / "photo00.npy").write_bytes(npy.encode(np.full(SIZE, number, np.int32)))
    with pytest.raises(InputError, match=f"the class {number}"):
        found(data).crop(0, "photo00.jpg", Window(0, 0, 32, False), 32, SPEC.kinds)


def test_broken_maps_say_which(data: Path, tmp_path: Path) -> None:
    path = data / "depth" / "photo04.npy"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"maps\.depth: photo04\.npy"):
        found(data).crop(0, "photo04.jpg", Window(0, 0, 32, False), 32, SPEC.kinds)
    path.write_bytes(npy.encode(np.ones((*SIZE, 3), np.float32)))
    with pytest.raises(InputError, match=r"photo04\.npy is \(80, 100, 3\), expected \[H, W\]"):
        found(data).crop(0, "photo04.jpg", Window(0, 0, 32, False), 32, SPEC.kinds)
    write(data, "depth", "photo04", np.ones(SIZE, np.float32), "png16")
    with pytest.raises(InputError, match="are maps of one photo"):
        found(data)


def test_folders_that_cannot_be_meant(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        train(settings(data, tmp_path / "out", maps={"depth": str(data / "nowhere")}, classes=[]))
    (data / "empty").mkdir()
    with pytest.raises(ConfigError, match="no map belongs to any of 10 photos"):
        train(settings(data, tmp_path / "out", maps={"depth": str(data / "empty")}, classes=[]))
    inside = data / "photos" / "depth"
    inside.mkdir()
    with pytest.raises(ConfigError, match="keep them apart"):
        train(settings(data, tmp_path / "out", maps={"depth": str(inside)}, classes=[]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"maps": {"dept": "x"}}, "dept.*depth"), ({"maps": "depth"}, "folders by kind"),
        ({"maps": {"depth": ["a", "b"]}}, "each of the 1"), ({"maps": {"depth": ""}}, "each of the 1"),
        ({"maps": {"depth": 3}}, "each of the 1"), ({"classes": []}, "need the names"),
        ({"maps": None}, "names need"), ({"map_dropout": 1.5}, "map_dropout=1.5"), ({"depth_unit": 0.0}, "depth_unit"),
    ],
)  # fmt: skip
def test_settings_out_of_range(data: Path, tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        settings(data, tmp_path / "out", **change)
