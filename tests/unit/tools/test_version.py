"""The version comes from git's tags, from what a build is given, or from the source distribution."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import bridge
from tests.checkout import ENVIRON, ROOT, copy_checkout, git

SCRIPT = "packaging/version.py"


of_a_repository = pytest.mark.skipif(
    'COMMIT = "$' not in (ROOT / SCRIPT).read_text(), reason="an archive, in which git has filled in the version"
)


def version(folder: Path, **environ: str) -> str:
    """Return what the script of a checkout prints."""
    line = [sys.executable, str(folder / SCRIPT)]
    return subprocess.run(line, capture_output=True, text=True, check=True, env=ENVIRON | environ).stdout.strip()


def commit(folder: Path, count: int = 1) -> str:
    """Add commits and return the short id of the last."""
    for _ in range(count):
        git(folder, "commit", "--quiet", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "--short", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a repository with one commit, which holds what the version is made of."""
    folder = tmp_path / "checkout"
    (folder / "packaging").mkdir(parents=True)
    shutil.copy(ROOT / SCRIPT, folder / SCRIPT)
    shutil.copy(ROOT / ".gitattributes", folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    commit(folder)
    return folder


def test_a_tag_is_the_version_and_commits_after_it_lead_to_the_next(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.9")
    assert version(checkout) == "1.2.9"
    last = commit(checkout, 3)
    assert version(checkout) == f"1.2.10.dev3+g{last}"
    git(checkout, "tag", "v2.0.0")
    assert version(checkout) == "2.0.0"


def test_a_release_is_never_built_from_changed_files(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.9")
    (checkout / SCRIPT).write_text((checkout / SCRIPT).read_text() + "\n")
    assert re.fullmatch(r"1\.2\.10\.dev0\+g[0-9a-f]+\.dirty", version(checkout))


@pytest.mark.parametrize("tag", ["nightly", "v2-experiment", "v1.3.0rc1", "vnext"])
def test_other_tags_do_not_count(checkout: Path, tag: str) -> None:
    git(checkout, "tag", "v1.2.3")
    last = commit(checkout)
    git(checkout, "tag", tag)
    assert version(checkout) == f"1.2.4.dev1+g{last}"


def test_without_tags_the_version_names_the_commit(checkout: Path, tmp_path: Path) -> None:
    last = commit(checkout, 2)
    assert version(checkout) == f"0.0.0.dev0+g{last}"
    git(checkout, "tag", "v1.2.3", "HEAD~1")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{checkout}", str(shallow))
    assert version(shallow) == f"0.0.0.dev0+g{last}"


@of_a_repository
def test_an_archive_that_git_makes_knows_its_version(checkout: Path, tmp_path: Path) -> None:
    def archived(name: str) -> Path:
        git(checkout, "archive", "--format=tar", f"--output={tmp_path / name}.tar", "HEAD")
        with tarfile.open(tmp_path / f"{name}.tar") as archive:
            archive.extractall(tmp_path / name, filter="data")
        return tmp_path / name

    assert version(archived("untagged")) == f"0.0.0.dev0+g{git(checkout, 'rev-parse', '--short', 'HEAD')}"
    git(checkout, "tag", "v1.2.3")
    assert version(archived("tagged")) == "1.2.3"
    last = commit(checkout)
    assert version(archived("later")) == f"1.2.4.dev1+g{last}"


@of_a_repository
def test_without_a_repository_the_version_is_unknown_unless_the_build_is_given_it(tmp_path: Path) -> None:
    """Also below a repository of something else."""
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    git(tmp_path, "tag", "v9.9.9")
    (tmp_path / "vendored/packaging").mkdir(parents=True)
    shutil.copy(ROOT / SCRIPT, tmp_path / "vendored" / SCRIPT)
    assert version(tmp_path / "vendored") == "0.0.0+unknown"
    assert version(tmp_path / "vendored", BUILD_VERSION="1.2.3") == "1.2.3"


def test_what_is_built_carries_the_version_and_a_source_distribution_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_checkout(tmp_path / "copy")
    monkeypatch.setenv("BUILD_VERSION", "7.8.9")
    (sdist,) = SdistBuilder(str(copy)).build(directory=str(tmp_path), versions=["standard"])
    monkeypatch.delenv("BUILD_VERSION")
    assert Path(sdist).name == "asterisk_bridge-7.8.9.tar.gz"
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    source = tmp_path / "unpacked/asterisk_bridge-7.8.9"
    assert not (source / ".git").exists()
    (wheel,) = WheelBuilder(str(source)).build(directory=str(tmp_path), versions=["standard"])
    assert Path(wheel).name == "asterisk_bridge-7.8.9-py3-none-any.whl"
    shown = subprocess.run(
        [sys.executable, "-c", "import bridge.outbound.headers as h; print(h.USER_AGENT)"],
        env=ENVIRON | {"PYTHONPATH": wheel, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "asterisk-bridge/7.8.9\n"


@of_a_repository
def test_the_image_builds_the_wheel_of_the_version_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what .dockerignore lets through, which has no repository."""
    copy = copy_checkout(tmp_path / "copy")
    context = tmp_path / "context"
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        source = copy / line.removeprefix("!")
        if line.startswith("!") and source.exists():
            (context / line[1:]).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, context / line[1:])
    names = {}
    for given in ("1.2.3", ""):
        monkeypatch.setenv("BUILD_VERSION", given)
        (wheel,) = WheelBuilder(str(context)).build(directory=str(tmp_path), versions=["standard"])
        names[given] = Path(wheel).name
    assert names == {
        "1.2.3": "asterisk_bridge-1.2.3-py3-none-any.whl",
        "": "asterisk_bridge-0.0.0+unknown-py3-none-any.whl",
    }
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "ARG VERSION=\n" in dockerfile
    assert "BUILD_VERSION=$VERSION python3 -m hatchling build" in dockerfile
    assert "COPY packaging/version.py ./packaging/" in dockerfile


def test_the_product_has_one_version() -> None:
    """Nothing but `bridge.__version__` reads what a build has written, and nothing writes a version of its own."""
    reading = [path for path in (ROOT / "bridge").rglob("*.py") if "_version import" in path.read_text()]
    assert reading == [ROOT / "bridge/__init__.py"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?(\+[\w.]+)?", bridge.__version__)
