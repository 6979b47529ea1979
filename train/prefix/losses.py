"""What prefix heads learn from: pure functions of tensors.

Formulas of V5 are those of dl1683/ai-moonshots (moonshot-fractal-embeddings, February 2026).

Axes: B texts of a batch, D width, J blocks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    anchor: Tensor, positive: Tensor, temperature: float, labels: Tensor | None = None
) -> Tensor:
    """-log( e^{a_i·p_i/τ} / Σ_k e^{a_i·p_k/τ} ): every other positive of the batch is a negative.

    (van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding".)

    Args:
        anchor: unit rows [B, D].
        positive: unit rows [B, D].
        temperature: τ.
        labels: of the anchors, int64 [B]: positives of the same class are no negatives. None =
            they are, as in V5.

    Returns:
        Cost of each anchor [B].
    """
    logits = anchor @ positive.T / temperature
    own = torch.arange(len(anchor), device=anchor.device)
    if labels is not None:
        same = labels[:, None] == labels[None, :]
        logits = logits.masked_fill(same & (own[:, None] != own[None, :]), float("-inf"))
    return F.cross_entropy(logits, own, reduction="none")


def sup_con(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss: all others of a text's class are its positives.

    For text i with positives P(i):
    -1/|P(i)| Σ_{p in P(i)} log( e^{z_i·z_p/τ} / Σ_{a≠i} e^{z_i·z_a/τ} )
    (Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2).

    Args:
        vectors: unit rows [B, D].
        labels: int64 [B].
        temperature: τ.

    Returns:
        Mean over the texts that have a positive; 0 if none has.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    logits = (vectors @ vectors.T / temperature).masked_fill(itself, float("-inf"))
    log_share = (logits - logits.logsumexp(dim=1, keepdim=True)).masked_fill(itself, 0)
    positive = ((labels[:, None] == labels[None, :]) & ~itself).to(vectors.dtype)
    num = positive.sum(dim=1)
    cost = -(log_share * positive).sum(dim=1) / num.clamp(min=1)
    return cost.sum() / (num > 0).sum().clamp(min=1)


def margin_loss(
    vectors: Tensor, labels: Tensor, margin: float, weight: Tensor | None = None
) -> Tensor:
    """Mean over pairs (i, p) of one class of mean over i's negatives n of (s_in - s_ip + m)+.

    Texts without a positive or without a negative in the batch do not count (V5).

    Args:
        vectors: unit rows [B, D].
        labels: int64 [B].
        margin: m.
        weight: of each text as i, [B]; pairs are still divided by their number. None = 1.

    Returns:
        A scalar; 0 if there are no pairs.
    """
    similarity = vectors @ vectors.T
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    negative = (~same).to(vectors.dtype)
    num_negatives = negative.sum(dim=1)
    pair = (same & ~itself).to(vectors.dtype) * (num_negatives > 0)[:, None]
    gap = F.relu(similarity[:, None, :] - similarity[:, :, None] + margin)  # [i, p, n]
    cost = (gap * negative[:, None, :]).sum(dim=2) / num_negatives.clamp(min=1)[:, None] * pair
    if weight is not None:
        cost = cost * weight[:, None]
    return cost.sum() / pair.sum().clamp(min=1)


def distillation(vectors: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of the batch's neighbours by `vectors` from those by the `teacher`.

    Each text's similarities to the others, over τ, become a distribution (Tejankar et al. 2021,
    "ISD", and Fang et al. 2021, "SEED"); mean over texts of Σ_a q_a log(q_a / p_a).

    Args:
        vectors: unit rows [B, D].
        teacher: unit rows of any width, B of them; gets no gradient.
        temperature: τ of both.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    said, true = (
        F.log_softmax((v @ v.T / temperature).masked_fill(itself, -1e4), dim=1)
        for v in (vectors, teacher.detach())
    )
    return F.kl_div(said, true, reduction="batchmean", log_target=True)


def draw_lengths(num: int, weights: Tensor, generator: torch.Generator) -> Tensor:
    """How many blocks each text's prefix has, drawn with `weights` [J]: int64 [num], 1 to J."""
    return torch.multinomial(weights, num, replacement=True, generator=generator) + 1


def cut_at_mode(lengths: Tensor, num_blocks: int) -> Tensor:
    """The lengths [B] that V5's tables were really made with: none above the batch's commonest.

    The original drew a length per text, then cut the whole batch at the mode of the draws; of
    modes equally common this takes the shortest. So most batches supervise the first block alone.
    """
    return lengths.clamp(max=int(lengths.bincount(minlength=num_blocks + 1).argmax()))


def first_blocks(lengths: Tensor, num_blocks: int) -> Tensor:
    """Which blocks prefixes of these lengths [B] consist of: bool [B, J]."""
    return torch.arange(num_blocks, device=lengths.device) < lengths[:, None]


def draw_blocks(num: int, keep: Tensor, generator: torch.Generator) -> Tensor:
    """Block dropout: each text keeps block j with probability keep[j]. bool [num, J]."""
    return torch.rand(num, len(keep), generator=generator) <= keep
