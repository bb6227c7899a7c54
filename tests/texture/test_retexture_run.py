"""Re-texturing in whole runs: no label moves by a bit, albedo goes stale, the reference is new, and a run repeats."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from synthaug.engine import appearance, local
from synthaug.engine.appearance import Work
from synthaug.engine.configure import compose
from synthaug.engine.pipeline import Slot
from synthaug.engine.plan import Entry
from synthaug.errors import InputError
from synthaug.labels import Labels
from synthaug.sample import Sample
from synthaug.texture.entry import object_name
from synthaug.texture.library import Library
from synthaug.texture.oklab import oklab_from_linear
from synthaug.transfer import linear_from_srgb
from tests.engine import runs
from tests.texture.staged import StagedReader
from tests.texture.surfaces_on import library, loaded


def digests(labels: Labels) -> dict[str, str]:
    found = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in labels.passes.items()}
    return {**found, "rest": repr((labels.instances, labels.camera, labels.size, labels.attributes))}


def through(stage: Any, sample: Sample) -> Sample:
    entry = Entry(sample.id, sample.id, 0, sample.image.size, sample.group, sample.split)
    return appearance.paint_host(Slot("retexture", stage), Work(0, entry, 0, sample), 7).sample


def test_labels_stay_to_the_bit_albedo_is_stale_and_the_reference_is_new(tmp_path: Path) -> None:
    sample = StagedReader().read("staged/00")
    before = digests(sample.labels)
    done = through(loaded(library(tmp_path / "lib"), protect=0.2, cover={"wear": 1.0}), sample)
    assert digests(done.labels) == before
    assert digests(sample.labels) == before
    assert done.stale == {"albedo"}
    assert done.reference is done.image
    assert not np.array_equal(done.image.pixels, sample.image.pixels)
    facts = done.trail[-1].facts["objects"]
    assert set(facts) == {"board", "ball"}
    assert json.loads(json.dumps(facts)) == facts
    outside = sample.labels.passes["instance"] == 0
    eight_bit = appearance.rounded(done, hdr=False).image.pixels
    assert np.array_equal(eight_bit[outside], sample.image.pixels[outside])


def recipe(folder: Path, lib: Path, **fields: Any) -> str:
    """A recipe with the staged reader, the stage and the gate."""
    path = folder / "recipe.yaml"
    stage = {"library": str(lib), **fields}
    path.write_text(
        yaml.safe_dump(
            {
                "defaults": ["/config", {"/texture@retexture": "retexture"}, {"/gate": "integrity"}, "_self_"],
                "read": {"_target_": "tests.texture.staged.StagedReader", "count": 3, "size": 64},
                "retexture": stage,
                "write": {"_target_": "synthaug.formats.folder.writer.FolderWriter", "root": "???"},
            }
        )
    )
    return str(path)


def composed(path: str, out: Path, *more: str) -> Any:
    fixed = [f"write.root={out}", "engine.workers=0", "engine.progress=none"]
    return compose(path, [*fixed, *more], plugins=["tests.texture.staged"])


def test_a_run_goes_through_the_gate_and_repeats(tmp_path: Path) -> None:
    lib = library(tmp_path / "lib")
    path = recipe(tmp_path, lib)
    assert local.run(composed(path, tmp_path / "a")) == 0
    assert local.run(composed(path, tmp_path / "b", "retexture.cache=1", "engine.encoders=0")) == 0
    assert runs.totals(tmp_path / "a")["written"] == 3
    for name in ("image", "instance", "uv"):
        files = sorted((tmp_path / "a").glob(f"**/{name}*/**/*.*"))
        assert [f.read_bytes() for f in files] == [
            (tmp_path / "b" / f.relative_to(tmp_path / "a")).read_bytes() for f in files
        ]
    trail = runs.trail(tmp_path / "a")
    placements = [row["steps"][0]["facts"]["objects"]["board"] for row in trail.values()]
    assert placements[0]["matrix"] == placements[1]["matrix"] == placements[2]["matrix"]
    assert not list((tmp_path / "a").glob("**/*albedo*"))


def test_another_library_is_another_run_and_a_broken_one_loses_nothing_silently(tmp_path: Path) -> None:
    lib = library(tmp_path / "lib")
    path = recipe(tmp_path, lib, materials={"*": "brick"})
    assert local.run(composed(path, tmp_path / "out")) == 0
    moved = tmp_path / "moved"
    lib.rename(moved)
    assert local.run(composed(path, tmp_path / "out", f"retexture.library={moved}")) == 0, "by content, not by path"
    brick = next(e for e in Library.open(moved).entries if e.material == "brick")
    file = moved / object_name(brick.maps["albedo"])
    file.write_bytes(b"torn" + file.read_bytes())
    with pytest.raises(InputError, match="Import the texture again"):
        local.run(composed(path, tmp_path / "again", f"retexture.library={moved}"))


@pytest.mark.slow
def test_every_face_of_rendered_dice_still_shows_its_number(tmp_path: Path) -> None:
    """Pips of the face that is up, counted by their contrast to the body, before and after."""
    if importlib.util.find_spec("mitsuba") is None:
        pytest.skip("mitsuba is not installed (extra 'render')")
    from synthaug.render.reader import DiceReader

    reader = DiceReader(scenes=2, width=256, height=256, samples_per_pixel=16, dice=(6, 9), zoom=2.2, variety=0.0)
    stage = loaded(library(tmp_path / "lib"), coat=1.5, protect=0.2, shoulder=0.8, scale=(0.05, 0.1))
    seen = 0
    for sample_id in reader.ids():
        sample = reader.read(sample_id)
        done = appearance.rounded(through(stage, sample), hdr=False)
        pictures = [oklab_from_linear(linear_from_srgb(s.image.pixels / 255)) for s in (sample, done)]
        for instance in sample.labels.instances:
            mask = sample.labels.mask(instance)
            assert mask is not None
            up = mask & (np.nan_to_num(sample.labels.passes["normals"])[..., 2] < -0.97)
            tones = oklab_from_linear(sample.labels.passes["albedo"])
            mark = np.linalg.norm(tones - np.median(tones[mask], axis=0), axis=-1) > 0.2
            pips, body = up & mark, up & ~mark
            if pips.sum() < 8 or "kept" in done.trail[-1].facts["objects"][instance.object_id]:
                continue
            had, has = (float(np.linalg.norm(p[pips].mean(0) - p[body].mean(0))) for p in pictures)
            assert has > min(0.6 * had, 0.12), (sample_id, instance.object_id, had, has)
            seen += 1
    assert seen >= 8
