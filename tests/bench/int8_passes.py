"""Ways to a ranker's answer, taking turns: in which numbers, compiled or not, context kept or not.

Each is a Ranker replica's own pass, its cache's keys and copies included. A miss computes the
viewer's context and scores the candidates, a hit only scores them.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipelines.features import FeatureSpec, Inputs
from serve.context_caches import ContextCaches
from serve.deployments import RankerSettings
from serve.passes import CompileSettings, Passes
from tests.bench.bench_ranker import WARM_UP, Rounds
from tests.train.models.ranker_worlds import VOCAB, candidates, viewers
from train.models.compiled import compiler_problem
from train.models.layers import TransformerConfig
from train.models.quantised import num_weight_bytes, quantised
from train.models.ranker import Ranker, RankerConfig
from train.models.tokens import Tensors

KINDS = ("float32", "bfloat16", "int8")
ROOM = 2**27  # bytes of contexts
COMPARED = 5  # rounds whose log-odds are compared
AT_ONCE = RankerSettings().candidates_at_once


def config(emb_size: int) -> RankerConfig:
    """Four layers, heads of 64, two to a key/value head; small tables, so that maps matter."""
    heads = emb_size // 64
    shape = TransformerConfig(
        num_layers=4, num_heads=heads, num_kv_heads=max(1, heads // 2), key_size=64
    )
    vocab = dict.fromkeys(("user_vocab", "post_vocab", "author_vocab"), VOCAB)
    return RankerConfig(emb_size=emb_size, transformer=shape, features=FeatureSpec(**vocab))


def ways_of(model: Ranker) -> dict[str, Ranker]:
    """The ranker, its transformer in bfloat16, and the same quantised."""
    half = Ranker(model.config.model_copy(update={"compute_dtype": "bfloat16"})).eval()
    half.load_state_dict(model.state_dict())
    return dict(zip(KINDS, (model, half, quantised(model)), strict=True))


def kept(model: Passes, int8: bool) -> ContextCaches:
    """Contexts of a Ranker with this setting."""
    return ContextCaches(model, "", ROOM, int8)


class Kept:
    """A ranker that answers by contexts kept as int8, for `train.evaluate.predict`."""

    def __init__(self, model: Ranker) -> None:
        self.config = model.config
        self._caches = kept(Passes(model, AT_ONCE), int8=True)

    def predict(self, inputs: Tensors) -> Tensor:
        """As `Ranker.predict`."""
        return self._caches.predict({name: values.numpy() for name, values in inputs.items()})


def sizes(ways: dict[str, Ranker]) -> dict[str, dict[str, float]]:
    """Bytes of weights, and what share is saved."""
    num = {name: num_weight_bytes(model) for name, model in ways.items()}
    return {n: {"bytes": b, "saved": 1 - b / num["float32"]} for n, b in num.items()}


@torch.inference_mode()
def measured(
    ways: dict[str, Ranker], num_candidates: int, rounds: int, every: int = 1
) -> dict[str, Any]:
    """Each way's answers for one viewer with a full history, compiled where there is a compiler.

    Args:
        ways: as `ways_of` gives them.
        num_candidates: C, others in each round.
        rounds: how many answers to time.
        every: so many rounds are of one viewer, whose context is computed in the first of them.

    Returns:
        "times": p50, p95, p99 of "eager|compiled miss|hit NUMBERS", and its `speed`, float32's time
        done the same way over this one's.
        "logits": as `_compared` gives them.
    """
    spec, turns = ways["float32"].config.features, Rounds(512)
    passes = _passes(ways, num_candidates)
    caches = {name: kept(each, name.endswith("int8")) for name, each in passes.items()}
    logits: dict[str, list[Tensor]] = {}
    for number in range(rounds + WARM_UP):
        inputs = _inputs(spec, num_candidates, number, number // every)
        arrays: Inputs = {name: values.numpy() for name, values in inputs.items()}
        asked = ("miss", "hit") if number % every == 0 else ("hit",)
        turns.limit()
        for name in _turned(list(passes), number):
            how, kind = name.split()
            for what in asked:
                hits = caches[name].hits
                turns.time(f"{how} {what} {kind}", partial(caches[name].predict, arrays))
                assert caches[name].hits - hits == (what == "hit")
            if number < COMPARED:
                found = passes[name].score_candidates(caches[name].of(arrays), inputs)
                logits.setdefault(name, []).append(found[_there(inputs)])
        if number < COMPARED:
            for kind, model in ways.items():
                logits.setdefault(kind, []).append(model(inputs)[_there(inputs)])
    rows = {}
    for name in (n for n in turns.timers if n != "product"):
        row = turns.timers[name].percentiles(1 if every > 1 and "miss" in name else WARM_UP)
        same = turns.timers[f"{name.rsplit(maxsplit=1)[0]} float32"].percentiles(WARM_UP)
        rows[name] = row | {"speed": same["p50_cpu_ms"] / row["p50_cpu_ms"]}
    return {
        "gflop_per_s_of_float32_products": turns.flops_per_s() / 1e9,
        "times": rows,
        "logits": _compared({name: torch.cat(found) for name, found in logits.items()}, ways),
    }


def fastest(times: dict[str, dict[str, float]]) -> str:
    """The way of the least median of this thread's time."""
    return min(times, key=lambda name: times[name]["p50_cpu_ms"])


def _passes(ways: dict[str, Ranker], num_candidates: int) -> dict[str, Passes]:
    """As replicas have them: "eager NUMBERS", and "compiled NUMBERS" where that is possible."""
    passes = {f"eager {kind}": Passes(model, AT_ONCE) for kind, model in ways.items()}
    if compiler_problem() is None:
        torch._dynamo.reset()
        for kind, model in ways.items():
            passes[f"compiled {kind}"] = fast = Passes(copy.deepcopy(model), AT_ONCE)
            spec, shapes = model.config.features, CompileSettings(candidates=(num_candidates,))
            fast.compile(shapes, lambda _, c, spec=spec: _inputs(spec, c, 0, 0))  # type: ignore[misc]
            assert fast.compiled, kind
    return passes


def _compared(logits: dict[str, Tensor], ways: dict[str, Ranker]) -> dict[str, dict[str, float]]:
    """How far log-odds of each kind of numbers are off, in standard deviations of float32's own.

    Those of hits from a full eager pass in the same numbers, at most; and the full pass's from
    float32's, at most and as a standard deviation.
    """
    exact = logits["float32"]
    return {
        kind: {
            **{
                f"{how}_hit_to_full": _largest(logits[f"{how} {kind}"] - logits[kind], exact)
                for how in ("eager", "compiled")
                if f"{how} {kind}" in logits
            },
            "largest_to_float32": _largest(logits[kind] - exact, exact),
            "deviation_to_float32": float((logits[kind] - exact).std() / exact.std()),
        }
        for kind in ways
    }


def _largest(off: Tensor, exact: Tensor) -> float:
    return float(off.abs().max() / exact.std())


def _turned(names: list[str], number: int) -> list[str]:
    """None is always first."""
    at = number % len(names)
    return names[at:] + names[:at]


def _inputs(spec: FeatureSpec, num_candidates: int, seed: int, viewer: int) -> Tensors:
    """Random inputs of both sides."""
    mine = viewers(spec, torch.tensor([spec.history_len]), viewer)
    return mine | candidates(spec, (1, num_candidates), seed)


def _there(inputs: Tensors) -> Tensor:
    return inputs["candidate_post_hashes"][..., 0] != 0
