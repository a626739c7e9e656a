"""Whatever breaks on the way, a download ends in right files or in a clear error with everything kept that can be.

The Hub is the loopback hub, its faults are those the real one has; clients are real huggingface_hub and urllib3. Kills
are SIGKILL, on an event: bytes sent by the hub, a durable step of the store.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llama_assets.catalog import Model
from llama_assets.demo.hub import LoopbackHub, Zeros
from llama_assets.hub import Gated, Hub, HubLimits, RateLimited
from llama_assets.store import STEPS, BadHeader, NoSpace, Published, Store, StoreLimits, WrongBytes
from llama_assets.tasks.download import Downloaded, DownloadFailed, DownloadLimits, Promotion, download
from tests.store.pairs import bare_header, mmproj_gguf, model_gguf

REPO, WEIGHTS, PROJECTOR = "org/m-GGUF", "m-Q4_K_M.gguf", "mmproj-m-F16.gguf"
MODEL = Model(id="m", repo=REPO, quant="Q4_K_M", mmproj="F16", context=4096)
SIZE = 300_000
LIMITS = DownloadLimits()


class Desk:
    """A hub with one repo, a store, and everything that was said and slept."""

    def __init__(self, hub: LoopbackHub, folder: Path) -> None:
        self.hub, self.folder, self.store = hub, folder, Store(folder / "store", StoreLimits(look_every_s=0.01))
        self.lines: list[str] = []
        self.slept: list[float] = []

    def push(self, seed: int, size: int = SIZE) -> dict[str, Path]:
        files = {**self.pair(seed, size), PROJECTOR: mmproj_gguf(self.folder / "mmproj.gguf")}
        self.hub.push(REPO, files)
        return files

    def pair(self, seed: int, size: int = SIZE) -> dict[str, Path]:
        """Both files made of the seed; `push` keeps the projector the same."""
        return {
            WEIGHTS: model_gguf(self.folder / f"m{seed}.gguf", size=size, seed=seed),
            PROJECTOR: mmproj_gguf(self.folder / f"p{seed}.gguf", seed=seed),
        }

    def download(
        self, model: Model = MODEL, promotion: Promotion = "at_once", limits: DownloadLimits = LIMITS
    ) -> Downloaded:
        client = Hub(self.hub.url, limits=HubLimits(stall_s=3, attempts=2, first_wait_s=0.0))
        return download(
            client,
            self.store,
            model,
            promotion=promotion,
            say=self.lines.append,
            limits=limits,
            sleep=self.slept.append,
        )

    @property
    def current(self) -> Published:
        current = self.store.current("m")
        assert current is not None
        return current

    def ranges(self, of: str = "") -> list[str]:
        """What each body request asked for, "" for all."""
        sha256 = next((p.sha256 for p in self.current.parts if p.role == of), "")
        return [request.headers.get("range", "") for request in self.hub.requests("cdn", "GET", sha256)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with LoopbackHub() as hub:
        yield Desk(hub, tmp_path)


def test_the_set_that_the_catalog_means_is_here_verified_and_current(desk: Desk) -> None:
    files = desk.push(1)
    done = desk.download()
    assert desk.current == done.published and done.promoted and not done.unchanged
    assert done.published.model_file.read_bytes() == files[WEIGHTS].read_bytes()
    assert done.published.mmproj_file.read_bytes() == files[PROJECTOR].read_bytes()
    assert done.bytes_fetched == done.bytes == sum(path.stat().st_size for path in files.values())
    assert done.published.source == f"{REPO}@{done.revision.commit}"
    assert [(f.path, f.role, f.found, f.fetched, f.attempts) for f in done.files] == [
        (WEIGHTS, "model", 0, files[WEIGHTS].stat().st_size, 1),
        (PROJECTOR, "mmproj", 0, files[PROJECTOR].stat().st_size, 1),
    ]
    assert desk.hub.counts() == {"api": 1, "resolve": 2, "cdn": 2}
    assert desk.lines[0].startswith("m: 0 bytes of 336 kB, 0 %")
    assert desk.lines[1].startswith("m: 336 kB of 336 kB, 100 %")
    assert f"{done.fingerprint[:12]} of {REPO}" in desk.lines[2] and "is current, verified" in desk.lines[2]


def test_what_is_here_is_not_downloaded_again_and_that_is_said(desk: Desk) -> None:
    desk.push(1)
    first = desk.download()
    desk.hub.forget_requests()
    desk.hub.push(REPO, {"README.md": "new words"})
    second = desk.download()
    assert desk.hub.counts() == {"api": 1}
    assert second.unchanged and second.bytes_fetched == 0 and second.fingerprint == first.fingerprint
    assert second.revision.commit != first.revision.commit
    assert "is here already, nothing was downloaded, and is current" in desk.lines[-1]


def test_a_new_projector_is_fetched_alone(desk: Desk) -> None:
    desk.push(1)
    first = desk.download()
    desk.hub.forget_requests()
    desk.hub.push(REPO, {PROJECTOR: mmproj_gguf(desk.folder / "p2.gguf", seed=2)})
    second = desk.download()
    assert desk.hub.count("cdn") == 1
    assert [file.fetched for file in second.files] == [0, second.files[1].bytes]
    previous = desk.store.previous("m")
    assert previous is not None and previous.fingerprint == first.fingerprint


def test_a_split_model_is_fetched_whole(desk: Desk) -> None:
    parts = {
        f"m-Q4_K_M-0000{no + 1}-of-00002.gguf": model_gguf(desk.folder / f"{no}.gguf", seed=no, split=(no, 2))
        for no in (0, 1)
    }
    desk.hub.push(REPO, {**parts, PROJECTOR: mmproj_gguf(desk.folder / "p.gguf")})
    published = desk.download().published
    assert published.model_file.name == "model-00001-of-00002.gguf"
    assert [path.read_bytes() for path in sorted(published.folder.glob("model-*.gguf"))] == [
        path.read_bytes() for path in parts.values()
    ]


Break = Callable[[LoopbackHub], object]
FAULTS: dict[str, tuple[Break, list[str], list[float]]] = {
    # what goes wrong; what the bodies of the model file were asked for; how long was waited
    "reset": (lambda hub: hub.cut_after(100_000, by="reset"), ["", "bytes=100000-"], [1]),
    "truncation": (lambda hub: hub.cut_after(100_000), ["", "bytes=100000-"], [1]),
    "stall": (lambda hub: hub.stall_after(100_000, seconds=30), ["", "bytes=100000-"], [1]),
    "expired address": (lambda hub: hub.fail(403, on="cdn"), ["", ""], [1]),
    "address expired before it was resumed": (
        lambda hub: (hub.cut_after(100_000), hub.fail(403, on="cdn")),
        ["", "bytes=100000-", "bytes=100000-"],
        [1, 1],
    ),
    "429 with Retry-After from the CDN": (lambda hub: hub.fail(429, on="cdn", retry_after_s=7), ["", ""], [7]),
    "429 with Retry-After from the Hub": (lambda hub: hub.fail(429, on="resolve", retry_after_s=42), [""], [42]),
    "5xx": (
        lambda hub: (hub.fail(500, on="cdn"), hub.fail(502, on="cdn"), hub.fail(503, on="resolve")),
        ["", "", ""],
        [1, 2, 4],
    ),
    "ignored Range": (
        lambda hub: (hub.cut_after(100_000), hub.ignore_range()),
        ["", "bytes=100000-"],
        [1],
    ),
    "a proxy's page": (lambda hub: hub.fail(200, on="cdn", body=b"<html>"), ["", ""], [1]),
    "another size": (lambda hub: hub.answer_size(5_000), ["", ""], [1]),
    "wrong bytes of right length": (lambda hub: hub.flip_byte(200_000), ["", ""], [1]),
    "cut, then wrong bytes": (
        lambda hub: (hub.cut_after(100_000), hub.flip_byte(200_000)),
        ["", "bytes=100000-", ""],
        [1, 1],
    ),
    "one after the other": (
        lambda hub: [hub.cut_after(at, by=by) for at, by in ((50_000, "reset"), (50_000, "fin"), (250_000, "reset"))],
        ["", "bytes=50000-", "bytes=50000-", "bytes=250000-"],
        [1, 1, 1],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_in_right_files(desk: Desk, fault: str) -> None:
    breaks, asked, waited = FAULTS[fault]
    files = desk.push(1)
    breaks(desk.hub)
    done = desk.download()
    assert desk.current == done.published
    assert done.published.model_file.read_bytes() == files[WEIGHTS].read_bytes()
    assert desk.store.verify("m") == []
    assert desk.ranges("model") == asked
    assert desk.slept == waited
    assert desk.ranges("mmproj") == [""]
    assert "100 %" in desk.lines[-2] and "is current, verified" in desk.lines[-1]
    assert any(line.endswith(" s") or "tries without a new byte" in line for line in desk.lines)


def test_attempts_are_counted_as_attempts_without_a_new_byte(desk: Desk) -> None:
    """Twenty cuts, each after some new bytes, are no reason to give up after three."""
    desk.push(1)
    for at in range(10_000, 210_000, 10_000):
        desk.hub.cut_after(at, of=WEIGHTS)
    done = desk.download(limits=DownloadLimits(attempts=3))
    assert done.files[0].attempts == 21 and done.files[0].fetched == done.files[0].bytes


def test_a_server_that_neither_goes_on_nor_ends_is_given_up(desk: Desk) -> None:
    """It ignores Range and cuts at the same byte each time: bytes arrive and none of them is new."""
    desk.push(1)
    desk.hub.cut_after(100_000, of=WEIGHTS, times=None)
    desk.hub.ignore_range(of=WEIGHTS, times=None)
    with pytest.raises(DownloadFailed, match="100 kB of 336 kB are kept"):
        desk.download(limits=DownloadLimits(attempts=3))
    assert desk.hub.count("cdn") == 4


def test_a_hub_that_gives_nothing_is_given_up_with_what_to_do(desk: Desk) -> None:
    desk.push(1)
    desk.hub.fail(503, on="cdn", times=None)
    with pytest.raises(DownloadFailed) as error:
        desk.download(limits=DownloadLimits(attempts=4, longest_wait_s=3))
    assert desk.slept == [1, 2, 3]
    assert "status 503" in str(error.value) and "no earlier file is current" in str(error.value)
    assert error.value.exit_status == 1


@pytest.mark.parametrize(
    ("breaks", "cause", "said"),
    [
        (lambda hub: hub.gate(REPO), Gated, "is gated and no token was sent"),
        (lambda hub: hub.fail(429, on="cdn", retry_after_s=7200), RateLimited, "try again in 7200 s"),
    ],
)
def test_what_does_not_pass_by_waiting_is_not_waited_for(
    desk: Desk, breaks: Break, cause: type[Exception], said: str
) -> None:
    desk.push(1)
    breaks(desk.hub)
    with pytest.raises(DownloadFailed) as error:
        desk.download()
    assert isinstance(error.value.__cause__, cause) and said in str(error.value)
    assert desk.slept == [] and desk.hub.count("resolve") == 1


def test_wrong_bytes_that_stay_wrong_end_in_an_error_and_nothing_is_published(desk: Desk) -> None:
    desk.push(1)
    desk.hub.flip_byte(200_000, of=WEIGHTS, times=None)
    with pytest.raises(DownloadFailed) as error:
        desk.download()
    assert isinstance(error.value.__cause__, WrongBytes)
    assert WEIGHTS in str(error.value) and "a proxy or mirror" in str(error.value)
    assert desk.hub.count("cdn") == 2
    assert desk.store.sets("m") == [] and desk.store.current("m") is None


def test_a_failed_update_leaves_the_old_file_current_and_says_so(desk: Desk) -> None:
    desk.push(1)
    old = desk.download()
    desk.push(2)
    desk.hub.cut_after(100_000, of=WEIGHTS)
    desk.hub.fail(503, on="cdn", of=WEIGHTS, times=2)
    with pytest.raises(DownloadFailed) as error:
        desk.download(limits=DownloadLimits(attempts=2))
    assert f"{old.fingerprint[:12]} stays current" in str(error.value)
    assert desk.current == old.published and desk.store.verify("m") == []

    desk.hub.heal()
    desk.hub.forget_requests()
    new = desk.download()
    assert desk.ranges("model") == [f"bytes={new.files[0].found}-"]
    assert new.files[0].found > 0 and new.files[0].found + new.files[0].fetched == new.files[0].bytes
    assert "going on at" in "".join(desk.lines)
    previous = desk.store.previous("m")
    assert previous is not None and previous.fingerprint == old.fingerprint


def test_a_file_that_cannot_be_served_is_not_published_and_not_fetched_twice(desk: Desk) -> None:
    """The bytes are as promised, but what was uploaded under the model's name is a projector."""
    desk.push(1)
    old = desk.download()
    desk.hub.push(REPO, {WEIGHTS: mmproj_gguf(desk.folder / "wrong.gguf", seed=5)})
    for _ in range(2):
        with pytest.raises(DownloadFailed, match="is a projector") as error:
            desk.download()
        assert isinstance(error.value.__cause__, BadHeader)
    assert desk.current == old.published
    assert desk.hub.count("cdn") == 3


