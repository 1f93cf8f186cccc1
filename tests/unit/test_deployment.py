"""What is deployed - the systemd unit, the images, compose.yaml - gives away as little as possible."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "asterisk-bridge.service"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


class Unit(configparser.RawConfigParser):
    """A unit file: keys keep their case; of those given more than once the last counts here."""

    def __init__(self) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
        self.read_string(UNIT.read_text())

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("StateDirectory", "asterisk-bridge"),
        ("StateDirectoryMode", "0700"),
        ("CapabilityBoundingSet", ""),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateDevices", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestartPreventExitStatus", "2"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
    ],
)
def test_the_unit_confines_the_bridge(key: str, value: str) -> None:
    assert Unit()["Service"][key] == value


def test_the_unit_bounds_memory_processes_and_addresses() -> None:
    service = Unit()["Service"]
    assert {"MemoryMax", "TasksMax", "LimitNOFILE", "SystemCallFilter"} <= set(service)
    assert "169.254.0.0/16" in service["IPAddressDeny"].split()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    installed = tmp_path / UNIT.name  # the program need not be installed here
    installed.write_text(UNIT.read_text().replace("/opt/asterisk-bridge/bin/asterisk-bridge", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(installed)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_rates_the_unit_well() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in rated.stderr:
        pytest.skip("this systemd-analyze cannot rate a file")
    assert rated.returncode == 0, rated.stdout[-2000:] + rated.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_privilege_and_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["mem_limit"]
    assert service["pids_limit"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_and_audiosocket_is_not(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"\$\{PUBLISH_\w+:-127\.0\.0\.1:\d+\}:\d+(/udp)?", port), port
        assert ":9092" not in port


def networks(name: str) -> set[str]:
    return set(SERVICES[name]["networks"])


def test_only_the_bridge_shares_a_network_with_ari() -> None:
    assert {name for name in SERVICES if "control" in networks(name)} == {"asterisk", "bridge"}
    assert (
        SERVICES["asterisk"]["environment"]["LAB_HTTP_BIND"] in SERVICES["asterisk"]["networks"]["control"]["aliases"]
    )
    bound = SERVICES["bridge"]["environment"]["ASTERISK_BRIDGE_AUDIOSOCKET__BIND_HOST"]
    assert bound in SERVICES["bridge"]["networks"]["control"]["aliases"]
    # Docker publishes a container's ports on the first of its networks by name.
    assert min(networks("asterisk")) == "control"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_publishes_audiosocket_on_every_address(document: Path) -> None:
    for line in document.read_text().splitlines():
        if "Never write" in line:
            continue
        assert not re.search(r"(-p|--publish)[ =](0\.0\.0\.0:)?9092", line), line


def test_the_image_runs_as_a_user_with_pinned_packages() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "\nUSER bridge\n" in dockerfile
    assert "--require-hashes" in dockerfile
    assert "--only-binary :all:" in dockerfile
