"""Our own speed, measured beside its rivals: `python -m figures`. What each figure is and means: docs/figures.md.

One file a figure; each has `measure(how)`, which yields lines. `measuring` holds what they share, `hub` a loopback hub
and `answering` an engine with known delays, both in processes of their own so that they take none of our turns.
"""
