"""Two towers that read nothing but text: cosine of posts and what a viewer liked.

Axes: B viewers, N posts, S history slots, E width of the text encoder, D width, A actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.schema import ACTIONS
from train.models.layers import Linear
from train.models.prefix_features import PrefixFeatures
from train.models.retrieval import RetrievalConfig, TwoTower, unit
from train.models.tokens import Tensors

_LIKES = [i for i, a in enumerate(ACTIONS) if a.weight > 0 and not a.continuous]
_DISLIKES = [i for i, a in enumerate(ACTIONS) if a.weight < 0]


class TextTowers(nn.Module):
    """A viewer is the mean text of the posts they liked; both sides are mapped, or left frozen.

    Nothing depends on ids: posts that no one has seen have their place, and viewers whom training
    did not see have theirs after one like.
    """

    def __init__(self, config: RetrievalConfig) -> None:
        super().__init__()
        self.config = config
        E, D = config.content_size, config.emb_size
        if config.prefix:
            self.prefix = PrefixFeatures(config.prefix)
        if config.text == "projected":
            # Drawn alike, both start as one random projection: near the frozen cosine.
            self.history_projection = Linear(E, D, variance=1 / D)
            self.post_projection = Linear(E, D, variance=1 / D)
            with torch.no_grad():
                self.post_projection.weight.copy_(self.history_projection.weight)
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    def forward(self, inputs: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """As `TwoTower.forward`."""
        return self.user(inputs), self.posts(inputs), self.log_temperature.exp()

    def user(self, inputs: Tensors) -> Tensor:
        """Place viewers by the text of what they liked.

        Args:
            inputs: as `features.history_inputs` gives them.

        Returns:
            [B, D] of length 1; zeros for a viewer who liked nothing that has a text.
        """
        if self.config.prefix:
            inputs = self.prefix(inputs)
        did = inputs["history_actions"] > 0
        liked = did[..., _LIKES].any(dim=-1) & ~did[..., _DISLIKES].any(dim=-1)  # [B, S]
        total = (inputs["history_content"] * liked[..., None]).sum(dim=1)
        return unit(self.history_projection(total) if self._projects else total)

    def posts(self, inputs: Tensors) -> Tensor:
        """Place posts by pool_content [N, E]; those without a text at zero. [N, D]."""
        content = (self.prefix(inputs) if self.config.prefix else inputs)["pool_content"]
        return unit(self.post_projection(content) if self._projects else content)

    @property
    def _projects(self) -> bool:
        return self.config.text == "projected"


class TextRanker(nn.Module):
    """Ranks by the same cosine, where nothing was trained: its last output, the others are 0."""

    def __init__(self, towers: TextTowers, num_outputs: int) -> None:
        super().__init__()
        self.config, self.towers, self.num_outputs = towers.config, towers, num_outputs

    @torch.inference_mode()
    def predict(self, inputs: Tensors) -> Tensor:
        """Cosine of each candidate and the viewer in the last column.

        Args:
            inputs: as for `TextTowers.user`, and candidate_content [B, C, E].

        Returns:
            float32 [B, C, num_outputs]; 0 for viewers and posts without a place.
        """
        user = self.towers.user(inputs)
        posts = self.towers.posts({"pool_content": inputs["candidate_content"]})
        outputs = posts.new_zeros(*posts.shape[:2], self.num_outputs)
        outputs[..., -1] = (posts @ user[..., None])[..., 0]
        return outputs


Towers = TwoTower | TextTowers


def make_towers(config: RetrievalConfig) -> Towers:
    """The towers that `config` describes."""
    return TwoTower(config) if config.text == "beside" else TextTowers(config)
