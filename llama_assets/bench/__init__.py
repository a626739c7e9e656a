"""Asking: the same photos of several models, one request at a time, rows written as they are made.

In: a question, photos, a plan, and something that answers (`session.Engine`, declared here, joined by `tasks`).
Out: a session folder with rows and session.json, for `verdict`. Not here: serving models, the lease, statistics.
"""
