"""Profiles: named roots with their endpoint, TLS, encryption and credentials, kept outside the repository.

The file is TOML, at `$LAKEHOUSE_PROFILES` or `~/.config/lakehouse/profiles.toml`:

    default = "team"

    [profiles.team]
    root = "s3://team-data/lake"
    endpoint_url = "https://rgw.example.org"   # any S3 server; leave out for AWS
    region = "eu-central-1"
    ca_file = "~/team-ca.pem"                  # or ssl_verify = false
    server_side_encryption = "aws:kms"         # or "AES256"
    kms_key_id = "arn:aws:kms:..."
    credentials = { command = "team-login --json" }   # or { file = "~/keys.json" } or { env = "TEAM_" }

A credentials file or command gives JSON with `access_key_id`, `secret_access_key` and, if any, `session_token`;
`env` is a prefix: `TEAM_ACCESS_KEY_ID`, ... Without `credentials` the usual AWS environment is used.
Secrets live only in the process that needs them: never in a URL, a log, an error or a pickle.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from lakehouse.errors import InvalidInputError, suggest

_SECRET_FIELDS = ("access_key_id", "secret_access_key", "session_token")


@dataclass(frozen=True, slots=True)
class Profile:
    """How to reach one root; every field but `root` is optional."""

    root: str
    """Root URI: a folder, `s3://bucket/prefix`, `gs://...` or `az://...`."""
    name: str | None = None
    """The profile's name in the file; None for a plain URI."""
    endpoint_url: str | None = None
    """URL of an S3 server that is not AWS."""
    region: str | None = None
    """Region of the bucket."""
    ca_file: str | None = None
    """PEM file of the certificate authority that signed the server's certificate."""
    ssl_verify: bool = True
    """False accepts any certificate: only for tests."""
    server_side_encryption: str | None = None
    """`AES256` or `aws:kms`."""
    kms_key_id: str | None = None
    """KMS key for `aws:kms`."""
    credentials: dict[str, str] = field(default_factory=dict, repr=False)
    """Where the keys come from: one of `env`, `file`, `command`; never the keys themselves."""

    def __post_init__(self) -> None:
        """Refuse an endpoint that carries a user or password.

        Raises:
            InvalidInputError: it does (secret-in-url).
        """
        if self.endpoint_url and "@" in urlsplit(self.endpoint_url).netloc:
            raise InvalidInputError(
                "secret-in-url",
                f"The endpoint_url of profile {self.name!r} carries a user or password. Name them under credentials.",
                profile=self.name,
            )

    def secrets(self) -> dict[str, str]:
        """Return access_key_id, secret_access_key and session_token, or {} for the usual environment.

        Raises:
            InvalidInputError: the source of credentials does not deliver (credentials-missing).
        """
        if not self.credentials:
            return {}
        [(source, where)] = self.credentials.items()
        found: object
        try:
            if source == "env":
                found = {name: os.environ.get(where + name.upper(), "") for name in _SECRET_FIELDS}
            elif source == "file":
                found = json.loads(Path(where).expanduser().read_text())
            else:
                done = subprocess.run(shlex.split(where), capture_output=True, text=True, check=True, timeout=60)
                found = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            # The command's output may hold secrets: only the kind of failure is told.
            raise InvalidInputError(
                "credentials-missing",
                f"Profile {self.name!r}: its credentials {source} did not deliver ({type(error).__name__}). "
                f"It must give JSON with access_key_id and secret_access_key.",
                profile=self.name,
            ) from None
        if not isinstance(found, dict) or not found.get("access_key_id") or not found.get("secret_access_key"):
            raise InvalidInputError(
                "credentials-missing",
                f"Profile {self.name!r}: its credentials {source} gives no access_key_id or no secret_access_key.",
                profile=self.name,
            )
        return {name: str(found[name]) for name in _SECRET_FIELDS if found.get(name)}


def profiles_path() -> Path:
    """Return where the profiles file is looked for."""
    return Path(os.environ.get("LAKEHOUSE_PROFILES", "~/.config/lakehouse/profiles.toml")).expanduser()


def load_profiles() -> tuple[dict[str, Profile], str | None]:
    """Return the profiles by name and the name of the default one.

    Raises:
        InvalidInputError: the file is not TOML, or a profile has an unknown, missing or wrong field (profile-invalid).
    """
    path = profiles_path()
    if not path.is_file():
        return {}, None
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError("profile-invalid", f"{path} is not valid TOML: {error}.") from error
    entries, default = content.get("profiles", {}), content.get("default")
    if not isinstance(entries, dict) or not isinstance(default, str | None):
        raise InvalidInputError("profile-invalid", f'{path}: write default = "name" and [profiles.name] tables.')
    return {name: _profile(name, entry, path) for name, entry in entries.items()}, default


def find_profile(root: str | None) -> Profile:
    """Return the profile for a root URI, a profile's name, or (None) the default.

    Raises:
        InvalidInputError: no root was given and there is no default (root-missing); a broken file (profile-invalid).
    """
    root = root or os.environ.get("LAKEHOUSE_ROOT")
    profiles, default = load_profiles()
    if root is None:
        if default is None:
            raise InvalidInputError(
                "root-missing",
                "No lakehouse is named. Give --root URI, set LAKEHOUSE_ROOT, or set a default in "
                + str(profiles_path())
                + ".",
            )
        root = default
        if root not in profiles:
            raise InvalidInputError(
                "profile-invalid", f"The default profile {root!r} is not defined.{suggest(root, list(profiles))}"
            )
    if root in profiles:
        return profiles[root]
    known = [p for p in profiles.values() if p.root.rstrip("/") == root.rstrip("/")]
    return known[0] if known else Profile(root=root)


def _profile(name: str, entry: object, path: Path) -> Profile:
    known = {f.name for f in fields(Profile)} - {"name"}
    if not isinstance(entry, dict) or "root" not in entry or not set(entry) <= known:
        unknown = sorted(set(entry) - known) if isinstance(entry, dict) else []
        what = f"the unknown field {unknown[0]!r}" if unknown else "no field 'root'"
        raise InvalidInputError(
            "profile-invalid", f"{path}: profile {name!r} has {what}. Known: {', '.join(sorted(known))}."
        )
    types = {"ssl_verify": bool, "credentials": dict}
    wrong = next((field for field, value in entry.items() if not isinstance(value, types.get(field, str))), None)
    if wrong is not None:
        raise InvalidInputError("profile-invalid", f"{path}: profile {name!r}: {wrong} has a value of the wrong type.")
    credentials = entry.get("credentials", {})
    if credentials and (
        len(credentials) != 1
        or not set(credentials) <= {"env", "file", "command"}
        or not all(isinstance(where, str) for where in credentials.values())
    ):
        raise InvalidInputError(
            "profile-invalid", f"{path}: profile {name!r}: credentials is one of env, file or command, with a text."
        )
    if "ca_file" in entry:
        entry = {**entry, "ca_file": str(Path(entry["ca_file"]).expanduser())}
    return Profile(name=name, **entry)
