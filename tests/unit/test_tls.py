"""TLS contexts: the system's authorities, and client certificates that cannot be read."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from bridge.tls import Trust, TrustError, build_context, without_system_authorities


def test_contexts_trust_no_server_within_and_the_system_again_after() -> None:
    def fails() -> None:
        with without_system_authorities():
            context = ssl.create_default_context()
            context.set_default_verify_paths()
            assert context.verify_mode is ssl.CERT_REQUIRED
            assert context.cert_store_stats()["x509"] == 0
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    known = ssl.create_default_context().cert_store_stats()
    assert build_context(Trust()).cert_store_stats() == known
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.set_default_verify_paths()
    assert bare.cert_store_stats() == known


@pytest.mark.parametrize("role", ["client_certificate", "client_key"])
def test_a_client_certificate_that_would_block_is_not_opened(tmp_path: Path, role: str) -> None:
    (tmp_path / "certificate").touch()
    os.mkfifo(tmp_path / "fifo")
    names: dict[str, Any] = {"client_certificate": str(tmp_path / "certificate"), role: str(tmp_path / "fifo")}
    with pytest.raises(TrustError, match="fifo' cannot be used: not a regular file"):
        build_context(Trust(**names))
