"""The verdict: rows in, what they support out."""
