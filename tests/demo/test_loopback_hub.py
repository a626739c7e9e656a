"""The loopback hub is a hub to those who know the real one: huggingface_hub's own calls and `hf download`."""

import hashlib
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llama_assets.demo.hub import Fault, LoopbackHub, Zeros

REPO = "org/m-GGUF"
CONTENT = bytes(range(256)) * 1024


@pytest.fixture
def site() -> Iterator[LoopbackHub]:
    with LoopbackHub(page_rows=2) as site:
        site.push(REPO, {"README.md": "hi", "m-Q4_K_M.gguf": CONTENT, "a/b/c.gguf": b"c", "mmproj-F16.gguf": b"p"})
        yield site


def address(site: LoopbackHub, path: str = "m-Q4_K_M.gguf", repo: str = REPO) -> str:
    """A signed address, as the library asks for it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, path, endpoint=site.url)
    return str(get_hf_file_metadata(url, endpoint=site.url).location)


def get(url: str, **headers: str) -> tuple[int, bytes]:
    """Status and body over a bare connection; b"" at its end where the body broke off."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    except http.client.IncompleteRead as cut:
        return answer.status, cut.partial


# -- with the real library


def test_the_librarys_calls_about_a_repo_are_answered(site: LoopbackHub) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=site.url)
    commit = site.push(REPO, {"README.md": "changed"}, tag="v1", title="Fix")
    assert api.model_info(REPO, expand=["sha"]).sha == commit
    info = api.model_info(REPO, revision="v1", files_metadata=True)
    sizes = {file.rfilename: (file.size, file.lfs.sha256 if file.lfs else None) for file in info.siblings or []}
    assert sizes["m-Q4_K_M.gguf"] == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert sizes["README.md"] == (7, None)
    tree = [entry.path for entry in api.list_repo_tree(REPO, recursive=True)]
    assert tree == ["a", "a/b", "README.md", "a/b/c.gguf", "m-Q4_K_M.gguf", "mmproj-F16.gguf"]
    assert site.count(of="/tree/") == 3  # two rows a page
    assert [entry.path for entry in api.list_repo_tree(REPO, "a")] == ["a/b"]
    assert [c.title for c in api.list_repo_commits(REPO)] == ["Fix", "Upload"]
    refs = api.list_repo_refs(REPO)
    assert [(ref.name, ref.target_commit) for ref in refs.branches + refs.tags] == [("main", commit), ("v1", commit)]
    assert [file.path for file in api.get_paths_info(REPO, ["README.md", "nothing"])] == ["README.md"]
    api.auth_check(REPO)


def test_the_librarys_errors_are_those_of_the_real_hub(site: LoopbackHub) -> None:
    from huggingface_hub import HfApi, errors

    api = HfApi(endpoint=site.url, token=False)
    with pytest.raises(errors.RepositoryNotFoundError):
        api.model_info("org/none")
    with pytest.raises(errors.RevisionNotFoundError):
        api.model_info(REPO, revision="none")
    with pytest.raises(errors.RemoteEntryNotFoundError):
        address(site, "none.gguf")
    site.gate(REPO, allowed=["hf_friend"])
    assert api.model_info(REPO).gated == "manual"
    with pytest.raises(errors.GatedRepoError):
        api.auth_check(REPO)
    api.auth_check(REPO, token="hf_friend")
    site.disable(REPO)
    with pytest.raises(errors.DisabledRepoError):
        api.model_info(REPO)