def test_a_revision_pushed_half_way_changes_nothing(desk: Desk) -> None:
    """Another model and projector are pushed while the first model arrives: both files are of the pinned commit."""
    files = desk.push(1)
    newer = desk.pair(9)
    desk.hub.when_sent(100_000, lambda: desk.hub.push(REPO, newer), of=WEIGHTS)
    done = desk.download()
    assert done.published.model_file.read_bytes() == files[WEIGHTS].read_bytes()
    assert done.published.mmproj_file.read_bytes() == files[PROJECTOR].read_bytes()
    assert desk.download().published.mmproj_file.read_bytes() == newer[PROJECTOR].read_bytes()


def test_a_blob_removed_after_a_fault_was_found_is_fetched_alone(desk: Desk) -> None:
    desk.push(1)
    done = desk.download()
    blob = done.published.mmproj_file.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    (fault,) = desk.store.verify("m")
    fault.blob.unlink()
    again = desk.download()
    assert [file.fetched for file in again.files] == [0, again.files[1].bytes] and not again.unchanged
    assert desk.store.verify("m") == []


def test_promotion_waits_for_a_verdict_when_asked_to_and_never_takes_a_refused_set(desk: Desk) -> None:
    desk.push(1)
    first = desk.download(promotion="on_verdict")
    assert first.promoted  # there is nothing it could be worse than
    desk.push(2)
    second = desk.download(promotion="on_verdict")
    assert not second.promoted and second.held_back == "it waits for its verdict"
    assert desk.current == first.published and desk.store.get("m", second.fingerprint) == second.published
    assert desk.download(promotion="on_verdict").unchanged
    desk.store.refuse("m", second.fingerprint, "slower")
    third = desk.download()
    assert third.unchanged and third.held_back == "it is refused: slower"
    assert desk.current == first.published
    desk.store.allow("m", second.fingerprint)
    assert desk.download().promoted and desk.current.fingerprint == second.fingerprint


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of 512 KiB, where one can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_set_that_does_not_fit_is_not_begun(desk: Desk, small_volume: Path) -> None:
    desk.push(1, size=600_000)
    desk.store = Store(small_volume / "store")
    with pytest.raises(DownloadFailed, match="not enough room") as error:
        desk.download(limits=DownloadLimits(reserve_bytes=0))
    assert isinstance(error.value.__cause__, NoSpace) and "636 kB still to write" in str(error.value)
    assert desk.hub.count("cdn") == 0


