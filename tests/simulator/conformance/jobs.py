"""The jobs of docs/jobs.md with proxmoxer, in as few lines as do the work, on the simulator.

Reads PVE_PORT, PVE_PASSWORD and PVE_CA_FILE, and PVE_TOKEN, PVE_OTHER_PORT and PVE_OTHER_FINGERPRINT for another cluster.
Prints how many lines each job takes: those of its function that are not blank, without the first. `wait` and `guest` are
used by many and counted for none.
"""

import inspect
import os
import sys
import time
from urllib.parse import quote

from proxmoxer import ProxmoxAPI
from proxmoxer.tools import Tasks

pve = ProxmoxAPI(
    "127.0.0.1", port=int(os.environ["PVE_PORT"]), verify_ssl=os.environ["PVE_CA_FILE"],
    user="root@pam", password=os.environ["PVE_PASSWORD"], timeout=60,
)
NODES = ["pve1", "pve2", "pve3"]
RELEASE = tuple(int(part) for part in pve.version.get()["release"].split("."))


def wait(upid):
    if Tasks.blocking_status(pve, upid, timeout=60, polling_interval=0.02)["exitstatus"] != "OK":
        raise RuntimeError("\n".join(Tasks.decode_log(pve.nodes(upid.split(":")[1]).tasks(upid).log.get())))


def guest(vmid):
    row = next(row for row in pve.cluster.resources.get(type="vm") if row["vmid"] == vmid)
    return getattr(pve.nodes(row["node"]), row["type"])(vmid), row["node"]


def image_to_machine():
    node = pve.nodes("pve1")
    kind, name = ("import", "debian-13.qcow2") if RELEASE >= (8, 3) else ("iso", "debian-13.qcow2.img")
    local, volume = node.storage("local"), f"local:{kind}/{name}"
    if not any(row["volid"] == volume for row in local.content.get(content=kind)):
        wait(local("download-url").post(url="https://images.example.org/debian-13.qcow2", content=kind, filename=name))
    image = volume if kind == "import" else local.content(volume).get()["path"]
    vmid = int(pve.cluster.nextid.get())
    wait(node.qemu.post(
        vmid=vmid, name="cloud", cores=2, memory=2048, agent=1, net0="virtio,bridge=vmbr0", scsihw="virtio-scsi-pci",
        scsi0=f"local-lvm:0,import-from={image}", ide2="local-lvm:cloudinit", boot="order=scsi0",
        ciuser="admin", ipconfig0="ip=dhcp", sshkeys=quote("ssh-ed25519 AAAA me@host", safe=""),
    ))
    resized = node.qemu(vmid).resize.put(disk="scsi0", size="10G")
    if resized:
        wait(resized)
    wait(node.qemu(vmid).status.start.post())
    return address(vmid)


def many_clones():
    template, node = guest(9000)
    for number, target in enumerate(NODES, 1):
        vmid = pve.cluster.nextid.get()
        wait(template.clone.post(newid=vmid, name=f"web-{number}", full=1))
        if target != node:
            wait(pve.nodes(node).qemu(vmid).migrate.post(target=target, **{"with-local-disks": 1}))
        wait(pve.nodes(target).qemu(vmid).status.start.post())


def change_and_reboot():
    vm, _ = guest(101)
    vm.config.put(cores=4, description="four cores")
    if any("pending" in row or "delete" in row for row in vm.pending.get()):
        wait(vm.status.reboot.post(timeout=60))


def backup_job_run_now():
    if not any(job["id"] == "nightly" for job in pve.cluster.backup.get()):
        pve.cluster.backup.post(id="nightly", storage="local", schedule="02:30", vmid="101,102")
    for node in NODES:
        upid = pve.nodes(node).vzdump.post(storage="local", vmid="101,102")
        if upid.startswith("UPID:"):
            wait(upid)


def newest_backup_restored():
    _, node = guest(101)
    backups = pve.nodes(node).storage("local").content.get(content="backup", vmid=101)
    newest = max(backups, key=lambda backup: backup["ctime"])
    wait(pve.nodes(node).qemu.post(vmid=601, archive=newest["volid"], unique=1))


def what_would_be_pruned():
    rows = pve.nodes("pve1").storage("local").prunebackups.get(**{"prune-backups": "keep-last=1"})
    return [row["volid"] for row in rows if row["mark"] == "remove"]


def replication():
    jobs = [job for job in pve.cluster.replication.get() if job["guest"] == 101]
    if not any(job["target"] == "pve2" for job in jobs):
        number = 1 + max((job["jobnum"] for job in jobs), default=-1)
        pve.cluster.replication.post(id=f"101-{number}", type="local", target="pve2", schedule="*/30")


def drain():
    for row in [row for row in pve.cluster.resources.get(type="vm") if row["node"] == "pve1" and row["status"] == "running"]:
        vm = getattr(pve.nodes("pve1"), row["type"])(row["vmid"])
        nodes = [node for node in pve.nodes.get() if node["node"] != "pve1" and node["status"] == "online"]
        target = max(nodes, key=lambda node: node["maxmem"] - node["mem"])["node"]
        how = {"restart": 1} if row["type"] == "lxc" else {"online": 1, "with-local-disks": 1}
        wait(vm.migrate.post(target=target, **how))


