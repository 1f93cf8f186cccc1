"""Check the project's English: docs/contributing/language.md as a list of words and a few rules.

Reads docs and their code blocks, configuration files and pages, docstrings, comments and strings with more than one
word. ``python -m tools.words`` checks everything, ``python -m tools.words FILE...`` some files; ``--count`` counts the
findings by folder and by rule.

Exceptions are in tools/words_exceptions.txt.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
EXCEPTIONS = ROOT / "tools/words_exceptions.txt"
CHECKED = ("bridge", "tools", "packaging", "examples", "docs", "tests", "asterisk")
"""Folders; of other folders, only documents at the top."""
SUFFIXES = (".py", ".md", ".conf", ".toml", ".html", ".js", ".lua", ".sh", ".service", ".yaml", ".yml")
ALSO = ("lab", "asterisk/base-image", "packaging/inventory", "tools/lab/help.txt")
"""Scripts and texts without such a suffix."""
PROSE_ONLY = ("tests/",)
"""Python files here are checked for words in docstrings and comments only: other strings are test data, and the name of
a test is its summary."""

PROGRAMS = (
    *(
        "applications?",
        "asterisk",
        "the bridge",
        "asterisk-bridge",
        "workers?",
        "process(?:es)?",
        "supervisor",
        "nodes?",
    ),
    *("streams?", "servers?", "clients?", "programs?", "pbx", "store", "redis", "browsers?", "kernel", "dialects?"),
    *("flows?", "webhooks?", "legs?", "taps?", "it", "which", "that", "who", "they"),
)
PROGRAM = rf"\b(?:{'|'.join(PROGRAMS)})"

SENDER = (
    r"(?:the |an? |its |other |another )?(?:applications?|clients?|servers?|workers?|supervisor|peers?|browsers?)\b"
)

WORDS: dict[str, str] = {
    r"\btells?\b|\btold\b|\btelling\b": "is notified, reports, logs, sends; tell apart: distinguish",
    r"\bsays\b|\bsaid\b|\bsaying\b": "states, reports, specifies, contains",
    rf"{PROGRAM} (?:never |also |still |not )?(?:hears?|heard|speaks)\b": "receives, sends audio",
    r"\bknows\b|\b(?:is|are|was|were) not known\b": "has, stores, is unknown",
    r"\bforg[eo]ts?\b|\bforgotten\b|\bforgetting\b": "discard, remove, omit",
    r"\b(?:gives?|gave|giving|given) way\b": "yield",
    r"\b(?:falls?|fell|fallen|falling) silent\b": "stop, send silence",
    rf"\b(?:is|are|was|were|be|been|being) asked\b|{PROGRAM} asks?\b": "is queried, is requested, queries",
    r"(?<!there )\b(?:is|are|was|were|be) no (?!longer\b|more\b|less\b|later\b|earlier\b|fewer\b)": "is not a, unknown",
    r"\bso that\b": "to, so, therefore; or two sentences",
    r"\bas far as\b": "where, if, up to",
    r"\ball the same\b": "still, anyway",
    r"\bfor that(?=[.,;:)]|$)": "for this purpose, or name it",
    r"\bgo(?:es|ing)? on\b|\bwent on\b|\bgone on\b": "continue",
    r"(?<!^)\b(?:is|are|was|were|be|been|not|still|already) there\b(?! (?:is|are|was|were)\b)": "exists, is available",
    r"\b(?:is|are|was|were|be|been) away\b": "is unavailable, is disconnected",
    r"\banew\b|\bfrom new\b": "again, from scratch",
    r"\bat once\b": "immediately; simultaneously",
    r"\bwhoever\b|\bwhosoever\b": "anyone who, the client that",
    r"\bof ours\b|\bours\b|\bourselves\b": "internal, an internal error, a bug",
    r"\bearlier li[fv]es?\b|\banother life\b|\bits life\b": "a previous run; lifetime",
    r"\bwhole numbers?\b": "integer",
    r"\b(?:small|capital) letters\b": "lowercase, uppercase",
    r"\blately\b": "recently",
    r"\bplac(?:e|es|ed|ing) (?:\w+ ){0,3}calls?\b|\bcalls? (?:is|are|was|were|be|been) placed\b": "originate, dial",
    r"\ba text\b(?!-)": "a string",
    r"\bfor ever\b": "indefinitely",
    r"\btill\b": "until",
    r"\brefused whole\b|\brejected whole\b": "rejected",
    r"\blook(?:s|ed|ing)? at (?:a|the) calls?\b": "get a call",
    r"\btak(?:e|es|en|ing) back\b|\btook back\b": "resume, withdraw, revoke",
    r"\ba moment\b": "briefly",
    r"\bspellings?\b": "syntax (of flows), notation",
    r"\bboth ends\b|\bthe other end\b": "peer, both sides",
    r"\bpress(?:es|ed|ing)? (?:\w+ )?(?:keys?|digits?)\b|\bkeys? (?:is|are|was|were) pressed\b": "send DTMF digits",
    r"\b(?:is|are|was|were) doing\b": "health, state",
    r"\b(?:he|she|his|her|hers|him)\b": "they",
    r"\bthe like\b|\band so on\b|\bas it were\b|\bhence\b|\blest\b|\bin vain\b|\bhitherto\b|\bthereof\b": "(leave out)",
    r"\bat fault\b|\bwhose fault\b": "the cause, responsible",
    r"\bgood ones?\b|\bbad ones?\b": "valid, invalid",
    r"\bso (?:many|much|long|often)\b(?! (?:as|that|simultaneous|small)\b)": "this many, this long, this often",
    r"\bbecomes? of\b": "happens to",
    r"\bfrom which on\b": "above which, at which",
    r"\bin no (?!time\b|way\b|case\b)\w": "is not in a",
    r"\b(?:models?|agents?) (?:does not |do not )?(?:hears?|heard|learns?)\b": "receives",
    r"\bobey(?:s|ed)?\b": "applies, is ignored, is followed",
    r"\bof your own making\b": "choose one",
    r"; there are: ": "; available:",
    r"\btwice is fine\b": "does nothing if it has ended",
    r"\bbelongs? into\b": "belong in",
    r"\bfor errors that \w+ \w+ reads?\b": "as the log lists them",
    r"\ba letter first\b": "beginning with a letter",
    r"\btak(?:e|es|ing) hold of\b": "connect to",
    r"\bwithout a word\b": "without a Close frame, without a message",
    r"\b(?:return|returns) what (?:removes|stops|ends) (?:it|that)\b": "return a function that removes it",
    r"\bsettings calls?\b": "settings API, request",
    r"\bdialled\b|\blabelled\b|\bsignalling\b": "American spelling",
    rf"\b(?:messages?|events?|responses?|audio|digits) of {SENDER}": "from the application",
}
"""What is not written (a pattern), and what is written instead."""
_WORDS = {re.compile(pattern, re.I): instead for pattern, instead in WORDS.items()}

RELATIVE = re.compile(r"(?:when|what|who|whose|which|where|why|that|how(?! to\b))\b", re.I)
NO_VERB = re.compile(
    r"(?:it|its|he|they|one|ones|who|whose|what|which|that|this|these|those|whether|yes|no|not|nothing|the|an?|every|each|all|as|if|"
    r"when|where|why|how|for|of|in|by|at|some|any|both|only|so|with|without|after|before|"
    r"until|note (?:that|when|which|its?))\b",
    re.I,
)
NO_OBJECT = re.compile(
    r"(?:[A-Z][a-z]+ (?:it|them|what|all\.)|(?:(?:Return w|W)hether|If) (?:it|they)|Its|That|"
    r"Have (?:an?|the|one|another|each|every))(?:\b|$)"
)
ELLIPSIS = re.compile(
    r"\w+: (?:\d{3}, )?(?:it|they|there|the \w+) (?:is|are|does|do|has|have|can|cannot|was|were)(?: not| none)?\."
)
"""An entry of Raises whose condition is a verb without its object: ``ApiError: 401, it has not.``"""
NO_NOUN = re.compile(r"(?:what|who|whose|which|where|why|when|how|whether|its?|that)\b", re.I)
"""The beginning of a class's docstring that is a clause instead of a noun."""
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
RUNS_ON = r"(?![^=%]*\b(?:of|to|by|with|from|for|in|at|on|the|an?|than|as|is) \w+=)"
"""No event ends in its first field, as "the calls of worker=%d" does."""
LOG_LINE = re.compile(rf"(?!\w+=){RUNS_ON}[^%]*[^%\s,:;](?: (?:[a-z_]+=(?:%(?:[-+0-9.]*)[a-z])(?: ?%%)?|%s))*")
"""An event, then fields; an argument without a name is `logs.Fields`."""
CODE = re.compile(r"``.*?``|`[^`]*`|https?://\S+|\]\([^)]*\)|<[^>]*>|%\([a-z]+\)[a-z]|\{[^}]*\}")


