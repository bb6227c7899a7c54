"""Transforms of albumentations and kornia: right motion, own randomness, and refusals with a reason."""

from __future__ import annotations

import random
import sys
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("albumentations", reason="the bridge extra is not installed")
pytest.importorskip("kornia", reason="the bridge extra is not installed")
torch = pytest.importorskip("torch")

from synthaug.augment import bridge, grid  # noqa: E402
from synthaug.augment.bridge import (  # noqa: E402
    AlbumentationsAppearance,
    AlbumentationsGeometry,
    KorniaAppearance,
    KorniaGeometry,
)
from synthaug.errors import ConfigError, Rejected  # noqa: E402
from synthaug.labels import Labels  # noqa: E402
from synthaug.seeds import from_seed  # noqa: E402
from synthaug.warp import move  # noqa: E402
from synthaug.warp.motion import Warp  # noqa: E402
from tests.augment.scenes import sample, smooth  # noqa: E402

torch.set_num_threads(1)
SIZE = (120, 160)
LABELS = Labels(SIZE)

PROJECTIVE: dict[str, dict[str, Any]] = {
    "Affine": {"rotate": [-30, 30], "scale": [0.8, 1.2], "shear": [-10, 10], "translate_percent": [-0.1, 0.1]},
    "Perspective": {"scale": [0.05, 0.15]},
    "Rotate": {},
    "SafeRotate": {},
    "ShiftScaleRotate": {},
    "HorizontalFlip": {},
    "VerticalFlip": {},
    "Transpose": {},
    "RandomCrop": {"height": 64, "width": 96},
    "RandomResizedCrop": {"size": [80, 80]},
    "Resize": {"height": 60, "width": 200},
    "Pad": {"padding": 10},
    "CropAndPad": {"percent": [-0.1, 0.1]},
}
DENSE: dict[str, dict[str, Any]] = {
    "ElasticTransform": {"alpha": 60, "sigma": 8},
    "GridDistortion": {},
    "OpticalDistortion": {"distort_limit": [-0.4, 0.4]},
    "PiecewiseAffine": {},
    "ThinPlateSpline": {"scale_range": [0.1, 0.2]},
    "GridElasticDeform": {"num_grid_xy": [4, 4], "magnitude": 6},
}


def drawn(stage: Any, seed: int) -> dict[str, Any]:
    return stage.draw(from_seed(seed), LABELS, 0)


def assert_same_picture(picture: np.ndarray, warp: Warp, theirs: np.ndarray) -> None:
    """Their picture is this one, looked up where the warp says, away from the rim of either canvas.

    A plain bilinear look-up, as theirs is: our own resampling would take the aliasing out of it.
    """
    assert theirs.shape[:2] == warp.target
    back = warp.backward_grid()
    ours = cv2.remap(picture, back[..., 0] - 0.5, back[..., 1] - 0.5, cv2.INTER_LINEAR)
    with np.errstate(invalid="ignore"):
        inside = ((back > 2) & (back < (SIZE[1] - 2, SIZE[0] - 2))).all(axis=2)
    inside[:3], inside[-3:], inside[:, :3], inside[:, -3:] = False, False, False, False
    assert inside.mean() > 0.2
    assert np.abs(ours - theirs)[inside].max() < 0.01


@pytest.mark.parametrize("name", [*PROJECTIVE, *DENSE])
def test_our_picture_is_albumentations_own(name: str) -> None:
    """Resampling by the learnt warp gives the picture that the transform itself gives, away from the rim."""
    stage = AlbumentationsGeometry(transform=name, params={**PROJECTIVE.get(name, DENSE.get(name, {})), "p": 1.0})
    picture = smooth(SIZE)
    for seed in range(4):
        draw = drawn(stage, seed)
        warp = stage.warp(LABELS, draw)
        assert warp.is_homography == (name in PROJECTIVE)
        theirs = stage._transform.apply(picture, draw["seed"])
        assert_same_picture(picture, warp, theirs)


