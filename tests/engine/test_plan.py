"""Cutting the plan: names that would meet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synthaug.engine import local
from synthaug.engine.configure import compose
from synthaug.errors import InputError


def test_a_variant_that_would_take_another_samples_name_is_refused(tmp_path: Path) -> None:
    images = tmp_path / "in" / "images"
    images.mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for name in ("a", "a~v1"):
        cv2.imwrite(str(images / f"{name}.png"), picture)
    fixed = ["read=folder", f"read.root={tmp_path / 'in'}", "read.unlabelled=true", "write=folder"]
    config = compose("convert", [*fixed, f"write.root={tmp_path / 'out'}", "variants=2", "engine.progress=none"])
    with pytest.raises(InputError, match=r"a~v1.*2 times"):
        local.run(config)
    assert not (tmp_path / "out").exists()
