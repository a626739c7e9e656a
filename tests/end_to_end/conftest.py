"""What the end to end tests share."""

from tests.end_to_end.on_a_cluster import world

__all__ = ["world"]