@pytest.mark.parametrize("name", ["Affine", "Perspective", "Rotate", "ElasticTransform", "ThinPlateSpline"])
def test_points_follow_the_pixels(name: str) -> None:
    """A white spot is found where its centre was sent to, within a twentieth of a pixel."""
    stage = AlbumentationsGeometry(transform=name, params={**PROJECTIVE.get(name, DENSE.get(name, {})), "p": 1.0})
    y, x = np.mgrid[0:120, 0:160] + 0.5
    for seed, (cx, cy) in enumerate(((80.3, 60.1), (60.7, 50.2), (100.5, 70.9))):
        draw = drawn(stage, seed)
        spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8).astype(np.float32)
        moved = stage._transform.apply(np.repeat(spot[..., None], 3, axis=2), draw["seed"])[..., 0].astype(np.float64)
        ((px, py),) = stage.warp(LABELS, draw).forward([(cx, cy)])
        rows, columns = np.mgrid[0 : moved.shape[0], 0 : moved.shape[1]] + 0.5
        # Where lines bend or converge the centre of mass is not the image of the centre; so fit a peak.
        near = (rows - py) ** 2 + (columns - px) ** 2 < 2.5**2
        assert moved[near].max() == moved.max()
        terms = np.stack([np.ones(near.sum()), columns[near] - px, rows[near] - py], axis=1)
        square = np.stack([terms[:, 1] ** 2, terms[:, 1] * terms[:, 2], terms[:, 2] ** 2], axis=1)
        fit = np.linalg.lstsq(np.hstack([terms, square]), np.log(moved[near] + 1e-9), rcond=None)[0]
        peak = np.linalg.solve([[2 * fit[3], fit[4]], [fit[4], 2 * fit[5]]], -fit[1:3])
        assert np.hypot(*peak) < 0.1


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("RandomAffine", {"degrees": 20.0, "translate": [0.1, 0.1], "scale": [0.8, 1.2], "shear": 5.0}),
        ("RandomPerspective", {}),
        ("RandomHorizontalFlip", {}),
        ("RandomRotation", {"degrees": 30.0}),
        ("RandomCrop", {"size": [64, 96]}),
        ("RandomResizedCrop", {"size": [80, 80]}),
        ("RandomElasticTransform", {"kernel_size": [33, 33], "sigma": [6.0, 6.0], "alpha": [0.5, 0.5]}),
        ("RandomThinPlateSpline", {"scale": 0.1}),
    ],
)
def test_our_picture_is_kornias_own(name: str, params: dict[str, Any]) -> None:
    stage = KorniaGeometry(transform=name, params={**params, "p": 1.0})
    picture = smooth(SIZE)
    for seed in range(3):
        draw = drawn(stage, seed)
        warp = stage.warp(LABELS, draw)
        assert warp.target == stage.canvas(SIZE)
        assert_same_picture(picture, warp, stage._transform.apply(picture, draw["seed"]))


def test_labels_go_through_a_foreign_motion() -> None:
    before = sample()
    stage = AlbumentationsGeometry(transform="Affine", params={"rotate": [15, 15], "scale": 0.9, "p": 1.0})
    after = move.apply(before, stage.warp(before.labels, drawn(stage, 0))).sample
    after.labels.check()
    assert len(after.labels.instances) == 3
    assert after.labels.camera is not None


APPEARANCES: tuple[tuple[type[Any], str, dict[str, Any]], ...] = (
    (AlbumentationsAppearance, "RandomFog", {"p": 1.0}),
    (AlbumentationsAppearance, "GaussNoise", {"p": 1.0}),
    (AlbumentationsAppearance, "ColorJitter", {"p": 0.7}),
    (AlbumentationsAppearance, "CLAHE", {"p": 1.0}),
    (AlbumentationsAppearance, "ImageCompression", {"quality_range": [20, 40], "p": 1.0}),
    (KorniaAppearance, "ColorJiggle", {"brightness": 0.3, "hue": 0.1}),
    (KorniaAppearance, "RandomGaussianNoise", {"std": 0.1, "p": 1.0}),
    (KorniaAppearance, "RandomPlasmaShadow", {"p": 1.0}),
)
GEOMETRIES: tuple[tuple[type[Any], str, dict[str, Any]], ...] = (
    (AlbumentationsGeometry, "ElasticTransform", {"alpha": 50, "p": 1.0}),
    (AlbumentationsGeometry, "Perspective", {"p": 0.5}),
    (KorniaGeometry, "RandomAffine", {"degrees": 20.0, "p": 1.0}),
    (KorniaGeometry, "RandomElasticTransform", {"p": 1.0}),
)


