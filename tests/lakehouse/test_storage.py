"""Storage: one contract for every backend, the one form of a root, and that secrets stay inside."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakehouse.errors import ConflictError, InvalidInputError, LakeError, NotFoundError, StorageError
from lakehouse.profiles import Profile, find_profile, load_profiles
from lakehouse.storage import Create, IfMatch, Overwrite, Storage, normalise
from tests.support.careless_s3 import CarelessS3
from tests.support.proxy import FaultyProxy
from tests.support.s3 import S3Server

KEYS = ["plain", "deep/er/key.bin", "with space", "ünïcode/日本", "per%20cent", "a+b&c=d", "name=x/part.parquet"]


@pytest.fixture
def storage(root_uri: str) -> Storage:
    """A fresh root on each backend."""
    return Storage.open(root_uri)


class StorageContract:
    """What every backend promises."""

    def test_create_only(self, storage: Storage) -> None:
        """The second create of a key is refused, and the first one's bytes stay."""
        storage.put("a/key", b"first", Create())
        with pytest.raises(ConflictError) as caught:
            storage.put("a/key", b"second", Create())
        assert caught.value.kind == "object-exists"
        assert storage.get("a/key") == b"first"

    def test_one_creator_wins(self, storage: Storage) -> None:
        """Of 16 racing creates of one key exactly one lands, and its bytes are what is stored."""

        def create(n: int) -> bool:
            try:
                storage.put("race", bytes([n]) * 1000, Create())
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            won = [n for n, landed in enumerate(pool.map(create, range(16))) if landed]
        assert len(won) == 1
        assert storage.get("race") == bytes(won) * 1000

    def test_if_match(self, storage: Storage) -> None:
        """A write with the current entity tag lands; one with an old tag, or to a missing key, is refused."""
        old = storage.put("key", b"1", Create()) or ""
        new = storage.put("key", b"two", IfMatch(old)) or ""
        assert storage.get("key") == b"two"
        for key, tag in (("key", old), ("missing", new), ("no/folder/missing", new)):
            with pytest.raises(ConflictError) as caught:
                storage.put(key, b"three", IfMatch(tag))
            assert caught.value.kind == "object-changed"
        assert storage.get("key") == b"two"
        assert [found.key for found in storage.list("")] == ["key"]

    def test_one_changer_wins(self, storage: Storage) -> None:
        """Of 8 racing changes from one entity tag exactly one lands."""
        tag = storage.put("key", b"start", Create()) or ""

        def change(n: int) -> bool:
            try:
                storage.put("key", b"x" * (n + 10), IfMatch(tag))
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(change, range(8))) == 1

    @pytest.mark.parametrize("key", KEYS)
    def test_any_key(self, storage: Storage, key: str) -> None:
        """Keys of all kinds are written, read, listed under their own name, looked at and deleted."""
        tag = storage.put(key, b"bytes", Overwrite())
        assert storage.get(key) == b"bytes"
        [found] = storage.list("")
        assert (found.key, found.size, found.etag) == (key, 5, tag)
        assert storage.head(key).modified.tzinfo is not None
        storage.delete([key])
        assert list(storage.list("")) == []

    def test_ranges(self, storage: Storage) -> None:
        """Ranges come back in the order asked for: overlapping, out of order, empty lists and the last byte alike."""
        data = bytes(range(256)) * 40
        storage.put("pack", data, Create())
        offsets, lengths = [5000, 0, 10, 0, len(data) - 1], [100, 1, 3000, 1, 1]
        expected = [data[o : o + n] for o, n in zip(offsets, lengths, strict=True)]
        assert storage.ranges("pack", offsets, lengths) == expected
        assert storage.ranges(f"{storage.root}/pack" if "://" in storage.root else "pack", [1], [2]) == [data[1:3]]
        assert storage.ranges("pack", [], []) == []

    def test_missing_object(self, storage: Storage) -> None:
        """Reading, looking at and reading ranges of what is not there says so; deleting it is fine."""
        for read in (storage.get, storage.head, lambda key: storage.ranges(key, [0], [1])):
            with pytest.raises(NotFoundError) as caught:
                read("nothing/here")
            assert caught.value.kind == "object-not-found"
        storage.delete(["nothing/here"])

    def test_list_below_prefix(self, storage: Storage) -> None:
        """A listing has all objects below a folder, and none of a folder whose name only begins the same."""
        for key in ("a/1", "a/b/2", "ab/3", "c"):
            storage.put(key, b"", Create())
        assert sorted(found.key for found in storage.list("a/")) == ["a/1", "a/b/2"]
        assert list(storage.list("nowhere/")) == []

    def test_probe(self, storage: Storage) -> None:
        """The proof passes on a store that decides races, and leaves nothing behind."""
        storage.probe()
        assert list(storage.list("")) == []

    def test_pickles(self, storage: Storage) -> None:
        """A copy in another process reaches the same root."""
        storage.put("key", b"value", Create())
        assert pickle.loads(pickle.dumps(storage)).get("key") == b"value"

    def test_root_with_odd_characters(self, root_uri: str) -> None:
        """A root with a space and letters beyond ASCII works like any other."""
        storage = Storage.open(f"{root_uri}/my läke")
        storage.put("key", b"value", Create())
        assert storage.get("key") == b"value"
        assert [f.key for f in storage.list("")] == ["key"]


