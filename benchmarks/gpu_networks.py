"""Networks alone on a GPU: rows B1 and B6, with fp8, CUDA graphs and a step cache beside them. First of two commands.

    python benchmarks/gpu_networks.py              about eight minutes on one H200
    python benchmarks/gpu_networks.py --tiny       the same rows on a CPU, in seconds

Full-size SD-Turbo, SDXL and their autoencoders with random weights, in bfloat16. Every row is compared with the plain
network on the same inputs before it is timed, and given as a share of the day's own ceiling (a product of 8192 x 8192
matrices). Four inputs in turn; CUDA events; alternating rounds; the median. `first_ms` holds what compiling took.

Needs torch (2.11 or newer), numpy, diffusers, transformers, safetensors; no network, no weights.
Row B9 has a command of its own, `benchmarks/augment_device.py --device cuda:0`, which needs kornia.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure  # noqa: F401,I001 - it sets the thread counts, so it comes first
import torch

from benchmarks import gpu_bench, gpu_models
from benchmarks.gpu_bench import Bench
from synthaug.models import fp8
from synthaug.models.speed import Speed, prepare_net

AIMS = {"B1 sd_turbo": 0.60, "B1 sdxl": 0.65}
SAME = 2e-2
"""Largest relative error of half precision between two ways to the same result."""
INPUTS = 4


def main() -> None:
    bench = gpu_bench.opened("gpu_networks", __doc__, seconds=420)
    with torch.inference_mode():
        bench.row("ceilings", bench.measure_ceilings)
        for kind, batch in (("sd_turbo", 32), ("sdxl", 8)):
            batch = 2 if bench.tiny else batch
            bench.row(f"B1 {kind} b{batch}", lambda k=kind, b=batch: unets(bench, k, b, ways(bench)))
        bench.row("B6 decode small", lambda: decoders(bench, "sd_turbo", 2 if bench.tiny else 8))
        bench.row("B6 decode large", lambda: decoders(bench, "sdxl", 2 if bench.tiny else 4))
        bench.row("B1 sd_turbo b1", lambda: unets(bench, "sd_turbo", 1, small_ways(bench)))
        bench.row("fp8 sdxl", lambda: eight_bits(bench))
        bench.row("tiny autoencoder", lambda: tiny_decoder(bench))


def ways(bench: Bench) -> Mapping[str, Speed]:
    """From plain to compiled, one thing at a time."""
    if bench.tiny:
        return {"eager": Speed(), "channels_last": Speed(channels_last=True)}
    return {
        "eager": Speed(),
        "channels_last": Speed(channels_last=True),
        "regional": Speed(channels_last=True, compile="regional"),
    }


def small_ways(bench: Bench) -> Mapping[str, Speed]:
    """For a batch of one, where launching the kernels is the work."""
    if bench.tiny:
        return {"eager": Speed()}
    return {"eager": Speed(), "graphs": Speed(channels_last=True, graphs=True)}


def unets(bench: Bench, kind: str, batch: int, wanted: Mapping[str, Speed]) -> Mapping[str, Any]:
    """One UNet, each way checked against the first."""
    inputs = [
        gpu_models.unet_inputs(kind, bench.tiny, batch, bench.device, bench.dtype, seed) for seed in range(INPUTS)
    ]
    meta = gpu_models.unet_inputs(kind, bench.tiny, 1, "meta", bench.dtype)
    count = batch * gpu_models.flops(
        lambda: gpu_models.unet(kind, bench.tiny).to(bench.dtype), lambda net: net(*meta.args, **meta.kwargs)
    )
    made = gpu_models.made(lambda: gpu_models.unet(kind, bench.tiny), bench.device, bench.dtype)
    nets = {name: copy.deepcopy(made) for name in wanted}  # before any is prepared: a wrapped forward would be shared
    for name, net in nets.items():
        prepare_net(net, wanted[name], device=bench.device)
    calls = {name: _caller(net, inputs) for name, net in nets.items()}
    return compared(bench, calls, count, batch, lambda call: call(0)[0], AIMS.get(f"B1 {kind}"))


def decoders(bench: Bench, kind: str, batch: int) -> Mapping[str, Any]:
    """The decoder of the KL autoencoder: plain one by one, in batches, channels last, compiled."""
    side = gpu_models.SIDES[kind, bench.tiny] // 8
    latents = [torch.randn(batch, 4, side, side, device=bench.device, dtype=bench.dtype) for _ in range(INPUTS)]
    count = batch * gpu_models.flops(
        lambda: gpu_models.vae(kind, bench.tiny), lambda net: net.decode(torch.zeros(1, 4, side, side), False)
    )
    plain = gpu_models.made(lambda: gpu_models.vae(kind, bench.tiny), bench.device, bench.dtype)
    nets = {"eager": plain}
    for name, speed in ways(bench).items():
        if name != "eager":
            nets[name] = copy.deepcopy(plain)
            decoder = nets[name].decoder
            whole = Speed(channels_last=speed.channels_last, compile="whole" if speed.compile else "")
            prepare_net(decoder, whole, device=bench.device)
    calls = {name: lambda i, n=net: n.decode(latents[i % INPUTS], return_dict=False) for name, net in nets.items()}
    found = compared(bench, calls, count, batch, lambda call: call(0)[0], None)
    one = bench.timed({"one": lambda i: plain.decode(latents[i % INPUTS][:1], return_dict=False)}, rounds=3)
    return {**found, "eager_one_by_one_per_s": round(1000 / one["one"]["ms"], 2)}


def eight_bits(bench: Bench) -> Mapping[str, Any]:
    """Linear layers in fp8 against bfloat16, both compiled; off CUDA the same numbers, slowly. With its error."""
    batch, kind = (1, "sdxl") if bench.tiny else (8, "sdxl")
    inputs = [gpu_models.unet_inputs(kind, bench.tiny, batch, bench.device, torch.bfloat16, s) for s in range(INPUTS)]
    plain = gpu_models.made(lambda: gpu_models.unet(kind, bench.tiny), bench.device, torch.bfloat16)
    low = copy.deepcopy(plain)
    layers = fp8.convert(low, least=16 if bench.tiny else 512)
    speed = Speed() if bench.tiny else Speed(channels_last=True, compile="regional")
    for net in (plain, low):
        prepare_net(net, speed, device=bench.device)
    calls = {"bfloat16": _caller(plain, inputs), "fp8": _caller(low, inputs)}
    error = gpu_bench.apart(calls["fp8"](0)[0], calls["bfloat16"](0)[0])
    bench.same_work({"fp8": error}, 0.5)
    times = bench.timed(calls)
    ratio = round(times["bfloat16"]["ms"] / times["fp8"]["ms"], 3)
    return {"times": times, "layers": layers, "relative_error": error, "times_faster": ratio, "batch": batch}


def tiny_decoder(bench: Bench) -> Mapping[str, Any]:
    """TAESD's decoder beside the KL autoencoder's rows; another network, so there is no same-work check."""
    side, batch = gpu_models.SIDES["sd_turbo", bench.tiny] // 8, 2 if bench.tiny else 32
    net = gpu_models.made(lambda: gpu_models.taesd(bench.tiny), bench.device, bench.dtype)
    prepare_net(net.decoder, Speed(channels_last=True), device=bench.device)
    latents = [torch.randn(batch, 4, side, side, device=bench.device, dtype=bench.dtype) for _ in range(INPUTS)]
    times = bench.timed({"taesd": lambda i: net.decode(latents[i % INPUTS], return_dict=False)})
    return {"times": times, "per_s": round(1000 * batch / times["taesd"]["ms"], 1), "batch": batch}


def _caller(net: Any, inputs: list[gpu_models.Inputs]) -> Callable[[int], Any]:
    return lambda i: net(*inputs[i % INPUTS].args, **inputs[i % INPUTS].kwargs)


def compared(
    bench: Bench,
    calls: Mapping[str, Callable[[int], Any]],
    count: float,
    batch: int,
    made: Callable[[Callable[[int], Any]], torch.Tensor],
    aim: float | None,
) -> Mapping[str, Any]:
    """Same work first, then times, rates and shares."""
    reference = made(calls["eager"]).clone()
    errors = {name: gpu_bench.apart(made(call), reference) for name, call in calls.items()}
    sound = bool(torch.isfinite(reference).all()) and gpu_bench.apart(calls["eager"](1)[0], reference) > 5 * SAME
    bench.same_work(errors, SAME, sound)
    times = bench.timed(calls)
    return {
        "batch": batch,
        "tflop_per_call": round(count / 1e12, 5),
        "aim_share": aim,
        "ways": {
            name: {
                **times[name],
                **bench.share(count, times[name]["ms"]),
                "per_s": round(1000 * batch / times[name]["ms"], 2),
                "relative_error": errors[name],
            }
            for name in calls
        },
    }


if __name__ == "__main__":
    main()