def batch(kind: type[Any], count: int = 1) -> Any:
    images = np.stack([smooth(SIZE, i).transpose(2, 0, 1) for i in range(count)])
    return torch.from_numpy(images) if kind is KorniaAppearance else images


def result(stage: Any, draw: dict[str, Any]) -> bytes:
    if isinstance(stage, (AlbumentationsGeometry, KorniaGeometry)):
        return stage.warp(LABELS, draw).backward_grid().tobytes()
    return np.asarray(stage.paint(batch(type(stage)), [LABELS], [draw])).tobytes()


@pytest.mark.parametrize(("kind", "name", "params"), [*APPEARANCES, *GEOMETRIES], ids=lambda p: str(p)[:60])
def test_only_the_draw_decides_and_nothing_global_moves(kind: type[Any], name: str, params: dict[str, Any]) -> None:
    """Equal bytes whatever the process-wide generators hold and whatever was done before; and they stay."""
    stage = kind(transform=name, params=params)
    draws = [drawn(stage, seed) for seed in range(3)]

    def poison(seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    poison(1)
    forward = [result(stage, draw) for draw in draws]
    poison(2)
    states = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    backward = [result(stage, draw) for draw in reversed(draws)][::-1]
    assert forward == backward
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tobytes() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert result(kind(transform=name, params=params), draws[1]) == forward[1]
    assert len(set(forward)) > 1


def test_batch_mates_change_nothing() -> None:
    stage = KorniaAppearance(transform="ColorJiggle", params={"brightness": 0.3, "hue": 0.1})
    draws = [drawn(stage, seed) for seed in range(3)]
    together = stage.paint(batch(KorniaAppearance, 3), [LABELS] * 3, draws)
    alone = stage.paint(batch(KorniaAppearance, 3)[1:2], [LABELS], draws[1:2])
    assert torch.equal(together[1], alone[0])


def test_threads_do_not_share_a_generator() -> None:
    """Host stages run beside each other; the torch generator is process-wide."""
    from concurrent.futures import ThreadPoolExecutor

    for kind, name, params in (GEOMETRIES[0], GEOMETRIES[2], APPEARANCES[1]):
        stage = kind(transform=name, params=params)
        draws = [drawn(stage, seed) for seed in range(12)]
        calm = [result(stage, draw) for draw in draws]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda d, s=stage: result(s, d), draws)) == calm


