"""`python -m train.semantic_ids DATA [key=value …]`: posts get ids that say what they are like.

A post's vector becomes a few small numbers, coarse to fine: k-means finds the nearest of 256
centres, then the nearest of 256 to what that left over, and so on (residual quantisation: Chen,
Guan and Wang, "Approximate nearest neighbor search by residual vector quantization", Sensors
2010; as ids of posts: Rajput et al., "Recommender systems with generative retrieval", NeurIPS
2023). Posts that start with the same codes are alike, so a post that nobody has met shares what
was learned of others. Vectors are those of the posts' text or, where posts have none, of who liked
them in the training split; a post without a vector has no codes.

DATA is a folder that the data job wrote. Beside its posts.parquet appear codes.npy, aligned to
content_ids.npy, and codebook.npy; how good the codes are goes to train/reports/.

Axes: n posts with a vector, E width of the vectors, L levels, K codes of a level.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from configs import Config, ConfigError, check, parse_overrides
from pipelines.facts import CODE_IDS, CODES, CONTENT, CONTENT_IDS
from pipelines.prepared import note, read_manifest
from pipelines.whole import save_array
from train.baselines import liked_pairs
from train.models.tokens import CODES_PER_LEVEL
from train.report import REPORTS, header, write
from train.rows import Past, read_examples

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Results = dict[str, object]

CODEBOOK = "codebook.npy"  # float32 [L, K, E]


class SemanticIds(Config):
    """How posts get their codes."""

    # text: content.npy, written by pipelines.data.encode. behaviour: who liked a post in the
    # training split, by truncated SVD; posts that appear later have no codes then.
    source: Literal["text", "behaviour"] = "text"
    num_levels: PositiveInt = 6  # L
    num_codes: int = Field(default=CODES_PER_LEVEL - 1, ge=2, le=CODES_PER_LEVEL - 1)  # K
    num_iterations: PositiveInt = 25  # of k-means, a level
    max_points_per_code: PositiveInt = 256  # centres are fitted on at most K times so many posts
    num_factors: PositiveInt = 64  # of the SVD, E
    min_viewers: PositiveInt = 2  # who liked a post, for it to get a vector from behaviour
    seed: NonNegativeInt = 0
    report: str = Field(default="semantic_ids", pattern=r"^[\w.-]+$")  # its name in train/reports


def fit_codebook(vectors: Floats, config: SemanticIds) -> Floats:
    """Centres of each level, fitted on what the levels before leave over.

    Args:
        vectors: float32 [n, E].
        config: size and seed; K is n where there are fewer vectors than codes.

    Returns:
        float32 [L, K, E]; the same for the same vectors and seed.
    """
    residual = np.ascontiguousarray(vectors, np.float32).copy()
    num_codes = min(config.num_codes, len(vectors))
    levels = []
    for level in range(config.num_levels):
        kmeans = faiss.Kmeans(
            residual.shape[1],
            num_codes,
            niter=config.num_iterations,
            seed=config.seed + level,
            min_points_per_centroid=1,  # a small corpus is no reason to warn
            max_points_per_centroid=config.max_points_per_code,
        )
        kmeans.train(residual)
        assert kmeans.centroids is not None  # there are since it was trained
        levels.append(kmeans.centroids.copy())
        residual -= levels[-1][_nearest(residual, levels[-1])]
    return np.stack(levels)


def encode(vectors: Floats, codebook: Floats) -> Ids:
    """The nearest centre of each level, 1 to K. [n, E], [L, K, E] -> int64 [n, L]."""
    residual = np.ascontiguousarray(vectors, np.float32).copy()
    codes = []
    for centres in codebook:
        nearest = _nearest(residual, centres)
        residual -= centres[nearest]
        codes.append(nearest + 1)
    return np.stack(codes, axis=1)


def decode(codes: Ids, codebook: Floats) -> Floats:
    """Sum of the centres of the first levels. [n, l <= L], [L, K, E] -> float32 [n, E]."""
    levels = zip(codes.T, codebook, strict=False)
    return np.sum([centres[code - 1] for code, centres in levels], axis=0, dtype=np.float32)


def measure(vectors: Floats, codes: Ids, codebook: Floats) -> Results:
    """How much of the vectors the codes keep, and how well they use their room.

    Returns:
        levels -> 1 … L -> after this and the levels before: relative_mse, the squared error as
        a share of that of always saying the mean; cosine to the vector, mean; num_ids, prefixes
        in use. Of the level alone: entropy_bits of its codes, perplexity = 2^entropy, dead_codes,
        never used. ids -> posts, distinct ids, collisions (posts that share all codes with
        another), the most posts of one id.
    """
    spread = np.square(vectors - vectors.mean(axis=0)).sum()
    levels: Results = {}
    for level in range(1, codes.shape[1] + 1):
        decoded = decode(codes[:, :level], codebook)
        used = np.bincount(codes[:, level - 1] - 1, minlength=codebook.shape[1])
        share = used[used > 0] / used.sum()
        entropy = float(-(share * np.log2(share)).sum())
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(decoded, axis=1)
        cosine = (vectors * decoded).sum(axis=1) / np.maximum(lengths, 1e-12)
        levels[str(level)] = {
            "relative_mse": float(np.square(vectors - decoded).sum() / max(spread, 1e-12)),
            "cosine": float(cosine.mean()),
            "num_ids": len(np.unique(codes[:, :level], axis=0)),
            "entropy_bits": entropy,
            "perplexity": 2.0**entropy,
            "dead_codes": int((used == 0).sum()),
        }
    _, posts = np.unique(codes, axis=0, return_counts=True)
    ids = {
        "num_posts": len(codes),
        "num_distinct": len(posts),
        "collisions": int(posts[posts > 1].sum()),
        "most_posts_of_one": int(posts.max()),
    }
    return {"levels": levels, "ids": ids}


def text_vectors(data: Path) -> tuple[Ids, Floats]:
    """Posts with a text, sorted, and their vectors.

    Raises:
        FileNotFoundError: the texts were not encoded.
    """
    if not (data / CONTENT).exists():
        raise FileNotFoundError(
            f"{data / CONTENT}: no vectors of text; run `python -m pipelines.data.encode {data}`, "
            "or take source=behaviour"
        )
    return np.load(data / CONTENT_IDS), np.load(data / CONTENT).astype(np.float32)


def behaviour_vectors(data: Path, config: SemanticIds) -> tuple[Ids, Floats]:
    """Posts that enough viewers liked in the training split, sorted, and unit vectors.

    Truncated SVD of viewers by posts, 1 where liked, each viewer's row scaled to length 1: who
    likes everything says little of a post.

    Raises:
        ValueError: no post has enough viewers.
    """
    past = Past.of(read_examples(data, "train"))
    posts = np.unique(past.post_id)
    viewer, post = liked_pairs(past, posts)
    num_viewers = np.bincount(post, minlength=len(posts))
    kept = np.flatnonzero(num_viewers >= config.min_viewers)
    if not len(kept):
        raise ValueError(
            f"{data}: no post was liked by {config.min_viewers} viewers; lower min_viewers"
        )
    inside = num_viewers[post] >= config.min_viewers
    viewer = np.unique(viewer[inside], return_inverse=True)[1]
    column = np.searchsorted(kept, post[inside])
    value = 1 / np.sqrt(np.bincount(viewer))[viewer]
    shape = (int(viewer.max()) + 1, len(kept))
    matrix = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([viewer, column])),
        torch.from_numpy(value),
        shape,
        check_invariants=True,
    ).coalesce()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        _, scale, factors = torch.svd_lowrank(matrix, min(config.num_factors, *shape), niter=4)
    vectors = (factors * scale).numpy()
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return posts[kept], vectors.astype(np.float32)


def make(data: Path, config: SemanticIds) -> Results:
    """Write codes.npy, code_ids.npy (whose they are) and codebook.npy of a prepared data set.

    Returns:
        As `measure`, and settings and counts of posts.

    Raises:
        FileNotFoundError: no prepared data, or no vectors of text where they are asked for.
        ValueError: nothing to get vectors from.
    """
    read_manifest(data)  # or say what to run
    num_posts = pq.read_metadata(data / "posts.parquet").num_rows
    if config.source == "text":
        post_id, vectors = text_vectors(data)
    else:
        post_id, vectors = behaviour_vectors(data, config)
    if not len(vectors):
        raise ValueError(f"{data / CONTENT}: vectors of no post")
    codebook = fit_codebook(vectors, config)
    codes = encode(vectors, codebook)
    save_array(data / CODEBOOK, codebook)
    save_array(data / CODE_IDS, post_id)
    save_array(data / CODES, codes.astype(np.int16))
    coded = {
        "posts_in_data": num_posts,
        "posts_with_codes": len(post_id),
        "vector_size": vectors.shape[1],
    }
    settings = config.model_dump(mode="json", exclude={"report"})
    note(data, "codes", settings | coded)
    return {"settings": settings, "posts": coded, **measure(vectors, codes, codebook)}


def _nearest(vectors: Floats, centres: Floats) -> Ids:
    """Row of the nearest centre, int64 [n]."""
    index = faiss.IndexFlatL2(centres.shape[1])
    index.add(centres)
    return index.search(vectors, 1)[1][:, 0]


def main() -> int:
    """Make the codes of a data set from the command line."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    data = Path(sys.argv[1])
    try:
        config = check(parse_overrides(sys.argv[2:]), SemanticIds, place="semantic_ids")
        results = make(data, config)
    except (ConfigError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    fingerprint = read_manifest(data)["fingerprint"]
    page = write(config.report, {"header": header(fingerprint, [config.seed]), **results}, REPORTS)
    print(page.read_text())
    print(f"{data / CODES}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
