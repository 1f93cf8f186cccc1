"""The documentation is true: its clients are the examples, and its links and the code that it names exist."""

import ast
import contextlib
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize(("language", "example"), [("python", "listen.py"), ("javascript", "listen.mjs")])
def test_the_tutorial_shows_the_example(language: str, example: str) -> None:
    page = (ROOT / "docs/tutorials/first-stream.md").read_text()
    shown = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert shown == [(ROOT / "examples" / example).read_text()]


def test_the_plugin_page_shows_the_example() -> None:
    page = (ROOT / "docs/reference/pytest-plugin.md").read_text()
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown == [(ROOT / "examples/test_agent.py").read_text()]


def test_the_tutorial_shows_the_test_of_an_application() -> None:
    page = (ROOT / "docs/tutorials/test-your-application.md").read_text()
    assert f"```python\n{(ROOT / 'examples/test_agent.py').read_text()}```" in page


def test_the_voice_agent_that_is_shown_is_the_one_that_is_tested() -> None:
    page = (ROOT / "docs/howto/twilio-voice-agents.md").read_text()
    agent = "\n".join((ROOT / "tests" / "agents" / name).read_text() for name in ("agent.py", "webhook.py"))
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown
    assert not [part for part in shown if part not in agent]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def entries(text: str, context: str) -> list[str]:
    """Return the lines of a context without comments, from an extensions.conf or a page that prints one."""
    section = re.split(r"(?m)^ *\[", text.split(f"[{context}]")[1])[0]
    lines = (line.strip() for line in section.splitlines())
    return [line for line in lines if re.match(r"(exten|same) ", line)]


@pytest.mark.parametrize("page", ["howto/dialplan-entries.md", "reference/conferences.md", "howto/plain-asterisk.md"])
def test_the_dialplan_that_is_shown_is_the_one_that_is_tested(page: str) -> None:
    tested = entries((ROOT / "asterisk/etc/extensions.conf").read_text(), "media-tap")
    tested = [line.replace("${BRIDGE_APP}", "bridge").replace("lab_", "my_") for line in tested]
    shown = entries((ROOT / "docs" / page).read_text(), "media-tap")
    assert shown
    assert "".join(shown) in "".join(tested) or page != "howto/plain-asterisk.md"
    assert not [line for line in shown if line not in tested]
    if page == "howto/dialplan-entries.md":
        assert [line for line in tested if line not in shown] == [
            "exten => dial,1,Dial(AudioSocket/${MEDIA_LEG_ADDRESS}/${MEDIA_LEG_UUID}/c(${MEDIA_LEG_FORMAT}))"
        ]


def test_every_page_names_the_same_versions_of_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    prefix = "Programming Language :: Python :: "
    tested = [name.removeprefix(prefix) for name in project["classifiers"] if name.startswith(prefix + "3.")]
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert re.findall(r'"([0-9.]+)"', re.findall(r"python: \[(.*)\]", workflow)[0]) == tested
    assert tested[0] == oldest
    for page in ("README.md", "CONTRIBUTING.md"):
        named = re.findall(r"Python (3\.[^\s,;]+[^.\n]*)", (ROOT / page).read_text())
        assert named
        for words in named:
            assert words.startswith(f"{oldest} or later"), (page, words)
    assert f"tested on {tested[0]} to {tested[-1]}" in (ROOT / "README.md").read_text()


