"""What ``tools/release`` refuses, and what it takes for reproducible and complete."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.checkout import git
from tools.releasing import steps
from tools.releasing.__main__ import main
from tools.releasing.steps import ReleaseError

CHANGELOG = """# Changelog

## [Unreleased]

- Later.

## [1.2.3] - 2026-11-30

### Fixed

- A fault.

## [1.2.2] - 2026-10-01

- Earlier.

## [1.2.1]

- Without a date.

## [1.2.0] - 2026-09-01
"""
TRACKED = {
    "pyproject.toml": "[build-system]",
    "bridge/__init__.py": "",
    "bridge/testing/plugin.py": "",
    "asterisk/etc/ari.conf": "",
    "asterisk/render": "",
    "asterisk/Dockerfile": "",
    "CHANGELOG.md": CHANGELOG,
}
NAME = "asterisk_bridge-1.2.3"
WHEEL = [
    *("bridge/__init__.py", "bridge/testing/plugin.py", "bridge/_version.py"),
    *("bridge/testing/asterisk/etc/ari.conf", "bridge/testing/asterisk/render"),
    *(f"{NAME}.dist-info/{name}" for name in steps.METADATA),
]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with one commit."""
    folder = tmp_path / "repository"
    for name, text in TRACKED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "x")
    return folder


def test_a_checkout_with_changes_is_refused(repository: Path) -> None:
    steps.check_clean(repository)
    for name in ("new.txt", "pyproject.toml"):
        (repository / name).write_text("changed")
        with pytest.raises(ReleaseError, match=name):
            steps.check_clean(repository)


def test_the_commit_must_have_one_tag_of_a_version(repository: Path) -> None:
    git(repository, "tag", "nightly")
    git(repository, "tag", "v1.2.3rc1")
    with pytest.raises(ReleaseError, match=r"has none.*--rehearse"):
        steps.tagged_version(repository)
    git(repository, "tag", "v1.2.3")
    assert steps.tagged_version(repository) == "1.2.3"
    git(repository, "tag", "v1.2.4")
    with pytest.raises(ReleaseError, match="has several"):
        steps.tagged_version(repository)


def test_the_changelog_must_have_lines_for_the_version(repository: Path) -> None:
    assert steps.release_notes(repository, "1.2.3") == "### Fixed\n\n- A fault."
    assert steps.release_notes(repository, "1.2.2") == "- Earlier."
    for version in ("1.2.4", "1.2.1", "1.2.0", "1x2x3"):
        with pytest.raises(ReleaseError, match=r'under "## \['):
            steps.release_notes(repository, version)


def test_a_clone_has_the_tag_and_nothing_that_is_not_committed(repository: Path, tmp_path: Path) -> None:
    (repository / "bridge/_version.py").write_text("stale")
    steps.clone(repository, tmp_path / "clone", "v1.2.3")
    assert git(tmp_path / "clone", "tag", "--points-at", "HEAD") == "v1.2.3"
    assert not (tmp_path / "clone/bridge/_version.py").exists()
    assert git(repository, "tag") == ""


def pack(folder: Path, wheel: list[str], sdist: list[str]) -> tuple[Path, Path]:
    """Write a source distribution and a wheel with these files."""
    paths = folder / f"{NAME}.tar.gz", folder / f"{NAME}-py3-none-any.whl"
    with tarfile.open(paths[0], "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"{NAME}/{name}"))
    with zipfile.ZipFile(paths[1], "w") as packed:
        for name in wheel:
            packed.writestr(name, "")
    return paths


def test_both_archives_hold_what_belongs_there(repository: Path, tmp_path: Path) -> None:
    sdist = [*TRACKED, "bridge/_version.py", "PKG-INFO"]
    steps.check_contents(repository, *pack(tmp_path, WHEEL, sdist))
    for changed, message in (
        ((WHEEL[1:], sdist), "lacks bridge/__init__.py"),
        (([*WHEEL, "bridge/left_over.py"], sdist), "stray files: bridge/left_over.py"),
        (([*WHEEL, "tests/__init__.py"], sdist), "stray files: tests/__init__.py"),
        (([each for each in WHEEL if "LICENSE" not in each], sdist), "lacks .*licenses/LICENSE"),
        ((WHEEL, sdist[1:]), "lacks pyproject.toml"),
        ((WHEEL, [*sdist, ".venv/pyvenv.cfg"]), "stray files: .venv/pyvenv.cfg"),
    ):
        with pytest.raises(ReleaseError, match=message):
            steps.check_contents(repository, *pack(tmp_path, *changed))


def test_builds_that_differ_are_refused(repository: Path, tmp_path: Path) -> None:
    """A build script that writes the path where it runs, as compilers do by default."""
    (repository / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["bridge"]\n'
    )
    git(repository, "commit", "--quiet", "-am", "x")
    sdist, wheel = steps.build(repository, tmp_path / "equal")
    assert (sdist.name, wheel.name) == ("x-1.tar.gz", "x-1-py3-none-any.whl")
    hook = "from pathlib import Path\nfrom hatchling.builders.hooks.plugin.interface import BuildHookInterface\n"
    hook += "class Hook(BuildHookInterface):\n    def initialize(self, version, build_data):\n"
    hook += "        Path(self.root, 'bridge/place.py').write_text(self.root)\n"
    (repository / "hatch_build.py").write_text(hook)
    with (repository / "pyproject.toml").open("a") as file:
        file.write("[tool.hatch.build.hooks.custom]\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "x")
    with pytest.raises(ReleaseError, match="not reproducible"):
        steps.build(repository, tmp_path / "different")


def test_checksums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"a")
    (tmp_path / "b.tar.gz").write_bytes(b"b")
    for _ in range(2):  # a second time it leaves out itself
        steps.write_checksums(tmp_path)
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert checked.stdout == "a.whl: OK\nb.tar.gz: OK\n"


def test_a_refusal_is_one_message_and_leaves_dist_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "check_clean", lambda _: None)
    dist = tmp_path / "dist"
    dist.mkdir()
    for arguments, message in (
        (["--rehearse", "v1.2"], "takes a version like 1.2.3"),
        (["--rehearse", "77.0.0"], "CHANGELOG.md has no lines for 77.0.0"),
    ):
        assert main([*arguments, "--dist", str(dist)]) == 1
        assert message in capsys.readouterr().err
    assert dist.exists()
