"""CUDA graphs: what a network launches is recorded once per shape of its inputs, and then replayed in one call.

At small batches a network is bound by Python launching its kernels; a replay costs one launch. The kernels are the
same, so are the numbers. Recording runs the network three times before, which is when libraries choose kernels.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synthaug.errors import ConfigError

_KEPT = 8
_WARM_UPS = 3
_PLAIN = (type(None), bool, int, float, str)


def refuse_device(device: str) -> None:
    """Raises `ConfigError` where there are no CUDA graphs."""
    if not device.startswith("cuda"):
        raise ConfigError(f"speed.graphs on {device}: expected a CUDA device; leave it false")


@dataclass(frozen=True, slots=True)
class _Recorded:
    """One graph with the memory that it reads from and writes to."""

    graph: Any
    inputs: list[Any]
    outputs: list[Any]
    form: Any


class Graphed:
    """A `forward` that is replayed. What else it computes from than its tensors must not change: it is recorded.

    Args:
        forward: Of a network in evaluation mode, under `inference_mode`.
        device: The CUDA device.

    Attributes:
        recorded: Shapes recorded so far; at most 8 are kept, the least recently used one is dropped.
    """

    def __init__(self, forward: Callable[..., Any], device: str) -> None:
        functools.update_wrapper(self, forward)
        self._forward, self._device = forward, device
        self._graphs: OrderedDict[Any, _Recorded] = OrderedDict()
        self.recorded = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import torch
        from torch.utils import _pytree as tree

        leaves, form = tree.tree_flatten((args, kwargs))
        key = (str(form), *(_trait(leaf) for leaf in leaves))
        found = self._graphs.get(key)
        if found is None:
            found = self._graphs[key] = self._record(leaves, form)
            if len(self._graphs) > _KEPT:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        for static, leaf in zip(found.inputs, leaves, strict=True):
            if isinstance(leaf, torch.Tensor):
                _refill(static, leaf)
        found.graph.replay()
        # Copies: the next replay writes into the same memory, and schedulers keep what was predicted.
        return tree.tree_unflatten([o.clone() if isinstance(o, torch.Tensor) else o for o in found.outputs], found.form)

    def _record(self, leaves: list[Any], form: Any) -> _Recorded:
        import torch
        from torch.utils import _pytree as tree

        inputs = [leaf.to(self._device, copy=True) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        args, kwargs = tree.tree_unflatten(inputs, form)
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self._forward(*args, **kwargs)
        torch.cuda.current_stream(self._device).wait_stream(aside)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: others send and fetch pictures meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            made = self._forward(*args, **kwargs)
        self.recorded += 1
        outputs, made_form = tree.tree_flatten(made)
        return _Recorded(graph, inputs, outputs, made_form)


def _trait(leaf: Any) -> Any:
    """What must be equal for a recording to fit: of tensors their form, of everything else the value."""
    import torch

    if isinstance(leaf, torch.Tensor):
        return tuple(leaf.shape), leaf.dtype, leaf.stride()
    # An object that is no plain value may hold tensors, and its text shows only a few of them. The recording keeps
    # it, so its number is its own.
    return type(leaf), repr(leaf) if isinstance(leaf, (*_PLAIN, torch.dtype, torch.device)) else id(leaf)


def _refill(static: Any, leaf: Any) -> None:
    """A timestep on the host goes down as a launch argument, not as a copy that is waited for."""
    if leaf.ndim == 0 and leaf.device.type == "cpu":
        static.fill_(leaf.item())
    else:
        static.copy_(leaf, non_blocking=True)
