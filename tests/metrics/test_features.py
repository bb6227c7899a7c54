from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from synthaug.errors import InputError, SecurityError
from synthaug.metrics.features import LEVELS, Taef2


@pytest.fixture(scope="module")
def weights(data_root: Path) -> Path:
    torch.set_num_threads(1)
    return data_root / "models" / "taef2" / "taef2_encoder.safetensors"


@pytest.fixture(scope="module")
def network(weights: Path) -> Taef2:
    return Taef2(weights)


def picture(height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_every_place_and_every_tile_has_its_features(network: Taef2) -> None:
    found = network(picture())
    assert {level: f.shape for level, f in found.local.items()} == {
        5: (32 * 48, 64),
        9: (16 * 24, 64),
        13: (8 * 12, 64),
    }
    assert found.pooled.shape == (16, 2 * 64 * len(LEVELS))
    assert found.pooled.dtype == np.float32
    # The tiles cover this picture, so their means average to those of all places; the first tile is its own corner.
    assert np.allclose(found.pooled[:, :64].mean(0), found.local[5].mean(0), atol=1e-4)
    corner = found.local[5].reshape(32, 48, 64)[:8, :12].reshape(-1, 64)
    assert np.allclose(found.pooled[0, :64], corner.mean(0), atol=1e-4)
    assert np.allclose(found.pooled[0, 64:128], corner.std(0), atol=1e-4)


def test_the_network_is_the_one_that_was_trained(network: Taef2, weights: Path) -> None:
    """Its latents of a photo have about unit scale, as those of a trained encoder."""
    photo = weights.parents[2] / "dice" / "images" / "0001.jpg"
    import cv2

    image = np.asarray(cv2.resize(cv2.imread(str(photo), cv2.IMREAD_COLOR_RGB), (128, 128)))
    x = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.inference_mode():
        latents = network._layers(x)
    assert latents.shape == (1, 32, 16, 16)
    assert 0.3 < float(latents.std()) < 3
    assert network.digest == "ed439d4f19057d2a3b8fb43e3caa9aff37f5b9fdbf707cddff57f5a8ae8d5068"


def test_a_tensor_too_few_or_of_another_shape_is_refused(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)
    for change in ({"0.bias": None}, {"0.bias": torch.zeros(3)}, {"99.bias": torch.zeros(3)}):
        altered = {name: t for name, t in {**tensors, **change}.items() if t is not None}
        save_file(altered, tmp_path / "w.safetensors")
        with pytest.raises(InputError, match="another network"):
            Taef2(tmp_path / "w.safetensors")


@pytest.mark.security
def test_only_safetensors_load(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x02}q\x00." * 20)
    with pytest.raises(SecurityError, match="not safetensors"):
        Taef2(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="not a file"):
        Taef2(tmp_path / "absent.safetensors")


def test_pictures_that_it_cannot_see(network: Taef2) -> None:
    for bad in (picture().astype(np.float32), picture()[..., 0], picture(31, 64)):
        with pytest.raises(InputError, match="expected uint8"):
            network(bad)