@pytest.mark.parametrize(
    ("kind", "name", "params", "message"),
    [
        (AlbumentationsAppearance, "Affine", {}, "moves pixels.*augment=albumentations_geometry"),
        (AlbumentationsAppearance, "ZoomBlur", {}, r"ZoomBlur moves the picture by \d"),
        (AlbumentationsAppearance, "CoarseDropout", {}, "erases labelled content"),
        (AlbumentationsAppearance, "Normalize", {}, "range or type"),
        (AlbumentationsAppearance, "RandomFogg", {}, "Did you mean 'RandomFog'"),
        (AlbumentationsAppearance, "RandomFog", {"alpha_coeff": 0.1}, "params.alpha_coeff.*Did you mean 'alpha_coef'"),
        (AlbumentationsAppearance, "RandomFog", {"alpha_coef": 7}, "RandomFog refuses its parameters(.|\n)*less than"),
        (AlbumentationsAppearance, "RandomFog", ["p"], "expected a mapping"),
        (AlbumentationsAppearance, "Compose", {}, "does not offer"),
        (AlbumentationsGeometry, "RandomFog", {}, "moves nothing: use augment=albumentations_appearance"),
        (AlbumentationsGeometry, "GridDropout", {}, "erases labelled content"),
        (AlbumentationsGeometry, "Lambda", {}, "runs code"),
        (AlbumentationsGeometry, "BBoxSafeRandomCrop", {}, "window from labels"),
        (AlbumentationsGeometry, "CenterCrop3D", {}, "does not offer"),
        (AlbumentationsGeometry, "Affine", {"border_mode": 4}, "params.border_mode.*leave it out"),
        (AlbumentationsGeometry, "Affine", {"rotat": 4}, "Did you mean 'rotate'"),
        (KorniaAppearance, "RandomAffine", {}, "moves pixels.*augment=kornia_geometry"),
        (KorniaAppearance, "RandomErasing", {}, "erases labelled content"),
        (KorniaAppearance, "RandomDissolving", {}, "downloads"),
        (KorniaAppearance, "RandomMosaic", {}, "does not offer"),
        (KorniaGeometry, "ColorJiggle", {}, "use augment=kornia_appearance"),
        (KorniaGeometry, "RandomAffine", {"degrees": "far"}, "RandomAffine refuses its parameters"),
    ],
)
def test_refusals_name_the_reason(kind: type[Any], name: str, params: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(transform=name, params=params)


def test_a_motion_without_one_canvas_is_refused_by_the_plan() -> None:
    with pytest.raises(ConfigError, match="RandomScale turns 160x120 into several sizes"):
        AlbumentationsGeometry(transform="RandomScale", params={"p": 1.0}).canvas(SIZE)
    half = AlbumentationsGeometry(transform="RandomCrop", params={"height": 64, "width": 64, "p": 0.5})
    with pytest.raises(ConfigError, match="set its p to 1"):
        half.canvas(SIZE)
    with pytest.raises(ConfigError, match=r"RandomCrop cannot do a 40x30 picture.*64"):
        half.canvas((30, 40))
    assert AlbumentationsGeometry(transform="SquareSymmetry", params={"p": 1}).canvas((80, 80)) == (80, 80)
    assert AlbumentationsGeometry(transform="Rotate", params={}).canvas(SIZE) == SIZE


def test_a_picture_that_is_moved_away_is_rejected() -> None:
    stage = AlbumentationsGeometry(transform="Affine", params={"translate_px": {"x": 500, "y": 0}, "p": 1.0})
    with pytest.raises(Rejected, match="off its canvas"):
        stage.warp(LABELS, drawn(stage, 0))


def test_identity_names_library_version_and_licence() -> None:
    fog = AlbumentationsAppearance(transform="RandomFog").identity()
    assert fog["library"].startswith("albumentations 2.")
    assert fog["library"].endswith("(MIT)")
    assert fog["pictures"] == "float32"
    assert KorniaGeometry(transform="RandomHorizontalFlip").identity()["library"].startswith("kornia 0.")


def test_the_agpl_fork_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        return {"albumentationsx": "2.5.1", "albumentations": "2.0.8"}[name]

    monkeypatch.setattr(bridge.metadata, "version", version)
    with pytest.raises(ConfigError, match=r"albumentationsx 2.5.1 is installed: a fork under the AGPL-3.0"):
        AlbumentationsAppearance(transform="RandomFog")


def test_importing_the_bridge_costs_nothing_and_albumentations_asks_no_network() -> None:
    import subprocess

    code = (
        "import sys, synthaug.augment.bridge as b, synthaug.augment.photometric\n"
        "assert not {'torch', 'albumentations', 'kornia'} & set(sys.modules)\n"
        "import urllib.request\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "urllib.request.OpenerDirector.open = refuse\n"
        "b.AlbumentationsGeometry(transform='HorizontalFlip')\n"
        "assert 'albumentations' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_every_offered_colour_transform_of_albumentations_is_either_still_or_refused() -> None:
    """The class rule and the probe agree for the whole library: what is built does not move spots."""
    library = bridge._albumentations()
    built = 0
    for name, cls in vars(library).items():
        if isinstance(cls, type) and issubclass(cls, library.ImageOnlyTransform) and name not in ("Superpixels",):
            try:
                stage = AlbumentationsAppearance(transform=name)
            except ConfigError:
                continue
            built += 1
            moves = [grid.movement(lambda p, s=s, t=stage: t._transform.apply(p, s, sure=True)) for s in range(5)]
            assert np.median(moves) <= 2.0, name
    assert built > 40
