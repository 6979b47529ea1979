"""What the models learn from: pure functions of tensors.

Axes: B examples, C candidates, A actions, P positives, N posts in the pool, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.schema import DWELL_TIME

_LEAST_SHARE = 1e-6  # of the cap, added to predicted stays: keeps the deviance's gradient finite


def action_loss(
    logits: Tensor, labels: Tensor, mask: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy per action, mean over what was observed.

    sum_{b,c,a} w · m · BCE(sigmoid(z), y) / sum_{b,c} w · max_a m: a candidate weighs the same
    whatever the number of actions its log observes. The dwell_time column is left out.

    Args:
        logits: [B, C, A].
        labels: 0 or 1, [B, C, A].
        mask: 1 = observed, [B, C, A].
        weight: of each candidate, [B, C]; None = 1.

    Returns:
        A scalar; 0 where nothing was observed.
    """
    cost = action_costs(logits, labels, mask)
    observed = mask.amax(dim=-1)
    if weight is not None:
        cost, observed = cost * weight[..., None], observed * weight
    total = observed.sum()
    return cost.sum() / torch.where(total > 0, total, 1)


def action_costs(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of each discrete action in nats, 0 where not observed. [B, C, A]."""
    discrete = torch.arange(logits.shape[-1], device=logits.device) != DWELL_TIME
    cost = F.binary_cross_entropy_with_logits(logits, labels * discrete, reduction="none")
    return cost * mask * discrete


def dwell_absolute_error(seconds: Tensor, labels: Tensor, mask: Tensor, cap_s: float) -> Tensor:
    """Mean absolute error of the time spent, as a share of the cap.

    Args:
        seconds: predicted, in [0, cap]. [B, C].
        labels: seconds in the dwell_time column, [B, C, A]; above the cap counts as the cap.
        mask: 1 = observed, [B, C, A].
        cap_s: seconds.
    """
    error = (seconds - labels[..., DWELL_TIME].clamp(max=cap_s)).abs() / cap_s
    return _mean(error, mask[..., DWELL_TIME])


def dwell_deviance(seconds: Tensor, labels: Tensor, mask: Tensor, cap_s: float) -> Tensor:
    """Mean Tweedie deviance of power 1.5 of the time spent, both as shares of the cap.

    The power between 1 and 2 is that of a Poisson number of stays of gamma length: many zeros,
    a long tail, and a variance of mean^1.5. With p = 1.5 the deviance
    2 (y^(2-p) / ((1-p)(2-p)) - y μ^(1-p) / (1-p) + μ^(2-p) / (2-p)) is 4 (√μ - √y)² / √μ
    (Jørgensen, "The Theory of Dispersion Models", 1997). Its minimum is the mean, where that of
    the absolute error is the median.

    Args:
        seconds: predicted, at least 0. [B, C].
        labels: seconds in the dwell_time column, [B, C, A]; above the cap counts as the cap.
        mask: 1 = observed, [B, C, A].
        cap_s: seconds.
    """
    truth = (labels[..., DWELL_TIME].clamp(max=cap_s) / cap_s).sqrt()
    said = (seconds / cap_s + _LEAST_SHARE).sqrt()
    return _mean(4 * (said - truth).square() / said, mask[..., DWELL_TIME])


def sampled_softmax_loss(
    user: Tensor,
    pool: Tensor,
    positive: Tensor,
    log_weight: Tensor,
    temperature: Tensor,
    left_out: Tensor,
    positive_log_weight: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each positive p against a pool of sampled posts.

    With inner products over the temperature f and log weights c:
    mean over p of -(f_p + c_p) + log(exp(f_p + c_p) + sum over the pool of exp(f_i + c_i)).

    A post that enters the pool often would be pushed down for being popular. c_i = -log of the
    expected number of its copies makes the sum an estimate of that over the corpus (Bengio &
    Senécal, 2008: log-Q correction). That holds for what was drawn. The positive was not: it
    stands in its own denominator with certainty, so that its c_p should be 0. Then the gradient is
    -(1 - P_p) ∇(f_p - log S), S the corrected sum over the negatives and P_p = e^f_p / (e^f_p + S),
    which is the form of Khrylchenko et al. 2025, "Correcting the LogQ Correction"
    (arXiv 2507.09331), and in the limit of a large pool the gradient of the softmax over the whole
    corpus. With c_p = -log of its expected copies, the usual form, P_p is too large for a post
    that is expected less than once in the pool and too small for the others.

    Args:
        user: unit rows, one per positive. [P, D].
        pool: unit rows: positives' posts and negatives. [N, D].
        positive: row of the pool that each user engaged with. int64 [P].
        log_weight: c of each row as a negative. [N].
        temperature: divides the inner products, scalar.
        left_out: rows that are no negatives of a positive: copies of its own post, posts that
            this viewer likes, too. Its own row may be anything. bool [P, N].
        positive_log_weight: c of each positive in its own row. [P]; None = 0.
        weight: of each positive in the mean. [P]; None = 1.

    Returns:
        A scalar; 0 if there are no positives.
    """
    if len(positive) == 0:
        return (user.sum() + pool.sum() + temperature) * 0.0  # every parameter has a gradient
    own = torch.arange(len(pool), device=pool.device) == positive[:, None]
    correction = log_weight.expand(len(positive), -1).masked_fill(left_out, float("-inf"))
    own_log_weight = torch.zeros_like(user[:, 0])
    if positive_log_weight is not None:
        own_log_weight = positive_log_weight
    correction = torch.where(own, own_log_weight[:, None], correction)
    cost = F.cross_entropy(user @ pool.T / temperature + correction, positive, reduction="none")
    return cost.mean() if weight is None else (cost * weight).sum() / weight.sum()


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


def _mean(error: Tensor, measured: Tensor) -> Tensor:
    return (error * measured).sum() / measured.sum().clamp(min=1)
