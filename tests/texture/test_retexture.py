"""New surfaces on a stage in closed form: true to it, only where they belong, the same in every view, nothing lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.labels import Category, Labels
from synthaug.texture.library import Library
from synthaug.texture.placement import Placement
from synthaug.texture.retexture import Retexture
from tests.texture.staged import CATEGORIES, PASSES, Stage, plain
from tests.texture.surfaces_on import Array, drawn, library, loaded, on_tile, painted, psnr

NAMES = ("board", "ball")


def checks(number: int, uv: Array, own: Array) -> Array:
    """An old surface that is no single colour."""
    odd = (np.floor(uv * 12).sum(1) % 2)[:, None]
    return np.where(odd > 0, (0.25, 0.2, 0.3), plain(number, uv, own))


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("lib") / "lib")


def without(labels: Labels, *names: str) -> Labels:
    return labels.copy([name for name in labels.passes if name not in names])


def without_pose(labels: Labels) -> Labels:
    assert labels.camera is not None
    bare = tuple(replace(i, pose=None) for i in labels.instances)
    return replace(labels, instances=bare, camera=replace(labels.camera, extrinsics=None))


@pytest.mark.parametrize(
    ("old", "passes", "least"),
    [(plain, PASSES, 33), (checks, PASSES, 32), (plain, PASSES[:-1], 24), (checks, PASSES[:-1], 24)],
    ids=("plain", "checks", "plain without albedo", "checks without albedo"),
)
@pytest.mark.parametrize("turn", [0.0, 25.0])
def test_as_a_render_of_the_new_surface(lib: Path, old: Any, passes: Any, least: float, turn: float) -> None:
    stage = Stage(112, turn=turn)
    image, labels = stage.render(old), stage.labels(old, passes)
    done, facts = painted(loaded(lib), image, labels)
    placements = [Placement.from_json(facts[name]) for name in NAMES]
    truth = stage.render(lambda number, uv, own: on_tile(lib, placements[number - 1], uv))
    for instance in labels.instances:
        mask = labels.mask(instance)
        assert psnr(done[mask], truth[mask]) > least, instance.object_id


def test_only_objects_with_a_new_surface_change_to_the_bit(lib: Path) -> None:
    stage = Stage(64)
    image, labels = stage.render(plain).astype(np.float32), stage.labels(plain)
    ids = labels.passes["instance"]
    done, facts = painted(loaded(lib, materials={"board": "grain", "ball": None}), image, labels)
    assert np.array_equal(done[ids != 1], image[ids != 1])
    assert (done[ids == 1] != image[ids == 1]).any(-1).mean() > 0.95
    assert set(facts) == {"board"}
    done, _ = painted(loaded(lib, probability={"board": 0, "*": 1}), image, labels)
    assert np.array_equal(done[ids != 2], image[ids != 2])
    assert not np.array_equal(done[ids == 2], image[ids == 2])
    done, facts = painted(loaded(lib, probability=0.0), image, labels)
    assert np.array_equal(done, image)
    assert not facts


def test_a_fringe_is_repainted_only_where_asked(lib: Path) -> None:
    def bright(number: int, uv: Array, own: Array) -> Array:
        return np.broadcast_to((0.85, 0.8, 0.1), (len(uv), 3))

    stage = Stage(64)
    image, labels = stage.render(bright).astype(np.float32), stage.labels(bright)
    outside = labels.passes["instance"] == 0
    done, facts = painted(loaded(lib, fringe=True, materials={"board": "grain", "ball": None}), image, labels)
    placement = Placement.from_json(facts["board"])
    truth = stage.render(
        lambda number, uv, own: on_tile(lib, placement, uv) if number == 1 else bright(number, uv, own)
    )
    moved = outside & (done != image).any(-1)
    assert 20 < moved.sum() < 400
    assert np.abs(done - truth)[moved].mean() < 0.6 * np.abs(image - truth)[moved].mean()


def test_objects_that_change_light_each_other_and_nothing_else(lib: Path) -> None:
    def dark(number: int, uv: Array, own: Array) -> Array:
        return np.broadcast_to((0.05, 0.05, 0.05), (len(uv), 3))

    stage = Stage(96)
    image, labels = stage.render(dark).astype(np.float32), stage.labels(dark)
    ids, draws = labels.passes["instance"], drawn(loaded(lib), labels)
    alone, _ = painted(loaded(lib), image, labels, draws)
    lit, _ = painted(loaded(lib, bounce=True), image, labels, draws)
    assert np.array_equal(lit[ids == 0], image[ids == 0])
    more = (lit - alone)[ids == 2]
    assert more.mean() > 1e-4, "a brighter board behind it makes the ball brighter"
    assert more.max() < 0.1
    unknown, _ = painted(loaded(lib, bounce=True), image, without(labels, "normals"), draws)
    assert np.array_equal(unknown, painted(loaded(lib), image, without(labels, "normals"), draws)[0])


def test_the_surface_that_is_there_changes_nothing(lib: Path) -> None:
    stage = loaded(lib, materials={"*": "grain"}, relief=0)
    staged = Stage(96)
    draws = drawn(stage, staged.labels(plain))
    _, facts = painted(stage, staged.render(plain), staged.labels(plain), draws)
    placements = [Placement.from_json(facts[name]) for name in NAMES]

    def same(number: int, uv: Array, own: Array) -> Array:
        return on_tile(lib, placements[number - 1], uv)

    image, labels = staged.render(same), staged.labels(same)
    done, _ = painted(stage, image, labels, draws)
    assert psnr(done, image) > 42


@pytest.mark.parametrize(("mapping", "poses"), [("uv", True), ("planes", True), ("planes", False)])
def test_a_point_has_its_colour_in_every_view(lib: Path, mapping: str, poses: bool) -> None:
    """Deferred against deferred, each seen by one camera; points are matched by where they lie in the world."""
    stage = loaded(lib, mapping=mapping, materials={"*": "grain"})
    first, second = (Stage(128, turn=turn) for turn in (0.0, 14.0))
    colours = []
    for staged in (first, second):
        labels = staged.labels(plain)
        if not poses:
            labels = replace(labels, instances=tuple(replace(i, pose=None) for i in labels.instances))
        done, facts = painted(stage, staged.render(plain), labels, drawn(stage, labels))
        assert facts["board"]["mode"] == {"uv": "uv"}.get(mapping, "object" if poses else "world")
        colours.append((done, labels.passes, facts))
    (one, passes, told), (two, others, told_again) = colours
    if mapping != "uv":
        assert told == told_again
    assert told["board"]["matrix"] == told_again["board"]["matrix"]
    # From the first camera to the second, on the board, away from its border.
    inside = passes["instance"] == 1
    rows, columns = np.nonzero(inside)
    points = passes["position"][rows, columns].astype(np.float64)
    world = np.linalg.inv(first.camera)
    seen = (points @ world[:3, :3].T + world[:3, 3]) @ second.camera[:3, :3].T + second.camera[:3, 3]
    camera = second.labels(plain, ("instance",)).camera
    assert camera is not None
    spots = camera.project(seen) - 0.5
    x, y = np.rint(spots).astype(int).T
    near = (np.abs(spots - np.rint(spots)).max(1) < 0.1) & (x > 2) & (y > 2) & (x < 125) & (y < 125)
    near &= others["instance"][np.clip(y, 0, 127), np.clip(x, 0, 127)] == 1
    gap = np.abs(one[rows, columns] - two[np.clip(y, 0, 127), np.clip(x, 0, 127)])[near].mean()
    assert near.sum() > 100
    assert gap < 2 / 255


def test_planes_from_depth_lie_where_planes_from_position_do(lib: Path) -> None:
    staged = Stage(64)
    image, labels = staged.render(plain), staged.labels(plain)
    stage = loaded(lib)
    first, told = painted(stage, image, without(labels, "uv"))
    second, _ = painted(stage, image, without(labels, "uv", "position"))
    assert told["ball"]["mode"] == "object"
    assert np.abs(first - second).max() < 1e-3


def test_coverage_that_a_pass_says_is_used(lib: Path) -> None:
    staged = Stage(64, fine=5)
    image, labels = staged.render(plain), staged.labels(plain)
    ids = labels.passes["instance"]
    share = np.zeros(ids.shape)
    for i in range(5):
        for j in range(5):
            share += staged.hit(staged.grid((j + 0.5) / 5, (i + 0.5) / 5))["id"].reshape(ids.shape) == ids
    told = replace(labels, passes={**labels.passes, "alpha": (share / 25).astype(np.float32)})
    stage = loaded(lib, materials={"*": "grain"})
    errors = []
    for given in (labels, told):
        done, facts = painted(stage, image, given)
        placements = [Placement.from_json(facts[name]) for name in NAMES]
        truth = staged.render(lambda number, uv, own: on_tile(lib, placements[number - 1], uv))  # noqa: B023
        border = (ids > 0) & (share < 25)
        errors.append(psnr(done[border], truth[border]))
    assert errors[1] > errors[0]
    assert errors[1] > 31


def test_draws_do_not_depend_on_pixels_or_on_other_fields(lib: Path) -> None:
    labels = Stage(32).labels(plain)
    first = drawn(loaded(lib), labels)
    assert first == drawn(loaded(lib, relief=0.5, coat=1.5, protect=0.2), without(labels, *PASSES))
    other = drawn(loaded(lib, turn=0.0, scale=(0.5, 2.0)), labels)
    assert [d["texture"] for d in other.values()] == [d["texture"] for d in first.values()]
    assert [d["offset"] for d in other.values()] == [d["offset"] for d in first.values()]
    assert all(d["turn"] == 0 and 0.5 <= d["scale"] <= 2 for d in other.values())
    assert first["board"] != drawn(loaded(lib), labels, seed=4)["board"]


def test_sizes_come_from_attribute_then_configuration_then_picture(lib: Path) -> None:
    staged = Stage(48)
    image, labels = staged.render(plain), staged.labels(plain)
    _, measured = painted(loaded(lib), image, labels)
    assert measured["board"]["metres_per_uv"] == pytest.approx([0.4, 0.4], rel=1e-5)
    told = {"board": (0.4, 0.4), "*": (1.0, 1.0)}
    _, configured = painted(loaded(lib, metres_per_uv=told), image, labels)
    assert "metres_per_uv" not in configured["board"]
    ratio = np.array(configured["board"]["matrix"])[:, :2] / np.array(measured["board"]["matrix"])[:, :2]
    assert ratio == pytest.approx(np.ones((2, 2)), rel=0.023)
    named = replace(
        labels, instances=tuple(replace(i, attributes={"metres_per_uv": [0.8, 0.8]}) for i in labels.instances)
    )
    _, attributed = painted(loaded(lib, metres_per_uv=told), image, named)
    twice = np.array(attributed["board"]["matrix"])[:, :2] / np.array(configured["board"]["matrix"])[:, :2]
    assert twice == pytest.approx(np.full((2, 2), 2))
    broken = replace(labels, instances=tuple(replace(i, attributes={"metres_per_uv": -1}) for i in labels.instances))
    with pytest.raises(Rejected, match="expected two lengths"):
        painted(loaded(lib), image, broken)


def test_coordinates_may_leave_the_unit_square_and_holes_keep_the_old_surface(lib: Path) -> None:
    staged = Stage(64)
    image, labels = staged.render(plain).astype(np.float32), staged.labels(plain)
    stage = loaded(lib, metres_per_uv={"*": (0.3, 0.3)}, turn=0.0)
    draws = {name: {**draw, "offset": [0.25, 0.5]} for name, draw in drawn(stage, labels).items()}
    first, _ = painted(stage, image, labels, draws)
    moved = replace(labels, passes={**labels.passes, "uv": labels.passes["uv"] + np.float32([7, -3])})
    second, _ = painted(stage, image, moved, draws)
    assert np.abs(first - second).max() < 2e-3
    uv = labels.passes["uv"].copy()
    uv[20:30] = np.nan
    holed, _ = painted(stage, image, replace(labels, passes={**labels.passes, "uv": uv}), draws)
    assert np.array_equal(holed[20:30], image[20:30])
    assert np.isfinite(holed).all()
    lost = replace(labels, passes={**labels.passes, "uv": np.full_like(uv, np.nan)})
    nothing, facts = painted(loaded(lib, mapping="uv"), image, lost)
    assert np.array_equal(nothing, image)
    assert facts["ball"] == {"kept": "no finite coordinates"}


def test_nothing_to_hold_on_to_is_a_rejection_with_a_way_out(lib: Path) -> None:
    staged = Stage(32)
    labels = without_pose(without(staged.labels(plain), "uv"))
    with pytest.raises(Rejected, match=r"object board has no uv coordinates, no a pose.*materials.CLASS=null"):
        painted(loaded(lib), staged.render(plain), labels)


@pytest.mark.parametrize(
    ("fields", "passes", "message"),
    [
        ({"mapping": "uv"}, ("instance", "depth", "normals"), "mapping=uv needs the pass uv"),
        ({}, ("instance", "albedo"), "the pass uv, or position or depth with a camera"),
        ({}, ("instance", "depth"), "laid on by the pass normals"),
        ({}, ("instance", "uv"), "how large a unit of uv is"),
        ({"protect": 0.2}, ("instance", "uv", "depth"), "protect finds marks in the pass albedo"),
        ({"materials": {"bord": "grain"}}, PASSES, "no class is called 'bord'. Did you mean 'board'"),
        ({"materials": {"board": "gran"}}, PASSES, "no texture of the library is of gran"),
        ({"coat": {"bal": 1.5}}, PASSES, "coat: no class is called 'bal'"),
        ({"metres_per_uv": {"bal": (1.0, 1.0)}}, PASSES, "metres_per_uv: no class is called 'bal'"),
    ],
)
def test_what_the_input_lacks_is_said_before_a_run(lib: Path, fields: Any, passes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Retexture(library=str(lib), **fields).expect(CATEGORIES, passes)
    Retexture(library=str(lib), metres_per_uv={"*": (1.0, 1.0)}).expect((Category("x"),), ("instance", "uv"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"probability": 1.5}, "probability=1.5: expected a number from 0 to 1"),
        ({"coat": {"ball": 3}}, "coat.ball=3: expected a number from 1 to 2.5"),
        ({"scale": (2.0, 1.0)}, r"scale=\[2.0, 1.0\]: expected 0.01 to 100"),
        ({"turn": 200.0}, "turn=200.0: expected 0 to 180"),
        ({"cover": {"rust": 1.0}}, "cover.rust=1.0: expected weights"),
        ({"cover": {"wear": 0.0}}, "no weight above 0"),
        ({"metres_per_uv": {"*": (0.0, 1.0)}}, "expected two lengths in metres above 0"),
        ({"mapping": "box"}, "expected auto, uv or planes"),
        ({"materials": {"ball": {"wood": -1}}}, "expected a weight above 0"),
    ],
)
def test_fields_out_of_range_are_refused(fields: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Retexture(library="nowhere", **fields)


def test_identity_is_the_content_that_may_be_used(tmp_path: Path) -> None:
    folder = library(tmp_path / "lib")
    stage = Retexture(library=str(folder), materials={"*": "grain"})
    told = stage.identity()
    assert told == Retexture(library=str(library(tmp_path / "other")), materials={"*": "grain"}).identity()
    assert told != Retexture(library=str(folder)).identity()
    assert "library" in Retexture.operational
    grain = next(e for e in Library.open(folder).entries if e.material == "grain")
    (folder / f"entries/{grain.id[:2]}/{grain.id}.json").unlink()
    with pytest.raises(ConfigError, match="no texture of 'grain'"):
        stage.load("cpu")
    with pytest.raises(ConfigError, match="is no texture library"):
        Retexture(library=str(tmp_path)).identity()


def test_a_library_that_changed_after_the_plan_is_refused(tmp_path: Path) -> None:
    folder = library(tmp_path / "lib")
    stage = Retexture(library=str(folder))
    stage.identity()
    brick = next(e for e in Library.open(folder).entries if e.material == "brick")
    (folder / f"entries/{brick.id[:2]}/{brick.id}.json").unlink()
    with pytest.raises(InputError, match="changed since the plan was made"):
        stage.load("cpu")
