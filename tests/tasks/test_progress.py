"""Progress is told at the beginning, now and then, and at the end, in bytes, percent, rate and time left."""

from llama_assets.tasks.progress import Progress, duration


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_at_the_beginning_every_so_often_and_at_the_end() -> None:
    clock, lines = Clock(), list[str]()
    progress = Progress("m", 6_000_000_000, 0, lines.append, 10.0, clock)
    for _ in range(60):
        clock.now += 1.0
        progress.moved(100_000_000)
    assert lines == [
        "m: 0 bytes of 6 GB, 0 %",
        "m: 1 GB of 6 GB, 16 %, 100 MB/s, 50 s left",
        "m: 2 GB of 6 GB, 33 %, 100 MB/s, 40 s left",
        "m: 3 GB of 6 GB, 50 %, 100 MB/s, 30 s left",
        "m: 4 GB of 6 GB, 66 %, 100 MB/s, 20 s left",
        "m: 5 GB of 6 GB, 83 %, 100 MB/s, 10 s left",
        "m: 6 GB of 6 GB, 100 %, 100 MB/s",
    ]


def test_the_time_left_follows_the_rate_of_the_last_lines() -> None:
    """A fast beginning is forgotten after three lines; the last line gives the rate of all that was moved."""
    clock, lines = Clock(), list[str]()
    progress = Progress("m", 100_000, 0, lines.append, 10.0, clock)
    for count in (50_000, 1_000, 1_000, 1_000, 1_000):
        clock.now += 10.0
        progress.moved(count)
    assert lines[-1] == "m: 54 kB of 100 kB, 54 %, 100 bytes/s, 8 min left"
    clock.now += 50.0
    progress.moved(46_000)
    assert lines[-1] == "m: 100 kB of 100 kB, 100 %, 1 kB/s"


def test_bytes_taken_back_give_no_rate_and_no_guess() -> None:
    clock, lines = Clock(), list[str]()
    progress = Progress("m", 1000, 500, lines.append, 10.0, clock)
    clock.now += 10.0
    progress.moved(-500)
    assert lines == ["m: 500 bytes of 1 kB, 50 %", "m: 0 bytes of 1 kB, 0 %"]


def test_a_set_that_is_all_here_is_one_line() -> None:
    lines = list[str]()
    Progress("m", 10, 10, lines.append, 10.0)
    assert lines == ["m: 10 bytes of 10 bytes, 100 %"]


def test_durations_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (0.2, 59.4, 60, 425, 3599, 3660, 7500)] == [
        "0 s",
        "59 s",
        "1 min",
        "7 min",
        "1 h 0 min",
        "1 h 1 min",
        "2 h 5 min",
    ]
