"""A blob's name is a proof; nothing that arrived is lost; one process writes a blob at a time."""

import hashlib
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_assets.store import BlobWriter, Busy, NoSpace, Part, Store, StoreError, StoreLimits, Unusable, WrongBytes

QUICK = StoreLimits(block_bytes=64 << 10, look_every_s=0.01)


def part_of(data: bytes) -> Part:
    return Part("model", 1, 1, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", QUICK)


def write_all(writer: BlobWriter, data: bytes, block: int) -> None:
    for start in range(0, len(data), block):
        writer.write(data[start : start + block])


DATA = bytes(range(256)) * 1000


def test_opening_a_store_touches_nothing(tmp_path: Path) -> None:
    Store(tmp_path / "store").has("0" * 64, 1)
    assert not (tmp_path / "store").exists()


def test_a_blob_gets_its_name_only_when_its_sha256_is_right(store: Store) -> None:
    part = part_of(DATA)
    with store.blob(part) as writer:
        writer.write(DATA)
        assert not store.has(part.sha256, part.size)
        path = writer.finish()
    assert store.has(part.sha256, part.size) and path.read_bytes() == DATA
    assert path.name == part.sha256 and path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in path.parent.iterdir()] == [part.sha256]


def test_wrong_bytes_are_thrown_away_and_the_writer_begins_again(store: Store) -> None:
    part = part_of(DATA)
    with store.blob(part) as writer:
        writer.write(DATA[:-1] + b"?")
        with pytest.raises(WrongBytes) as error:
            writer.finish()
        assert part.sha256 in str(error.value)
        assert writer.have == 0 and not writer.whole
        writer.write(DATA)
        writer.finish()
    assert store.has(part.sha256, part.size)


def test_what_arrived_is_kept_hashed_again_and_gone_on_from(store: Store) -> None:
    part = part_of(DATA)
    with store.blob(part) as writer:
        writer.write(DATA[:100_000])
    with store.blob(part) as writer:
        assert (writer.have, writer.resumed_at) == (100_000, 100_000)
        writer.write(DATA[100_000:])
        writer.finish()
    assert store.has(part.sha256, part.size)


def test_a_part_damaged_while_nobody_looked_is_found_out(store: Store) -> None:
    part = part_of(DATA)
    with store.blob(part) as writer:
        writer.write(DATA[:100_000])
    path = store.root / "blobs" / f"{part.sha256}.part"
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with store.blob(part) as writer:
        writer.write(DATA[writer.have :])
        with pytest.raises(WrongBytes):
            writer.finish()


def test_a_part_longer_than_the_blob_is_begun_again(store: Store) -> None:
    part = part_of(DATA)
    path = store.root / "blobs" / f"{part.sha256}.part"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA + b"more")
    with store.blob(part) as writer:
        assert writer.have == 0


def test_a_complete_part_needs_no_more_bytes(store: Store) -> None:
    """Killed between the last byte and the rename: the next run fetches nothing."""
    part = part_of(DATA)
    with store.blob(part) as writer:
        writer.write(DATA)
    with store.blob(part) as writer:
        assert writer.have == part.size
        writer.finish()
    assert store.has(part.sha256, part.size)


def test_a_writer_takes_no_more_bytes_than_the_blob_has(store: Store) -> None:
    part = part_of(DATA)
    with store.blob(part) as writer, pytest.raises(StoreError, match="more than its 256000 bytes"):
        writer.write(DATA + b"!")


def test_a_whole_blob_is_not_written_again(store: Store) -> None:
    part = part_of(DATA)
    with store.blob(part) as writer:
        writer.write(DATA)
        writer.finish()
    with store.blob(part) as writer:
        assert writer.whole
        assert writer.finish() == store.root / "blobs" / part.sha256


def test_a_blob_cut_from_outside_is_not_taken_for_whole(store: Store) -> None:
    part = part_of(DATA)
    with store.blob(part) as writer:
        writer.write(DATA)
        path = writer.finish()
    os.truncate(path, 10)
    assert not store.has(part.sha256, part.size)
    with store.blob(part) as writer:
        writer.write(DATA)
        writer.finish()
    assert path.read_bytes() == DATA


