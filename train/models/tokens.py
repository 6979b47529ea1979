"""Ids to embeddings to tokens: the input side that ranker and user tower share.

Axes: B batch, S history slots, C candidates, n hashes of one id, D width, A actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.features import EVENT_CONTEXT, FeatureSpec, Inputs
from train.models.layers import Linear, init_normal_
from train.models.packing import Packing

Tensors = dict[str, Tensor]

CODES_PER_LEVEL = 257  # of a semantic id; 0 = none


def tensors(inputs: Inputs) -> Tensors:
    """Arrays as tensors that share their memory."""
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


def pack(inputs: Tensors) -> Tensors:
    """Inputs whose history and candidates are packed.

    Of each side the arrays [B, S, ...] become [N, ...], and "history_valid" or
    "candidate_valid", bool [B, S], says where the N stood.
    """
    result = dict(inputs)
    for side in ("history", "candidate"):
        if (hashes := inputs.get(f"{side}_post_hashes")) is None:
            continue
        valid = hashes[..., 0] != 0
        packing = Packing.of(valid)
        for name in inputs:
            if name.startswith(f"{side}_"):
                result[name] = packing.pack(inputs[name])
        result[f"{side}_valid"] = valid
    return result


def padded(side: str, tokens: Tensor, inputs: Tensors) -> tuple[Tensor, Tensor]:
    """Tokens of one side, made of packed or padded `inputs`, as [B, S, D], and which are valid."""
    valid = inputs.get(f"{side}_valid")
    if valid is None:
        return tokens, inputs[f"{side}_post_hashes"][..., 0] != 0
    return Packing.of(valid).unpack(tokens), valid


class HashTables(nn.Module):
    """One embedding table per kind of id; an id is the list of its hashes' rows.

    Without ids (FeatureSpec.ids) there are no tables and all ids are zeros.
    """

    def __init__(self, spec: FeatureSpec, emb_size: int, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self.emb_size = emb_size
        for kind in kinds if spec.ids else ():
            table = nn.Embedding(getattr(spec, f"{kind}_vocab"), emb_size, padding_idx=0)
            init_normal_(table.weight, 0.01 / emb_size)  # small: an id not trained on says little
            with torch.no_grad():
                table.weight[0] = 0
            self.add_module(kind, table)

    def forward(self, kind: str, hashes: Tensor) -> Tensor:
        """int64 [..., n] -> [..., n, D]; hash 0 gives zeros."""
        if not self._modules:
            return torch.zeros(*hashes.shape, self.emb_size, device=hashes.device)
        return self.get_submodule(kind)(hashes)


class PostFacts(nn.Module):
    """What is known of a post shown, beside its ids, as one vector: context, codes, text."""

    def __init__(self, spec: FeatureSpec, emb_size: int) -> None:
        super().__init__()
        if spec.context:
            self.context_table = _small_table(sum(EVENT_CONTEXT.values()), emb_size)
        if spec.num_code_levels:
            self.code_table = _small_table(spec.num_code_levels * CODES_PER_LEVEL, emb_size)
        if spec.content_size:
            self.content = Linear(spec.content_size, emb_size, variance=1 / spec.content_size)

    def forward(self, side: str, inputs: Tensors) -> Tensor | float:
        """Sum of what `inputs` hold of a side, history, candidate or pool. [..., D] or 0."""
        total: Tensor | float = 0.0
        if (context := inputs.get(f"{side}_context")) is not None:
            total = total + self.context_table(context).sum(dim=-2)
        if (codes := inputs.get(f"{side}_codes")) is not None:
            level = torch.arange(codes.shape[-1], device=codes.device) * CODES_PER_LEVEL
            known = (codes > 0)[..., None]
            total = total + (self.code_table(codes + level) * known).sum(dim=-2)
        if (content := inputs.get(f"{side}_content")) is not None:
            total = total + self.content(content)
        return total


class UserFeatures(nn.Module):
    """A viewer's profile facts as one token."""

    def __init__(self, spec: FeatureSpec, emb_size: int) -> None:
        super().__init__()
        self.attribute_table = _small_table(spec.attribute_vocab, emb_size)

    def forward(self, inputs: Tensors) -> Tensor:
        """[B, 1, D]; zeros for a viewer nothing is known of."""
        attributes = inputs["user_attributes"]
        known = (attributes > 0)[..., None]
        return (self.attribute_table(attributes) * known).sum(dim=1, keepdim=True)


def _small_table(num_rows: int, emb_size: int) -> nn.Embedding:
    table = nn.Embedding(num_rows, emb_size)
    init_normal_(table.weight, 0.01 / emb_size)
    return table


class HistoryTokens(nn.Module):
    """Projects a viewer and what they did into tokens: [user | profile | history].

    Parameters are named for what they project; the published tree calls them
    proj_mat_1 (user), proj_mat_3 (history), action_projection and
    product_surface_embedding_table. Actions and surfaces are rounded to `dtype`;
    everything is projected in float32.
    """

    def __init__(
        self, spec: FeatureSpec, emb_size: int, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        D = emb_size
        self.dtype = dtype  # what the transformer computes in
        num_ids = spec.num_post_hashes + spec.num_author_hashes
        self.user = Linear(spec.num_user_hashes * D, D, variance=1 / (spec.num_user_hashes * D))
        self.history = Linear((num_ids + 2) * D, D, variance=1 / ((num_ids + 2) * D))
        self.action = Linear(spec.num_actions, D, variance=1 / D)
        self.surface = nn.Embedding(spec.num_surfaces, D)
        init_normal_(self.surface.weight, 1 / D)
        self.facts = PostFacts(spec, D)
        self.profile = UserFeatures(spec, D) if spec.user_features else None

    def forward(self, inputs: Tensors, embeddings: Tensors) -> tuple[Tensor, Tensor]:
        """Build the viewer's part of the sequence.

        Args:
            inputs: as `features.history_inputs` gives them, or `pack` of that.
            embeddings: user [B, n, D], history_post and history_author [B, S, n, D], or packed
                as the inputs are.

        Returns:
            tokens float32 [B, T, D] and their validity, bool [B, T]; T is 1 + S, and one more
            with a profile, which is always valid. Only the first hash of a user or post decides
            validity; authors never do.
        """
        history, known = self.events(inputs, embeddings)
        tokens = [self.user(embeddings["user"].flatten(-2))[:, None], history]
        valid = [inputs["user_hashes"][:, :1] != 0, known]
        if self.profile is not None:
            tokens.insert(1, self.profile(inputs))
            valid.insert(1, torch.ones_like(valid[0]))
        return torch.cat(tokens, dim=1), torch.cat(valid, dim=1)

    def events(self, inputs: Tensors, embeddings: Tensors) -> tuple[Tensor, Tensor]:
        """The history's part of the same: tokens float32 [B, S, D], validity bool [B, S]."""
        did = inputs["history_actions"]
        action = self.action(2 * did - 1) * (did != 0).any(dim=-1, keepdim=True)
        surface = self.surface(inputs["history_product_surface"])
        history = self.history(
            torch.cat(
                [
                    embeddings["history_post"].flatten(-2),
                    embeddings["history_author"].flatten(-2),
                    action.to(self.dtype),  # cat makes it float32 again
                    surface.to(self.dtype),
                ],
                dim=-1,
            )
        )
        return padded("history", history + self.facts("history", inputs), inputs)

    @property
    def num_leading(self) -> int:
        """Tokens before the history's."""
        return 1 if self.profile is None else 2
