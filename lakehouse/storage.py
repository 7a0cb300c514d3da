"""Storage: one root URI, seen as keys. The only place that knows folders, S3, GCS or Azure.

Keys are relative to the root, with `/` between the parts. obstore does ranges, listing and conditional writes;
an fsspec file system is there for libraries that want one (DuckDB, pyarrow); delta-rs and Polars get options.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore, S3Store

from lakehouse.errors import ConflictError, InvalidInputError, NotFoundError, StorageError, translated
from lakehouse.profiles import Profile, find_profile

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_FSSPEC = {"gs": ("gcsfs", "gs"), "az": ("adlfs", "az")}
_DELETED_AT_ONCE = 1_000
_forked = False


def _mark_forked() -> None:
    global _forked
    _forked = True


# obstore's runtime threads do not survive a fork: a forked child reads remote ranges through fsspec instead.
os.register_at_fork(after_in_child=_mark_forked)


@dataclass(frozen=True, slots=True)
class Create:
    """Write only if the key does not exist."""


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Write whatever is there: only for keys that one writer owns."""


@dataclass(frozen=True, slots=True)
class IfMatch:
    """Write only if the object still has this entity tag."""

    etag: str


WriteMode = Create | Overwrite | IfMatch


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows about one object."""

    key: str
    size: int
    """Bytes."""
    modified: datetime
    """Time of the last write, UTC."""
    etag: str | None


def normalise(uri: str) -> str:
    """Return a root URI in its one form: an absolute path for folders, `scheme://bucket/prefix` without a last `/`.

    Raises:
        InvalidInputError: an unknown scheme (scheme-unknown), a URL that carries a password (secret-in-url),
            or no bucket (root-invalid).
    """
    if not uri or "\0" in uri:
        raise InvalidInputError("root-invalid", "The root is empty or no path. Give a folder or s3://bucket/prefix.")
    if not re.match(r"^[A-Za-z][A-Za-z0-9+.-]+://", uri):
        return str(Path(uri).expanduser().resolve())
    parts = urlsplit(uri)
    if parts.password or parts.query or "@" in parts.netloc:
        raise InvalidInputError(
            "secret-in-url",
            f"A root of scheme {parts.scheme!r} carries a user, password or query. Put credentials into a profile.",
        )
    if parts.scheme == "file":
        return str(Path(unquote(parts.path)).resolve())
    if parts.scheme not in ("s3", *_FSSPEC):
        raise InvalidInputError(
            "scheme-unknown", f"Roots of scheme {parts.scheme!r} are not known. Use a folder, s3://, gs:// or az://."
        )
    if not parts.netloc or parts.fragment:
        what = "has a '#'" if parts.netloc else "names no bucket"
        raise InvalidInputError("root-invalid", f"{uri!r} {what}. Write {parts.scheme}://bucket/prefix.")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


class Storage:
    """All access to one root.

    Args:
        profile: The root and how to reach it.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.root = normalise(profile.root)
        self.scheme = _scheme(self.root)
        self._stores: dict[str, ObjectStore] = {}
        self._secrets: dict[str, str] | None = None

    @classmethod
    def open(cls, root: str | None) -> Storage:
        """Open a root URI, a profile's name, or (None) the default root; nothing is read or written yet."""
        return cls(find_profile(root))

    def __repr__(self) -> str:
        return f"Storage({self.root!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Only how to reach the root travels: secrets are asked for again, in the other process.
        return {"profile": self.profile}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["profile"])  # type: ignore[misc]

    # -- what other libraries need ------------------------------------------------------------------------------

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder."""
        return self.scheme == "file"

    def uri(self, key: str) -> str:
        """Return the full path or URI of a key, as delta-rs, Polars and DuckDB take it."""
        return f"{self.root}/{key}"

    def options(self, uri: str | None = None) -> dict[str, str]:
        """Return storage options for delta-rs and Polars, for the root or another URI; {} for a folder."""
        if _scheme(uri or self.root) != "s3":
            return {}
        profile, options = self.profile, {}
        endpoint = profile.endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            options["AWS_ENDPOINT_URL"] = endpoint
            if endpoint.startswith("http://"):
                options["AWS_ALLOW_HTTP"] = "true"
        if (
            region := profile.region
            or os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or "us-east-1"
        ):
            options["AWS_REGION"] = region
        if not profile.ssl_verify:
            options["ALLOW_INVALID_CERTIFICATES"] = "true"
        if profile.server_side_encryption:
            options["AWS_SERVER_SIDE_ENCRYPTION"] = profile.server_side_encryption
        if profile.kms_key_id:
            options["AWS_SSE_KMS_KEY_ID"] = profile.kms_key_id
        if profile.ca_file:
            # delta-rs and Polars trust what the platform trusts, and this variable is how to add to that.
            os.environ.setdefault("SSL_CERT_FILE", profile.ca_file)
        if self._secrets is None:
            self._secrets = profile.secrets()
        return options | {f"AWS_{name.upper()}": value for name, value in self._secrets.items()}

    def filesystem(self, uri: str | None = None) -> Any:
        """Return an fsspec file system for the root, or for another URI; it takes full paths or URIs.

        Raises:
            InvalidInputError: the package for gs:// or az:// is not installed (extra-missing).
        """
        import fsspec

        scheme = _scheme(uri or self.root)
        if scheme == "file":
            return fsspec.filesystem("file")
        if scheme in _FSSPEC:
            package, protocol = _FSSPEC[scheme]
            try:
                return fsspec.filesystem(protocol)
            except ImportError as error:
                raise InvalidInputError(
                    "extra-missing",
                    f"Roots of scheme {self.scheme}:// need the package {package!r}. Install it with: pip install {package}",
                    module=package,
                ) from error
        options, profile = self.options("s3://"), self.profile
        client = {"endpoint_url": options.get("AWS_ENDPOINT_URL"), "region_name": options["AWS_REGION"]}
        extra = {"ServerSideEncryption": profile.server_side_encryption, "SSEKMSKeyId": profile.kms_key_id}
        return fsspec.filesystem(
            "s3",
            key=options.get("AWS_ACCESS_KEY_ID"),
            secret=options.get("AWS_SECRET_ACCESS_KEY"),
            token=options.get("AWS_SESSION_TOKEN"),
            client_kwargs={k: v for k, v in client.items() if v} | {"verify": profile.ca_file or profile.ssl_verify},
            config_kwargs={"request_checksum_calculation": "when_required"},
            use_listings_cache=False,  # others write at the same time
            s3_additional_kwargs={k: v for k, v in extra.items() if v},
        )

    def store(self, uri: str | None = None) -> ObjectStore:
        """Return the obstore store of the root, or of another bucket or folder by its URI."""
        base = self.root if uri is None else uri
        if base not in self._stores:
            self._stores[base] = self._make_store(base)
        return self._stores[base]

    def _make_store(self, base: str) -> ObjectStore:
        if "://" not in base:
            if not Path(base).is_dir():  # not made here: a mistyped root must leave no folder behind
                raise FileNotFoundError(f"No such file or directory: {base}")
            return LocalStore(prefix=base)
        if not base.startswith("s3://"):
            return obstore.store.from_url(base)
        options = {k.lower(): v for k, v in self.options(base).items()}
        client: Any = {"allow_http": options.pop("aws_allow_http", "false") == "true", "timeout": "120s"}
        if options.pop("allow_invalid_certificates", None):
            client["allow_invalid_certificates"] = True
        if self.profile.ca_file:
            client["root_certificate"] = Path(self.profile.ca_file).read_bytes()
        config: Any = options
        return S3Store.from_url(base, config=config, client_options=client)

    # -- objects ------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, mode: WriteMode) -> str | None:
        """Write one object whole, under the condition that `mode` states; return its entity tag.

        Raises:
            ConflictError: the condition does not hold (object-exists, object-changed).
            StorageError, AccessDeniedError: the store failed or refused.
        """
        with translated(f"writing {key}", key=key):
            if self.is_local and self.root not in self._stores:
                Path(self.root).mkdir(parents=True, exist_ok=True)
            if isinstance(mode, IfMatch) and self.is_local:
                return self._put_if_match_local(key, data, mode.etag)
            how: Any = {Create: "create", Overwrite: "overwrite"}.get(type(mode))
            if isinstance(mode, IfMatch):
                how = {"e_tag": mode.etag.strip('"')}  # Ceph compares without the quotes that it sends
            try:
                return obstore.put(self.store(), key, data, mode=how, use_multipart=False)["e_tag"]
            except AlreadyExistsError as error:
                raise ConflictError("object-exists", f"{key} exists already; expected none.", key=key) from error
            except (PreconditionError, FileNotFoundError) as error:
                if not isinstance(mode, IfMatch):
                    raise
                raise ConflictError(
                    "object-changed", f"{key} was changed by somebody else since it was read.", key=key
                ) from error

    def _put_if_match_local(self, key: str, data: bytes, etag: str) -> str | None:
        path = Path(self.uri(key))
        if path.exists():
            # The folder is what is locked: a lock file would be one more object.
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                if path.exists() and self.head(key).etag == etag:
                    return self.put(key, data, Overwrite())
            finally:
                os.close(folder)
        raise ConflictError("object-changed", f"{key} was changed by somebody else since it was read.", key=key)

    def get(self, key: str) -> bytes:
        """Read one object whole.

        Raises:
            NotFoundError: there is no such object (object-not-found).
        """
        with translated(f"reading {key}", key=key):
            if _forked and not self.is_local:
                return bytes(self.filesystem().cat_file(self.uri(key)))
            try:
                return bytes(obstore.get(self.store(), key).bytes())
            except FileNotFoundError as error:
                raise NotFoundError("object-not-found", f"There is no object {key} under the root.", key=key) from error

    def copy(self, key: str, to: str) -> None:
        """Copy one object within the store, without its bytes coming here; what is there is replaced.

        Raises:
            NotFoundError: there is no such object (object-not-found).
            StorageError, AccessDeniedError: the store failed or refused.
        """
        with translated(f"copying {key}", key=key):
            try:
                obstore.copy(self.store(), key, to)
            except FileNotFoundError as error:
                raise NotFoundError("object-not-found", f"There is no object {key} under the root.", key=key) from error

    def ranges(self, uri: str, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """Read byte ranges of one object, near ones coalesced, in parallel.

        Args:
            uri: A key, or the full URI of a file in place elsewhere.
            offsets, lengths: First byte and number of bytes of each range.
        Raises:
            NotFoundError: there is no such object (object-not-found).
        """
        base, key = self.locate(uri)
        with translated(f"reading {uri}", uri=uri):
            try:
                if _forked and "://" in base:
                    path = f"{base}/{key}"
                    ends = [o + n for o, n in zip(offsets, lengths, strict=True)]
                    return [bytes(b) for b in self.filesystem(base).cat_ranges([path] * len(ends), list(offsets), ends)]
                return [bytes(b) for b in obstore.get_ranges(self.store(base), key, starts=offsets, lengths=lengths)]
            except FileNotFoundError as error:
                raise NotFoundError("object-not-found", f"There is no object {uri}.", uri=uri) from error

    def locate(self, uri: str) -> tuple[str, str]:
        """Return (store URI, key in it) of an asset's uri: relative to our root, or a full URI elsewhere."""
        if "://" not in uri:
            return self.root, uri
        if uri.startswith("file://"):
            path = Path(unquote(urlsplit(uri).path))
            return str(path.parent), path.name
        scheme, rest = uri.split("://", 1)
        bucket, key = rest.split("/", 1)
        return f"{scheme}://{bucket}", unquote(key)

    def head(self, key: str) -> ObjectInfo:
        """Return size, time and entity tag of one object.

        Raises:
            NotFoundError: there is no such object (object-not-found).
        """
        with translated(f"looking at {key}", key=key):
            try:
                return _info(obstore.head(self.store(), key))
            except FileNotFoundError as error:
                raise NotFoundError("object-not-found", f"There is no object {key} under the root.", key=key) from error

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Iterate over all objects below a prefix, in no stated order."""
        if self.is_local and not Path(self.root).is_dir():
            return
        with translated(f"listing {prefix}", key=prefix):
            for chunk in obstore.list(self.store(), prefix=prefix):
                for entry in chunk:
                    yield _info(entry)

    def folders(self, prefix: str = "") -> Sequence[str]:
        """Return the keys of what would be folders directly below a prefix; `""` means the root."""
        if self.is_local and not Path(self.root).is_dir():
            return []
        with translated(f"listing {prefix or 'the root'}", key=prefix):
            return sorted(obstore.list_with_delimiter(self.store(), prefix=prefix or None)["common_prefixes"])

    def delete(self, keys: Sequence[str], uri: str | None = None) -> None:
        """Delete objects, many at once; one that is gone already is fine.

        Args:
            uri: What the keys are relative to: another folder or bucket; None means the root.
        """
        if not keys or (self.is_local and uri is None and not Path(self.root).is_dir()):
            return
        with translated(f"deleting {len(keys)} objects"):
            store = self.store(uri)
            for start in range(0, len(keys), _DELETED_AT_ONCE):
                chunk = list(keys[start : start + _DELETED_AT_ONCE])
                try:
                    obstore.delete(store, chunk)
                except FileNotFoundError:  # a folder gives up at the first that is gone
                    for key in chunk:
                        with suppress(FileNotFoundError):
                            obstore.delete(store, key)

    # -- proof --------------------------------------------------------------------------------------------------

    def probe(self, racers: int = 32) -> None:
        """Prove that the store decides races: a second create is refused, and of many racers exactly one wins.

        Everything here rests on that: a store that ignores the condition loses commits of concurrent writers.
        Bodies of two sizes, since some servers decide small and large writes in different code.

        Raises:
            StorageError: the store does not decide races (store-unsafe).
            AccessDeniedError, StorageError: the store refused or failed.
        """
        rounds = [(racers, 1 << 10)] if self.is_local else [(racers, 1 << 10), (3, 9 << 20)]
        for count, size in rounds:
            key = f"_system/probe/{uuid4().hex}"
            try:
                with ThreadPoolExecutor(count) as pool:
                    won = sum(pool.map(lambda n: self._create_won(key, n, size), range(count)))  # noqa: B023
                late = self._create_won(key, count, size)
            finally:
                self.delete([key])
            if not won and not late and rounds.count((count, size)) < 3:
                rounds.append((count, size))  # the winner's answer may have been lost on the way
                continue
            if won != 1 or late:
                raise StorageError(
                    "store-unsafe",
                    f"The store at {self.root} let {won} of {count} racing creates of one key of {size} bytes win"
                    f"{' and overwrote it later' if late else ''}; exactly one must. Two writers would corrupt a table. "
                    f"Use a store with conditional writes (If-None-Match), such as AWS S3 or a current Ceph RGW.",
                    won=won,
                    racers=count,
                )

    def _create_won(self, key: str, racer: int, size: int) -> bool:
        try:
            self.put(key, racer.to_bytes(4, "big") * (size // 4), Create())
        except ConflictError:
            return False
        return True


def _scheme(uri: str) -> str:
    return uri.split("://")[0] if "://" in uri else "file"


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(key=meta["path"], size=meta["size"], modified=meta["last_modified"], etag=meta["e_tag"])


__all__ = ["Create", "IfMatch", "ObjectInfo", "Overwrite", "Storage", "WriteMode", "normalise"]