def _hold(root: Path, part: Part, held: object, go: object) -> None:
    with Store(root, QUICK).blob(part) as writer:
        held.set()  # type: ignore[attr-defined]
        go.wait()  # type: ignore[attr-defined]
        writer.write(DATA)
        writer.finish()


def test_the_second_writer_waits_says_for_whom_and_finds_the_blob(store: Store) -> None:
    part, spawn = part_of(DATA), multiprocessing.get_context("spawn")
    held, go, lines = spawn.Event(), spawn.Event(), []

    def say(line: str) -> None:
        lines.append(line)
        go.set()  # the first one ends only after the second has said that it waits

    first = spawn.Process(target=_hold, args=(store.root, part, held, go))
    first.start()
    held.wait(60)
    with store.blob(part, say) as writer:
        assert writer.whole
    first.join(60)
    assert lines == [f"waiting for {os.uname().nodename} process {first.pid}, which holds blob {part.sha256[:12]}"]


def test_waiting_ends_with_the_holders_name(store: Store) -> None:
    part = part_of(DATA)
    impatient = Store(store.root, StoreLimits(blob_wait_s=0.0, look_every_s=0.01))
    with store.blob(part), pytest.raises(Busy, match=f"process {os.getpid()}"), impatient.blob(part):
        pass


def test_space_is_checked_over_the_whole_set_and_counts_what_is_here(store: Store) -> None:
    free = os.statvfs(store.root.parent).f_bavail * os.statvfs(store.root.parent).f_frsize
    half = free // 2
    first, second = Part("model", 1, 1, "a" * 64, half), Part("mmproj", 1, 1, "b" * 64, half + (1 << 30))
    store.check_space([first], 0)
    store.check_space([first, first], 0)  # one blob is needed once
    with pytest.raises(NoSpace) as error:
        store.check_space([first, second], 0)
    assert "GB still to write" in str(error.value) and "free" in str(error.value)
    with pytest.raises(NoSpace, match="a reserve of"):
        store.check_space([first], half + (1 << 30))
    part = store.root / "blobs" / f"{'b' * 64}.part"
    with part.open("wb") as file:
        file.truncate(half + (1 << 30))
    store.check_space([first, second], 0)


def test_a_set_that_is_here_needs_no_space(store: Store) -> None:
    part = part_of(DATA)
    with store.blob(part) as writer:
        writer.write(DATA)
        writer.finish()
    store.check_space([part], 1 << 60)


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of 1 MiB, where one can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_volume_keeps_what_arrived_and_says_how_much(small_volume: Path) -> None:
    store = Store(small_volume / "store", QUICK)
    data = os.urandom(2 << 20)
    part = part_of(data)
    with store.blob(part) as writer, pytest.raises(NoSpace) as error:
        write_all(writer, data, 100_000)
    kept = writer.have
    assert 0 < kept < 1 << 20
    assert "No space left on device" in str(error.value) and "are kept and the next run goes on" in str(error.value)
    subprocess.run(["mount", "-o", "remount,size=4m", small_volume], check=True)
    with store.blob(part) as writer:
        assert writer.have == kept
        writer.write(data[kept:])
        writer.finish()
    assert store.has(part.sha256, part.size)


def test_a_limit_on_file_size_is_told_as_missing_space(tmp_path: Path) -> None:
    """Where no volume can be mounted: the kernel's other way to say that a file cannot grow."""
    script = f"""
import resource, signal, sys
from pathlib import Path
from llama_assets.store import NoSpace, Part, Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, {resource.RLIM_INFINITY}))
with Store(Path({str(tmp_path)!r})).blob(Part("model", 1, 1, "a" * 64, 500_000)) as writer:
    try:
        for _ in range(5): writer.write(bytes(100_000))
    except NoSpace as error:
        print(writer.have, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("100000 blob aaaaaaaaaaaa: File too large in ")
    assert (tmp_path / "blobs" / f"{'a' * 64}.part").stat().st_size == 100_000


def test_a_volume_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the volume should be")
    with pytest.raises(Unusable, match="cannot use"), Store(tmp_path / "store").blob(part_of(DATA)):
        pass
