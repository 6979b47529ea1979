"""Ids to embeddings to tokens: the input side that ranker and user tower share.

Axes: B batch, S history slots, C candidates, n hashes of one id, D width, A actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.features import FeatureSpec, Inputs
from train.models.layers import Linear, init_normal_

Tensors = dict[str, Tensor]


def tensors(inputs: Inputs) -> Tensors:
    """Arrays as tensors that share their memory."""
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


class HashTables(nn.Module):
    """One embedding table per kind of id; an id is the list of its hashes' rows."""

    def __init__(self, spec: FeatureSpec, emb_size: int, kinds: tuple[str, ...]) -> None:
        super().__init__()
        for kind in kinds:
            table = nn.Embedding(getattr(spec, f"{kind}_vocab"), emb_size, padding_idx=0)
            init_normal_(table.weight, 0.01 / emb_size)  # small: an id not trained on says little
            with torch.no_grad():
                table.weight[0] = 0
            self.add_module(kind, table)

    def forward(self, kind: str, hashes: Tensor) -> Tensor:
        """int64 [..., n] -> [..., n, D]; hash 0 gives zeros."""
        return self.get_submodule(kind)(hashes)


class HistoryTokens(nn.Module):
    """Projects a viewer and what they did into tokens: [user | history].

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

    def forward(self, inputs: Tensors, embeddings: Tensors) -> tuple[Tensor, Tensor]:
        """Build the viewer's part of the sequence.

        Args:
            inputs: as `features.history_inputs` gives them.
            embeddings: user [B, n, D], history_post and history_author [B, S, n, D].

        Returns:
            tokens float32 [B, 1 + S, D] and their validity, bool [B, 1 + S]. Only the first
            hash of a user or post decides validity; authors never do.
        """
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
        user = self.user(embeddings["user"].flatten(-2))[:, None]
        valid = torch.cat(
            [inputs["user_hashes"][:, :1] != 0, inputs["history_post_hashes"][..., 0] != 0], dim=1
        )
        return torch.cat([user, history], dim=1), valid
