"""Thunder: recent posts in memory, by author. `store` is what others use; read it first."""

from serve.stores.recent.rows import NewPosts, posts_of
from serve.stores.recent.store import BusyError, RecentPosts, RecentSettings

__all__ = ["BusyError", "NewPosts", "RecentPosts", "RecentSettings", "posts_of"]
