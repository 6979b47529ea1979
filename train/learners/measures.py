"""What held-out rows say: sums, each with the weight that it is a mean over.

Sums and weights add up over batches and workers; their quotients are the means that a run
reports. So an action that few rows observe has a mean over those rows, whatever else is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from train.losses import action_costs

Measures = dict[str, tuple[Tensor, Tensor]]  # name, "a/b" = b within a -> sum and weight, scalars


def of_scalars(parts: Mapping[str, Tensor]) -> Measures:
    """What a learner's `loss` gives: each scalar is a mean over "weight"."""
    weight = parts["weight"].detach()
    return {n: (part.detach() * weight, weight) for n, part in parts.items() if n != "weight"}


def of_actions(logits: Tensor, labels: Tensor, mask: Tensor, names: Sequence[str]) -> Measures:
    """For each discrete action, over the candidates that observe it.

    log_loss in nats, rate of those who did it, predicted rate. Log loss over the entropy of
    `rate` is the normalised entropy, `predicted` over `rate` the calibration.

    Args:
        logits: log-odds. [B, C, A].
        labels: 0 or 1. [B, C, A].
        mask: 1 = observed. [B, C, A].
        names: of the actions that are wanted, by their place; "" = left out. [A].
    """
    log_loss = action_costs(logits, labels, mask).sum(dim=(0, 1))
    done, predicted = ((x * mask).sum(dim=(0, 1)) for x in (labels, logits.sigmoid()))
    observed = mask.sum(dim=(0, 1))
    return {
        f"actions/{name}/{measure}": (sums[action], observed[action])
        for action, name in enumerate(names)
        if name
        for measure, sums in (("log_loss", log_loss), ("rate", done), ("predicted", predicted))
    }


def means(totals: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Each sum over its weight, nested by name; what nothing was observed of is left out."""
    result: dict[str, Any] = {}
    for name, (total, weight) in totals.items():
        if not weight:
            continue
        *parents, leaf = name.split("/")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = total / weight
    return result
