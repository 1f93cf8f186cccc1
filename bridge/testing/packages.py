"""Debian's own Asterisk, softphone and speech synthesis, unpacked into a cache folder: no root, nothing installed.

apt does the work with a state directory of its own: it resolves the dependencies of Debian *forky* down to libc,
fetches and verifies them. The programs are then run by their own loader (`Root.command`), so the machine's
libraries do not matter. The first fetch is about 80 MB; afterwards the folder is only looked up.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.config.speech import ESPEAK
from bridge.errors import BridgeError

SUITE = "forky"
PACKAGES = ("asterisk", "asterisk-core-sounds-en", "baresip-core", "sip-tester", "espeak-ng")
STORE_PACKAGES = ("redis-server",)
"""The shared store of several bridges: a tree of its own, fetched by those tests only that need it."""
NETWORK_PACKAGES = ("iproute2",)
"""Packages for virtual networks (`bridge.testing.network`)."""
# Dependencies that serve installation or other programs than those we run; a third of the download.
UNUSED_PREFIXES = (
    "adduser",
    "asterisk-config",
    "base-passwd",
    "debconf",
    "dirmngr",
    "gnupg",
    "gpg",
    "libperl",
    "libpython",
    "libsnmp-base",
    "login.defs",
    "media-types",
    "passwd",
    "perl",
    "pinentry",
    "python3",
    "libpam-",
)
# Nothing below these is read at run time.
UNUSED_FOLDERS = ("doc", "man", "locale", "info", "lintian", "bug", "i18n", "zoneinfo", "perl5", "common-licenses")
MIRROR_VARIABLE = "DEBIAN_MIRROR"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
KEYRING_VARIABLE = "LAB_KEYRING"
CACHE_VARIABLE = "LAB_CACHE"
# Debian's architecture -> multi-arch folder, loader's name in it.
ARCHITECTURES = {
    "amd64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
    "arm64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
}
COMPLETE = "complete"  # the file that marks a complete unpack; it has the list of packages

Progress = Callable[[str], None]


class PackagesUnavailable(BridgeError):
    """The packages could not be fetched or unpacked; the message has the remedy."""


@dataclass(frozen=True)
class Root:
    """The folder that holds the unpacked packages.

    Args:
        path: the folder; below it lies an ordinary Debian tree.
        triplet: multi-arch folder, for example ``x86_64-linux-gnu``.
        loader: file name of the dynamic loader.
    """

    path: Path
    triplet: str
    loader: str

    @property
    def libraries(self) -> Path:
        """The folder of the shared libraries."""
        return self.path / "usr" / "lib" / self.triplet

    @property
    def asterisk_modules(self) -> Path:
        """The folder of Asterisk's modules."""
        return self.libraries / "asterisk" / "modules"

    @property
    def baresip_modules(self) -> Path:
        """The folder of baresip's modules."""
        return self.path / "usr" / "lib" / "baresip" / "modules"

    @property
    def speech_command(self) -> tuple[str, ...]:
        """The command of espeak-ng, which reads text from standard input: the value of ``[speech] command``."""
        loader, option, libraries, program = self.command("usr/bin/espeak-ng")
        # Its audio output, which is never opened here, has a library in a directory that only Debian's linker searches.
        libraries += f":{self.libraries / 'pulseaudio'}"
        return (loader, option, libraries, program, f"--path={self.libraries}", *ESPEAK[1:])

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command line that runs a program of the tree, e.g. ``usr/sbin/asterisk``."""
        loader = self.libraries / self.loader
        return [str(loader), "--library-path", str(self.libraries), str(self.path / program), *arguments]


def cache_folder(environ: dict[str, str] | None = None) -> Path:
    """Return the folder of all downloads (``LAB_CACHE``, else the XDG cache)."""
    env = os.environ if environ is None else environ
    if own := env.get(CACHE_VARIABLE):
        return Path(own)
    base = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "asterisk-bridge"


def ensure(progress: Progress = print, packages: Sequence[str] = PACKAGES) -> Root:
    """Return the unpacked packages, fetching them first when they are not in the cache.

    Simultaneous processes do not conflict: the second waits for the first. An interrupted fetch is never used
    as a complete one.

    Args:
        progress: called with a message about each long step.
        packages: the packages in the tree, with all their dependencies.

    Raises:
        PackagesUnavailable: apt is missing, no mirror responds, or the archive's key is unknown.
    """
    architecture = _architecture()
    triplet, loader = ARCHITECTURES[architecture]

    def finish(root: Path) -> None:
        sounds = root / "usr" / "share" / "asterisk" / "sounds"
        if sounds.exists():  # Debian's install script makes this link; we run none.
            (sounds / "en").symlink_to("en_US_f_Allison")

    recipe = ["2", SUITE, architecture, *packages, *UNUSED_PREFIXES, *UNUSED_FOLDERS]
    return Root(_ensure("", packages, recipe, lambda _: True, finish, progress), triplet, loader)


def ensure_tree(name: str, packages: Sequence[str], parts: tuple[str, ...], progress: Progress = print) -> Path:
    """Return the folder of other packages, for programs that run with the machine's own libraries.

    Args:
        name: of the folder in the cache.
        packages: the requested packages.
        parts: name prefixes of the packages to unpack, among these and their dependencies.
        progress: called with a message about each long step.

    Raises:
        PackagesUnavailable: as ``ensure``.
    """
    recipe = ["1", SUITE, _architecture(), *packages, *parts]
    return _ensure(f"{name}-", packages, recipe, lambda package: package.startswith(parts), lambda _: None, progress)


def _ensure(
    prefix: str,
    packages: Sequence[str],
    recipe: Sequence[str],
    wanted: Callable[[str], bool],
    finish: Callable[[Path], None],
    progress: Progress,
) -> Path:
    architecture = _architecture()
    digest = hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:10]
    folder = cache_folder() / f"{prefix}{SUITE}-{architecture}-{digest}"
    root = folder / "root"
    if (folder / COMPLETE).exists():
        return root
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock"), progress):
        if (folder / COMPLETE).exists():
            return root
        # What a killed process left; and a folder without its mark, which cannot be, but must never be trusted.
        for left in (*folder.parent.glob(f"{folder.name}.*.part"), folder):
            shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
        try:
            names = _fetch(work, architecture, packages, wanted, progress)
            (work / "root").mkdir()
            _unpack(work / "debs", work / "root", progress)
            finish(work / "root")
            shutil.rmtree(work / "debs")
            shutil.rmtree(work / "apt")
            (work / COMPLETE).write_text("\n".join(names) + "\n")
            work.chmod(0o755)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return root


def _architecture() -> str:
    for program in ("apt-get", "dpkg-deb", "dpkg"):
        if not shutil.which(program):
            raise PackagesUnavailable(
                f"'{program}' is not on this machine. The embedded lab takes Debian's packages and needs Debian or one "
                "of its relatives; elsewhere use the docker engine: ./lab up --engine docker"
            )
    found = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    if found not in ARCHITECTURES:
        raise PackagesUnavailable(f"the embedded lab supports {', '.join(ARCHITECTURES)}, but this machine is {found}")
    return found


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process is fetching the packages; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(
    work: Path, architecture: str, packages: Sequence[str], needed: Callable[[str], bool], progress: Progress
) -> list[str]:
    """Fetch the packages into ``work/debs`` and return their file names."""
    reasons: list[str] = []
    for mirror in _mirrors():
        apt = _Apt(work / "apt", mirror, architecture)
        progress(f"asking {mirror} for Debian {SUITE}")
        failure = apt.update()
        if failure is None:
            break
        reasons.append(f"{mirror}: {failure}")
        shutil.rmtree(work / "apt")
    else:
        raise PackagesUnavailable("no mirror gave a usable list of packages\n  " + "\n  ".join(reasons))
    wanted = {name: size for name, size in apt.closure(packages).items() if needed(name)}
    size = sum(wanted.values())
    debs = work / "debs"
    debs.mkdir()
    progress(f"fetching {len(wanted)} packages, {size / 1e6:.0f} MB (only this first time)")
    apt.download(list(wanted), debs, size, progress)
    return sorted(path.name for path in debs.glob("*.deb"))


def _mirrors() -> list[str]:
    """Return the mirror that the environment names, then those of the machine's own apt sources, in whatever form.

    Raises:
        PackagesUnavailable: no mirror is known.
    """
    chosen = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    mirrors: list[str] = [chosen] if chosen else []
    for line in listed.stdout.splitlines():
        uri, release, component = line.split("|")
        uri = uri.rstrip("/")
        if component == "main" and "security" not in release and uri.endswith("/debian"):
            mirrors.append(uri)
    if not mirrors:
        raise PackagesUnavailable(
            "no Debian mirror found in this machine's apt sources; "
            f"name one: {MIRROR_VARIABLE}=http://.../debian ./lab up"
        )
    return list(dict.fromkeys(mirrors))


class _Apt:
    """apt with a state, a cache and a source list of its own; keeps the machine's proxies and credentials."""

    def __init__(self, folder: Path, mirror: str, architecture: str) -> None:
        for name in ("state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        keyring = os.environ.get(KEYRING_VARIABLE, KEYRING)
        signed = f" signed-by={keyring}" if Path(keyring).exists() else ""
        (folder / "sources.list").write_text(f"deb [arch={architecture}{signed}] {mirror} {SUITE} main\n")
        (folder / "status").touch()  # "nothing is installed": so apt lists every dependency, libc included
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
        # Only the transport settings are taken over: hooks of the machine's apt have no business here.
        transport = [
            line for line in dump.splitlines() if line.startswith("Acquire::") and "::IndexTargets" not in line
        ]
        own = {
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Acquire::Check-Valid-Until": "false",  # mirrors frozen in time serve an expired Release file
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Acquire::http::Timeout": "30",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
        }
        lines = [*transport, *(f'{key} "{value}";' for key, value in own.items())]
        (folder / "apt.conf").write_text("\n".join(lines) + "\n")
        self._environ = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}

    def update(self) -> str | None:
        """Fetch the list of packages; return None, or why it is not usable."""
        done = self._run("update")
        text = done.stdout + done.stderr
        if "NO_PUBKEY" in text or "not signed" in text:
            return (
                f"the key that signs Debian {SUITE} is not in {KEYRING}. Install a newer debian-archive-keyring, or "
                f"unpack one anywhere and set {KEYRING_VARIABLE} to its debian-archive-keyring.gpg"
            )
        if done.returncode or "\nE: " in f"\n{text}" or "Failed to fetch" in text:
            return " ".join(line for line in text.splitlines() if line[:2] in ("E:", "W:", "Er"))[:500] or "no answer"
        return None

    def closure(self, packages: Sequence[str]) -> dict[str, int]:
        """Return the names of the packages with all that they depend on and that we use, and their sizes in bytes."""
        done = self._run("install", "--print-uris", "--yes", "--quiet", *packages)
        wanted: dict[str, int] = {}
        for line in done.stdout.splitlines():
            if line.startswith("'"):
                _, file, size, _ = line.split(maxsplit=3)
                name, version, _ = file.split("_", 2)
                if not name.startswith(UNUSED_PREFIXES):
                    wanted[f"{name}={version.replace('%3a', ':')}"] = int(size)
        if not wanted:
            raise PackagesUnavailable(f"apt cannot resolve the packages: {(done.stdout + done.stderr).strip()[-500:]}")
        return wanted

    def download(self, packages: Sequence[str], into: Path, size: int, progress: Progress) -> None:
        """Fetch the packages, checked against the signed list, into a folder."""
        command = ["apt-get", "download", "--quiet", *packages]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(command, cwd=into, env=self._environ, stdout=output, stderr=output)
            told = time.monotonic()
            try:
                while process.poll() is None:
                    time.sleep(0.05)
                    if time.monotonic() - told > 2:
                        told = time.monotonic()
                        have = sum(file.stat().st_size for file in into.rglob("*") if file.is_file())
                        progress(f"  {min(99, 100 * have // size)} % of {size / 1e6:.0f} MB")
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
            if process.returncode:
                output.seek(0)
                raise PackagesUnavailable(f"apt could not fetch the packages: {output.read().strip()[-500:]}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["apt-get", *arguments], capture_output=True, text=True, env=self._environ, check=False)


def _unpack(debs: Path, root: Path, progress: Progress) -> None:
    files = sorted(debs.glob("*.deb"))
    excludes = [f"--exclude=./usr/share/{name}" for name in UNUSED_FOLDERS]
    tar = [
        "tar",
        "-x",
        "-C",
        str(root),
        "--no-same-owner",
        "--no-same-permissions",
        "--keep-directory-symlink",
        *excludes,
    ]
    told = time.monotonic()
    progress(f"unpacking {len(files)} packages")
    for index, file in enumerate(files):
        source = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(file)], stdout=subprocess.PIPE)
        unpacked = subprocess.run(tar, stdin=source.stdout, capture_output=True, text=True, check=False)
        assert source.stdout is not None
        source.stdout.close()
        if source.wait() or unpacked.returncode:
            raise PackagesUnavailable(f"{file.name} could not be unpacked: {unpacked.stderr.strip()[-300:]}")
        if time.monotonic() - told > 2:
            told = time.monotonic()
            progress(f"  {index + 1} of {len(files)}")


if __name__ == "__main__":
    print(ensure(lambda text: print(text, file=sys.stderr, flush=True)).path)
