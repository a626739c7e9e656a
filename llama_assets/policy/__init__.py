"""What automation may do, and when: pure functions over what is known, with no clock, file or cluster of their own.

In come the catalog's `automation` section, times and what happened before; out go decisions with their reasons. Not
here: what asks (`automation`), what obeys (`tasks`).
"""
