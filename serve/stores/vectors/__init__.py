"""Vectors of posts, searched by inner product, to which posts are added while the feed is served.

Read index.py first. `faiss.py` holds them in memory; `pgvector.py` asks PostgreSQL, which all
replicas share.
"""

from serve.stores.vectors.index import VectorIndex, VectorsError, topics_of
from serve.stores.vectors.settings import VectorSettings, open_vectors

__all__ = ["VectorIndex", "VectorSettings", "VectorsError", "open_vectors", "topics_of"]
