"""The learned baseline of the original's table: a small network over profile and post.

One model for all viewers of a split, on [profile, post, product, |difference|], standardised.
The profile of a training row contains that row's own post, as in the original.

Axes: n rows, V viewers, C candidates, P posts, F numbers of a vector.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional as F

from configs import Config
from train.interference.rankers import profiles
from train.interference.ratings import Floats
from train.interference.split import Split


class MlpConfig(Config):
    """As published, by the names and rules of scikit-learn's MLPClassifier."""

    hidden: PositiveInt = 64
    alpha: PositiveFloat = 1e-4  # half of it times the squared weights over the batch's rows
    batch_size: PositiveInt = 256
    lr: PositiveFloat = 1e-3  # of Adam
    most_epochs: PositiveInt = 50
    patience: PositiveInt = 6  # epochs without a better accuracy of the held-out tenth
    tolerance: PositiveFloat = 1e-4
    most_rows: PositiveInt = 80_000  # half of a viewer's share are positives
    seed: int = 20260430


def mlp(vectors: NDArray, split: Split, config: MlpConfig) -> Floats:
    """Fit on the histories, predict the candidates' log-odds. [V, C].

    Args:
        vectors: of all posts. [P, F].
        split: whose histories and candidates.
        config: of the network.
    """
    rng = np.random.default_rng(config.seed)
    profile = profiles(vectors, split)
    viewer, post, label = _rows(split, len(vectors), config, rng)
    x = _features(profile[viewer], vectors[post])
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation == 0] = 1.0
    model = _fit(((x - mean) / deviation).astype(np.float32), label, config, rng)
    scores = []
    with torch.no_grad():
        for of, candidates in zip(profile, split.candidates, strict=True):
            rows = _features(np.repeat(of[None], len(candidates), 0), vectors[candidates])
            rows = ((rows - mean) / deviation).astype(np.float32)
            scores.append(model(torch.from_numpy(rows))[:, 0].double().numpy())
    return np.stack(scores)


def _rows(
    split: Split, num_posts: int, config: MlpConfig, rng: np.random.Generator
) -> tuple[NDArray, NDArray, NDArray]:
    """Viewer, post and label of the rows to learn from: as many liked as not. [n] each."""
    share = config.most_rows // len(split.viewer) // 2
    viewer, post, label = [], [], []
    for row, length in enumerate(split.lengths):
        liked = split.history[row, :length]
        other = np.ones(num_posts, bool)
        other[liked] = False
        other[split.candidates[row][split.hit[row]]] = False
        pool = np.flatnonzero(other)
        num = min(share, length, len(pool))
        post += [rng.choice(liked, num, replace=False), rng.choice(pool, num, replace=False)]
        label += [np.ones(num, np.float32), np.zeros(num, np.float32)]
        viewer.append(np.full(2 * num, row))
    return np.concatenate(viewer), np.concatenate(post), np.concatenate(label)


def _features(profile: NDArray, post: NDArray) -> NDArray:
    return np.concatenate([profile, post, profile * post, np.abs(profile - post)], 1)


def _fit(x: NDArray, y: NDArray, config: MlpConfig, rng: np.random.Generator) -> nn.Sequential:
    """Adam until the held-out tenth is no better; the best epoch's weights."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        first, last = nn.Linear(x.shape[1], config.hidden), nn.Linear(config.hidden, 1)
        model = nn.Sequential(first, nn.ReLU(), last)
        for layer in (first, last):
            # Uniform within sqrt(6 / (in + out)), or 2 of the last layer, biases too.
            gain = 6.0 if layer is first else 2.0
            bound = (gain / (layer.in_features + layer.out_features)) ** 0.5
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)
    order = rng.permutation(len(x))
    held = np.concatenate([order[y[order] == c][: int((y == c).sum() // 10)] for c in (0, 1)])
    kept = np.setdiff1d(order, held)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    adam = torch.optim.Adam(model.parameters(), lr=config.lr)
    best, best_state, waited = -np.inf, copy.deepcopy(model.state_dict()), 0
    for _ in range(config.most_epochs):
        shuffled = torch.from_numpy(rng.permutation(kept))
        for rows in shuffled.split(config.batch_size):
            adam.zero_grad()
            squares = first.weight.square().sum() + last.weight.square().sum()
            fit = F.binary_cross_entropy_with_logits(model(inputs[rows])[:, 0], labels[rows])
            (fit + config.alpha / 2 * squares / len(rows)).backward()
            adam.step()
        with torch.no_grad():
            guess = model(inputs[held])[:, 0] > 0
        accuracy = float((guess == labels[held].bool()).double().mean())
        waited = 0 if accuracy >= best + config.tolerance else waited + 1
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(model.state_dict())
        if waited > config.patience:
            break
    model.load_state_dict(best_state)
    return model
