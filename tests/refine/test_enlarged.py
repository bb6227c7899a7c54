"""Small objects in the stage: what windows change, what they never change, and what they do not depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug import rle, seeds, testing
from synthaug.contracts import Painted
from synthaug.engine import blame
from synthaug.errors import ConfigError
from synthaug.labels import Labels
from synthaug.models.pipelines import Img2ImgModel, Output
from synthaug.refine import enlarged, small
from synthaug.refine.img2img import Img2Img
from tests.models.families import build_flux
from tests.models.tiny import build_tiny_controlnet
from tests.refine.dots import CLASSES, FAR, FEW, NEAR, SMALL, dots
from tests.refine.guidance import scenes

torch.set_num_threads(1)
EMPTY = dots(())
CROWD = dots([(8 + 30 * (k % 4), 6 + 30 * (k // 4), 14 + 30 * (k % 4), 12 + 30 * (k // 4)) for k in range(12)])


@pytest.fixture(scope="module")
def tiny_net(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_controlnet(tmp_path_factory.mktemp("net") / "net", tiny_sd)


def loaded(model: Path, **fields: Any) -> Img2Img:
    stage = Img2Img(model=str(model), **{**FEW, **fields})
    stage.load("cpu")
    return stage


def pictures(count: int, size: tuple[int, int] = scenes.SIZE) -> torch.Tensor:
    return torch.rand((count, 3, *size), generator=torch.Generator().manual_seed(0))


def drawn(stage: Img2Img, labels: Sequence[Labels], names: str, attempt: int = 0) -> list[Any]:
    rngs = [seeds.generator(0, name, 0, "refine", attempt) for name in names]
    rows = [stage.draw(rng, own, attempt) for rng, own in zip(rngs, labels, strict=True)]
    return [blame.as_json(row) for row in rows]


def paint(stage: Img2Img, labels: Sequence[Labels], names: str, images: torch.Tensor | None = None) -> Painted:
    """Each picture named by a letter, which is its sample."""
    images = torch.stack([pictures(26)["abcdefgh".index(n)] for n in names]) if images is None else images
    with torch.inference_mode():
        return stage.paint(images.clone(), list(labels), drawn(stage, labels, names))


def test_without_small_objects_it_is_the_plain_path_to_the_bit(tiny_sd: Path) -> None:
    labels = [EMPTY, dots([(10, 10, 70, 80)])]  # nothing, and nothing small
    plain = paint(loaded(tiny_sd), labels, "ab")
    found = paint(loaded(tiny_sd, small=SMALL), labels, "ab")
    assert torch.equal(found.images, plain.images)
    assert [told["small"]["small"] for told in found.facts] == [0, 0]


def test_the_stage_keeps_its_contract_with_windows(tiny_sd: Path) -> None:
    rules = {"below": 60, "at_least": 2, "target": 64, "most": 4, "padding": 0}
    testing.check(loaded(tiny_sd, small=rules, protect={"never_classes": ["square"]}))


def test_windows_change_their_objects_and_nothing_far_from_them(tiny_sd: Path) -> None:
    labels = [dots()]
    plain, found = (paint(loaded(tiny_sd, **more), labels, "a").images[0] for more in ({}, {"small": SMALL}))
    changed = (plain != found).any(0).numpy()
    on = labels[0].passes["instance"] > 0
    assert changed[on].mean() > 0.9
    reach = np.zeros_like(on)
    for x0, y0, x1, y1 in FAR:
        reach[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2] = True  # the feather
    assert not changed[~reach].any()


class Still(Img2ImgModel):
    """Gives back what it gets, and notes what that was."""

    def __init__(self, inner: Img2ImgModel, *, whole: float = 0.0) -> None:
        self.__dict__.update(inner.__dict__)
        self.calls: list[tuple[torch.Tensor, list[Any], Any]] = []
        self.whole = whole

    def __call__(self, images: torch.Tensor, requests: Any, *, steps: int, guidance: float, extras: Any = None) -> Any:
        self.calls.append((images, list(requests), extras))
        made = images * (1 - self.whole) if len(self.calls) == 1 else images.clone()
        return Output(made, ("",) * len(images))


def still(stage: Img2Img, whole: float = 0.0) -> Still:
    assert stage._loaded is not None
    stage._loaded = Still(stage._loaded, whole=whole)
    return stage._loaded


def test_a_model_that_ruins_the_whole_and_not_windows_gives_objects_back_as_they_came(tiny_sd: Path) -> None:
    stage = loaded(tiny_sd, small=SMALL)
    model = still(stage, whole=1.0)
    images = pictures(1)
    done = paint(stage, [dots()], "a", images).images
    on = torch.from_numpy(dots().passes["instance"] > 0)
    assert torch.equal(done[..., on], images[..., on])
    assert (done[..., 40:55, :] == 0).all()
    # Around the object the window shows what was painted: black here.
    window = model.calls[1][0][0]
    assert (window[:, :4] < 0.01).all()
    assert window.max() > 0.3


def test_windows_have_their_own_seed_and_words_and_the_strength_of_the_attempt(tiny_sd: Path) -> None:
    words = {"prompt": "{classes} {x}", "words": {"x": ["a", "b", "c"]}, "strength_decay": 0.5, "strength": 1.0}
    stage = loaded(tiny_sd, small=SMALL, **words)
    model = still(stage)
    labels = [dots(), EMPTY]
    for attempt in (0, 1):
        model.calls.clear()
        draws = drawn(stage, labels, "ab", attempt)
        stage.paint(pictures(2), labels, draws)
        whole, first, second = (requests for _, requests, _ in model.calls)
        said = [whole[0].prompt, first[0].prompt, second[0].prompt]
        # As many cars as roads, so that the larger one comes first; a drawn word is the same for all.
        assert [text[:-2] for text in said] == ["car and road", "car", "road"]
        assert len({text[-1] for text in said}) == 1
        assert len({whole[0].seed, first[0].seed, second[0].seed}) == 3
        assert {r.strength for r in (*whole, *first, *second)} == {0.5**attempt}
        assert len(first) == len(second) == 2, "always at full length"
        assert [w["ids"] for w in draws[0]["windows"]] == [[1], [2]]
        assert draws[1]["windows"] == []
        assert [w["prompt"] for w in draws[0]["windows"]] == said[1:]


def test_windows_leave_the_draw_of_the_picture_as_it_was(tiny_sd: Path) -> None:
    one, other = (drawn(Img2Img(model=str(tiny_sd), **m, **FEW), [dots()], "a")[0] for m in ({}, {"small": SMALL}))
    del other["windows"]
    assert one == other


ALL: dict[str, Any] = {"protect": {"never_ids": [2], "classes": {"car": 0.6}, "default": 0.9}, "small": SMALL}


def test_what_is_never_touched_keeps_its_bits_and_its_windows_are_not_run(tiny_sd: Path) -> None:
    labels, images = [dots()], pictures(1)
    stage = loaded(tiny_sd, **ALL)
    done = paint(stage, labels, "a", images)
    never = torch.from_numpy(labels[0].passes["instance"] == 2)
    assert never.any()
    assert torch.equal(done.images[..., never], images[..., never])
    on = torch.from_numpy(labels[0].passes["instance"] == 1)
    assert (done.images != images)[..., on].any()
    counts = done.facts[0]["small"]
    assert counts == {"small": 2, "windowed": 2, "too_large": 0, "over_limit": 0, "windows": 1, "protected": 1}
    assert {"seam", "never"} <= set(done.facts[0]["protect"])


@settings(max_examples=12)
@given(st.integers(0, 70), st.integers(0, 50), st.integers(1, 9), st.integers(0, 3))
def test_never_touched_bits_survive_wherever_they_lie_in_a_window(x: int, y: int, side: int, feather: int) -> None:
    """A sign before, beside or inside of a car whose window is painted over and over."""
    stage = _stage(feather)
    labels = dots([(40, 30, 56, 42), (x, y, x + side, y + side)])
    images = pictures(1)
    done = paint(stage, [labels], "a", images).images
    never = torch.from_numpy(labels.passes["instance"] == 2)
    assert never.any()
    assert torch.equal(done[..., never], images[..., never])


_KEPT: dict[int, Img2Img] = {}


def _stage(feather: int) -> Img2Img:
    """A stage whose model inverts what it is shown; it stands for the worst that a model can do."""
    if feather not in _KEPT:
        stage = Img2Img(
            model="m", protect={"never_ids": [2]}, feather=feather, small={**SMALL, "feather": 3, "padding": 1}, **FEW
        )
        stage._loaded = Inverting()  # pyright: ignore
        _KEPT[feather] = stage
    return _KEPT[feather]


class Inverting:
    factor, multiple, loop = 8, 64, None

    def __call__(self, images: torch.Tensor, requests: Any, **_: Any) -> Output:
        return Output(1 - images, ("",) * len(images))


@pytest.mark.parametrize("more", [{}, {"tile": 64, "overlap": 16}, {"sequence": True}])
def test_neither_neighbours_nor_the_number_of_rounds_change_a_picture(
    tiny_sd: Path, tiny_net: Path, more: dict[str, Any]
) -> None:
    """Small, protect and controls together; beside a crowd and beside an empty picture, in another order."""
    stage = loaded(
        tiny_sd, **ALL, controls={"depth": {"model": str(tiny_net)}, "tile": {"model": str(tiny_net)}}, **more
    )
    first = paint(stage, [dots(), dots(NEAR), EMPTY], "abc").images
    again = paint(stage, [CROWD, dots(), dots(NEAR)], "dab").images
    alone = paint(stage, [dots()] * 3, "aaa").images
    assert torch.isfinite(first).all()
    assert torch.equal(first[0], again[1])
    assert torch.equal(first[1], again[2])
    assert all(torch.equal(first[0], one) for one in alone)


def test_a_picture_of_another_strength_beside_it_changes_nothing(tiny_sd: Path) -> None:
    """A batch holds first tries and repairs."""
    stage = loaded(tiny_sd, small=SMALL)
    labels = [dots(), dots(NEAR)]
    tries = [drawn(stage, labels, "ab", attempt) for attempt in (0, 1)]
    images = pictures(2)
    with torch.inference_mode():
        same = stage.paint(images.clone(), labels, tries[0]).images
        mixed = stage.paint(images.clone(), labels, [tries[0][0], tries[1][1]]).images
        repaired = stage.paint(images.clone(), labels, tries[1]).images
    assert torch.equal(same[0], mixed[0])
    assert torch.equal(repaired[1], mixed[1])
    assert not torch.equal(same[1], mixed[1])


def test_guidance_in_a_window_is_that_of_its_labels(tiny_sd: Path, tiny_net: Path) -> None:
    """Segmentation by the nearest pixel; depth with its own range, which a box half a metre before a wall fills."""
    controls = {
        "segmentation": {"model": str(tiny_net), "colours": {"car": [255, 0, 0], "road": [0, 255, 0]}},
        "depth": {"model": str(tiny_net), "law": "linear"},
    }
    stage = loaded(tiny_sd, small=SMALL, controls=controls)
    model = still(stage)
    paint(stage, [dots()], "a")
    _, _, extras = model.calls[1]
    (window, _), _ = small.find(dots(), stage.small)  # pyright: ignore
    shown = dots().passes["instance"][window.rows, window.columns].repeat(4, 0).repeat(4, 1) == 1
    colours, depth = (hint.images[0].numpy() for hint in extras.hints)
    assert np.array_equal(colours[0] == 1, shown)
    assert ((depth[0] > 0.99) == shown).all()
    assert extras.hints[0].weights.shape[-2:] == (8, 8)


def test_the_labels_of_a_window_are_those_of_the_picture_enlarged() -> None:
    labels = dots(FAR)
    (window, _), _ = small.find(labels, small.Small.parse(SMALL))  # pyright: ignore
    seen = enlarged.view(labels, window)
    seen.check(thorough=True)
    k = window.factor
    for name in ("instance", "semantic"):
        crop = labels.passes[name][window.rows, window.columns]
        assert np.array_equal(seen.passes[name], crop.repeat(k, 0).repeat(k, 1))
    assert [i.id for i in seen.instances] == [1]
    assert seen.instances[0].box == rle.boxes_in(seen.passes["instance"])[1][0]
    assert {3.5, 4.0} == set(np.unique(seen.passes["depth"]).tolist())
    assert seen.camera is not None
    assert seen.camera.extrinsics == labels.camera.extrinsics  # pyright: ignore
    point = np.array([[0.3, -0.2, 4.0]])
    before = labels.camera.project(point)  # pyright: ignore
    assert np.allclose(seen.camera.project(point), (before - [window.x, window.y]) * k, atol=1e-6)


def test_a_strength_map_is_enlarged_with_its_window(tiny_sd: Path) -> None:
    """Latents of a place of strength zero come back; with strength one everywhere they do not."""
    stage = loaded(tiny_sd, small=SMALL, protect={"classes": {"car": 0.3}, "keypoint_radius": 0, "default": 1.0})
    model = still(stage)
    paint(stage, [dots()], "a")
    (_, _, extras), (_, _, other) = model.calls[1], model.calls[2]
    first = extras.hold(torch.zeros(1, 4, 8, 8), lambda _: torch.zeros(1, 4, 8, 8), 10)._first[0, 0]
    (window, _), _ = small.find(dots(), stage.small)  # pyright: ignore
    on = dots().passes["instance"][window.rows, window.columns] == 1
    whole = on.reshape(8, 2, 8, 2).all((1, 3))  # a latent place is 8 pixels of the window, 2 of the picture
    assert whole.any()
    assert (first.numpy()[whole] == 7).all()
    assert (first.numpy()[~on.reshape(8, 2, 8, 2).any((1, 3))] == 0).all()
    assert (other.hold(torch.zeros(1), lambda _: torch.zeros(1), 10)._first == 0).all()


def test_a_picture_smaller_than_any_window_is_painted_whole_and_counted(tiny_sd: Path) -> None:
    labels = [dots([(2, 2, 9, 9)], size=(12, 14))]
    images = pictures(1, (12, 14))
    plain = paint(loaded(tiny_sd), labels, "a", images)
    found = paint(loaded(tiny_sd, small=SMALL), labels, "a", images)
    assert torch.equal(plain.images, found.images)
    assert found.facts[0]["small"]["too_large"] == 1


def test_the_limit_is_the_number_of_rounds(tiny_sd: Path) -> None:
    stage = loaded(tiny_sd, small={**SMALL, "limit": 3})
    model = still(stage)
    done = paint(stage, [CROWD, dots()], "ab")
    assert len(model.calls) == 1 + 3
    assert done.facts[0]["small"]["over_limit"] > 0
    assert done.facts[0]["small"]["windows"] == 3


def test_a_window_that_is_not_finite_costs_its_own_picture(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = loaded(tiny_sd, small=SMALL)
    sound = paint(stage, [dots(), dots()], "ab").images
    loop = stage._loaded.loop  # pyright: ignore
    decoded, calls = loop._decoded, []

    def spoilt(latents: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        made = decoded(latents)
        if len(calls) == 2:
            made[1, 0, 3, 3] = torch.inf
        return made

    monkeypatch.setattr(loop, "_decoded", spoilt)
    done = paint(stage, [dots(), dots()], "ab")
    assert done.reasons == ("", "nonfinite")
    assert torch.equal(done.images[0], sound[0])
    assert done.images[1].isnan().all()
    assert [blame.as_json(told, "facts") for told in done.facts] == list(done.facts)


def test_a_picture_that_is_out_already_has_no_windows(tiny_sd: Path) -> None:
    stage = loaded(tiny_sd, small=SMALL)
    model = still(stage)
    images = pictures(2)
    labels = [dots(NEAR), dots()]
    batch = enlarged.Batch(images, labels, drawn(stage, labels, "ab"), *_asked(stage, images, labels))
    from synthaug.refine.brush import Brush

    brush = Brush(model, [], stage.rules, 4, 1.0)
    done, reasons = enlarged.refined(images, ("", "safety"), batch, brush, stage.small)  # pyright: ignore
    assert reasons == ("", "safety")
    assert len(model.calls) == 1
    assert done[1].isnan().all()
    assert torch.equal(done[0], images[0])


def _asked(stage: Img2Img, images: torch.Tensor, labels: Sequence[Labels]) -> tuple[Any, Any]:
    from synthaug.models.pipelines import Request
    from synthaug.refine import conditions

    grid = conditions.Grid(8, 64)
    about = conditions.make(images, labels, stage.rules, [], grid, [1] * len(labels))
    return [Request("a", "", 0.5, 1)] * len(labels), about


def test_a_family_without_our_loop_has_windows_too(tmp_path: Path) -> None:
    stage = Img2Img(model=str(build_flux(tmp_path / "flux")), prompt="a", small=SMALL, strength=0.5, steps=4)
    stage.expect(CLASSES, ())
    stage.load("cpu")
    labels = [dots(), EMPTY]
    images = pictures(2)
    with torch.inference_mode():
        found = stage.paint(images.clone(), labels, drawn(stage, labels, "ab"))
        alone = stage.paint(images[[0, 0]], [labels[0]] * 2, drawn(stage, labels[:1] * 2, "aa"))
    assert found.facts[0]["small"]["windows"] == 2
    assert torch.equal(found.images[0], alone.images[0])


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_every_window_has_its_turn_in_its_own_place_and_batches_are_full(counts: list[int]) -> None:
    parts = [[f"{row}.{k}" for k in range(n)] for row, n in enumerate(counts)]
    turns = list(enlarged._rounds(parts))  # pyright: ignore
    assert len(turns) == max(counts)
    assert all(len(turn) == len(counts) for turn in turns)
    own = [part for turn in turns for place, (row, part) in enumerate(turn) if row == place]
    assert sorted(own) == sorted(part for rows in parts for part in rows)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"belw": 3}, r"small\.belw: no such field.*below"),
        ({"below": "much"}, r"small\.below=much: expected a number"),
        ({"most": 2.5}, r"small\.most=2\.5: expected a whole number"),
        ({"most": 1}, r"small\.most=1: expected 2 to 64"),
        ({"target": [64, 63]}, "common divisor"),
        ({"target": "big"}, r"small\.target=big: expected a side in pixels"),
        ({"target": [64, 64, 64]}, r"small\.target"),
        ({"limit": True}, r"small\.limit=True"),
    ],
)
def test_bad_fields_are_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Img2Img(model="m", small=fields)


def test_an_empty_mapping_asks_for_nothing_and_a_side_is_a_square() -> None:
    assert Img2Img(model="m", small={}).small is None
    assert small.Small.parse({"target": 256}) == small.Small(target=(256, 256))
    assert replace(small.Small(), limit=3) == small.Small.parse({"limit": 3})
