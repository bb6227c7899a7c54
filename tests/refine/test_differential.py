"""A strength per pixel in a denoising loop: who may change when, with a denoiser that changes everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.errors import ConfigError
from synthaug.refine.differential import DifferentialBlend, free_from, rescaled, step_masks, to_latent


@settings(max_examples=60)
@given(st.integers(1, 50), st.integers(0, 50))
def test_a_place_of_strength_s_is_free_in_the_last_s_share_of_the_steps(steps: int, share: int) -> None:
    share = min(share, steps)
    strength = np.array([share / steps], np.float32)
    masks = step_masks(strength, range(steps))[:, 0]
    assert masks.tolist() == [False] * (steps - share) + [True] * share


def test_free_from_keeps_its_ends() -> None:
    found = free_from(np.array([0, 1e-4, 0.5, 0.51, 1], np.float32), 10)
    assert found.tolist() == [10, 9, 5, 5, 0]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_blend_lets_a_fake_denoiser_change_each_place_only_in_its_turn(library: str) -> None:
    steps = 10
    strength = np.array([[0.0, 0.1, 0.3], [0.5, 0.9, 1.0]], np.float32)
    original = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    first = free_from(strength, steps)
    if library == "torch":
        original, first = torch.from_numpy(original), torch.from_numpy(first)
    blend = DifferentialBlend(first, original, lambda i: original + 1000 * (steps - i), steps)
    latents = blend(0, None)
    for step in range(steps):
        # Every step adds 1 to what goes into it: what is left at the end counts the steps that were not undone.
        latents = blend(step + 1, latents - 1000 + 1)
    changes = np.asarray(latents - original)
    assert np.array_equal(changes, np.broadcast_to([[0, 1, 3], [5, 9, 10]], changes.shape))


def test_areas_are_averaged_and_guards_are_kept() -> None:
    strength = np.ones((8, 12), np.float32)
    strength[:, 2:4] = 0.5
    strength[5, 9] = 0.2
    none = np.zeros((8, 12), bool)
    assert np.allclose(to_latent(strength, none, 4, (8, 12)), [[0.75, 1, 1], [0.75, 1, 0.95]])
    guard = none.copy()
    guard[5, 9] = True
    assert np.allclose(to_latent(strength, guard, 4, (8, 12)), [[0.75, 1, 1], [0.75, 1, 0.2]])


def test_the_map_goes_on_beyond_its_edge_up_to_the_canvas() -> None:
    strength = np.array([[0.0, 0.4]], np.float32)
    assert np.allclose(to_latent(strength, np.zeros((1, 2), bool), 2, (2, 4)), [[0.2, 0.4]])
    with pytest.raises(ConfigError, match="multiples of 4"):
        to_latent(strength, np.zeros((1, 2), bool), 4, (4, 6))


def test_pictures_of_different_strengths_share_a_batch() -> None:
    shared, own = 0.8, 0.4
    found = free_from(rescaled(np.array([1.0, 0.5], np.float32), own, shared), 8)
    assert found.tolist() == [4, 6]
    with pytest.raises(ConfigError, match="in a batch at"):
        rescaled(np.ones(1, np.float32), 0.9, 0.8)


def test_the_blend_is_the_plain_loop_where_everything_is_free() -> None:
    original = torch.zeros(2, 4, 3, 3)
    blend = DifferentialBlend(
        torch.from_numpy(free_from(np.ones((3, 3), np.float32), 5)), original, lambda i: original - 1, 5
    )
    latents = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(blend(0, latents), original - 1)
    assert all(torch.equal(blend(step, latents), latents) for step in range(1, 6))
