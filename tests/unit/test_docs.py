"""The documentation shows what is there: its clients are the examples, and its links lead somewhere."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize(("language", "example"), [("python", "listen.py"), ("javascript", "listen.mjs")])
def test_the_readme_shows_the_example(language: str, example: str) -> None:
    shown = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown == [(ROOT / "examples" / example).read_text()]


def test_the_voice_agent_that_is_shown_is_the_one_that_is_tested() -> None:
    page = (ROOT / "docs" / "voice-agents.md").read_text()
    agent = (ROOT / "tests" / "agents" / "agent.py").read_text()
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown
    assert not [part for part in shown if part not in agent]


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to, as GitHub makes them."""
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


@pytest.mark.parametrize("page", ["dialplan.md", "conferences.md", "operations.md"])
def test_the_dialplan_that_is_shown_is_the_one_that_is_tested(page: str) -> None:
    tested = entries((ROOT / "asterisk/etc/extensions.conf").read_text(), "media-tap")
    tested = [line.replace("${BRIDGE_APP}", "bridge").replace("lab_", "my_") for line in tested]
    shown = entries((ROOT / "docs" / page).read_text(), "media-tap")
    assert shown
    assert "".join(shown) in "".join(tested) or page != "operations.md"
    assert not [line for line in shown if line not in tested]
    if page == "dialplan.md":
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
