"""The leaf against a real API server."""

from __future__ import annotations

import threading

import pytest

from llama_assets.kube import KINDS, Conflict, Forbidden, Invalid, Kube, NotFound, Refused, Unreachable
from tests.cluster import PYTHON, until

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def talker(name: str, program: str) -> dict[str, object]:
    box = {"name": "box", "image": PYTHON, "command": ["python", "-uc", program], "securityContext": RESTRICTED}
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [box]}}


@pytest.fixture
def kube(cluster) -> Kube:
    return cluster.kube


def test_an_object_is_made_read_listed_and_gone(kube, namespace):
    made = kube.create("ConfigMap", namespace, {"metadata": {"name": "a", "labels": {"of": "x"}}, "data": {"k": "v"}})
    assert kube.get("ConfigMap", namespace, "a")["metadata"]["uid"] == made["metadata"]["uid"]
    assert [found["metadata"]["name"] for found in kube.list("ConfigMap", namespace, labels="of=x")] == ["a"]
    assert [found["data"] for found in kube.list("ConfigMap", namespace, fields="metadata.name=a")] == [{"k": "v"}]
    assert "a" in {found["metadata"]["name"] for found in kube.list("ConfigMap", None, labels="of=x")}
    with pytest.raises(Conflict) as taken:
        kube.create("ConfigMap", namespace, {"metadata": {"name": "a"}})
    assert taken.value.exists
    kube.delete("ConfigMap", namespace, "a", propagation="Background")
    with pytest.raises(NotFound):
        kube.get("ConfigMap", namespace, "a")
    with pytest.raises(NotFound):
        kube.delete("ConfigMap", namespace, "a")


def test_a_delete_spares_an_object_that_took_the_name(kube, namespace):
    kube.create("ConfigMap", namespace, {"metadata": {"name": "a"}})
    with pytest.raises(Conflict):
        kube.delete("ConfigMap", namespace, "a", uid="00000000-0000-0000-0000-000000000000")
    assert kube.get("ConfigMap", namespace, "a")


def test_a_patch_lands_only_on_the_version_and_the_object_it_names(kube, namespace):
    made = kube.create("ConfigMap", namespace, {"metadata": {"name": "a"}, "data": {"n": "1"}})
    seen = {key: made["metadata"][key] for key in ("uid", "resourceVersion")}
    assert kube.patch("ConfigMap", namespace, "a", {"metadata": seen, "data": {"n": "2"}})["data"] == {"n": "2"}
    with pytest.raises(Conflict) as moved:
        kube.patch("ConfigMap", namespace, "a", {"metadata": seen, "data": {"n": "3"}})
    assert not moved.value.exists and not moved.value.owners
    with pytest.raises(Invalid, match="uid"):
        kube.patch("ConfigMap", namespace, "a", {"metadata": {"uid": "other"}, "data": {"n": "3"}})
    assert kube.get("ConfigMap", namespace, "a")["data"] == {"n": "2"}
    assert kube.patch("ConfigMap", namespace, "a", {"data": {"n": "9"}}, dry_run=True)["data"] == {"n": "9"}
    assert kube.patch("ConfigMap", namespace, "a", {"data": {"n": None}}).get("data") is None


