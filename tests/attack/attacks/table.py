"""The table of attacks, and what an attack is made of.

An attack is a function that takes a `Target` and returns how many things it did to it: connections, messages,
requests. It runs in a process of its own, after everything else on the machine (``nice 19``), for about
``target.seconds``; a bridge that defends itself may end it earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.attack.target import Target

Run = Callable[[Target], int]


@dataclass(frozen=True)
class Attack:
    """One row of the table.

    Args:
        run: what it does; its docstring describes it.
        seconds: how long it takes.
        least: how many things it has to do to count as an attack at all.
        phone: a call of a real phone through Asterisk is judged too.
        ends: SIGTERM has to end the bridge while it runs.
        kept_mb: how much more memory the bridge may keep afterwards, in MB.
        workers: processes of the bridge.
    """

    run: Run
    seconds: float
    least: int
    phone: bool
    ends: bool
    workers: int
    kept_mb: int

    @property
    def name(self) -> str:
        """The function's name."""
        return self.run.__name__


ATTACKS: dict[str, Attack] = {}


def attack(
    *,
    seconds: float = 1.6,
    least: int = 1,
    phone: bool = False,
    ends: bool = False,
    workers: int = 1,
    kept_mb: int = 20,
) -> Callable[[Run], Run]:
    """Enter a function into the table."""

    def enter(run: Run) -> Run:
        assert run.__name__ not in ATTACKS, f"two attacks are called {run.__name__}"
        ATTACKS[run.__name__] = Attack(run, seconds, least, phone, ends, workers, kept_mb)
        return run

    return enter