class Finding(NamedTuple):
    """One place that breaks a rule.

    Args:
        path: of the file, below the root.
        line: number of the line, from 1.
        rule: the pattern or the rule's name.
        text: what was found.
        instead: what to write.
    """

    path: str
    line: int
    rule: str
    text: str
    instead: str


class Prose(NamedTuple):
    """A passage that people read, and the number of its first line."""

    line: int
    text: str


def _without_code(text: str) -> str:
    """Replace code, addresses and placeholders with spaces; the lines stay."""
    return CODE.sub(lambda found: "`" + re.sub(r"[^\n]", " ", found[0])[1:], text)


def of_words(path: str, passages: Iterator[Prose]) -> Iterator[Finding]:
    """Yield the words that are not written."""
    for start, raw in passages:
        # A passage that breaks between the words of a pattern still matches: line breaks count as one space.
        text = _without_code(raw)
        joined = re.sub(r"\n[ \t>#*|-]*", lambda found: " " + "\0" * (len(found[0]) - 1), text)
        squeezed, places = _squeezed(joined)
        for pattern, instead in _WORDS.items():
            for found in pattern.finditer(squeezed):
                line = start + raw.count("\n", 0, places[found.start()])
                yield Finding(path, line, pattern.pattern, found[0], instead)


def _squeezed(text: str) -> tuple[str, list[int]]:
    """Return a text without NUL characters, and the place that each of its characters had."""
    places = [place for place, character in enumerate(text) if character != "\0"]
    return "".join(text[place] for place in places), places


