"""The command line of ``tools/release``."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tools.lab.docker_command import collect_certificates, docker_answers
from tools.releasing import steps
from tools.releasing.steps import FINAL, ROOT, ReleaseError, run

BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a line with the time that has passed."""
    print(f"[{time.monotonic() - BEGAN:4.0f} s] {text}", flush=True)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="tools/release",
        description="Build the source distribution, wheel and image of the tagged commit; install each in an empty"
        " environment and make calls with it; write them to dist/ with an SBOM and checksums.",
    )
    parser.add_argument("--rehearse", metavar="X.Y.Z", help="as if the commit had this tag")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder for the result (default: dist)")
    parser.add_argument("--no-image", action="store_true", help="leave out the image")
    parser.add_argument(
        "--wheel-only", action="store_true", help="install only the wheel, with the Python that runs this"
    )
    return parser


def release(options: argparse.Namespace, work: Path) -> str:
    """Make the release and return its version.

    Args:
        options: of the command line.
        work: an empty folder.

    Raises:
        ReleaseError: something is wrong; nothing is in ``dist`` then.
    """
    if options.rehearse and not FINAL.fullmatch(options.rehearse):
        raise ReleaseError(f"--rehearse takes a version like 1.2.3, not {options.rehearse}")
    steps.check_clean(ROOT)
    version: str = options.rehearse or steps.tagged_version(ROOT)
    notes = steps.release_notes(ROOT, version)
    say(f"asterisk-bridge {version}: CHANGELOG.md has {len(notes.splitlines())} lines for it")
    source = work / "source"
    steps.clone(ROOT, source, f"v{version}")
    sdist, wheel = steps.build(source, work / "built")
    if sdist.name != f"asterisk_bridge-{version}.tar.gz":
        raise ReleaseError(f"the build calls itself {sdist.name}")
    say(
        f"{sdist.name} ({sdist.stat().st_size // 1024} KB) and {wheel.name} ({wheel.stat().st_size // 1024} KB):"
        " two builds are equal"
    )
    steps.check_contents(source, sdist, wheel)
    say("both hold what belongs there and nothing else")
    ready = work / "dist"
    ready.mkdir()
    run(source / "packaging/inventory", "sbom", ready, folder=source)
    say("sbom.cdx.json and licenses.txt are written")
    found = [Path(sys.executable)] if options.wheel_only else steps.pythons()
    for artifact in (wheel,) if options.wheel_only else (wheel, sdist):
        for python in dict.fromkeys((found[0], found[-1])):
            name = f"{artifact.name.rpartition('.')[2]}-{python.parent.parent.name}-{python.name}"
            installed = steps.install(artifact, python, work / "environments" / name, source, version)
            shown = run(installed, "-V")
            say(f"{artifact.name} on {shown}: {steps.call(installed, source, work / 'calls' / name)}")
    if not skipped(options):
        image(source, work, version, installed)
    for file in (sdist, wheel):
        shutil.copy(file, ready)
    steps.write_checksums(ready)
    shutil.rmtree(options.dist, ignore_errors=True)
    shutil.copytree(ready, options.dist)
    return version


def skipped(options: argparse.Namespace) -> str:
    """Return why the image is left out; empty if it is not."""
    if options.no_image:
        return "--no-image was given"
    return "" if docker_answers() else "no Docker daemon answers"


def image(source: Path, work: Path, version: str, python: Path) -> None:
    """Build the image and make calls with it.

    Args:
        source: the clone.
        work: a folder for the build.
        version: the version.
        python: of an environment with the plug-in.

    Raises:
        ReleaseError: a step failed.
    """
    tag = f"asterisk-bridge:{version}"
    run(source / "asterisk/base-image", folder=source)
    collect_certificates(source / "extra-ca", os.environ)
    arguments = [
        f"VERSION={version}",
        *(f"{name}={os.environ[name]}" for name in ("BASE_IMAGE", "PIP_INDEX_URL") if name in os.environ),
    ]
    line = ["docker", "build", *(word for each in arguments for word in ("--build-arg", each)), "-t", tag, "."]
    run(*line, folder=source)
    shown = run("docker", "run", "--rm", tag, "asterisk-bridge", "--version")
    if shown != f"asterisk-bridge {version}":
        raise ReleaseError(f"the image runs '{shown}'")
    user = f"{os.getuid()}:{os.getgid()}"
    command = [
        "docker",
        "run",
        "--rm",
        "--network=host",
        f"--user={user}",
        "--volume={folder}:{folder}:ro",
        tag,
        "asterisk-bridge",
    ]
    summary = steps.call(python, source, work / "calls/image", ["--bridge-command", shlex.join(command)])
    say(f"image {tag}: {summary}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="release-") as work:
            version = release(options, Path(work))
    except ReleaseError as error:
        print(f"tools/release: {error}", file=sys.stderr)
        return 1
    print(f"\n{options.dist}:")
    print((options.dist / "SHA256SUMS").read_text(encoding="utf-8"), end="")
    if reason := skipped(options):
        print(f"\n!!! SKIPPED, NEITHER BUILT NOR TESTED: the image; {reason}")
    if options.rehearse:
        print(f"\nRehearsed. To release: git tag -s v{version} && tools/release")
    else:
        print(
            f"\nBy hand, in this order (docs/contributing/releasing.md):\n"
            f"  git push origin main v{version}\n"
            f"  upload {options.dist}/*.whl and *.tar.gz to the package index\n"
            f"  push the image asterisk-bridge:{version}\n"
            f"  publish the release with the files of {options.dist} and the changelog's section"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
