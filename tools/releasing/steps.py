"""The steps of a release, each of which reports what is wrong."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bridge.testing.packages import cache_folder

ROOT = Path(__file__).parents[2]
PACKAGED = ("asterisk/etc/", "asterisk/phones/baresip/", "asterisk/render")
"""What the wheel holds of the checkout besides `bridge/`: the lab's configuration, below `bridge/testing/`."""
METADATA = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
FINAL = re.compile(r"\d+\.\d+\.\d+")
SESSION = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=session", "asyncio_default_test_loop_scope=session")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class ReleaseError(Exception):
    """The release cannot be made; the message has the remedy."""


def run(*line: str | Path, folder: Path = ROOT, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    Args:
        *line: the command line.
        folder: the working directory.
        environ: variables besides those of this process.

    Raises:
        ReleaseError: it failed; the message holds the end of its output.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST_", "GIT_"))}
    done = subprocess.run(
        [str(word) for word in line],
        cwd=folder,
        env=kept | dict(environ or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, line))}: exit code {done.returncode}\n{done.stdout[-4000:].rstrip()}")
    return done.stdout.strip()


def check_clean(root: Path) -> None:
    """Refuse a checkout with changes: what is tested must be what is tagged.

    Raises:
        ReleaseError: files are changed or not committed.
    """
    if changed := run("git", "status", "--porcelain", folder=root):
        raise ReleaseError(f"commit or remove these changes first:\n{changed}")


def tagged_version(root: Path) -> str:
    """Return the version whose tag the checked-out commit has.

    Raises:
        ReleaseError: the commit has no such tag.
    """
    tags = run("git", "tag", "--points-at", "HEAD", folder=root).split()
    versions = [tag[1:] for tag in tags if tag[0] == "v" and FINAL.fullmatch(tag[1:])]
    if len(versions) != 1:
        found = f"has several: {', '.join(tags)}" if versions else "has none"
        raise ReleaseError(
            f"the commit needs one tag vX.Y.Z and {found}. Tag it (git tag -s vX.Y.Z), or rehearse without a tag:"
            " tools/release --rehearse X.Y.Z"
        )
    return versions[0]


def release_notes(root: Path, version: str) -> str:
    """Return the section of the changelog for a version.

    Raises:
        ReleaseError: there is none, it is empty, or it has no date.
    """
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL
    )
    if found is None or not found[1].strip():
        raise ReleaseError(
            f'CHANGELOG.md has no lines for {version}: move those of "Unreleased" under "## [{version}] - YYYY-MM-DD"'
        )
    return found[1].strip()


def clone(root: Path, into: Path, tag: str) -> None:
    """Clone the checked-out commit, and give it a tag if it does not have it: nothing that git ignores gets in."""
    commit = run("git", "rev-parse", "HEAD", folder=root)
    run("git", "clone", "--quiet", "--no-checkout", root, into)
    run("git", "checkout", "--quiet", "--detach", commit, folder=into)
    if tag not in run("git", "tag", "--points-at", "HEAD", folder=into).split():
        run("git", "tag", tag, folder=into)


def build(source: Path, work: Path) -> tuple[Path, Path]:
    """Build the source distribution of a clone, and from it the wheel; twice, in other folders.

    Args:
        source: the clone.
        work: a folder for them, which does not exist yet.

    Returns:
        Source distribution and wheel.

    Raises:
        ReleaseError: the second build differs from the first.
    """
    epoch = run("git", "log", "-1", "--format=%ct", folder=source)
    first, second = (_build_once(source, work / name, epoch) for name in ("first", "a-second-place"))
    for one, other in zip(first, second, strict=True):
        if checksum(one) != checksum(other):
            raise ReleaseError(f"two builds differ: {one} and {other}; the build is not reproducible")
    return first


def _build_once(source: Path, folder: Path, epoch: str) -> tuple[Path, Path]:
    copy = folder / "source"
    shutil.copytree(source, copy, symlinks=True)
    environ = {"SOURCE_DATE_EPOCH": epoch}
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, folder=copy, environ=environ)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=unpacked, environ=environ)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def check_contents(source: Path, sdist: Path, wheel: Path) -> None:
    """Check that both hold each file of the repository that belongs there, and no other.

    Args:
        source: the clone that they were built from.
        sdist: the source distribution.
        wheel: the wheel.

    Raises:
        ReleaseError: files are missing or stray.
    """
    tracked = run("git", "ls-files", folder=source).splitlines()
    name = sdist.name.removesuffix(".tar.gz")
    wanted = {path for path in tracked if path.startswith("bridge/")}
    wanted |= {f"bridge/testing/{path}" for path in tracked if path.startswith(PACKAGED)}
    wanted |= {"bridge/_version.py", *(f"{name}.dist-info/{each}" for each in METADATA)}
    _compare(wheel, wanted, set(zipfile.ZipFile(wheel).namelist()))
    with tarfile.open(sdist) as archive:
        members = {member.name.removeprefix(f"{name}/") for member in archive if member.isfile()}
    _compare(sdist, {*tracked, "bridge/_version.py", "PKG-INFO"}, members)


