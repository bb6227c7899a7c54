"""What a diffusion model can do to a run, on a tiny pipeline behind the real engine and the real gate."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from synthaug.engine import local
from synthaug.engine.configure import compose
from synthaug.errors import ConfigError, SynthaugError
from synthaug.formats import png
from synthaug.refine.img2img import Img2Img
from tests.crash import ledger
from tests.engine import runs
from tests.engine.test_determinism import pictures
from tests.fakes import sample_of
from tests.models.tiny import build_tiny_sd, edit_weights

RECIPE = str(Path(__file__).with_name("painted.yaml"))
VAE = "vae/diffusion_pytorch_model.safetensors"
GATE = ("gate._target_=synthaug.gate.integrity.Integrity", "~gate.share", "~gate.stubborn")


def paint(model: Path, out: Path, *overrides: str) -> int:
    """One run; its exit status. The books must balance whatever came of it."""
    words = [f"refine.model={model}", f"write.root={out}", "engine.workers=0", "engine.progress=none", *overrides]
    status = local.run(compose(RECIPE, words, plugins=[runs.PLUGIN]))
    assert ledger.check(out) == []
    return status


def every_png(out: Path) -> list[str]:
    """Every picture below the output root, panels of the contact sheet included."""
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))


def lost(out: Path) -> dict[str, str]:
    """Reason by id of what is not in the dataset."""
    return {row["id"]: row["reason"] for row in map(json.loads, (out / "rejected.jsonl").read_text().splitlines())}


@pytest.fixture
def model(tiny_sd: Path, tmp_path: Path) -> Path:
    """A copy of the tiny pipeline, to be spoilt."""
    return Path(shutil.copytree(tiny_sd, tmp_path / "model"))


def test_c3_a_poisoned_weight_is_counted_and_the_run_goes_on(model: Path, tmp_path: Path) -> None:
    edit_weights(model / VAE, **{"decoder.conv_out.bias": float("nan")})
    out = tmp_path / "out"
    assert paint(model, out, "max_reject_ratio=0.5") == 3
    assert runs.totals(out) == {"planned": 6, "written": 0, "rejected": {"nonfinite": 6}, "failed": {}}
    assert every_png(out) == []


Change = Callable[[Any, list[int]], None]


def spoil(patch: pytest.MonkeyPatch, of: Callable[[Any], Any], part: str, change: Change, victim: str) -> None:
    """Lets a method of some part of the loaded pipeline spoil the rows of one sample, as the model itself might."""
    load, painting = Img2Img.load, Img2Img.paint
    rows: list[int] = []

    def loading(self: Img2Img, device: str) -> None:
        load(self, device)
        target = of(self._loaded._pipe)  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
        inner = getattr(target, part)

        def spoilt(*args: Any, **kwargs: Any) -> Any:
            result = inner(*args, **kwargs)
            change(result, rows)
            return result

        setattr(target, part, spoilt)

    def spoiling(self: Img2Img, images: Any, labels: Sequence[Any], draws: Sequence[Any]) -> Any:
        rows[:] = [i for i, view in enumerate(labels) if sample_of(view) == victim]
        return painting(self, images, labels, draws)

    patch.setattr(Img2Img, "load", loading)
    patch.setattr(Img2Img, "paint", spoiling)


def test_c3_one_picture_that_is_not_finite_leaves_its_batch_alone(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tiny_sd, tmp_path / "sound")

    def poison(decoded: Any, rows: list[int]) -> None:
        for row in rows:
            decoded[0][row, 0, 3, 5] = float("nan")

    spoil(monkeypatch, lambda pipe: pipe.vae, "decode", poison, "fake/00001")
    out = tmp_path / "out"
    assert paint(tiny_sd, out) == 0
    assert lost(out) == {"fake/00001": "nonfinite"}
    sound = pictures(tmp_path / "sound")
    assert pictures(out) == {name: data for name, data in sound.items() if name != "00001.png"}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with a safety checker that lets everything pass."""
    return build_tiny_sd(tmp_path_factory.mktemp("checked") / "sd", checker=True)