def migration():
    vm, node = guest(102)
    check = vm.migrate.get(target="pve3")
    if check["local_resources"] or check.get("not_allowed_nodes", {}).get("pve3"):
        raise RuntimeError(check)
    if node != "pve3":
        wait(vm.migrate.post(target="pve3", online=check["running"], **{"with-local-disks": 1}))


def to_another_cluster():
    token, port = os.environ["PVE_TOKEN"], os.environ["PVE_OTHER_PORT"]
    there = f"apitoken=PVEAPIToken={token},host=127.0.0.1,port={port},fingerprint={os.environ['PVE_OTHER_FINGERPRINT']}"
    how = {"target-endpoint": there, "target-vmid": 304, "target-storage": "local-lvm", "target-bridge": "vmbr0"}
    wait(guest(104)[0].remote_migrate.post(online=1, delete=1, **how))


def high_availability():
    if not any(row["sid"] == "vm:102" for row in pve.cluster.ha.resources.get()):
        pve.cluster.ha.resources.post(sid="vm:102")
    if RELEASE >= (9, 0):
        pve.cluster.ha.rules.post(rule="where-102", type="node-affinity", resources="vm:102", nodes="pve1:2,pve3:1")
    else:
        pve.cluster.ha.groups.post(group="where-102", nodes="pve1:2,pve3:1")
        pve.cluster.ha.resources("vm:102").put(group="where-102")


def firewall_rules():
    rules = guest(102)[0].firewall.rules
    wanted = [{"type": "in", "action": "ACCEPT", "proto": "tcp", "dport": port} for port in ("22", "80", "443")]
    there = rules.get()
    for rule in sorted(there, key=lambda rule: -rule["pos"]):
        if not any(all(rule.get(key) == value for key, value in other.items()) for other in wanted):
            rules(rule["pos"]).delete()
    for position, rule in enumerate(wanted):
        if not any(all(other.get(key) == value for key, value in rule.items()) for other in rules.get()):
            rules.post(pos=position, enable=1, **rule)


def sdn():
    pve.cluster.sdn.zones.post(type="simple", zone="lab")
    pve.cluster.sdn.vnets.post(vnet="labnet", zone="lab")
    pve.cluster.sdn.vnets("labnet").subnets.post(type="subnet", subnet="10.20.0.0/24", gateway="10.20.0.1")
    wait(pve.cluster.sdn.put())


def address(vmid=103):
    vm, _ = guest(vmid)
    while True:
        try:
            cards = vm.agent("network-get-interfaces").get()["result"]
        except Exception:
            cards = []
        for card in cards:
            if card["name"] != "lo" and not card["name"].startswith(("docker", "br-", "veth")):
                for found in card.get("ip-addresses", []):
                    if not found["ip-address"].startswith("fe80"):
                        return found["ip-address"]
        time.sleep(0.1)


def health():
    return [
        (node, disk["devpath"]) for node in NODES for disk in pve.nodes(node).disks.list.get()
        if disk.get("health") not in ("PASSED", "OK", "UNKNOWN")
    ] + [(node, pool["name"]) for node in NODES for pool in pve.nodes(node).disks.zfs.get() if pool["health"] != "ONLINE"]


def container():
    node = pve.nodes("pve1")
    names = [row["template"] for row in node.aplinfo.get() if row["template"].startswith("debian-13-standard")]
    newest = max(names)
    volume = f"local:vztmpl/{newest}"
    if not any(row["volid"] == volume for row in node.storage("local").content.get(content="vztmpl")):
        wait(node.aplinfo.post(storage="local", template=newest))
    vmid = pve.cluster.nextid.get()
    wait(node.lxc.post(vmid=vmid, hostname="web", ostemplate=volume, rootfs="local-lvm:2", unprivileged=1))
    wait(node.lxc(vmid).status.start.post())


def figures():
    rows = pve.nodes("pve1").rrddata.get(timeframe="hour", cf="AVERAGE")
    return max(row["cpu"] for row in rows if "cpu" in row)


def furnish():
    for vmid, node, more in [
        (101, "pve1", {}), (102, "pve1", {}), (103, "pve1", {"agent": 1, "net0": "virtio,bridge=vmbr0"}),
        (104, "pve1", {}), (9000, "pve1", {}),
    ]:
        wait(pve.nodes(node).qemu.post(vmid=vmid, name=f"g{vmid}", memory=1024, scsi0="local-lvm:4", **more))
    for vmid in (101, 102, 103, 104):
        wait(pve.nodes("pve1").qemu(vmid).status.start.post())
    result = pve.nodes("pve1").qemu(9000).template.post()
    if result:
        wait(result)


JOBS = [
    image_to_machine, many_clones, change_and_reboot, backup_job_run_now, newest_backup_restored, what_would_be_pruned,
    replication, migration, to_another_cluster, high_availability, firewall_rules, sdn, address, health, container, figures, drain,
]


def lines(function):
    return sum(bool(line.strip()) for line in inspect.getsource(function).splitlines()) - 1


if __name__ == "__main__":
    furnish()
    failed = 0
    for job in JOBS:
        try:
            job()
            print(f"ok   proxmoxer job: {job.__name__}: {lines(job)} lines")
        except Exception as error:  # a job may fail in any way
            failed += 1
            print(f"FAIL proxmoxer job: {job.__name__}: {type(error).__name__}: {error}")
    sys.exit(failed > 0)
