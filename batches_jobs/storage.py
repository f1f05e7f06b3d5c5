"""Storage that several machines share, for jobs that workers run.

`FolderStorage` is a folder that all of them have mounted. `open_storage` also opens buckets of
objects, with the extra ``storage``.
"""

from __future__ import annotations

from ._storage.folder import FolderStorage
from ._storage.interface import Storage
from ._storage.objects import ObjectStorage
from ._storage.opening import open_storage

__all__ = ["FolderStorage", "ObjectStorage", "Storage", "open_storage"]
