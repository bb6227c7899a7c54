"""B9: one digest, whatever the workers, the order of arrival, the interruptions and the length of the tail.

Once with the fake device model, once with a tiny diffusers pipeline; and three mutants that must turn it red.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from synthaug.engine import failpoints, local
from synthaug.engine.configure import RunConfig, compose
from synthaug.errors import Interrupted
from synthaug.refine.img2img import Img2Img
from tests import fakes
from tests.engine import runs

SMALL = ("read.width=24", "read.height=16", "engine.shard_size=4", "engine.micro_batch=3")
GATED = ("gate.share=0.4", "gate.stubborn=0.25", "max_reject_ratio=1")
TAILS: Mapping[str, tuple[str, ...]] = {
    "plain": ("read.count=14",),
    "longer": ("read.count=15",),
    "gap": ("read.count=14", "read.broken=[fake/00000]"),
}
"""`longer` gives the last batch one more member, `gap` takes the first one from the first batch."""


@dataclass(frozen=True)
class Cell:
    """One way to come to the same dataset.

    Attributes:
        workers: Reading processes; 0 reads in a thread.
        jitter: Longest wait of a sample in seconds, which shuffles the order of arrival.
        stops: Shards that each of the interrupted runs finishes before it is stopped.
        tail: Which of `TAILS`.
    """

    workers: int = 0
    jitter: float = 0.0
    stops: tuple[int, ...] = ()
    tail: str = "plain"


@dataclass(frozen=True)
class Recipe:
    """A recipe, what is overridden in it, and the stage that mutants spoil."""

    path: str
    fixed: tuple[str, ...]
    stage: type[Any]

    def config(self, out: Path, cell: Cell, *overrides: str) -> RunConfig:
        """Composed for one cell."""
        own = (f"write.root={out}", f"engine.workers={cell.workers}", f"read.jitter={cell.jitter}")
        words = [*SMALL, *GATED, *self.fixed, *TAILS[cell.tail], *own, "engine.progress=none", *overrides]
        return compose(self.path, runs.merged(*words), plugins=[runs.PLUGIN])


@pytest.fixture(params=["fake", "tiny"])
def recipe(request: pytest.FixtureRequest) -> Recipe:
    """Both models behind the same matrix, with one torch thread."""
    import torch

    torch.set_num_threads(1)
    if request.param == "fake":
        device = ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'")
        return Recipe(runs.RECIPE, device, fakes.FakeDeviceModel)
    model = request.getfixturevalue("tiny_sd")
    return Recipe(str(Path(__file__).with_name("painted.yaml")), (f"refine.model={model}",), Img2Img)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def walk(recipe: Recipe, out: Path, cell: Cell) -> str:
    """Runs a cell to its end; the golden digest."""
    config = recipe.config(out, cell)
    for number, finished in enumerate(cell.stops):
        failpoints.arm(f"run.interrupt@{finished}")
        try:
            local.run(config)
            assert number, "the first run was not interrupted"
        except Interrupted:
            assert not (out / "manifest.json").exists()
    failpoints.arm("")
    assert local.run(config) == 0
    return runs.digest(out)


def pictures(out: Path) -> dict[str, bytes]:
    """Every emitted picture by name."""
    return {p.name: p.read_bytes() for p in sorted((out / "images").rglob("*.png"))}


def draws(out: Path) -> dict[str, list[tuple[int, Any]]]:
    """Attempt and numbers drawn by each step of each sample."""
    return {id_: [(step["attempt"], step["draw"]) for step in row["steps"]] for id_, row in runs.trail(out).items()}


def differing(recipe: Recipe, folder: Path, cells: Iterable[Cell]) -> list[str]:
    """What depends on something it must not depend on: cells off their tail's digest, tails off shared pictures."""
    golden: dict[str, str] = {}
    wrong: list[str] = []
    for number, cell in enumerate(cells):
        out = folder / f"{number:03d}"
        if walk(recipe, out, cell) != golden.setdefault(cell.tail, runs.digest(out)):
            wrong.append(f"resume {cell}" if cell.stops else f"order {cell}")
    first = {cell.tail: folder / f"{number:03d}" for number, cell in reversed(list(enumerate(cells)))}
    for one, other in itertools.combinations(sorted(first), 2):
        left, right = pictures(first[one]), pictures(first[other])
        common = left.keys() & right.keys()
        assert len(common) >= 8
        wrong += [f"tail {one}/{other} {name}" for name in sorted(common) if left[name] != right[name]]
    return wrong


