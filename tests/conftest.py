"""Fixtures for every package: both storage backends, the shared sample data, Hypothesis profiles."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

# Read by the S3 client inside pyarrow when it is imported, so set before anything else is.
os.environ["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"

import pytest
from hypothesis import HealthCheck, settings

from tests.support import s3

settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("nightly", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Name the S3 server's folder before xdist starts its workers, which inherit the environment."""
    if not _is_worker(config):
        s3.open_session()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the S3 server after the last worker is gone."""
    if not _is_worker(config):
        s3.close_session()


@pytest.fixture(scope="session")
def s3_server() -> s3.S3Server:
    """One S3 server for the whole session; without one the test skips, and in CI it fails."""
    try:
        return s3.obtain()
    except s3.ServerMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def s3_env(s3_server: s3.S3Server, monkeypatch: pytest.MonkeyPatch) -> s3.S3Server:
    """The S3 server, with this process and its children set to use it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_uri(s3_env: s3.S3Server) -> str:
    """A fresh root URI on S3."""
    return f"s3://{s3_env.bucket}/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def root_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh root URI on each backend in turn: a folder, and a prefix on S3."""
    if request.param == "local":
        return str(tmp_path / "lake")
    uri: str = request.getfixturevalue("s3_uri")
    return uri


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sample data, beside the repository or named by LAKEHOUSE_TEST_DATA."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LAKEHOUSE_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no sample data in {folder}: set LAKEHOUSE_TEST_DATA")
    return folder
