"""What runs elsewhere: a Job in a cluster, a child process on one machine. Uses the rooms below; never imports Dagster.

`messages` is what a task is asked and answers; `__main__` is the process; one file per kind of task.
"""
