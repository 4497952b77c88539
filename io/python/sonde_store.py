"""Read an activation store of Sonde with numpy and h5py alone (docs/store-format.md).

    store = Store("acts")
    store.sites                                    # ['blocks.0.hook_resid_post', ...]
    x = store.read("blocks.0.hook_resid_post")     # float32 [rows, ...]
    rows = store.rows()                            # {'document': int64, 'position': int32, 'token': int32}
"""
import hashlib
import json
import os

import h5py
import numpy as np

FORMAT, VERSION = "sonde activation store", 1
_DTYPES = {"f32": np.dtype("<f4"), "bf16": np.dtype("<u2"), "f16": np.dtype("<f2")}
_ROW_METADATA = {"document": np.dtype("<i8"), "position": np.dtype("<i4"), "token": np.dtype("<i4")}


class StoreError(Exception):
    """The folder is no store, or not all of it is there."""


def _open(path):
    """h5py.File for reading, without HDF5's own file locks: they don't work on every file system."""
    try:
        try:
            return h5py.File(path, "r", locking=False)
        except (TypeError, ValueError):  # an h5py or HDF5 that doesn't know `locking`
            return h5py.File(path, "r")
    except OSError as error:
        raise StoreError(f"{path}: {error}") from None


class Store:
    def __init__(self, path):
        self.path = os.fspath(path)
        self.manifest = self._read_manifest()
        self._sites = {site["name"]: tuple(site["row_shape"]) for site in self.manifest["sites"]}
        self._dtype = _DTYPES[self.manifest["dtype"]]
        self._shards = self._read_shards()
        self._offsets = {}  # shard number -> {dataset: byte offset}

    def __len__(self):
        return self.manifest["rows"]

    @property
    def sites(self):
        """Names in the order of the hook table."""
        return list(self._sites)

    def read(self, site, start=0, stop=None):
        """Rows [start, stop) of a site, float32 [rows, ...]."""
        if site not in self._sites:
            raise StoreError(f"{self.path}: no site {site!r}; this store has {', '.join(self._sites)}")
        shape = self._sites[site]
        raw = self._read(site, self._dtype, int(np.prod(shape)), start, stop)
        if self.manifest["dtype"] == "bf16":  # the upper half of a float32
            values = (raw.astype(np.uint32) << 16).view(np.float32)
        else:
            values = raw.astype(np.float32, copy=False)
        return values.reshape(-1, *shape)

    def rows(self):
        """What each row is: index of its document, position in it, token id."""
        return {name: self._read(name, dtype, 1, 0, None) for name, dtype in _ROW_METADATA.items()}

    def documents(self):
        """The inputs' ids, as given; rows()['document'] indexes them."""
        return [document["id"] for document in self._read_documents()]

    def statistics(self, site):
        """count, and per column mean, mean_square, max_abs in float64, of the values before the cast."""
        if site not in self._sites:
            raise StoreError(f"{self.path}: no site {site!r}; this store has {', '.join(self._sites)}")
        with _open(os.path.join(self.path, "index.h5")) as index:
            group = index["statistics"][site]
            return {"count": int(group["count"][0]), **{k: group[k][...] for k in ("mean", "mean_square", "max_abs")}}

    def _read_manifest(self):
        name = os.path.join(self.path, "manifest.json")
        try:
            with open(name, encoding="utf-8") as file:
                manifest = json.load(file)
        except (OSError, ValueError) as error:
            raise StoreError(f"{name}: {error}") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
            raise StoreError(f"{name}: expected {FORMAT}, version {VERSION}")
        if not manifest["complete"]:
            raise StoreError(f"{self.path}: this store is not complete; run the command that makes it again")
        if manifest["dtype"] not in _DTYPES:
            raise StoreError(f"{name}: unknown dtype {manifest['dtype']!r}")
        return manifest

    def _read_shards(self):
        """The lines of shards.jsonl; a shard that is missing or short is an error, never fill values."""
        name = os.path.join(self.path, "shards.jsonl")
        try:
            with open(name, encoding="utf-8") as file:
                shards = [json.loads(line) for line in file]
        except (OSError, ValueError) as error:
            raise StoreError(f"{name}: {error}") from None
        rows = 0
        for shard in shards:
            path = os.path.join(self.path, shard["file"])
            if shard["first_row"] != rows:
                raise StoreError(f"{name}: shard {shard['shard']} starts at row {shard['first_row']}, expected {rows}")
            rows += shard["rows"]
            size = os.path.getsize(path) if os.path.exists(path) else None
            if size != shard["bytes"]:
                found = "is missing" if size is None else f"has {size} bytes"
                raise StoreError(f"{path}: {found}, shards.jsonl says {shard['bytes']} bytes")
        if rows != self.manifest["rows"] or len(shards) != self.manifest["totals"]["shards"]:
            raise StoreError(f"{name}: {len(shards)} shards with {rows} rows, manifest.json says "
                             f"{self.manifest['totals']['shards']} with {self.manifest['rows']}")
        return shards

    def _read_documents(self):
        name = os.path.join(self.path, "documents.jsonl")
        with open(name, "rb") as file:
            text = file.read()
        if hashlib.sha256(text).hexdigest() != self.manifest["documents"]["sha256"]:
            raise StoreError(f"{name}: its SHA-256 is not the one in manifest.json")
        return [json.loads(line) for line in text.split(b"\n") if line]

    def _read(self, dataset, dtype, width, start, stop):
        """Rows [start, stop) of a dataset as they lie in the files, [rows * width]."""
        start, stop, _ = slice(start, stop).indices(self.manifest["rows"])
        out = np.empty(max(stop - start, 0) * width, dtype)
        done = 0
        for number, shard in enumerate(self._shards):
            first = max(start - shard["first_row"], 0)
            last = min(stop - shard["first_row"], shard["rows"])
            if first >= last:
                continue
            count = (last - first) * width
            with open(os.path.join(self.path, shard["file"]), "rb") as file:
                file.seek(self._offset(number, dataset, dtype, width) + first * width * dtype.itemsize)
                part = np.fromfile(file, dtype, count)
            if len(part) != count:
                raise StoreError(f"{shard['file']}: dataset {dataset} ends early")
            out[done:done + count] = part
            done += count
        return out

    def _offset(self, number, dataset, dtype, width):
        """Where a dataset starts in a shard. HDF5's own conversion of bf16 is slow, so we read the bytes ourselves."""
        offsets = self._offsets.setdefault(number, {})
        if dataset not in offsets:
            shard = self._shards[number]
            with _open(os.path.join(self.path, shard["file"])) as file:
                if dataset not in file:
                    raise StoreError(f"{shard['file']}: found no dataset {dataset}")
                found = file[dataset]
                if found.shape[0] != shard["rows"] or found.size != shard["rows"] * width or \
                        found.id.get_type().get_size() != dtype.itemsize or found.id.get_offset() is None:
                    raise StoreError(f"{shard['file']}: dataset {dataset} has shape {found.shape} and type {found.dtype}, "
                                     f"shards.jsonl says {shard['rows']} rows of {width} values")
                offsets[dataset] = found.id.get_offset()
        return offsets[dataset]