def test_a_volume_that_fills_up_on_the_way_keeps_what_arrived(desk: Desk, small_volume: Path) -> None:
    desk.push(1)
    desk.store = Store(small_volume / "store")
    ballast = small_volume / "somebody else's file"
    desk.hub.when_sent(50_000, lambda: ballast.write_bytes(bytes(300_000)), of=WEIGHTS)
    with pytest.raises(DownloadFailed, match=f"{WEIGHTS}: No space left on device") as error:
        desk.download(limits=DownloadLimits(reserve_bytes=0))
    assert desk.slept == [] and error.value.kept > 0  # waiting makes no room
    ballast.unlink()
    done = desk.download(limits=DownloadLimits(reserve_bytes=0))
    assert done.files[0].found >= error.value.kept - done.files[1].bytes > 0
    assert desk.store.verify("m") == []


PROCESS = """
import json, os, signal, sys
from pathlib import Path
from llama_assets.catalog import Model
from llama_assets.hub import Hub
from llama_assets.store import Store, StoreLimits
from llama_assets.tasks.download import download

address, root, model, step, nth = json.loads(sys.argv[1])
left = nth

def at(reached):
    global left
    left -= reached == step
    if reached == step and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def say(line):
    print(line, flush=True)

download(Hub(address), Store(Path(root), StoreLimits(look_every_s=0.01), at), Model(**model), say=say)
print(open("/proc/self/status").read())
"""


