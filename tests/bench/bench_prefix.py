"""`python -m tests.bench.bench_prefix [--posts N …]`: what short prefixes of embeddings save.

Flat, HNSW and IVF-PQ over the first 64 and 128 numbers and over all 256, and stages: a prefix
gives candidates, of which a longer one or the whole vectors leave fewer. Recall@10 is against exact
search over the 256; `own` is against exact search over the same prefix, which tells what the index
loses from what the prefix loses. Queries come one by one, and the CPU time of the whole process
counts. Graphs are built on all cores. Two embeddings: `own`, the prefix
head of train/prefix/posts.py, coarse part first; and `pca`, the encoder's vectors turned so that
the first numbers carry most, which any prefix of an unsupervised embedding is held against.

Vectors are those of prepared posts (--data), of a file of encoded texts (--vectors FILE.npz with
content and label), or made up. Results go to tests/bench/reports/prefix_bench.json.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from tests.bench.prefix_texts import Texts
from train.prefix.objectives import condition
from train.prefix.training import fit_head
from train.prefix_index import embed
from train.report import BENCH_REPORTS, add_out, header, write

SIZES = (64, 128, 256)
FOUND = 10
RESCANNED = (100, 1_000, 10_000)  # candidates of a flat prefix whose whole vectors are compared
GRAPH_RESCANNED = (30, 100)  # the same of an index
# Candidates by 64 numbers whose 128 are compared, and of these those whose 256 are.
FUNNELS = ((1_000, 100), (3_000, 100), (10_000, 100), (30_000, 100))
EF_SEARCH = (16, 32, 64, 128, 256)
PROBES = (4, 16, 64)
_FITTED = 10_000  # texts that the head learns from
_TRAINED = 50_000  # vectors that IVF-PQ learns from
Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Search = Callable[[Vectors, int], Ids]  # one query [1, W] and how many -> ids [1, k]


def embeddings(texts: Texts, content: Vectors, seed: int) -> Iterator[tuple[str, Vectors]]:
    """Vectors [n, 256] of `content` [n, E], by each embedding."""
    rows = np.random.default_rng(seed).permutation(len(texts.content))[:_FITTED]
    fit = condition("own", num_levels=1)
    head = fit_head(texts.content[rows], texts.label[rows][:, None], fit, seed).head
    yield "own", embed(head, content)
    learned = texts.content[rows]
    values, directions = np.linalg.eigh(learned.T @ learned)
    turned = content @ directions[:, np.argsort(-values)[: SIZES[-1]]].astype(np.float32)
    yield "pca", turned / np.linalg.norm(turned, axis=1, keepdims=True)


def prefix(vectors: Vectors, size: int) -> Vectors:
    """The first numbers, at length 1."""
    part = np.ascontiguousarray(vectors[:, :size])
    return part / np.linalg.norm(part, axis=1, keepdims=True)


def flat(vectors: Vectors) -> Any:
    """Exact search."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def hnsw(vectors: Vectors) -> Any:
    """A graph as `train.index.PostIndex` makes it, built with less effort."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index.add(vectors)
    faiss.omp_set_num_threads(1)
    return index


def ivf_pq(vectors: Vectors) -> Any:
    """Lists of codes of one byte for four numbers."""
    width = vectors.shape[1]
    lists = int(4 * np.sqrt(len(vectors)))
    coarse = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFPQ(coarse, width, lists, width // 4, 8, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = index.pq.cp.niter = 8
    index.cp.max_points_per_centroid = 64
    index.train(vectors[:_TRAINED])
    index.add(vectors)
    return index


def settings(kind: str, index: Any) -> Iterator[tuple[str, Search]]:
    """Ways to search an index, from quick to thorough."""
    if kind == "flat":
        yield "", lambda query, k: index.search(query, k)[1]
    for ef in EF_SEARCH if kind == "hnsw" else ():
        yield f"ef {ef}", _with(index, faiss.SearchParametersHNSW, "efSearch", ef)
    for probes in PROBES if kind == "ivf_pq" else ():
        yield f"{probes} probes", _with(index, faiss.SearchParametersIVF, "nprobe", probes)


def _with(index: Any, parameters: Any, name: str, value: int) -> Search:
    def search(query: Vectors, k: int) -> Ids:
        chosen = parameters(**{name: max(value, k) if name == "efSearch" else value})
        return index.search(query, k, params=chosen)[1]

    return search


def compared(stored: Vectors) -> Search:
    """The nearest by comparing all, in no order: quicker than an index that sorts thousands."""
    return lambda query, k: _best(stored, query[0], k)[None]


def in_stages(first: Search, size: int, stages: Sequence[tuple[Vectors, int]]) -> Search:
    """Candidates by the first `size` numbers, then those that each longer prefix leaves.

    Args:
        first: searches the shortest.
        size: of it.
        stages: the stored vectors of each longer prefix, and how many candidates it compares.
    """
    kept = [num for _, num in stages[1:]]

    def search(query: Vectors, k: int) -> Ids:
        rows = first(prefix(query, size), stages[0][1])[0]
        rows = rows[rows >= 0]
        for (stored, _), num in zip(stages, (*kept, k), strict=True):
            rows = rows[_best(stored[rows], query[0, : stored.shape[1]], num)]
        return rows[None]

    return search


def _best(stored: Vectors, query: Vectors, num: int) -> Ids:
    """Rows of the largest inner products. Torch keeps to one thread, as numpy's BLAS may not."""
    near = torch.mv(torch.from_numpy(stored), torch.from_numpy(query))
    return near.topk(min(num, len(near)), sorted=False).indices.numpy()


