"""Run one attack: ``python -m tests.attack.attacker NAME``, the `Target` as JSON on standard input.

It prints how many things the attack did.
"""

from __future__ import annotations

import resource
import sys

import tests.attack.attacks  # noqa: F401  fills the table
from tests.attack.attacks.table import ATTACKS
from tests.attack.clock import last_in_line
from tests.attack.target import Target

MAX_MEMORY_BYTES = 1 << 30


if __name__ == "__main__":
    last_in_line()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    print(ATTACKS[sys.argv[1]].run(Target.from_json(sys.stdin.readline())), flush=True)
