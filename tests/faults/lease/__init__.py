"""Faults aimed at the lease of a real cluster: every step of taking, working, giving and reaping, times every fault.

    python -m tests.faults.lease --injections 500 --side-by-side 6 --seed 1        (make faults)

A *world* (`world.py`) is a tenant, another tenant, an engine and a card of their own, two reapers and a holder as real
processes (`actors.py`). A fault fires on an event: an actor tells that it has reached an API call, and stands still
there until the fault has been played (`door.py`). An *injection* is one fault at one step with its judgement
(`injection.py`, `faults.py`); the grid of all cells is in `grid.py`, builds with a safeguard removed in `variants.py`.
"""
