"""What receives a contributor - the workflow, the hooks, the templates, CONTRIBUTING - names what exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
HOOKS: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
MADE = (".venv/bin/", "lab-logs")
"""What `./lab setup` and the tests make."""


def missing(command: str) -> list[str]:
    """Return the programs, modules and paths of this checkout that a command names and that do not exist."""
    words = shlex.split(command, comments=True)
    found = [] if shutil.which(words[0]) or os.access(ROOT / words[0], os.X_OK) else [words[0]]
    if "-m" in words and words[0].startswith(".venv/bin/python"):
        module = words[words.index("-m") + 1].replace(".", "/")
        found += [] if (ROOT / f"{module}.py").exists() else [module]
    paths = (word.split("::")[0] for word in words[1:] if "/" in word and not re.search(r"[*<$={]|^http", word))
    return found + [path for path in paths if not path.startswith(MADE) and not (ROOT / path).exists()]


def test_the_workflow_runs_commands_that_exist() -> None:
    commands = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    assert "tools/lint" in commands
    assert not [problem for command in commands for problem in missing(command)]


def test_the_workflow_tests_every_python_that_the_package_names() -> None:
    matrix = WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["python"]
    classifiers = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert matrix == classifiers


def test_the_workflow_is_one_that_a_forge_understands() -> None:
    assert set(WORKFLOW) == {"name", True, "permissions", "concurrency", "jobs"}  # YAML 1.1 reads `on` as true
    for job in WORKFLOW["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        assert job["timeout-minutes"] <= 40
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/none@v1"))
            assert set(step) <= {"uses", "with", "run", "if"}


def test_the_hooks_call_tools_of_this_checkout() -> None:
    hooks = [hook for repository in HOOKS["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in HOOKS["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    assert not [problem for hook in hooks for problem in missing(hook["entry"])]


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name)
def test_a_form_is_yaml_with_fields(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert form["name"]
    fields = [each for each in form["body"] if each["type"] != "markdown"]
    assert all(each["attributes"]["label"] for each in fields)
    assert len({each["id"] for each in fields}) == len(fields)


def test_contributing_names_commands_and_paths_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    commands = re.findall(r"^    ((?:\.venv/bin/pytest|\./lab|tools/)\S*.*?)(?: {2,}.*)?$", text, re.M)
    assert len(commands) > 8
    assert not [problem for command in commands for problem in missing(command)]
    paths = re.findall(r"`((?:bridge|tests|tools|docs|examples|packaging)/[\w./-]*)`", text)
    assert len(paths) > 30
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_architecture_describes_every_package() -> None:
    described = re.findall(r"^\| `(\w+)/` ", (ROOT / "docs/explanation/architecture.md").read_text(), re.M)
    packages = {path.parent.name for path in (ROOT / "bridge").glob("*/__init__.py")}
    assert set(described) == packages
    assert len(described) == len(packages)