def markdown(source: str) -> Iterator[Prose]:
    """Yield the paragraphs of a document without its code blocks."""
    fenced = False
    start, lines = 1, list[str]()
    for number, line in enumerate(source.splitlines(), 1):
        fence = line.lstrip().startswith(("```", "~~~"))
        fenced ^= fence
        if fence or fenced or not line.strip() or (line.startswith("    ") and not lines):
            if lines:
                yield Prose(start, "\n".join(lines))
            lines = []
            continue
        if not lines:
            start = number
        lines.append(line)
    if lines:
        yield Prose(start, "\n".join(lines))


def code_blocks(source: str) -> Iterator[Prose]:
    """Yield the code blocks of a document."""
    start, fence = 0, ""
    lines = source.splitlines()
    for number, line in enumerate(lines, 1):
        mark = line.lstrip()[:3]
        if fence and mark == fence:
            yield Prose(start, "\n".join(lines[start - 1 : number - 1]))
            fence = ""
        elif not fence and mark in ("```", "~~~"):
            start, fence = number + 1, mark


def headings(path: str, source: str) -> Iterator[Finding]:
    """Yield the headings of a document that are relative clauses."""
    for start, text in markdown(source):
        for offset, line in enumerate(text.splitlines()):
            title = re.match(r"#+ +(.*)", line)
            if title and RELATIVE.match(title[1]):
                yield Finding(path, start + offset, "heading", title[1], "a noun, or a task")


