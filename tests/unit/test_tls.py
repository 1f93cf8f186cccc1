"""TLS contexts without the system's authorities, for the import of a library that does not use them."""

from __future__ import annotations

import ssl

import pytest

from bridge.tls import Trust, build_context, without_system_authorities


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
