"""What the models learn from: pure functions of tensors.

Axes: B examples, C candidates, A actions, P positives, N posts in the pool, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.schema import DWELL_TIME


def action_loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy per action, mean over what was observed.

    sum_{b,c,a} m · BCE(sigmoid(z), y) / sum_{b,c} max_a m: a candidate weighs the same
    whatever the number of actions its log observes. The dwell_time column is left out.

    Args:
        logits: [B, C, A].
        labels: 0 or 1, [B, C, A].
        mask: 1 = observed, [B, C, A].

    Returns:
        A scalar; 0 where nothing was observed.
    """
    discrete = torch.arange(logits.shape[-1], device=logits.device) != DWELL_TIME
    mask = mask * discrete
    loss = F.binary_cross_entropy_with_logits(logits, labels * discrete, reduction="none")
    return (loss * mask).sum() / mask.amax(dim=-1).sum().clamp(min=1)


def dwell_loss(seconds: Tensor, labels: Tensor, mask: Tensor, cap_s: float) -> Tensor:
    """Mean absolute error of the time spent, as a share of the cap.

    Args:
        seconds: predicted, in [0, cap]. [B, C].
        labels: seconds in the dwell_time column, [B, C, A]; above the cap counts as the cap.
        mask: 1 = observed, [B, C, A].
        cap_s: seconds.
    """
    measured = mask[..., DWELL_TIME]
    error = (seconds - labels[..., DWELL_TIME].clamp(max=cap_s)).abs() / cap_s
    return (error * measured).sum() / measured.sum().clamp(min=1)


def sampled_softmax_loss(
    user: Tensor,
    pool: Tensor,
    positive: Tensor,
    pool_id: Tensor,
    log_expected_count: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Cross-entropy of each positive against a pool of sampled posts, with log-Q correction.

    A post that enters the pool often would be pushed down for being popular;
    subtracting the log of its expected number of copies in the pool makes the
    loss an estimate of the softmax over the whole corpus (Bengio & Senécal, 2008).
    Other copies of the positive's own post are no negatives and are left out.

    Args:
        user: unit rows, one per positive. [P, D].
        pool: unit rows, positives' posts and global negatives. [N, D].
        positive: row of the pool that each user engaged with. int64 [P].
        pool_id: post ids, to recognise copies. int64 [N].
        log_expected_count: log of the expected copies of each post in the pool. [N].
        temperature: divides the inner products, scalar.

    Returns:
        Mean over positives, a scalar; 0 if there are none.
    """
    if len(positive) == 0:
        return (user.sum() + pool.sum() + temperature) * 0.0  # every parameter has a gradient
    logits = user @ pool.T / temperature - log_expected_count
    copies = pool_id[None, :] == pool_id[positive][:, None]
    copies[torch.arange(len(positive), device=positive.device), positive] = False
    return F.cross_entropy(logits.masked_fill(copies, float("-inf")), positive)


def uniform_softmax_loss(
    user: Tensor, posts: Tensor, positive: Tensor, negatives: Tensor, temperature: Tensor
) -> Tensor:
    """Cross-entropy of each positive against a uniform sample of the corpus.

    -log( e^{s+} / (e^{s+} + (N - 1) / K' sum_k e^{s_k}) ), the sum over the K' sampled posts that
    are not the positive: with all posts as the sample, the exact softmax over the corpus.

    Args:
        user: unit rows, one per positive. [P, D].
        posts: unit rows of the corpus. [N, D].
        positive: row of `posts` that each user engaged with. int64 [P].
        negatives: distinct rows of `posts`. int64 [K].
        temperature: divides the inner products, scalar.

    Returns:
        Mean over positives, a scalar; 0 if there are none.
    """
    if len(positive) == 0:
        return (user.sum() + posts.sum() + temperature) * 0.0  # every parameter has a gradient
    user = user / temperature
    own = (user * posts[positive]).sum(dim=-1, keepdim=True)
    others = user @ posts[negatives].T
    same = negatives[None, :] == positive[:, None]
    num_others = len(negatives) - same.sum(dim=-1, keepdim=True)
    scale = ((len(posts) - 1) / num_others.clamp(min=1)).log()
    others = (others + scale).masked_fill(same, float("-inf"))
    return (torch.logsumexp(torch.cat([own, others], dim=-1), dim=-1) - own[:, 0]).mean()