def test_c5_flagged_pictures_are_rejected_and_no_black_picture_reaches_the_disk(checked: Path, tmp_path: Path) -> None:
    strict = Path(shutil.copytree(checked, tmp_path / "strict"))
    edit_weights(strict / "safety_checker/model.safetensors", concept_embeds_weights=-2.0)
    out = tmp_path / "out"
    assert paint(strict, out, "max_reject_ratio=0.5") == 3
    assert runs.totals(out)["rejected"] == {"safety": 6}
    assert every_png(out) == []


def test_c5_one_flagged_picture_leaves_its_batch_alone(
    checked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(checked, tmp_path / "sound")

    def flag(result: Any, rows: list[int]) -> None:
        for row in rows:
            result[0][row] = 0.0
            result[1][row] = True

    spoil(monkeypatch, lambda pipe: pipe.safety_checker, "forward", flag, "fake/00004")
    out = tmp_path / "out"
    assert paint(checked, out) == 0
    assert lost(out) == {"fake/00004": "safety"}
    sound = pictures(tmp_path / "sound")
    assert pictures(out) == {name: data for name, data in sound.items() if name != "00004.png"}
    assert all(png.decode(data).std() > 5 for data in pictures(out).values())


@pytest.mark.parametrize(("bias", "reasons"), [(-1.0, {"black"}), (1.0, {"saturated", "flat", "colour"})])
def test_c4_black_and_white_pictures_are_refused_by_the_gate(
    model: Path, tmp_path: Path, bias: float, reasons: set[str]
) -> None:
    edit_weights(model / VAE, **{"decoder.conv_out.weight": 0.0, "decoder.conv_out.bias": bias})
    paint(model, tmp_path / "ungated")
    assert {int(png.decode(data).std()) for data in pictures(tmp_path / "ungated").values()} == {0}
    out = tmp_path / "out"
    assert paint(model, out, *GATE, "attempts=1", "max_reject_ratio=0.5") == 3
    assert set(runs.totals(out)["rejected"]) <= reasons
    assert sum(runs.totals(out)["rejected"].values()) == 6
    assert every_png(out) == []


@pytest.mark.parametrize(("height", "width"), [(12, 41), (37, 53), (64, 64), (65, 16)])
def test_c6_odd_sizes_come_out_as_they_went_in(tiny_sd: Path, tmp_path: Path, height: int, width: int) -> None:
    out = tmp_path / "out"
    assert paint(tiny_sd, out, f"read.height={height}", f"read.width={width}", "read.sizes=3", "read.count=4") == 0
    found = {name: png.decode(data).shape for name, data in pictures(out).items()}
    assert found == {f"{i:05d}.png": (height, width + 8 * (i % 3), 3) for i in range(4)}


def test_c6_a_pipeline_that_resizes_stops_the_run_with_nothing_published(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Img2Img.load

    def loading(self: Img2Img, device: str) -> None:
        load(self, device)
        vae = self._loaded._pipe.vae  # pyright: ignore
        inner = vae.decode
        vae.decode = lambda latents, **options: (inner(latents, **options)[0][..., :-8],)

    monkeypatch.setattr(Img2Img, "load", loading)
    out = tmp_path / "out"
    with pytest.raises(SynthaugError, match="labels would not fit"):
        paint(tiny_sd, out)
    assert every_png(out) == []
    assert ledger.check(out, complete=False) == []


def test_c7_weights_altered_between_a_run_and_its_resume_are_refused(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paint(model, out)
    books = {p.name: p.read_bytes() for p in (out / ".synthaug/shards").iterdir()}
    (out / ".synthaug/shards/000001.json").unlink()
    weights = model / "unet/diffusion_pytorch_model.safetensors"
    times, data = weights.stat(), bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ConfigError, match=r"stages\.refine\.weights: [0-9a-f]{64} -> [0-9a-f]{64}") as refusal:
        paint(model, out)
    assert "another write.root" in str(refusal.value)
    data[-3] ^= 1
    weights.write_bytes(data)
    paint(model, out)
    assert {p.name: p.read_bytes() for p in (out / ".synthaug/shards").iterdir()} == books
