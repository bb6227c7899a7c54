"""Learnt words in tiny text encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.errors import ConfigError, SecurityError
from synthaug.models import textual
from synthaug.models.pipelines import Img2ImgModel, open_img2img
from synthaug.models.textual import Learnt
from tests.models.families import build_flux, build_sdxl
from tests.models.tiny_additions import save

torch.set_num_threads(1)
END = 1
"""Id of the end of a text in the tiny tokenizers."""


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdxl(tmp_path_factory.mktemp("xl") / "xl")


def opened(folder: Path) -> tuple[Img2ImgModel, Any]:
    model = open_img2img(folder, device="cpu", dtype="float32")
    return model, model._pipe  # pyright: ignore[reportPrivateUsage]


def said(model: Img2ImgModel, prompt: str) -> Any:
    assert model.loop is not None
    return model.loop.words([prompt])[0]


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("key", ["emb_params", "<other-name>"])
def test_words_are_those_of_diffusers_and_other_texts_stay(tiny_sd: Path, tmp_path: Path, key: str) -> None:
    (model, pipe), (plain, base) = opened(tiny_sd), opened(tiny_sd)
    rows = vectors(2, 16)
    textual.teach(pipe, [Learnt("<dust>", str(save(tmp_path / "a.safetensors", {key: rows})))])
    assert torch.equal(said(model, "a b").tokens, said(plain, "a b").tokens)
    base.load_textual_inversion({"x": rows}, token="<dust>")
    assert torch.equal(said(model, "a <dust> b").tokens, said(plain, "a <dust> b").tokens)
    assert not torch.equal(said(model, "a <dust> b").tokens, said(model, "a b").tokens)
    ids = pipe.tokenizer(pipe.maybe_convert_prompt("a <dust> b", pipe.tokenizer)).input_ids
    table = pipe.text_encoder.get_input_embeddings().weight
    assert torch.equal(table[ids[2:4]], rows), "both vectors, one after the other"


def test_xl_has_two_encoders(xl: Path, tmp_path: Path) -> None:
    (model, pipe), (plain, _) = opened(xl), opened(xl)
    rows = {"clip_l": vectors(1, 16), "clip_g": vectors(1, 16, seed=1)}
    textual.teach(pipe, [Learnt("<dust>", str(save(tmp_path / "a.safetensors", rows)))])
    for tokenizer, encoder, key in (
        ("tokenizer", "text_encoder", "clip_l"),
        ("tokenizer_2", "text_encoder_2", "clip_g"),
    ):
        place = getattr(pipe, tokenizer).convert_tokens_to_ids("<dust>")
        assert torch.equal(getattr(pipe, encoder).get_input_embeddings().weight[place], rows[key][0])
    before, after = said(plain, "a b"), said(model, "a b")
    assert torch.equal(before.tokens, after.tokens)
    assert torch.equal(before.pooled, after.pooled)
    assert not torch.equal(said(model, "a <dust>").pooled, said(model, "a").pooled)


def test_a_text_is_pooled_at_its_end_though_a_new_words_id_is_larger(xl: Path, tmp_path: Path) -> None:
    """Configurations that say 2 for the end, as published ones of XL do, look for the largest id instead."""
    model, pipe = opened(xl)
    for encoder in (pipe.text_encoder, pipe.text_encoder_2.text_model):
        encoder.eos_token_id = 2
    rows = {"clip_l": vectors(1, 16), "clip_g": vectors(1, 16, seed=1)}
    textual.teach(pipe, [Learnt("<dust>", str(save(tmp_path / "a.safetensors", rows)))])
    found = said(model, "a <dust> b").pooled
    ids = pipe.tokenizer_2("a <dust> b", padding="max_length", max_length=16, return_tensors="pt").input_ids
    with torch.no_grad():
        inner = pipe.text_encoder_2.text_model(ids).last_hidden_state
        at_end = pipe.text_encoder_2.text_projection(inner[:, ids[0].tolist().index(END)])
    assert torch.allclose(found, at_end, atol=1e-6)


def test_vectors_for_another_base_are_refused_with_both_widths(tiny_sd: Path, xl: Path, tmp_path: Path) -> None:
    one = save(tmp_path / "one.safetensors", {"emb_params": vectors(1, 24)})
    two = save(tmp_path / "two.safetensors", {"clip_l": vectors(1, 16), "clip_g": vectors(1, 24)})
    good = save(tmp_path / "good.safetensors", {"emb_params": vectors(1, 16)})
    _, pipe = opened(tiny_sd)
    size = len(pipe.tokenizer)
    with pytest.raises(ConfigError, match=r"<dust> .*one\.safetensors.*\(1, 24\), the model's text encoder has 16"):
        textual.teach(pipe, [Learnt("<a>", str(good)), Learnt("<dust>", str(one))])
    assert len(pipe.tokenizer) == size, "nothing was taught, as one was refused"
    with pytest.raises(ConfigError, match=r"(?s)expected one tensor for 16 channels.*clip_g: \(1, 24\)"):
        textual.teach(pipe, [Learnt("<dust>", str(two))])
    _, pipe = opened(xl)
    with pytest.raises(ConfigError, match=r"its clip_g have shape \(1, 24\), the model's text encoder has 16"):
        textual.teach(pipe, [Learnt("<dust>", str(two))])
    with pytest.raises(ConfigError, match="expected the tensors clip_l, clip_g for 16 and 16 channels"):
        textual.teach(pipe, [Learnt("<dust>", str(one))])


def test_a_family_that_learns_no_words_says_so(tmp_path: Path) -> None:
    _, pipe = opened(build_flux(tmp_path / "flux"))
    path = save(tmp_path / "a.safetensors", {"emb_params": vectors(1, 16)})
    with pytest.raises(ConfigError, match="learns no words"):
        textual.teach(pipe, [Learnt("<dust>", str(path))])


def test_a_word_is_taught_once(tiny_sd: Path, tmp_path: Path) -> None:
    _, pipe = opened(tiny_sd)
    learnt = [Learnt("<dust>", str(save(tmp_path / "a.safetensors", {"emb_params": vectors(1, 16)})))]
    textual.teach(pipe, learnt)
    with pytest.raises(ConfigError, match="already in tokenizer"):
        textual.teach(pipe, learnt)


@pytest.mark.parametrize("token", ["dust", "<Dust>", "<a b>", "<>", "{x}", ""])
def test_tokens_that_could_be_found_in_other_words_are_refused(token: str) -> None:
    with pytest.raises(ConfigError, match=r"expected <\.\.\.> of small letters"):
        Learnt(token, "a.safetensors")


def test_a_word_that_stands_in_no_prompt_is_refused_and_so_is_one_that_was_not_learnt() -> None:
    learnt = textual.parse({"<dust>": "a", "<rust>": "b", "<gone>": None})
    textual.check_used(learnt, ["a <DUST> road", "no <rust>"])
    with pytest.raises(ConfigError, match="<rust> in no prompt"):
        textual.check_used(learnt, ["a <dust> road"])
    with pytest.raises(ConfigError, match="say <dusk>, but embeddings name <dust>, <rust>"):
        textual.check_used(learnt, ["a <dust> road, <rust> and <dusk>"])
    textual.check_used((), ["whatever <says>"])


@pytest.mark.security
def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\x80\x04\x95" + b"x" * 64)
    with pytest.raises(SecurityError, match="not safetensors"):
        Learnt("<dust>", str(path)).digest()
