"""Check the subjects of commits: the form that CONTRIBUTING.md describes.

Without arguments: of all commits since SINCE. With a file's name: of the message in it (git's commit-msg hook).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SINCE = "ab94fbc58403a4c21805563321d7ed05fd70285c"
"""The last commit that was made without this check."""
MAX_CHARACTERS = 72
_AREA = re.compile(r"[A-Za-z0-9_./-]+: ")
_NO_VERB = re.compile(
    r"(?:an?|the|it|its|this|that|these|what|which|who|when|where|how|no|one|two|each|every|some|all)\b", re.I
)
_OTHER_FORM = re.compile(r"[a-z]+(?:ing|ed|[^s]s)\b", re.I)
_IMPERATIVES = {
    "bring",
    "embed",
    "exceed",
    "feed",
    "focus",
    "need",
    "ping",
    "proceed",
    "shed",
    "speed",
    "string",
    "swing",
}
"""Verbs that end like other forms."""


def fault_of(subject: str) -> str:
    """Return the error of a subject; "" if it is valid."""
    if len(subject) > MAX_CHARACTERS:
        return f"has {len(subject)} characters, more than {MAX_CHARACTERS}: put the reason into the body"
    if subject.endswith("."):
        return "ends with a full stop"
    words = _AREA.sub("", subject, count=1)
    first = words.split(" ", 1)[0].lower()
    if not first[:1].isalpha():
        return "does not begin with a word"
    if _NO_VERB.match(words) or (_OTHER_FORM.fullmatch(first) and first not in _IMPERATIVES):
        return f"does not begin with a verb in the imperative, such as Add or Fix: {first}"
    return ""


def since() -> Iterator[tuple[str, str]]:
    """Yield each commit since SINCE and its subject; none where the history does not reach so far."""
    known = subprocess.run(["git", "cat-file", "-e", f"{SINCE}^{{commit}}"], stderr=subprocess.DEVNULL, check=False)
    if known.returncode:
        print("commits: not checked, the history does not reach back far enough")
        return
    log = ("git", "log", "--no-merges", "--format=%h %s", f"{SINCE}..HEAD")
    for line in subprocess.run(log, capture_output=True, text=True, check=True).stdout.splitlines():
        commit, _, subject = line.partition(" ")
        yield commit, subject


def in_message(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the subject of the message in a file, without a commit's name."""
    yield "", path.read_text(encoding="utf-8").split("\n", 1)[0]


def main(arguments: list[str]) -> int:
    """Return the exit code: 1 if a subject is not as it should be."""
    code = 0
    for commit, subject in in_message(Path(arguments[0])) if arguments else since():
        if subject.startswith(("fixup! ", "squash! ", "Merge ", "Revert ")):
            continue
        if fault := fault_of(subject):
            print(f"commit {commit} {subject!r}: {fault}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
