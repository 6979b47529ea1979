"""Phoenix: predicts all of a viewer's actions on many candidates in one pass.

Candidates see the viewer and their history and themselves, never each other, so
a score does not depend on which other posts were retrieved.

Axes: B viewers, S history slots, C candidates, A actions, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from configs import Config
from pipelines.features import FeatureSpec
from pipelines.schema import DWELL_TIME
from pipelines.signals import OVERALL_SCALE
from train.models.context import ContextCache
from train.models.layers import Linear, RMSNorm, Transformer, TransformerConfig
from train.models.layout import after_newest, make_layout
from train.models.likeness import LikenessConfig, likeness
from train.models.packing import Packing
from train.models.tokens import HashTables, HistoryTokens, Tensors, pack, padded

# What the inputs of each side are called, and the ids among them -> their table.
_CONTEXT, _CANDIDATES = ("user_", "history_"), ("candidate_",)
_LIKED = ("history_post_hashes", "history_content", "history_actions")  # what `likeness` reads
_IDS = {
    "user": "user",
    "history_post": "post",
    "history_author": "author",
    "candidate_post": "post",
    "candidate_author": "author",
}


class RankerConfig(Config):
    """Shape of the ranker."""

    emb_size: PositiveInt = 64  # D
    transformer: TransformerConfig = TransformerConfig()
    features: FeatureSpec = FeatureSpec()
    # The newest event stands at one position and all candidates at the next, as in the public stack
    # of August 2026: a score is the same in any order. False is the release of January 2026.
    anchored: bool = True
    compute_dtype: Literal["float32", "bfloat16"] = "float32"  # the transformer's
    # A linear term from the as-of rates to the log-odds, on top of those of all showings so far: a
    # drift of a rate then needs no learning. Needs features.rates.
    wide: bool = False
    # What candidates have in common with liked posts of the history, by vectors of text, as inputs:
    # the interference field or the nearest likes. Needs features.content_size.
    likeness: LikenessConfig | None = None
    # The viewer's tokens, then the candidates given what they see of those (see `context`); False =
    # one attention mask over all tokens: the reference, and slower.
    split: bool = True
    packed: bool = False  # padding is computed only where tokens look at each other
    # How the time spent is learned and what its output means: mae, the median of stays up to
    # features.dwell_cap_s; tweedie, the mean of those up to tweedie_cap_s.
    dwell_loss: Literal["mae", "tweedie"] = "mae"
    tweedie_cap_s: PositiveFloat = 300.0  # longer stays count as this long

    @property
    def dwell_cap_s(self) -> float:
        """The longest stay that is predicted. Seconds."""
        return self.tweedie_cap_s if self.dwell_loss == "tweedie" else self.features.dwell_cap_s

    @model_validator(mode="after")
    def _wide_reads_rates(self) -> RankerConfig:
        if self.wide and not self.features.rates:
            raise ValueError("wide reads the as-of rates; set features.rates: true or wide: false")
        return self

    @model_validator(mode="after")
    def _likeness_reads_texts(self) -> RankerConfig:
        if self.likeness and not self.features.content_size:
            raise ValueError(
                "likeness compares vectors of text; set features.content_size or likeness: null"
            )
        return self


class Ranker(nn.Module):
    """Hash tables, tokens, transformer, one output per action.

    `forward` is `context`, what the viewers' side comes to, then `score_candidates`. A context may
    be kept: it is the same for any candidates, and changes with any of the viewer's own inputs
    (`features.history_inputs`). Some of these change by the clock (FeatureSpec.since) or with what
    becomes known of old posts, and not by an event alone; `extended` is exact where all inputs of
    the events before are what they were.
    """

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.config = config
        spec, D = config.features, config.emb_size
        self.tables = HashTables(spec, D, kinds=("user", "post", "author"))
        self.dtype = getattr(torch, config.compute_dtype)
        self.tokens = HistoryTokens(spec, D, self.dtype)
        num_parts = spec.num_post_hashes + spec.num_author_hashes + 1
        self.candidate = Linear(num_parts * D, D, variance=1 / (num_parts * D))  # proj_mat_2
        if spec.rates:
            self.signals = _mapped(spec.num_signals, D)
        if config.likeness:
            self.likeness = _mapped(config.likeness.size, D)
        if config.wide:
            self.wide = nn.Linear(spec.num_signals, spec.num_actions, bias=False)
            nn.init.zeros_(self.wide.weight)  # starts as the overall rate
        self.transformer = Transformer(D, config.transformer)
        self.norm = RMSNorm(D)
        self.unembed = Linear(D, spec.num_actions, variance=1 / spec.num_actions)
        # Added to all log-odds of an action: 0 while training, then fitted by train/calibration.py.
        self.shift: Tensor
        self.register_buffer("shift", torch.zeros(spec.num_actions))

    def forward(self, inputs: Tensors) -> Tensor:
        """Log-odds of each action on each candidate.

        Args:
            inputs: as `features.history_inputs` and `features.candidate_inputs` give
                them; a candidate whose first hash is 0 is padding.

        Returns:
            float32 [B, C, A]. The dwell_time column is no log-odds: see `predict`. Rows of
            padding candidates mean nothing.
        """
        return self.logits(*self._looked_up(inputs, _CONTEXT + _CANDIDATES))

    def context(self, inputs: Tensors) -> ContextCache:
        """What candidates see of viewers, whoever the candidates are.

        Args:
            inputs: as `features.history_inputs` gives them.
        """
        return self._context(*self._looked_up(inputs, _CONTEXT))

    def score_candidates(self, context: ContextCache, inputs: Tensors) -> Tensor:
        """As `forward`, given the viewers' context.

        Args:
            context: of the viewers.
            inputs: as `features.candidate_inputs` gives them; where the config has a `likeness`,
                those of the history, too.
        """
        return self._scores(context, *self._looked_up(inputs, self.reads_of_candidates))

    @property
    def reads_of_candidates(self) -> tuple[str, ...]:
        """What the names of all inputs that `score_candidates` reads begin with."""
        return _CANDIDATES + (_LIKED if self.config.likeness else ())

    def extended(self, context: ContextCache, inputs: Tensors) -> ContextCache:
        """The context of histories with one event more; nothing but its token is computed.

        Exact if all else that `context` was made of is the same: see the class.

        Args:
            context: of the viewers before.
            inputs: the event's, named as `features.history_inputs` does, [B, 1, ...]; a first
                hash of 0 leaves its viewer as they were.

        Raises:
            ValueError: a viewer's history is full. Its oldest event would drop out, which all
                later ones have seen: only `context` of the new history is exact.
        """
        slot = after_newest(context.seen)
        most = self.tokens.num_leading + self.config.features.history_len
        event = {n: v for n, v in inputs.items() if n.startswith("history_")}
        token, valid = self.tokens.events(event, self.embed(event))
        if (full := (slot >= most) & valid[:, 0]).any():
            raise ValueError(
                f"viewers {full.nonzero().flatten().tolist()} have a full history, "
                f"{self.config.features.history_len} events: compute the context anew"
            )
        _, layers = self.transformer.beside(
            token.to(self.dtype), slot[:, None], context.layers, context.seen
        )
        return context.with_event(layers, valid[:, 0], self.config.anchored)

    def embed(self, inputs: Tensors) -> Tensors:
        """Look up the rows of every id. Each [..., n, D]."""
        return {
            name: self.tables(kind, inputs[f"{name}_hashes"])
            for name, kind in _IDS.items()
            if f"{name}_hashes" in inputs
        }

    def logits(self, inputs: Tensors, embeddings: Tensors) -> Tensor:
        """As `forward`, from embeddings that were looked up elsewhere."""
        if self.config.split:
            return self._scores(self._context(inputs, embeddings), inputs, embeddings)
        history, history_valid = self.tokens(inputs, embeddings)
        candidates, candidate_valid = self._candidate_tokens(inputs, embeddings)
        valid = torch.cat([history_valid, candidate_valid], dim=1)
        start, c = history.shape[1], self.config
        tokens = torch.cat([history, candidates], dim=1).to(self.dtype)
        h = self.transformer(tokens, make_layout(valid, start, c.anchored, c.packed))
        return self._outputs(h[:, start:], inputs)

    def _looked_up(self, inputs: Tensors, names: tuple[str, ...]) -> tuple[Tensors, Tensors]:
        """Inputs whose names begin so, packed if the model is, and the embeddings of their ids."""
        inputs = {name: values for name, values in inputs.items() if name.startswith(names)}
        if self.config.packed:
            inputs = pack(inputs)
        return inputs, self.embed(inputs)

    def _context(self, inputs: Tensors, embeddings: Tensors) -> ContextCache:
        tokens, valid = self.tokens(inputs, embeddings)
        layout = make_layout(valid, packed=self.config.packed)
        layers = self.transformer.context(tokens.to(self.dtype), layout)
        after = after_newest(valid)
        start = after if self.config.anchored else torch.full_like(after, valid.shape[1])
        return ContextCache(layers, valid, start)

    def _scores(self, context: ContextCache, inputs: Tensors, embeddings: Tensors) -> Tensor:
        candidates, valid = self._candidate_tokens(inputs, embeddings)
        position = context.start[:, None].expand_as(valid)
        if not self.config.anchored:
            position = position + torch.arange(valid.shape[1], device=valid.device)
        packing = Packing.of(valid) if self.config.packed else None
        h, _ = self.transformer.beside(
            candidates.to(self.dtype), position, context.layers, context.seen, packing
        )
        return self._outputs(h, inputs)

    def _candidate_tokens(self, inputs: Tensors, embeddings: Tensors) -> tuple[Tensor, Tensor]:
        """Tokens [B, C, D] and which are valid, bool [B, C]."""
        ids = [embeddings[f"candidate_{kind}"].flatten(-2) for kind in ("post", "author")]
        surface = self.tokens.surface(inputs["candidate_product_surface"]).to(self.dtype)
        candidates = self.candidate(torch.cat([*ids, surface], dim=-1))
        candidates = candidates + self.tokens.facts("candidate", inputs)
        if self.config.features.rates:
            candidates = candidates + self.signals(inputs["candidate_signals"])
        tokens, valid = padded("candidate", candidates, inputs)
        if self.config.likeness:
            tokens = tokens + self.likeness(likeness(inputs, self.config.likeness))
        return tokens, valid

    def _outputs(self, h: Tensor, inputs: Tensors) -> Tensor:
        """What `forward` gives, of candidates after the transformer."""
        out = self.unembed(self.norm(h).float()).to(self.dtype).float()
        if self.config.wide:
            known, _ = padded("candidate", inputs["candidate_signals"], inputs)
            out = out + self.wide(known) + overall_log_odds_of(known, self.config.features)
        return out + self.shift

    @torch.inference_mode()
    def predict(self, inputs: Tensors, context: ContextCache | None = None) -> Tensor:
        """What the viewer would do: probabilities, and seconds in the dwell_time column.

        Args:
            inputs: as for `forward`.
            context: the viewers' own, if it is known; then only candidates are computed.

        Returns:
            float32 [B, C, A]. Rows of padding candidates mean nothing.
        """
        logits = self.forward(inputs) if context is None else self.score_candidates(context, inputs)
        return self.predictions(logits)

    def predictions(self, logits: Tensor) -> Tensor:
        """What `predict` gives, of what `forward` gives. Same shape."""
        p_action = logits.sigmoid()
        p_action[..., DWELL_TIME] = dwell_seconds(logits[..., DWELL_TIME], self.config).clamp(
            max=self.config.dwell_cap_s
        )
        return p_action


def _mapped(num_inputs: int, size: int) -> nn.Sequential:
    """Numbers of a candidate as a part of its token."""
    return nn.Sequential(
        Linear(num_inputs, size, variance=1 / num_inputs),
        nn.SiLU(),
        Linear(size, size, variance=1 / size),
    )


def overall_log_odds_of(signals: Tensor, spec: FeatureSpec) -> Tensor:
    """Log-odds of each action over all showings so far, 0 = unknown. [..., R] -> [..., A].

    The time spent has none: its output is no log-odds.
    """
    overall = signals[..., : spec.num_actions] / OVERALL_SCALE
    return overall.index_fill(-1, torch.tensor(DWELL_TIME, device=signals.device), 0.0)


def dwell_seconds(logit: Tensor, config: RankerConfig) -> Tensor:
    """The dwell_time output in seconds. Same shape.

    sigmoid times the cap where the absolute error is minimised. With the deviance softplus, which
    may pass the cap: a clamp here would leave what is too large without a gradient.
    """
    if config.dwell_loss == "tweedie":
        return F.softplus(logit)
    return F.sigmoid(logit) * config.dwell_cap_s