def _compare(file: Path, wanted: set[str], found: set[str]) -> None:
    if missing := sorted(wanted - found):
        raise ReleaseError(f"{file.name} lacks {', '.join(missing[:10])}")
    if stray := sorted(found - wanted):
        raise ReleaseError(f"{file.name} holds stray files: {', '.join(stray[:10])}")


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_checksums(folder: Path) -> Path:
    """Write ``SHA256SUMS`` of all other files of a folder, in the form of sha256sum(1)."""
    sums = folder / "SHA256SUMS"
    files = sorted(file for file in folder.iterdir() if file != sums)
    sums.write_text("".join(f"{checksum(file)}  {file.name}\n" for file in files), encoding="utf-8")
    return sums


def pythons() -> list[Path]:
    """Return an interpreter of each version from 3.11 on that this machine has, oldest first."""
    return [found for minor in range(11, 20) if (found := next(_interpreters(f"3.{minor}"), None))]


def _interpreters(version: str) -> Iterator[Path]:
    """Yield interpreters of a version that run: a name on the PATH may be a shim that does not."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python")):
        if candidate:
            line = [str(candidate), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                yield Path(candidate)


def uv() -> Path:
    """Return the uv of the PATH, or the one that `./lab setup` has fetched."""
    found = Path(shutil.which("uv") or cache_folder() / "uv/bin/uv")
    if not found.exists():
        raise ReleaseError("uv is missing: run ./lab setup, or put uv on the PATH")
    return found


def install(artifact: Path, python: Path, environment: Path, source: Path, version: str) -> Path:
    """Install a wheel or source distribution, with the plug-in, in an environment that holds nothing else.

    Args:
        artifact: the file.
        python: the interpreter of the environment.
        environment: folder of the environment; must not exist.
        source: the clone, whose pinned versions of packages are installed.
        version: what the installed program must call itself.

    Returns:
        The environment's Python.

    Raises:
        ReleaseError: it cannot be installed, or what is installed is something else.
    """
    certificates = {"UV_SYSTEM_CERTS": os.environ.get("UV_SYSTEM_CERTS", "1")} if CERTIFICATES.exists() else {}
    run(uv(), "venv", "--quiet", "--python", python, environment, environ=certificates)
    installed = environment / "bin/python"
    pins = source / "requirements-dev.txt"
    wanted = f"asterisk-bridge[testing] @ {artifact.resolve().as_uri()}"
    line: list[str | Path] = [
        uv(),
        "pip",
        "install",
        "--quiet",
        "--python",
        installed,
        "--constraint",
        pins,
        "--build-constraint",
        pins,
    ]
    run(*line, wanted, environ=certificates)
    shown = run(environment / "bin/asterisk-bridge", "--version", folder=environment)
    if shown != f"asterisk-bridge {version}":
        raise ReleaseError(f"{artifact.name} installs '{shown}', not asterisk-bridge {version}")
    place = run(installed, "-P", "-c", "import bridge; print(bridge.__file__)", folder=environment)
    if not Path(place).is_relative_to(environment):
        raise ReleaseError(f"{environment} runs {place}, which is not the installed package")
    return installed


def call(python: Path, source: Path, folder: Path, options: Sequence[str] = ()) -> str:
    """Make calls with what is installed, as the example of the plug-in does: a real phone, whose audio is compared.

    Args:
        python: of the environment.
        source: the clone, whose example is run.
        folder: for the lab's logs.
        options: further ones for pytest.

    Returns:
        pytest's summary.

    Raises:
        ReleaseError: a call failed.
    """
    folder.mkdir(parents=True)
    shutil.copy(source / "examples/test_agent.py", folder)
    ini = [word for each in SESSION for word in ("-o", each)]
    line: list[str | Path] = [
        python,
        "-P",
        "-m",
        "pytest",
        "-q",
        *ini,
        "--lab-folder",
        folder / "lab",
        *options,
        "test_agent.py",
    ]
    return run(*line, folder=folder).splitlines()[-1]
