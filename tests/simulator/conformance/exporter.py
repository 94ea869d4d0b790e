"""prometheus-pve-exporter against the simulator: what it shows of a node with guests. Reads PVE_PORT, PVE_PASSWORD and
PVE_CA_FILE."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.error import URLError

from prometheus_client.parser import text_string_to_metric_families
from proxmoxer import ProxmoxAPI
from proxmoxer.tools import Tasks

PORT = int(os.environ["PVE_PORT"])
PASSWORD = os.environ["PVE_PASSWORD"]
CA_FILE = os.environ["PVE_CA_FILE"]
passed = failed = 0


def step(name):
    def run(check):
        global passed, failed
        try:
            check()
        except Exception as error:  # a step may fail in any way
            failed += 1
            print(f"FAIL prometheus-pve-exporter: {name}: {type(error).__name__}: {error}")
        else:
            passed += 1
            print(f"ok   prometheus-pve-exporter: {name}")

    return run


pve = ProxmoxAPI("127.0.0.1", port=PORT, user="root@pam", password=PASSWORD, verify_ssl=CA_FILE)
for call in (
    lambda: pve.nodes("pve1").qemu.post(vmid=100, name="web", scsi0="local-lvm:8", onboot=1, tags="a;b"),
    lambda: pve.nodes("pve1").qemu(100).status.start.post(),
):
    assert Tasks.blocking_status(pve, call(), timeout=60, polling_interval=0.05)["exitstatus"] == "OK"

configuration = tempfile.NamedTemporaryFile("w", suffix=".yml")
configuration.write(f"default: {{ user: root@pam, password: {PASSWORD!r}, verify_ssl: {CA_FILE!r} }}\n")
configuration.flush()
# A free port, which nobody else is likely to take in the moment between.
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
exporter = subprocess.Popen(
    [
        sys.executable,
        "-m",
        "pve_exporter",
        f"--config.file={configuration.name}",
        f"--web.listen-address=127.0.0.1:{port}",
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)


def scrape(query):
    url = f"http://127.0.0.1:{port}/pve?target=127.0.0.1:{PORT}&{query}"
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                text = answer.read().decode()
        except URLError as error:
            if exporter.poll() is not None or not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(0.05)
        else:
            return {family.name: family.samples for family in text_string_to_metric_families(text)}
    raise AssertionError("does not come up")


def value(metrics, family, /, **labels):
    found = [sample.value for sample in metrics[family] if labels.items() <= sample.labels.items()]
    assert len(found) == 1, f"{family} {labels}: {found}"
    return found[0]


@step("the cluster and its guests")
def _():
    metrics = scrape("cluster=1&node=0")
    assert value(metrics, "pve_up", id="node/pve1") == 1
    assert value(metrics, "pve_up", id="qemu/100") == 1
    assert value(metrics, "pve_guest_info", id="qemu/100", name="web", node="pve1", type="qemu") == 1
    assert value(metrics, "pve_disk_size_bytes", id="qemu/100") == 8 << 30
    assert value(metrics, "pve_memory_size_bytes", id="node/pve1") > 0
    assert value(metrics, "pve_storage_info", id="storage/pve1/local-lvm") == 1
    assert value(metrics, "pve_not_backed_up_info", id="qemu/100") == 1
    assert metrics["pve_version_info"] or metrics["pve_version"]


@step("the node and the settings of its guests")
def _():
    metrics = scrape("cluster=0&node=1")
    assert value(metrics, "pve_onboot_status", id="qemu/100") == 1


exporter.terminate()
exporter.wait()
print(f"prometheus-pve-exporter: {passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