def test_replace_is_a_compare_and_swap_and_makes_a_lease_that_is_not_there(kube, namespace):
    lease = {"metadata": {"name": "card"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 60}}
    made = kube.replace("Lease", namespace, "card", lease)
    won: list[str] = []

    def take(who: str) -> None:
        wanted = {**made, "spec": {**made["spec"], "holderIdentity": who}}
        try:
            kube.replace("Lease", namespace, "card", wanted)
            won.append(who)
        except Conflict:
            pass

    takers = [threading.Thread(target=take, args=(f"taker-{number}",)) for number in range(8)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert len(won) == 1, "threads share the connection, and one of them wins"
    assert kube.get("Lease", namespace, "card")["spec"]["holderIdentity"] == won[0]


def test_an_apply_says_whether_it_wrote_and_who_else_owns_a_field(kube, namespace):
    said = {"metadata": {"name": "config"}, "data": {"ours": "1", "both": "1"}}
    first = kube.apply("ConfigMap", namespace, said)
    assert first.created and first.changed
    again = kube.apply("ConfigMap", namespace, said)
    assert not again.created and not again.changed
    version = first.object["metadata"]["resourceVersion"]
    assert again.object["metadata"]["resourceVersion"] == version, "identical content is no write"
    would = kube.apply("ConfigMap", namespace, {**said, "data": {"ours": "2", "both": "1"}}, dry_run=True)
    assert would.changed and would.object["data"]["ours"] == "2"
    assert not kube.apply("ConfigMap", namespace, said, dry_run=True).changed

    kube.patch("ConfigMap", namespace, "config", {"data": {"both": "theirs"}}, manager="somebody")
    with pytest.raises(Conflict) as foreign:
        kube.apply("ConfigMap", namespace, said)
    assert list(foreign.value.owners) == [".data.both"]
    assert "somebody" in foreign.value.owners[".data.both"]
    forced = kube.apply("ConfigMap", namespace, {"metadata": {"name": "config"}, "data": {"both": "1"}}, force=True)
    assert forced.object["data"] == {"both": "1"}, "what we stop sending goes"


def test_an_account_may_what_its_role_says(cluster, kube, namespace, tmp_path):
    kube.create("ServiceAccount", namespace, {"metadata": {"name": "small"}})
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    kube.create("Role", namespace, {"metadata": {"name": "small"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "small", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "small"}
    kube.create("RoleBinding", namespace, {"metadata": {"name": "small"}, "subjects": [subject], "roleRef": reference})
    token = cluster.kubectl("create", "token", "small", "-n", namespace).strip()
    own = tmp_path / "kubeconfig"
    own.write_text(cluster.kubectl("config", "view", "--raw", "--minify"))
    user = cluster.kubectl("config", "view", "--minify", "-o", "jsonpath={.contexts[0].context.user}")
    text = own.read_text()
    start = text.index("users:")
    own.write_text(f"{text[:start]}users:\n- name: {user}\n  user:\n    token: {token}\n")
    with Kube.open(own) as small:
        assert small.allowed("get", "ConfigMap", namespace)
        assert not small.allowed("patch", "Deployment", namespace, "immich")
        with pytest.raises(Forbidden, match="cannot list resource"):
            small.list("Pod", namespace)
        with pytest.raises(NotFound):
            small.get("ConfigMap", namespace, "absent")


def test_a_kind_that_is_not_installed_is_not_found(kube, namespace, monkeypatch):
    monkeypatch.setitem(KINDS, "Absent", ("absent.example.com/v1", "absents", True))  # KEDA's may be there by now
    with pytest.raises(NotFound):
        kube.list("Absent", namespace)


def test_a_log_is_read_once_in_order_and_in_its_own_letters(kube, namespace):
    program = (
        "import sys, time\n"
        "for n in range(300): print('line', n)\n"
        "print('Grüße, 写真 \\\\n b\\'x\\''); print('x' * 40_000); sys.stdout.write('half '); sys.stdout.flush()\n"
        "time.sleep(1.5); print('done')\n"
    )
    with pytest.raises(NotFound):
        kube.log(namespace, "talker", "box")
    kube.create("Pod", namespace, talker("talker", program))

    def lines(after: str = ""):
        try:
            log = kube.log(namespace, "talker", "box", after)
            assert not log.gap
            return log.lines
        except (Refused, NotFound):  # not started; the kubelet has not heard of it
            return ()

    found = list(until("the first lines", lines))
    while not found or found[-1].text != "half done":
        found += lines(found[-1].stamp if found else "")
    assert [line.text for line in found[:300]] == [f"line {number}" for number in range(300)]
    assert [line.text for line in found[300:]] == ["Grüße, 写真 \\n b'x'", "x" * 40_000, "half done"]
    assert [line.stamp for line in found] == sorted({line.stamp for line in found})


def test_a_cut_wire_is_trouble_and_a_mended_one_serves_the_same_connection_object(wire):
    with Kube.open(wire.kubeconfig) as kube:
        assert kube.version()
        wire.cut()
        with pytest.raises(Unreachable):
            kube.version()
        wire.mend()
        assert kube.version()