class TestStorage(StorageContract):
    """The contract, on each backend in turn."""


class TestNormalise:
    """Roots have one form."""

    def test_folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Relative, user, file:// and roundabout paths all become the same absolute path."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        home = str(tmp_path.resolve() / "lake")
        for uri in ("lake", "./lake/", "~/lake", f"file://{tmp_path}/lake", "x/../lake", f"{tmp_path}/lake//"):
            assert normalise(uri) == home

    def test_urls(self) -> None:
        """The scheme is lower case and the last slash is gone."""
        assert normalise("S3://bucket/pre/fix/") == "s3://bucket/pre/fix"
        assert normalise("gs://bucket") == "gs://bucket"
        assert normalise("az://container/x") == "az://container/x"

    @pytest.mark.parametrize(
        ("uri", "kind"),
        [
            ("", "root-invalid"),
            ("a\0b", "root-invalid"),
            ("s3:///prefix", "root-invalid"),
            ("s3://bucket/a#b", "root-invalid"),
            ("ftp://host/x", "scheme-unknown"),
            ("s3://user:geheim@bucket/x", "secret-in-url"),
            ("s3://bucket/x?X-Amz-Signature=geheim", "secret-in-url"),
        ],
    )
    def test_refused(self, uri: str, kind: str) -> None:
        """What can't be a root is refused by kind, and a secret in it is not repeated."""
        with pytest.raises(InvalidInputError) as caught:
            normalise(uri)
        assert caught.value.kind == kind
        assert "geheim" not in str(caught.value)


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for the profiles file, and no root from elsewhere."""
    path = tmp_path / "profiles.toml"
    monkeypatch.setenv("LAKEHOUSE_PROFILES", str(path))
    monkeypatch.delenv("LAKEHOUSE_ROOT", raising=False)
    return path


class TestProfiles:
    """Named roots."""

    def test_found_by_name_root_and_default(self, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A profile is found by its name, by its root, as the default and through the environment."""
        profiles.write_text(
            'default = "team"\n[profiles.team]\nroot = "s3://data/lake"\nendpoint_url = "http://rgw:1"\n'
            'server_side_encryption = "aws:kms"\nkms_key_id = "k"\nregion = "eu-1"\nssl_verify = false\n'
        )
        team = find_profile("team")
        assert find_profile(None) == find_profile("s3://data/lake/") == team
        monkeypatch.setenv("LAKEHOUSE_ROOT", "team")
        assert find_profile(None) == team
        assert find_profile("other") == Profile(root="other")
        assert Storage(team).options() == {
            "AWS_ENDPOINT_URL": "http://rgw:1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "eu-1",
            "ALLOW_INVALID_CERTIFICATES": "true",
            "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms",
            "AWS_SSE_KMS_KEY_ID": "k",
        }

    def test_no_root_anywhere(self, profiles: Path) -> None:
        """Without root, variable and default the error says where one can be set."""
        assert load_profiles() == ({}, None)
        with pytest.raises(InvalidInputError, match="LAKEHOUSE_ROOT") as caught:
            find_profile(None)
        assert caught.value.kind == "root-missing"

    @pytest.mark.parametrize(
        "text",
        [
            "not toml at all [",
            "profiles = 3",
            "[profiles]\nx = 3",
            "[profiles.x]\nendpoint_url = 'http://a'",
            "[profiles.x]\nroot = 'a'\nrot = 'b'",
            "[profiles.x]\nroot = 3",
            "[profiles.x]\nroot = 'a'\nssl_verify = 'no'",
            "[profiles.x]\nroot = 'a'\ncredentials = 'key'",
            "[profiles.x]\nroot = 'a'\ncredentials = {key = 'a'}",
            "[profiles.x]\nroot = 'a'\ncredentials = {env = 3}",
            "[profiles.x]\nroot = 'a'\ncredentials = {env = 'A_', file = 'b'}",
            "default = 'y'\n[profiles.x]\nroot = 'a'",
            "default = 3",
        ],
    )
    def test_broken_files(self, profiles: Path, text: str) -> None:
        """A broken file is refused with its path or the name that is wrong, never with a traceback."""
        profiles.write_text(text)
        with pytest.raises(InvalidInputError) as caught:
            find_profile(None)
        assert caught.value.kind == "profile-invalid"

    def test_credentials(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Environment, file and command all deliver the same keys."""
        keys = {"access_key_id": "id", "secret_access_key": "geheim", "session_token": "token"}
        file = tmp_path / "keys.json"
        file.write_text(json.dumps(keys))
        for name, value in keys.items():
            monkeypatch.setenv(f"TEAM_{name.upper()}", value)
        command = f"{sys.executable} -c \"print(open('{file}').read())\""
        for credentials in ({"env": "TEAM_"}, {"file": str(file)}, {"command": command}):
            profile = Profile(root="s3://b/x", credentials=credentials)
            assert profile.secrets() == keys
            assert Storage(profile).options()["AWS_SECRET_ACCESS_KEY"] == "geheim"

    @pytest.mark.parametrize(
        "credentials",
        [
            {"env": "NOBODY_SET_THIS_"},
            {"file": "/no/such/file"},
            {"command": "false"},
            {"command": "/no/such/program"},
            {"command": "echo geheim"},
            {"command": "echo '\"geheim\"'"},
            {"command": "echo '[\"geheim\"]'"},
            {"command": 'echo \'{"access_key_id": "geheim"}\''},
            {"command": "unclosed ' quote"},
        ],
    )
    def test_credentials_that_fail(self, credentials: dict[str, str]) -> None:
        """A source that does not deliver is named by its kind; nothing that it said is repeated."""
        with pytest.raises(InvalidInputError) as caught:
            Profile(root="s3://b/x", name="team", credentials=credentials).secrets()
        assert caught.value.kind == "credentials-missing"
        assert "team" in str(caught.value)
        assert "geheim" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.s3
def test_secrets_stay_inside(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither errors nor representations nor pickles hold the secret, even when the store refuses it."""
    monkeypatch.setenv("TEAM_ACCESS_KEY_ID", s3_env.key)
    monkeypatch.setenv("TEAM_SECRET_ACCESS_KEY", "wrong-geheim")
    profile = Profile(root=s3_uri, name="team", endpoint_url=s3_env.endpoint, credentials={"env": "TEAM_"})
    storage = Storage(profile)
    with pytest.raises(LakeError) as caught:
        storage.put("key", b"", Create())
    assert caught.value.kind == "storage-denied"
    for text in (str(caught.value), repr(caught.value), repr(storage), repr(profile), str(caught.value.context)):
        assert "geheim" not in text
        assert "TEAM_" not in text
    assert b"geheim" not in pickle.dumps(storage)


@pytest.mark.s3
def test_profile_reaches_store(s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile alone, without the AWS environment, is enough for every library that we hand options to."""
    for name in s3_env.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TEAM_ACCESS_KEY_ID", s3_env.key)
    monkeypatch.setenv("TEAM_SECRET_ACCESS_KEY", s3_env.secret)
    storage = Storage(Profile(root=s3_uri, endpoint_url=s3_env.endpoint, credentials={"env": "TEAM_"}))
    storage.put("key", b"value", Create())
    assert storage.get("key") == storage.filesystem().cat_file(storage.uri("key")) == b"value"


@pytest.mark.s3
def test_missing_bucket(s3_env: S3Server) -> None:
    """A bucket that does not exist is told apart from a missing object."""
    with pytest.raises(StorageError) as caught:
        Storage.open("s3://no-such-bucket-here/x").put("key", b"", Create())
    assert caught.value.kind == "bucket-not-found"


def test_unreachable_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is named as such."""
    monkeypatch.setenv("X_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("X_SECRET_ACCESS_KEY", "b")
    profile = Profile(root="s3://bucket/x", endpoint_url="http://127.0.0.1:9", credentials={"env": "X_"})
    with pytest.raises(StorageError) as caught:
        Storage(profile).put("key", b"", Create())
    assert caught.value.kind == "storage-unavailable"


def test_unsafe_store_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that ignores the condition lets several racers win, and the proof says so."""
    monkeypatch.setenv("X_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("X_SECRET_ACCESS_KEY", "b")
    with CarelessS3() as server:
        storage = Storage(Profile(root="s3://bucket/x", endpoint_url=server.endpoint, credentials={"env": "X_"}))
        with pytest.raises(StorageError, match="conditional writes") as caught:
            storage.probe()
        assert caught.value.kind == "store-unsafe"
        assert server.objects == {}


@pytest.mark.s3
def test_lost_answers_do_not_make_a_store_unsafe(
    s3_env: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the winner's answer is lost nobody knows that it won; the proof tries again instead of accusing the store."""
    dropped = 0

    def first_put(method: str, path: str, count: int) -> str:
        nonlocal dropped
        if method == "PUT" and not dropped:
            dropped = 1
            return "drop_response"
        return "pass"

    with FaultyProxy(s3_env.endpoint, first_put) as proxy:  # type: ignore[arg-type]
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        Storage.open(s3_uri).probe(racers=1)
        assert proxy.count("drop_response") == 1


@pytest.mark.parametrize("uri", ["gs://bucket/lake", "az://container/lake"])
def test_other_clouds_are_refused_by_name(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Google's or Azure's storage can't be reached, the error names what is missing."""
    with pytest.raises(LakeError) as caught:
        Storage.open(uri).filesystem()
    assert caught.value.kind == "extra-missing"


def test_opening_writes_nothing(tmp_path: Path) -> None:
    """Looking for an object under a root that is not there does not make the folder."""
    storage = Storage.open(str(tmp_path / "typo"))
    with pytest.raises(NotFoundError):
        storage.get("key")
    assert not (tmp_path / "typo").exists()


@pytest.mark.s3
def test_forked_child_reads_ranges(s3_uri: str) -> None:
    """A child made by fork reads objects and ranges on a store whose client does not survive the fork."""
    script = (
        "import os, sys\n"
        "from lakehouse.storage import Create, Storage\n"
        "storage = Storage.open(sys.argv[1])\n"
        "storage.put('key', b'0123456789', Create())\n"
        "assert storage.ranges('key', [1], [2]) == [b'12']\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    good = storage.ranges('key', [3, 5], [2, 1]) == [b'34', b'5'] and storage.get('key') == b'0123456789'\n"
        "    os._exit(0 if good else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, s3_uri], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_endpoint_with_a_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that carries a password is refused, and the message does not repeat it."""
    path = tmp_path / "profiles.toml"
    path.write_text('[profiles.p]\nroot = "s3://b"\nendpoint_url = "http://user:hunter2@rgw:1"\n')
    monkeypatch.setenv("LAKEHOUSE_PROFILES", str(path))
    with pytest.raises(InvalidInputError) as caught:
        find_profile("p")
    assert caught.value.kind == "secret-in-url"
    assert "hunter2" not in str(caught.value)