def identifiers(file: Path) -> set[str]:
    """Return the names that a module defines, uses or imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.alias(name=name):
                found |= set(name.split("."))
    return found


def docstrings(file: Path) -> str:
    """Return all docstrings of a module, those of attributes too."""
    nodes = ast.walk(ast.parse(file.read_text()))
    texts = (each.value.value for each in nodes if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
    return "\n".join(text for text in texts if isinstance(text, str))


CODE = {
    file: identifiers(file)
    for folder in ("bridge", "tests", "tools", "examples", "packaging")
    for file in ROOT.glob(f"{folder}/**/*.py")
}
PATHS = ["/" + str(file.relative_to(ROOT)) for file in CODE]
NAMES = set().union(*CODE.values())
CLASS = re.compile(r"(?:[A-Z][a-z0-9]+){2,}(?:\.\w+)?|[A-Z][a-z]\w*\.\w+")
"""`TwoWords`, `TwoWords.member` or `Word.member`; one capitalized word is too often no class."""
FOREIGN = {
    *{"ApplicationMoveFailed", "EndFrame", "MixMonitor", "WaitExten"},
    *{"FunctionCallResponse", "KeepAlive", "SettingsApplied", "UserStartedSpeaking"},
    *{"AccountSid", "AnsweredBy", "ApiVersion", "CallDuration", "CallSid", "CallStatus", "CallerName", "ErrorCode"},
    *{"DialBridged", "DialCallDuration", "DialCallSid", "DialCallStatus", "ErrorUrl", "FallbackMethod", "FallbackUrl"},
    *{"FinishedOnKey", "MachineDetection", "PageSize", "Parameter1", "QueueResult", "QueueSid", "QueueTime"},
    *{"RecordingDuration", "RecordingSid", "RecordingUrl", "RequestValidator", "StatusCallback", "StatusCallbackEvent"},
    *{"RecordingChannels", "RecordingSource", "RecordingStartTime", "RecordingStatus", "RecordingTrack"},
    *{"StreamError", "StreamName", "StreamSid", "StatusCallbackMethod", "TimeLimit", "VoiceResponse", "Name", "Value"},
}
"""Names of Asterisk, of frameworks and of messages that no code needs."""
WRITTEN = {
    str(file.relative_to(ROOT)): text
    for file, text in [
        *((page, page.read_text()) for page in [*PAGES, *ROOT.glob("tests/**/*.md"), *ROOT.glob(".github/**/*.md")]),
        *((file, docstrings(file)) for file in CODE if file.is_relative_to(ROOT / "bridge")),
    ]
}


def is_there(name: str) -> bool:
    """Return whether a dotted name leads to a module, or to something in one; attributes may be annotations only."""
    with contextlib.suppress(AttributeError, ImportError):
        pkgutil.resolve_name(name)
        return True
    return False


def named_in_vain(text: str) -> list[str]:
    """Return the names of code in a document that do not exist."""

    def files(path: str) -> list[Path]:
        return [file for file, known in zip(CODE, PATHS, strict=True) if known.endswith("/" + path)]

    missing = [path for path in re.findall(r"(?<![\w./-])[\w/]+\.py\b", text) if not files(path)]
    missing += [path for path in re.findall(r"(?<![\w-])bridge/[\w/]+/", text) if not (ROOT / path).is_dir()]
    for span in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"bridge(\.\w+)+", span):
            found = span.endswith(".toml") or is_there(span)
        else:
            found = not CLASS.fullmatch(span) or set(span.split(".")) <= NAMES | FOREIGN
        if not found:
            missing.append(span)
    pairs = [(name, path) for name, path in re.findall(r"`([\w.]+)`\**,? \(`([\w/]+\.py)`", text)]
    pairs += [(name, path) for path, name in re.findall(r"`([\w/]+\.py) (\w+)`", text)]
    for name, path in pairs:
        if not any(set(name.split(".")) <= CODE[file] for file in files(path)):
            missing.append(f"{name} in {path}")
    return missing


@pytest.mark.parametrize("place", WRITTEN)
def test_code_that_is_named_exists(place: str) -> None:
    assert not named_in_vain(WRITTEN[place])


def test_names_that_lead_nowhere_are_found() -> None:
    wrong = ["bridge/calls/leg.py", "bridge/nowhere/", "`bridge.tls.Nobody`", "`LegPlacer`", "`Pump.pump_up`"]
    wrong += ["`call_facts` (`calls/ids.py`)", "`streams/wanted_tracks.py nothing`"]
    assert [name for name in wrong if not named_in_vain(f"See {name}.")] == []
    assert (
        named_in_vain("See `bridge/calls/ids.py`, `bridge.tls`, `Pump.attach` (`media/pump.py`), `bridge.toml`.") == []
    )


def test_the_architecture_names_every_package() -> None:
    named = re.findall(r"^\| `(\w+)/` \|", (ROOT / "docs/explanation/architecture.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(file.parent.name for file in ROOT.glob("bridge/*/__init__.py"))


def test_the_changelog_has_each_heading_once_and_breaking_changes_first() -> None:
    """A merge that keeps both sides of a conflict would bring back what was rewritten."""
    for release in (ROOT / "CHANGELOG.md").read_text().split("\n## [")[1:]:
        headings = re.findall(r"^### (.+)$", release, re.MULTILINE)
        order = ["Breaking changes", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
        assert headings == [each for each in order if each in headings], release.split("]")[0]


def test_the_changelog_has_one_line_for_each_change() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().split("### Breaking changes")[1].splitlines()
    entries = [line for line in lines if line.startswith("- ")]
    assert [line for line in lines if line.startswith(" ")] == [], "an entry is one line"
    assert [line for line in entries if len(line) > 200] == []
    assert len(set(entries)) == len(entries)
