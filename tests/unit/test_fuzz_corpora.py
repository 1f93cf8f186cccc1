"""Inputs that once broke a reader, and seeds of the search for more (`tools/fuzz`), leave only documented errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
INPUTS = [(name, path) for name in TARGETS for path in sorted((CORPUS / name).iterdir())]


def test_each_target_has_a_corpus_and_each_corpus_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert {name for name, _ in INPUTS} == set(TARGETS)


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}/{path.name}" for name, path in INPUTS])
def test_kept_inputs_break_nothing(name: str, path: Path) -> None:
    TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_break_nothing(name: str) -> None:
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]

    @given(
        seed=st.sampled_from(seeds),
        at=st.integers(0, 4096),
        remove=st.integers(0, 64),
        insert=st.binary(max_size=64),
    )
    @example(seed=b"", at=0, remove=0, insert=b"")
    def damaged(seed: bytes, at: int, remove: int, insert: bytes) -> None:
        at = at % (len(seed) + 1)
        TARGETS[name](seed[:at] + insert + seed[at + remove :])

    damaged()
