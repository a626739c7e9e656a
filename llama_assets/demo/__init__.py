"""What stands in for the world when there is none: a hub on loopback, generated models, drawn photos.

The demo, the tests and the figures use the same ones. In come bytes and faults to play; out goes real HTTP, real GGUF
and real JPEG that the other rooms cannot tell from the world's. Nothing here decides anything about models.
"""