def test_the_librarys_download_works_and_follows_a_renamed_repo(site: LoopbackHub, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    site.rename(REPO, "org/new-GGUF")
    for name, content in (("m-Q4_K_M.gguf", CONTENT), ("README.md", b"hi"), ("a/b/c.gguf", b"c")):
        path = hf_hub_download(REPO, name, local_dir=tmp_path, endpoint=site.url, token=False)
        assert Path(path).read_bytes() == content


def test_hf_download_works(site: LoopbackHub, tmp_path: Path) -> None:
    site.push("org/big", {"big-Q8_0.gguf": Zeros(32 << 20, b"GGUF"), "README.md": "big"})
    command = [str(Path(sys.executable).with_name("hf")), "download", "org/big", "--local-dir", str(tmp_path / "here")]
    environment = os.environ | {"HF_ENDPOINT": site.url, "HF_HOME": str(tmp_path / "home")}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    found = (tmp_path / "here/big-Q8_0.gguf").read_bytes()
    assert len(found) == 32 << 20 and hashlib.sha256(found).hexdigest() == Zeros(32 << 20, b"GGUF").sha256
    assert found[:4] == b"GGUF" and found.count(0) == len(found) - 4


# -- contents


@pytest.mark.parametrize("kind", ["held", "on disk", "zeros"])
@pytest.mark.parametrize(("span", "start", "end"), [(None, 0, 300_000), ("2-9", 2, 10), ("299990-", 299_990, 300_000)])
def test_every_kind_of_content_is_served_by_range(
    site: LoopbackHub, tmp_path: Path, kind: str, span: str | None, start: int, end: int
) -> None:
    data = b"GGUF12" + bytes(299_994)
    (tmp_path / "m.gguf").write_bytes(data)
    content = {"held": data, "on disk": tmp_path / "m.gguf", "zeros": Zeros(300_000, b"GGUF12")}[kind]
    site.push("org/other", {"m.gguf": content})
    headers = {"Range": f"bytes={span}"} if span else {}
    assert get(address(site, "m.gguf", "org/other"), **headers) == (206 if span else 200, data[start:end])
    site.slow_down(bytes_per_s=1e9)  # the careful way through the same bytes
    assert get(address(site, "m.gguf", "org/other"), **headers) == (206 if span else 200, data[start:end])


def test_a_range_past_the_end_is_416(site: LoopbackHub) -> None:
    assert get(address(site), Range=f"bytes={len(CONTENT)}-")[0] == 416


# -- faults


def test_faults_play_in_order_one_a_request_and_lasting_ones_beside_them(site: LoopbackHub) -> None:
    late = site.answer_late(0.001, on="cdn")
    site.cut_after(1000)
    site.fail(503, on="cdn", times=2)
    answers = [get(address(site)) for _ in range(4)]
    assert [(status, len(body)) for status, body in answers] == [(200, 1000), (503, 0), (503, 0), (200, len(CONTENT))]
    assert late.played == 4


def test_a_fault_may_name_a_file_and_healing_ends_all(site: LoopbackHub) -> None:
    site.fail(500, on="cdn", of="mmproj", times=None)
    assert get(address(site))[0] == 200
    assert get(address(site, "mmproj-F16.gguf"))[0] == 500
    site.heal()
    assert get(address(site, "mmproj-F16.gguf")) == (200, b"p")


def test_several_things_can_go_wrong_with_one_body(site: LoopbackHub) -> None:
    reached: list[int] = []
    site.play(Fault("cdn", flip_at=10, call_at=2000, call=lambda: reached.append(1), cut_at=3000))
    _, body = get(address(site))
    assert len(body) == 3000 and reached == [1]
    assert body[10] == CONTENT[10] ^ 0xFF and body[:10] + body[11:] == CONTENT[:10] + CONTENT[11:3000]


def test_offsets_count_bytes_of_the_file_also_for_its_rest(site: LoopbackHub) -> None:
    site.cut_after(3000, times=2)
    assert get(address(site), Range="bytes=2900-") == (206, CONTENT[2900:3000])
    assert get(address(site), Range="bytes=5000-") == (206, b"")  # begins behind the cut: nothing comes


def test_a_reset_gives_all_bytes_before_it(site: LoopbackHub) -> None:
    site.cut_after(200_000, by="reset")
    parts = urlsplit(address(site))
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request("GET", f"{parts.path}?{parts.query}")
    answer, blocks = connection.getresponse(), []
    with pytest.raises(ConnectionResetError):
        blocks.extend(iter(answer.read1, b""))
    assert sum(map(len, blocks)) == 200_000


def test_addresses_expire_by_time_by_use_and_on_demand(site: LoopbackHub) -> None:
    site.links_last(seconds=0)
    assert get(address(site))[0] == 403
    site.heal()
    site.links_work(times=1)
    once = address(site)
    assert (get(once)[0], get(once)[0]) == (200, 403)
    site.heal()
    old = address(site)
    site.expire_links()
    assert (get(old)[0], get(address(site))[0]) == (403, 200)
    assert get(old.replace("key=", "key=0"))[0] == 403


def test_down_is_refused_and_back_is_the_same_address(site: LoopbackHub) -> None:
    url = site.url
    site.stop()
    with pytest.raises(ConnectionRefusedError):
        get(f"{url}/api/models/{REPO}")
    site.start()
    assert site.url == url and get(f"{url}/api/models/{REPO}")[0] == 200


def test_what_was_asked_is_counted_by_side_method_and_name(site: LoopbackHub) -> None:
    get(f"{site.url}/api/models/{REPO}")
    get(address(site))
    get(address(site, "mmproj-F16.gguf"), Range="bytes=0-0")
    assert site.counts() == {"api": 1, "resolve": 2, "cdn": 2}
    assert site.count("resolve", "HEAD") == 2 and site.count(of="mmproj") == 2
    last = site.requests("cdn")[-1]
    assert (last.status, last.sent, last.headers["range"]) == (206, 1, "bytes=0-0")
    site.forget_requests()
    assert site.requests() == []


# -- as a process


def test_a_folder_is_served_by_a_process_that_commits_changes_on_sighup(tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    folder = tmp_path / "org" / "m-GGUF"
    folder.mkdir(parents=True)
    (folder / "m-Q4_K_M.gguf").write_bytes(CONTENT)
    command = [sys.executable, "-m", "llama_assets.demo.hub", "--dir", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name, commit = process.stdout.readline().split()
        url = process.stdout.readline().strip().removeprefix("HF_ENDPOINT=")
        assert HfApi(endpoint=url).model_info(name).sha == commit
        (folder / "m-Q4_K_M.gguf").unlink()
        (folder / "new-Q4_K_M.gguf").write_bytes(b"new")
        process.send_signal(signal.SIGHUP)
        new = process.stdout.readline().split()[1]
        info = HfApi(endpoint=url).model_info(name)
        assert info.sha == new != commit
        assert [file.rfilename for file in info.siblings or []] == ["new-Q4_K_M.gguf"]
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline().split()[1] == new  # nothing changed, no commit
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llama_assets.demo.hub", "--dir", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and f"--dir {tmp_path / 'none'}: no such folder" in done.stderr
