"""What candidates see of viewers, computed once and kept.

Candidates see the viewer, the history and themselves, and the history sees no candidate. So the
keys and values of the context say all that scores depend on beside the candidates themselves.
Tokens stand at the number of their slot, and the next event stands after the newest: old keys
hold for a longer history.

Axes: B viewers, T slots of the context, n slots of one viewer, L layers, K key/value heads, d
head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from train.models.layers import KeyValue
from train.models.layout import after_newest
from train.models.rounding import to_int8


@dataclass(frozen=True)
class ContextCache:
    """What a ranker's candidates see of viewers.

    Attributes:
        layers: of each layer keys after RoPE, and values. [B, K, T, d] each.
        seen: which slots hold something; the others are never looked at. bool [B, T].
        start: where candidates stand, the first of them if not anchored. int64 [B].
    """

    layers: tuple[KeyValue, ...]
    seen: Tensor
    start: Tensor

    def with_event(self, layers: Sequence[KeyValue], valid: Tensor, anchored: bool) -> ContextCache:
        """The same with one more event of each viewer for whom `valid`, bool [B].

        Args:
            layers: as of `ContextCache`, of this event. [B, K, 1, d] each.
            valid: False leaves a viewer as they are.
            anchored: as of RankerConfig.
        """
        slot = after_newest(self.seen)
        rows = torch.arange(len(slot), device=slot.device)
        grow = max(0, int(slot.max()) + 1 - self.seen.shape[1])

        def put(old: Tensor, new: Tensor) -> Tensor:
            longer = F.pad(old, (0, 0, 0, grow)) if grow else old.clone()
            longer[rows, :, slot] = new[:, :, 0]
            return longer

        seen = F.pad(self.seen, (0, grow))
        seen[rows, slot] = valid
        return ContextCache(
            tuple(
                (put(key, new_key), put(value, new_value))
                for (key, value), (new_key, new_value) in zip(self.layers, layers, strict=True)
            ),
            seen,
            after_newest(seen) if anchored else self.start,
        )

    def viewers(self) -> list[ViewerContext]:
        """Each viewer's own, without the padding behind it."""
        num_slots = after_newest(self.seen).tolist()
        return [
            ViewerContext(
                torch.stack(
                    [torch.stack([key[b, :, :n], value[b, :, :n]]) for key, value in self.layers]
                ),
                self.seen[b, :n].clone(),
                self.start[b].clone(),
            )
            for b, n in enumerate(num_slots)
        ]


@dataclass(frozen=True)
class ViewerContext:
    """One viewer's part of a `ContextCache`, in memory of its own.

    Attributes:
        key_value: keys, values of each layer. [L, 2, K, n, d].
        seen, start: as of `ContextCache`. bool [n], int64 [].
        scale: what int8 keys and values are times. float32 [L, 2, K, n, 1]; None = they are what
            they say.
        dtype: of keys and values as they are computed with.
    """

    key_value: Tensor
    seen: Tensor
    start: Tensor
    scale: Tensor | None = None
    dtype: torch.dtype = torch.float32

    @property
    def num_bytes(self) -> int:
        """Memory that its numbers take."""
        held = (self.key_value, self.seen, self.start, self.scale)
        return sum(t.numel() * t.element_size() for t in held if t is not None)

    @property
    def exact(self) -> Tensor:
        """Keys and values as they are computed with. [L, 2, K, n, d]."""
        if self.scale is None:
            return self.key_value
        return (self.key_value * self.scale).to(self.dtype)

    def rounded(self) -> ViewerContext:
        """The same as int8 with a scale for each head of a token: rounded twice, it stays so."""
        if self.scale is not None:
            return self
        exact = self.key_value.float()  # a scale in bfloat16 may be too small for its largest
        steps, scale = to_int8(exact)
        return replace(self, key_value=steps, scale=scale, dtype=self.key_value.dtype)


def joined(viewers: Sequence[ViewerContext], num_slots: int | None = None) -> ContextCache:
    """Viewers' contexts as one, padded to `num_slots` or to the longest."""
    T = num_slots or max(len(viewer.seen) for viewer in viewers)
    start = torch.stack([viewer.start for viewer in viewers])
    first, exact = viewers[0], [viewer.exact for viewer in viewers]
    if len(viewers) == 1 and len(first.seen) == T:
        return ContextCache(
            tuple((keys[None], values[None]) for keys, values in exact[0]), first.seen[None], start
        )
    L, _, K, _, d = exact[0].shape
    key_value = exact[0].new_zeros(L, 2, len(viewers), K, T, d)
    seen = first.seen.new_zeros(len(viewers), T)
    for b, viewer in enumerate(viewers):
        n = len(viewer.seen)
        key_value[:, :, b, :, :n] = exact[b]
        seen[b, :n] = viewer.seen
    return ContextCache(tuple((keys, values) for keys, values in key_value), seen, start)