def measured(search: Search, queries: Vectors, truth: Ids, own: Ids | None) -> dict[str, Any]:
    """Recall and queries a second of the process's CPU time, one by one."""
    search(queries[:1], FOUND)
    begin = time.process_time()
    found = [search(queries[at : at + 1], FOUND)[0] for at in range(len(queries))]
    seconds = time.process_time() - begin

    def recall(right: Ids) -> float:
        pairs = zip(found, right, strict=True)
        return float(np.mean([len(np.intersect1d(a, b)) / FOUND for a, b in pairs]))

    result = {"recall@10": recall(truth)}
    result |= {} if own is None else {"recall@10_own": recall(own)}
    return result | {"qps": len(queries) / seconds}


def of_corpus(
    whole: Vectors, queries: Vectors, kinds: Sequence[str], most_built: int
) -> dict[str, Any]:
    """All searches of one corpus [N, 256]: kind, prefix and setting -> what `measured` says."""
    make = {"flat": flat, "hnsw": hnsw, "ivf_pq": ivf_pq}
    truth = flat(whole).search(queries, FOUND)[1]
    stored = {size: prefix(whole, size) for size in SIZES}
    results: dict[str, Any] = {}
    for size in SIZES:
        asked = prefix(queries, size)
        own = truth if size == SIZES[-1] else flat(stored[size]).search(asked, FOUND)[1]
        for kind in kinds:
            if kind == "hnsw" and len(whole) > most_built:
                continue
            index = make[kind](stored[size])
            for name, search in settings(kind, index):
                row = f"{kind} {size} {name}".strip()
                results[row] = measured(search, asked, truth, own)
                for num in (RESCANNED if kind == "flat" else GRAPH_RESCANNED) * (size < SIZES[-1]):
                    if num < len(whole):
                        both = in_stages(search, size, [(whole, num)])
                        results[f"{row} -> {num} x 256"] = measured(both, queries, truth, None)
            del index
    shortest, longer, _ = SIZES
    for many, few in FUNNELS if "flat" in kinds else ():
        if many < len(whole):
            stages = [(stored[longer], many), (whole, few)]
            search = in_stages(compared(stored[shortest]), shortest, stages)
            row = f"flat {shortest} -> {many} x {longer} -> {few} x 256"
            results[row] = measured(search, queries, truth, None)
    return results


def at_equal_recall(found: dict[str, Any]) -> dict[str, Any]:
    """How much faster than 256 numbers the quickest shorter way is, by the least recall wanted.

    Either side is the quickest of its kind that finds so much; flat 256 always finds all.
    """
    results: dict[str, Any] = {}
    for kind in ("flat", "hnsw"):
        whole = {n: r for n, r in found.items() if n.startswith(f"{kind} 256")}
        for floor in (0.9, 0.95, 0.99):
            base = [r["qps"] for r in whole.values() if r["recall@10"] >= floor]
            short = {
                n: r["qps"]
                for n, r in found.items()
                if n.startswith(f"{kind} ") and n not in whole and r["recall@10"] >= floor
            }
            best = max(short, key=lambda name: short[name], default=None)
            results[f"{kind}, recall@10 of {floor} and more"] = {
                "qps_256": max(base, default=None),
                "best_shorter": best,
                "qps": None if best is None else short[best],
                "times": short[best] / max(base) if best is not None and base else None,
            }
        own = {
            n: r
            for n, r in found.items()
            if n.startswith(f"{kind} 64") and "->" not in n and r.get("recall@10_own", 0) >= 0.95
        }
        fast = max((r["qps"] for r in own.values()), default=None)
        base = [r["qps"] for r in whole.values() if r["recall@10"] >= 0.95]
        results[f"{kind} 64, recall@10 of 0.95 of its own space"] = {
            "qps_256": max(base, default=None),
            "qps": fast,
            "times": fast / max(base) if fast and base else None,
        }
    return results


def report(
    texts: Texts,
    posts: Sequence[int],
    num_queries: int,
    kinds: Sequence[str] = ("flat", "hnsw", "ivf_pq"),
    most_built: int = 1_000_000,
    folder: Path = BENCH_REPORTS,
) -> Path:
    """Measure, and write the record and its page, to `folder` if not the repository's."""
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    about = {"load_before": os.getloadavg()[0], "texts": len(texts.content)}
    results: dict[str, Any] = {}
    for num in posts:
        content = texts.grown(num + num_queries, rng)
        part = {"real_texts": min(num + num_queries, len(texts.content))}
        order = rng.permutation(len(content))
        results[f"{num} posts"] = part
        for name, vectors in embeddings(texts, content[order], seed=0):
            queries, whole = vectors[:num_queries], vectors[num_queries:]
            found = of_corpus(whole, queries, kinds, most_built)
            results[f"{num} posts"][name] = {"searches": found, "faster": at_equal_recall(found)}
            page = write(
                "prefix_bench",
                {"header": header(texts.origin, seeds=[0]) | about, **results},
                folder,
            )  # after each, so that a long run that is stopped has said something
    return page


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_prefix")
    parser.add_argument("--posts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--data", type=Path, help="prepared data with topics and text vectors")
    parser.add_argument("--vectors", type=Path, help="an .npz with content [n, E] and label [n]")
    parser.add_argument(
        "--most-built", type=int, default=1_000_000, help="posts of the largest HNSW"
    )
    add_out(parser)
    args = parser.parse_args()
    if args.data:
        texts = Texts.of_posts(args.data)
    elif args.vectors:
        texts = Texts.of_file(args.vectors)
    else:
        texts = Texts.made_up(np.random.default_rng(0))
    page = report(texts, args.posts, args.queries, most_built=args.most_built, folder=args.out)
    print(f"{page}: written")


if __name__ == "__main__":
    main()
