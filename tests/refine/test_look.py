"""Looks: closed forms of the maps, photos that are few, grey or broken, and the gate on real renders."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthaug import seeds
from synthaug.errors import ConfigError, InputError, SynthaugError
from synthaug.gate.integrity import Integrity
from synthaug.labels import Labels
from synthaug.refine.colour import lab_from_srgb
from synthaug.refine.look import Look, monge, reinhard
from synthaug.refine.statistics import BINS, Statistics, amplitudes_of, basis, cosines, fit, measure

LABELS = Labels((60, 90))


def picture(
    seed: int, height: int = 60, width: int = 90, base: tuple[float, float, float] = (0.4, 0.5, 0.6)
) -> np.ndarray:
    """[1, 3, H, W] with soft structure."""
    rng = np.random.default_rng(seed)
    small = rng.normal(0, 0.08, (3, height // 10, width // 10)) + np.array(base)[:, None, None]
    big = np.stack(
        [
            np.asarray(Image.fromarray(p.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
            for p in small
        ]
    )
    return np.clip(big, 0.05, 0.95).astype(np.float32)[None]


def save(path: Path, image: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image[0].transpose(1, 2, 0) * 255).astype(np.uint8)).save(path, **options)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(5):
        save(tmp_path / "photos" / f"{i}.png", picture(100 + i, base=(0.7, 0.5, 0.3)))
    return tmp_path / "photos"


def ready(photos: Path, **fields: object) -> Look:
    look = Look(photos=str(photos), **fields)  # pyright: ignore[reportArgumentType]
    look.load("cpu")
    return look


def drawn(look: Look, name: str = "a", attempt: int = 0) -> dict[str, object]:
    return look.draw(seeds.generator(0, name, 0, "refine", attempt), LABELS, attempt)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"photos": "a", "statistics": "b"},
        {"photos": "a", "method": "reinhart"},
        {"photos": "a", "strength": 1.1},
        {"photos": "a", "spread": -0.1},
        {"photos": "a", "reference": "best"},
        {"photos": "a", "beta": 0.5},
        {"photos": "a", "max_gain": 0.5},
        {"photos": "a", "limit": 0},
        {"photos": "a", "vivid": -1},
        {"photos": "a", "strength_decay": 0},
    ],
)
def test_fields_out_of_range(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="look needs|" + (list(fields) or ["x"])[-1]):
        Look(**fields)  # pyright: ignore[reportArgumentType]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_monge_takes_one_covariance_to_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = (a @ a.T * 20 + 5 * np.eye(3) for a in rng.normal(size=(2, 3, 3)))
    by = monge(source, target, 1e6)
    eye = np.eye(3)
    assert np.allclose(by @ (source + eye) @ by.T, target + eye, rtol=1e-6, atol=1e-6)
    assert np.allclose(by, by.T)
    assert np.linalg.eigvalsh(monge(source, target, 1.5)).max() <= 1.5 + 1e-9


def test_monge_and_reinhard_agree_where_axes_do() -> None:
    source, target = np.diag([100.0, 30.0, 8.0]), np.diag([60.0, 50.0, 10.0])
    assert np.allclose(monge(source, target, 10), reinhard(source, target, 10))


@pytest.mark.parametrize("method", ["reinhard", "transport"])
def test_full_strength_reaches_the_photo(photos: Path, method: str) -> None:
    look = ready(photos, method=method, strength=1.0, spread=0.0, max_gain=10.0, vivid=0.0)
    draw = drawn(look)
    done = look.paint(picture(1), [LABELS], [draw])[0]
    mean, covariance, _ = fit(photos).of(draw["photo"])
    found = lab_from_srgb(done.reshape(3, -1))
    assert np.abs(found.mean(1) - mean).max() < 1.0
    if method == "transport":
        assert np.abs(np.cov(found) - covariance).max() < 0.1 * np.abs(covariance).max() + 2


def test_fda_moves_amplitudes_and_keeps_detail(photos: Path) -> None:
    look = ready(photos, method="fda", strength=1.0, spread=0.0, max_gain=10.0)
    draw = drawn(look)
    image = picture(1)
    checker = (np.indices((60, 90)).sum(0) % 2 * 0.1 - 0.05).astype(np.float32)
    done = look.paint(image + checker, [LABELS], [draw])[0]
    wanted = fit(photos).of(draw["photo"])[2]
    before, after = measure(image[0])[2], measure(done)[2]
    assert np.abs(after[:, 0] - wanted[:, 0]).max() < 0.03
    # Both luma edges of the window: matched inside, untouched far outside.
    assert (
        np.abs(np.log(after[0, 2:6] / wanted[0, 2:6])).mean()
        < 0.6 * np.abs(np.log(before[0, 2:6] / wanted[0, 2:6])).mean()
    )
    assert np.allclose(after[:, -4:], before[:, -4:], rtol=0.2, atol=1e-4)
    assert (
        np.corrcoef((done - look.paint(image, [LABELS], [draw])[0]).ravel(), np.tile(checker, (3, 1, 1)).ravel())[0, 1]
        > 0.95
    )


def test_fda_adds_nothing_but_slow_waves(photos: Path) -> None:
    """No ringing and no border: what is added to a flat grey is flat."""
    look = ready(photos, method="fda", strength=1.0, spread=0.0)
    done = look.paint(np.full((1, 3, 60, 90), 0.5, np.float32), [LABELS], [drawn(look)])[0]
    assert np.ptp(done, axis=(1, 2)).max() < 1e-3


def test_cosines_of_a_cosine() -> None:
    wave = basis(64)[3][:, None] * basis(96)[5][None]
    found = cosines(np.stack([wave] * 3))
    assert np.isclose(found[0, 3, 5], 1.0, atol=1e-4)
    found[0, 3, 5] = 0
    assert np.abs(found).max() < 1e-4


def test_amplitudes_are_those_of_rings() -> None:
    amplitude = amplitudes_of(np.ones((3, BINS, BINS), np.float32))
    assert np.allclose(amplitude, 1, atol=1e-6)


def test_strength_zero_is_identity(photos: Path) -> None:
    look = ready(photos, strength=0.0)
    image = picture(3)
    assert np.array_equal(look.paint(image.copy(), [LABELS], [drawn(look)]), image)


def test_draws_are_json_and_repairs_are_weaker(photos: Path) -> None:
    look = ready(photos, method="mix")
    draws = [drawn(look, str(i)) for i in range(60)]
    assert json.loads(json.dumps(draws)) == draws
    assert {d["method"] for d in draws} == {"reinhard", "transport", "fda"}
    assert {d["photo"] for d in draws} == set(range(5))
    assert all(0.3 <= d["strength"] <= 0.6 for d in draws)
    assert drawn(look, attempt=3)["strength"] < 0.6 * 0.6**3 + 1e-6
    assert drawn(ready(photos, reference="mean"))["photo"] == -1


def test_mean_reference(photos: Path) -> None:
    look = ready(photos, reference="mean", strength=1.0, spread=0.0, vivid=0.0, max_gain=10.0)
    done = look.paint(picture(1), [LABELS], [drawn(look)])[0]
    assert np.abs(lab_from_srgb(done.reshape(3, -1)).mean(1) - fit(photos).means.mean(0)).max() < 1.0


@pytest.mark.parametrize("method", ["reinhard", "transport", "fda"])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (300, 5), (380, 640)])
def test_any_size_stays_a_picture(photos: Path, method: str, size: tuple[int, int]) -> None:
    look = ready(photos, method=method, strength=1.0, max_gain=10.0)
    image = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    done = look.paint(image, [LABELS], [drawn(look)])
    assert done.shape == image.shape
    assert done.dtype == np.float32
    assert np.isfinite(done).all()
    assert done.min() >= 0
    assert done.max() <= 1


def test_one_photo_and_grey_photos(tmp_path: Path) -> None:
    grey = np.repeat(picture(5)[:, :1], 3, axis=1)
    save(tmp_path / "p" / "one.png", grey)
    for method in ("reinhard", "transport", "fda"):
        look = ready(tmp_path / "p", method=method, strength=1.0, spread=0.0, vivid=0.0)
        done = look.paint(picture(1, base=(0.8, 0.4, 0.2)), [LABELS], [drawn(look)])
        assert np.isfinite(done).all()
        assert abs(float(lab_from_srgb(done[0].reshape(3, -1))[1:].mean())) < 6


def test_broken_photos_are_skipped_and_counted(photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (photos / "empty.png").write_bytes(b"")
    (photos / "notes.txt").write_text("not a picture")
    look = ready(photos)
    assert look.identity()["skipped"] == 2
    assert look.identity()["measured"] == 5


def test_no_readable_photo(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(ConfigError, match="no picture"):
        ready(tmp_path / "p")
    (tmp_path / "p" / "a.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="none of 1 pictures"):
        ready(tmp_path / "p")
    save(tmp_path / "q" / "dot.png", np.zeros((1, 3, 1, 1), np.float32))
    with pytest.raises(ConfigError, match=r"dot\.png.*1x1, expected sides of at least 4"):
        ready(tmp_path / "q")
    with pytest.raises(InputError):
        ready(tmp_path / "none")


def test_a_turned_photo_is_read_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "p" / "a.jpg", picture(1), exif=exif)
    assert fit(tmp_path / "p").count == 1


def test_identity_is_content_not_path(photos: Path, tmp_path: Path) -> None:
    first = ready(photos).identity()
    elsewhere = Path(shutil.copytree(photos, tmp_path / "elsewhere"))
    assert ready(elsewhere).identity() == first
    save(elsewhere / "0.png", picture(9))
    assert ready(elsewhere).identity() != first


def test_limit_takes_photos_evenly(photos: Path) -> None:
    assert fit(photos, limit=3).count == 3


def test_statistics_round_trip_and_give_the_same_pixels(photos: Path, tmp_path: Path) -> None:
    data = fit(photos).to_bytes()
    assert Statistics.from_bytes(data).to_bytes() == data
    (tmp_path / "s").write_bytes(data)
    look, other = ready(photos), Look(statistics=str(tmp_path / "s"))
    other.load("cpu")
    assert {**other.identity(), "photos": ""} == {**look.identity(), "photos": ""}
    assert other.identity()["photos"] == hashlib.sha256(data).hexdigest()
    image, draw = picture(2), drawn(look)
    assert np.array_equal(look.paint(image.copy(), [LABELS], [draw]), other.paint(image.copy(), [LABELS], [draw]))


def test_statistics_are_known_by_their_bytes_not_by_what_their_head_says(photos: Path, tmp_path: Path) -> None:
    data = bytearray(fit(photos).to_bytes())
    (tmp_path / "s").write_bytes(data)
    before = Look(statistics=str(tmp_path / "s")).identity()
    data[-1] ^= 1  # the head, and its digest, stay as they are
    (tmp_path / "s").write_bytes(data)
    assert Look(statistics=str(tmp_path / "s")).identity() != before


def test_photos_that_change_between_plan_and_load_are_named(photos: Path, tmp_path: Path) -> None:
    look = Look(photos=str(photos))
    planned = look.identity()
    save(photos / "3.png", picture(9, base=(0.1, 0.5, 0.9)))
    (photos / "0.png").unlink()
    with pytest.raises(InputError, match=r"2 files changed since the plan was made(.|\n)*- 0\.png\n  - 3\.png"):
        look.load("cpu")
    other = Look(photos=str(photos))
    other.load("cpu")
    assert other.identity() != planned, "what is loaded is what identity tells of"
    save(photos / "4.png", picture(9))
    assert other.identity() != planned


def test_statistics_that_change_between_plan_and_load_are_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(fit(photos).to_bytes())
    look = Look(statistics=str(tmp_path / "s"))
    look.identity()
    save(photos / "0.png", picture(9))
    (tmp_path / "s").write_bytes(fit(photos).to_bytes())
    with pytest.raises(InputError, match=r"statistics=.*s changed since the plan"):
        look.load("cpu")


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: b"x" + d, lambda d: d.replace(b'"count": 5', b'"count": 6'), lambda d: b""]
)
def test_altered_statistics_are_refused(photos: Path, change) -> None:
    with pytest.raises(InputError):
        Statistics.from_bytes(change(fit(photos).to_bytes()))


def test_nothing_before_load() -> None:
    with pytest.raises(SynthaugError, match="before load"):
        drawn(Look(photos="does/not/exist"))


@pytest.mark.parametrize("folder", ["grocery", "dice"])
def test_real_renders_pass_the_gate_after_a_look(data_root: Path, folder: str) -> None:
    look = ready(data_root / folder / "images", method="mix", limit=24)
    gate = Integrity()
    for path in sorted((data_root / "carla" / "images").glob("*.png"))[::16]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        image = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) / 255
        labels = Labels(image.shape[2:])
        done = look.paint(image.copy(), [labels], [drawn(look, path.name)])
        verdict = gate.judge(done, image, [labels])[0]
        assert verdict.accepted, (path.name, verdict)