def start(desk: Desk, step: str = "", nth: int = 0) -> subprocess.Popen[str]:
    asked = json.dumps([desk.hub.url, str(desk.store.root), MODEL.model_dump(), step, nth])
    return subprocess.Popen([sys.executable, "-c", PROCESS, asked], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("offset", [1, 100_000, 299_000])
def test_killed_in_a_body_the_next_run_goes_on_from_what_arrived(desk: Desk, offset: int) -> None:
    files = desk.push(1)
    started: list[subprocess.Popen[str]] = []

    def kill() -> None:
        while not started or not _parts(desk.store):  # the process is ahead of us: wait until it has a part file
            pass
        started[0].kill()

    desk.hub.when_sent(offset, kill, of=WEIGHTS)
    started.append(start(desk))
    started[0].communicate()
    assert started[0].returncode == -signal.SIGKILL
    assert desk.store.sets("m") == []
    kept = next((path.stat().st_size for path in _parts(desk.store) if path.stat().st_size), 0)
    desk.hub.forget_requests()
    done = desk.download()
    assert desk.ranges("model") == ([f"bytes={kept}-"] if kept else [""])
    assert done.files[0].fetched == done.files[0].bytes - kept
    assert done.published.model_file.read_bytes() == files[WEIGHTS].read_bytes()


@pytest.mark.parametrize(("step", "nth"), [(s, 1) for s in STEPS] + [(s, 2) for s in STEPS if s.startswith("blob")])
def test_killed_after_any_step_the_old_file_is_served_and_no_byte_comes_twice(desk: Desk, step: str, nth: int) -> None:
    desk.push(1)
    old = desk.download()
    newer = desk.pair(2)
    desk.hub.push(REPO, newer)
    desk.hub.forget_requests()
    killed = start(desk, step, nth)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert (desk.current == old.published) == (step != "promoted")
    assert desk.store.verify("m") == []
    done = desk.download()
    assert desk.current.model_file.read_bytes() == newer[WEIGHTS].read_bytes()
    assert desk.store.verify("m") == []
    assert sum(request.sent for request in desk.hub.requests("cdn")) == done.bytes
    previous = desk.store.previous("m")
    assert previous is not None and previous.fingerprint == old.fingerprint


def test_two_downloads_of_one_blob_at_once_fetch_it_once(desk: Desk) -> None:
    files = desk.push(1)
    first: list[subprocess.Popen[str]] = []
    second: list[subprocess.Popen[str]] = []

    def meanwhile() -> None:
        second.append(start(desk))
        assert second[0].stdout is not None
        second.append(second[0].stdout.readline())  # type: ignore[arg-type]  # it says that it waits

    desk.hub.when_sent(100_000, meanwhile, of=WEIGHTS)
    first.append(start(desk))
    said = first[0].communicate()[0]
    rest = second[0].communicate()[0]
    assert (first[0].returncode, second[0].returncode) == (0, 0)
    assert str(second[1]).startswith(f"waiting for {os.uname().nodename} process {first[0].pid}, which holds ")
    assert "is current, verified, 336 kB fetched" in said
    assert "is current, verified, 0 bytes fetched" in rest
    assert sorted(request.sent for request in desk.hub.requests("cdn")) == sorted(
        p.stat().st_size for p in files.values()
    )
    assert desk.store.verify("m") == []


def test_a_download_of_any_size_takes_no_more_than_64_mib(desk: Desk) -> None:
    """256 MiB, zeros under a real header; the whole process counts, by the kernel's high-water mark."""
    head = bare_header(desk.folder / "head.gguf", tensor_bytes=256 << 20).read_bytes()
    weights = Zeros((256 << 20) + len(head) + 32, head)
    desk.hub.push(REPO, {WEIGHTS: weights, PROJECTOR: mmproj_gguf(desk.folder / "p.gguf")})
    process = start(desk)
    said = process.communicate()[0]
    assert process.returncode == 0 and "is current, verified, 268 MB fetched" in said
    (peak,) = [int(line.split()[1]) for line in said.splitlines() if line.startswith("VmHWM")]
    assert peak <= 64 << 10, f"{peak / 1024:.0f} MiB"


def _parts(store: Store) -> list[Path]:
    return list((store.root / "blobs").glob("*.part"))
