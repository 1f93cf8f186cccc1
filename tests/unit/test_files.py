"""Files named from outside: regular, bounded, inside their directory, and none that blocks the reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.config import load
from bridge.errors import ConfigError
from bridge.files import find_below, read_regular
from bridge.flows.flow_config import flows_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with everything that may lie in the place of a file, and a secret beside it."""
    (tmp_path / "secret.pem").write_text("secret")
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "good.pem").write_text("good")
    (folder / "sub" / "good.pem").write_text("also good")
    (folder / "link.pem").symlink_to("good.pem")
    (folder / "out.pem").symlink_to(tmp_path / "secret.pem")
    (folder / "circle").symlink_to("circle")
    (folder / "tty").symlink_to("/dev/tty")
    os.mkfifo(folder / "fifo")
    return folder


@pytest.mark.parametrize("name", ["good.pem", "sub/good.pem", "link.pem", "./good.pem"])
def test_files_of_the_directory_are_found(folder: Path, name: str) -> None:
    assert read_regular(find_below(folder, name), 100).endswith(b"good")


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "sub", "missing", "fifo", "circle", "tty", "out.pem", "a\0b", "x" * 2000),
        *("../secret.pem", "sub/../../secret.pem", "/etc/passwd", "good.pem/x"),
    ],
)
def test_nothing_else_is_and_all_failures_are_alike(folder: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError) as refused:
        find_below(folder, name)
    assert (refused.value.filename, refused.value.strerror) == (None, "No such file or directory")


def test_only_regular_files_of_bounded_size_are_read(folder: Path) -> None:
    assert read_regular(folder / "good.pem", 4) == b"good"
    for path, reason in (
        (folder / "good.pem", "larger than 3 bytes"),
        (folder / "fifo", "not a regular file"),
        (folder, "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (folder / "missing", "No such file"),
    ):
        with pytest.raises(OSError, match=reason):
            read_regular(path, 3)
    with pytest.raises(OSError, match="not a path"):
        read_regular("a\0b", 3)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[ari]\nca_file = '{fifo}'", "ari.ca_file"),
        ("[cluster]\nstore = 'rediss://s'\npbx = 'p'\nca_file = '{fifo}'", "cluster.ca_file"),
        (
            "[[webhooks]]\nid = 'a'\nurl = 'https://x'\nsecret = 'a-secret-of-16-characters'\nca_file = '{fifo}'",
            "webhooks.0",
        ),
        ("[[flows]]\nid = 'a'\nurl = 'https://x'\nca_file = '{fifo}'", "flows.0.ca_file"),
        ("[[flows]]\nid = 'a'\nfile = '{fifo}'", "flows.0.file"),
        ("[http]\ntls_certificate = '{fifo}'\ntls_key = '{fifo}'", "http.tls_certificate"),
        ("[outbound]\nca_dir = '{fifo}'", "outbound.ca_dir"),
    ],
)
def test_a_fifo_in_the_configuration_does_not_hang_the_start(folder: Path, text: str, key: str) -> None:
    path = folder / "bridge.toml"
    path.write_text(text.format(fifo=folder / "fifo"))
    environ = {"ASTERISK_BRIDGE_ARI__USER": "u", "ASTERISK_BRIDGE_ARI__PASSWORD": "p"}
    with pytest.raises(ConfigError) as refused:
        flows_of(load(path, environ))
    assert key in str(refused.value)