def python(tree: ast.AST, source: str, prose_only: bool = False) -> Iterator[Prose]:
    """Yield the docstrings and comments of a module, and its strings with more than one word.

    Args:
        tree: the module.
        source: its text.
        prose_only: docstrings and comments only.
    """
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and not prose_only:
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield Prose(node.lineno, "".join(map(str, parts)))
        elif not isinstance(node, ast.Constant) or not isinstance(node.value, str) or " " not in node.value:
            continue
        elif id(node) in documented or (id(node) not in inner and not prose_only):
            yield Prose(node.lineno, node.value)
    comments: list[tuple[int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            text = token.string.lstrip("#! ")
            if comments and (row, column) == (comments[-1][0] + comments[-1][2].count("\n") + 1, comments[-1][1]):
                first, _, earlier = comments.pop()
                text, row = f"{earlier}\n{text}", first
            comments.append((row, column, text))
    yield from (Prose(row, text) for row, _, text in comments)


def summaries(path: str, tree: ast.AST) -> Iterator[Finding]:
    """Yield docstrings of functions that do not begin with a verb; ruff's D401 finds those with another form of it.

    The name of a test is its summary, so its docstring adds to it.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("test_"):
            continue
        if any("property" in (name := ast.unparse(each)) or "fixture" in name for each in node.decorator_list):
            continue
        if (text := ast.get_docstring(node)) and NO_VERB.match(text):
            yield Finding(path, node.lineno, "docstring", text.split("\n", 1)[0], "begin with a verb in the imperative")


def objects(path: str, tree: ast.AST) -> Iterator[Finding]:
    """Yield docstrings of functions, properties and classes that do not name their object."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
            first = text.split("\n", 1)[0]
            if NO_OBJECT.match(first):
                yield Finding(path, node.lineno, "object", first, "name the object")
            for line in map(str.strip, text.splitlines()):
                if ELLIPSIS.fullmatch(line):
                    yield Finding(path, node.lineno, "condition", line, "write the condition in full")
        elif isinstance(node, ast.ClassDef) and (text := ast.get_docstring(node)) and NO_NOUN.match(text):
            yield Finding(path, node.lineno, "object", text.split("\n", 1)[0], "begin with a noun")


def log_lines(path: str, tree: ast.AST) -> Iterator[Finding]:
    """Yield the messages of log calls that are not an event followed by fields."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if node.func.attr not in LOG_METHODS or ast.unparse(node.func.value) not in ("log", "self._log"):
            continue
        template = node.args[1] if node.func.attr == "log" else node.args[0]
        if isinstance(template, ast.Constant) and not LOG_LINE.fullmatch(str(template.value)):
            yield Finding(
                path, node.lineno, "log line", str(template.value), "event, then ` name=%s` fields, nothing else"
            )


def findings(path: str, source: str) -> Iterator[Finding]:
    """Yield the deviations from docs/contributing/language.md.

    Args:
        path: of the file, below the root.
        source: its text.
    """
    if path.endswith(".md"):
        yield from of_words(path, markdown(source))
        yield from of_words(path, code_blocks(source))
        yield from headings(path, source)
        return
    if not path.endswith(".py"):
        yield from of_words(path, iter([Prose(1, source)]))
        return
    tree = ast.parse(source)
    prose_only = path.startswith(PROSE_ONLY)
    yield from of_words(path, python(tree, source, prose_only))
    yield from summaries(path, tree)
    if not prose_only:
        yield from objects(path, tree)
        yield from log_lines(path, tree)


def exceptions() -> list[tuple[str, str]]:
    """Return the exceptions: a path's beginning and a phrase of the text."""
    allowed = []
    for line in EXCEPTIONS.read_text(encoding="utf-8").splitlines():
        entry = line.split("  # ", 1)[0].strip()
        if entry and not entry.startswith("#"):
            path, _, phrase = entry.partition(":")
            allowed.append((path, phrase.strip()))
    return allowed


def files(named: list[str]) -> Iterator[Path]:
    """Yield the files to check: those that git tracks, all or below the named ones."""
    listed = subprocess.run(["git", "ls-files", "--", *named], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (
            (name.endswith(SUFFIXES) or name in ALSO)
            and ("/" not in name or name.split("/")[0] in CHECKED)
            and (ROOT / name).exists()
        ):
            yield ROOT / name


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tools.words", description="Check the project's English.")
    parser.add_argument("--count", action="store_true", help="count the findings by folder and by rule")
    parser.add_argument("paths", nargs="*", help="files and folders, from the root; all of them by default")
    options = parser.parse_args(arguments)
    allowed = exceptions()
    found: list[Finding] = []
    for file in files(options.paths):
        path = file.relative_to(ROOT).as_posix()
        source = file.read_text(encoding="utf-8")
        lines = source.splitlines()
        phrases = [phrase for begins, phrase in allowed if path.startswith(begins)]
        for each in findings(path, source):
            near = " ".join(lines[each.line - 1 : each.line + 1])
            if not any(phrase in near for phrase in phrases):
                found.append(each)
    if options.count:
        for place, count in sorted(Counter("/".join(each.path.split("/")[:2]) for each in found).items()):
            print(f"{count:6} {place}")
        for rule, count in Counter(each.rule for each in found).most_common():
            print(f"{count:6} {rule}")
        print(f"{len(found):6} in all")
        return 0
    for each in found:
        print(f"{each.path}:{each.line}: {each.text!r}: {each.instead}", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