THIN = (
    Cell(),
    Cell(jitter=0.02),
    Cell(workers=1, jitter=0.02, stops=(2,)),
    Cell(workers=2, stops=(1, 1)),
    Cell(workers=4, jitter=0.02),
    Cell(tail="longer"),
    Cell(workers=2, tail="longer", stops=(2,)),
    Cell(tail="gap"),
)
FULL = tuple(Cell(*row) for row in itertools.product((1, 2, 4), (0.0, 0.02), ((), (2,), (1, 1)), tuple(TAILS)))


def test_b9_one_digest_in_some_cells(recipe: Recipe, tmp_path: Path) -> None:
    assert differing(recipe, tmp_path, THIN) == []
    counts = runs.totals(tmp_path / "000")
    attempts = {row["steps"][0]["attempt"] for row in runs.trail(tmp_path / "000").values()}
    assert counts["rejected"], "the matrix must see rejections"
    assert attempts >= {0, 1}, "and repairs"


@pytest.mark.slow
def test_b9_one_digest_in_every_cell(recipe: Recipe, tmp_path: Path) -> None:
    print(f"B9: {len(FULL)} cells for {recipe.stage.__name__}")
    assert differing(recipe, tmp_path, FULL) == []


@pytest.mark.parametrize("length", [1, 2, 5])
def test_b9_another_micro_batch_changes_no_draw(recipe: Recipe, tmp_path: Path, length: int) -> None:
    """Draws and attempts are the sample's own whatever its batch; the fake's pictures too: it sums up nothing."""
    walk(recipe, tmp_path / "three", Cell())
    assert local.run(recipe.config(tmp_path / "other", Cell(), f"engine.micro_batch={length}")) == 0
    assert draws(tmp_path / "three") == draws(tmp_path / "other")
    if recipe.stage is fakes.FakeDeviceModel:
        assert pictures(tmp_path / "three") == pictures(tmp_path / "other")


Paint = Callable[[Any, Any, Sequence[Any], Sequence[Mapping[str, Any]]], Any]


def by_position(paint: Paint) -> Paint:
    """The classic: one seed for the batch, counted up."""

    def spoilt(self: Any, images: Any, labels: Sequence[Any], draws: Sequence[Mapping[str, Any]]) -> Any:
        first = int(draws[0]["seed"])
        return paint(self, images, labels, [{**draw, "seed": first + i} for i, draw in enumerate(draws)])

    return spoilt


def by_batch(paint: Paint) -> Paint:
    """Something of the neighbour in every picture, as attention or a norm across the batch would leave."""

    def spoilt(self: Any, images: Any, labels: Sequence[Any], draws: Sequence[Mapping[str, Any]]) -> Any:
        return paint(self, 0.7 * images + 0.3 * images.roll(1, 0), labels, draws)

    return spoilt


def by_call(paint: Paint) -> Paint:
    """A state that counts the calls of the process."""
    calls = itertools.count()

    def spoilt(self: Any, images: Any, labels: Sequence[Any], draws: Sequence[Mapping[str, Any]]) -> Any:
        number = next(calls)
        return paint(self, images, labels, [{**draw, "seed": int(draw["seed"]) ^ number} for draw in draws])

    return spoilt


@pytest.mark.parametrize(
    ("mutant", "cells", "axis"),
    [
        (by_position, (Cell(), Cell(tail="gap")), "tail"),
        (by_batch, (Cell(), Cell(tail="longer")), "tail"),
        (by_call, (Cell(), Cell(stops=(2,))), "resume"),
    ],
)
def test_b9_a_mutant_turns_the_matrix_red(
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mutant: Callable[[Paint], Paint],
    cells: tuple[Cell, ...],
    axis: str,
) -> None:
    monkeypatch.setattr(recipe.stage, "paint", mutant(recipe.stage.paint))
    wrong = differing(recipe, tmp_path, cells)
    assert wrong
    assert all(line.startswith(axis) for line in wrong), wrong
