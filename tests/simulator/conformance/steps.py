"""proxmoxer against the simulator, step by step. Reads PVE_PORT, PVE_PASSWORD, PVE_TOKEN and PVE_CA_FILE."""

import io
import os
import sys

from proxmoxer import AuthenticationError, ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks

HOST = "127.0.0.1"
PORT = int(os.environ["PVE_PORT"])
CA_FILE = os.environ["PVE_CA_FILE"]
# The gateway gives refusals statuses that say what they mean.
TELLING = os.environ.get("PVE_STATUSES") == "telling"
passed = failed = 0


def step(name):
    def run(check):
        global passed, failed
        try:
            check()
        except Exception as error:  # a step may fail in any way
            failed += 1
            print(f"FAIL proxmoxer: {name}: {type(error).__name__}: {error}")
        else:
            passed += 1
            print(f"ok   proxmoxer: {name}")

    return run


def connect(**login):
    return ProxmoxAPI(HOST, port=PORT, verify_ssl=CA_FILE, timeout=60, **login)


def done(upid):
    status = Tasks.blocking_status(pve, upid, timeout=60, polling_interval=0.05)
    assert status is not None, f"{upid} does not end"
    return status["exitstatus"]


def refused(call, code, *words):
    try:
        call()
    except ResourceException as error:
        text = str(error)
        assert error.status_code == code, error.status_code
        assert all(word in text for word in words), text
    else:
        raise AssertionError("not refused")


pve = connect(user="root@pam", password=os.environ["PVE_PASSWORD"])
node = pve.nodes("pve1")
vm = node.qemu(100)


@step("a wrong password is refused")
def _():
    try:
        connect(user="root@pam", password="wrong").version.get()
    except AuthenticationError:
        return
    raise AssertionError("let in")


@step("login with a ticket")
def _():
    assert pve.version.get()["release"], "no release"


@step("login with a token")
def _():
    token, secret = os.environ["PVE_TOKEN"].split("=")
    user, name = token.split("!")
    assert connect(user=user, token_name=name, token_value=secret).nodes.get()[0]["node"] == "pve1"


@step("list nodes and storages")
def _():
    assert [row["status"] for row in pve.nodes.get()] == ["online"]
    assert {"local", "local-lvm"} <= {row["storage"] for row in node.storage.get()}


@step("the next free id")
def _():
    assert pve.cluster.nextid.get() == "100"


@step("create a virtual machine")
def _():
    upid = node.qemu.post(
        vmid=100, name="one", memory=1024, cores=2, net0="virtio,bridge=vmbr0", scsi0="local-lvm:8"
    )
    assert Tasks.decode_upid(upid)["type"] == "qmcreate"
    assert done(upid) == "OK"


@step("find it in lists")
def _():
    assert [row["name"] for row in node.qemu.get()] == ["one"]
    assert [row["id"] for row in pve.cluster.resources.get(type="vm")] == ["qemu/100"]


@step("read its configuration")
def _():
    config = vm.config.get()
    # A number in some releases, a text in others.
    assert (config["cores"], str(config["memory"])) == (2, "1024"), config
    assert config["net0"].startswith("virtio="), config["net0"]


@step("change its configuration")
def _():
    vm.config.put(description="two\nlines", tags="a;b", delete="cores")
    config = vm.config.get()
    assert config["description"] == "two\nlines" and "cores" not in config, config


@step("resize its disk")
def _():
    upid = vm.resize.put(disk="scsi0", size="+2G")
    # Not a task before release 8.
    assert upid is None or done(upid) == "OK"
    assert "size=10G" in vm.config.get()["scsi0"]


@step("start it")
def _():
    assert done(vm.status.start.post()) == "OK"
    assert vm.status.current.get()["status"] == "running"


@step("start it again: the task fails")
def _():
    assert done(vm.status.start.post()) == "VM 100 already running"


@step("take a snapshot, list and roll back")
def _():
    assert done(vm.snapshot.post(snapname="before", description="a point")) == "OK"
    assert [row["name"] for row in vm.snapshot.get()] == ["before", "current"]
    vm.config.put(description="changed")
    assert done(vm.snapshot("before").rollback.post()) == "OK"
    assert vm.config.get()["description"] == "two\nlines"
    assert done(vm.snapshot("before").delete()) == "OK"


@step("clone it")
def _():
    assert done(vm.clone.post(newid=101, name="copy", full=1)) == "OK"
    assert node.qemu(101).config.get()["name"] == "copy"


@step("read a task's log")
def _():
    upid = node.tasks.get(vmid=100, limit=1)[0]["upid"]
    lines = Tasks.decode_log(node.tasks(upid).log.get())
    assert lines.splitlines()[-1].startswith("TASK"), lines


@step("create a container")
def _():
    template = "local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst"
    upid = node.lxc.post(vmid=200, ostemplate=template, hostname="ct", rootfs="local-lvm:4", password="secret")
    assert done(upid) == "OK"
    assert node.lxc(200).config.get()["hostname"] == "ct"


@step("upload an image")
def _():
    image = io.BytesIO(b"not much of an image")
    image.name = "small.iso"
    assert done(node.storage("local").upload.post(content="iso", filename=image)) == "OK"
    volumes = [row["volid"] for row in node.storage("local").content.get(content="iso")]
    assert "local:iso/small.iso" in volumes, volumes


@step("back a guest up")
def _():
    assert done(node.vzdump.post(vmid=100, storage="local")) == "OK"
    assert len(node.storage("local").content.get(content="backup")) == 1


@step("users, groups and rules")
def _():
    pve.access.groups.post(groupid="team")
    pve.access.users.post(userid="ann@pve", password="longenough", groups="team")
    pve.access.acl.put(path="/vms/100", roles="PVEVMUser", groups="team")
    ann = connect(user="ann@pve", password="longenough")
    assert [row["vmid"] for row in ann.nodes("pve1").qemu.get()] == [100]
    refused(lambda: ann.nodes("pve1").qemu(100).delete(), 403, "VM.Allocate")


@step("firewall rules")
def _():
    pve.cluster.firewall.rules.post(type="in", action="ACCEPT", dport="22", proto="tcp", enable=1)
    assert pve.cluster.firewall.rules.get()[0]["dport"] == "22"
    pve.cluster.firewall.rules(0).delete()
    assert pve.cluster.firewall.rules.get() == []


@step("a refused parameter is named")
def _():
    try:
        node.qemu.post(vmid="abc")
    except ResourceException as error:
        assert error.status_code == 400 and "vmid" in error.errors, error
    else:
        raise AssertionError("not refused")


@step("a missing guest")
def _():
    refused(lambda: node.qemu(999).config.get(), 404 if TELLING else 500, "999.conf")


@step("an unknown path")
def _():
    refused(lambda: pve.nope.get(), 501, "not implemented")


@step("a running guest is not deleted")
def _():
    if vm.status.current.get()["status"] != "running":
        done(vm.status.start.post())
    refused(vm.delete, 409 if TELLING else 500, "running - destroy failed")


@step("stop and delete")
def _():
    assert done(vm.status.stop.post()) == "OK"
    for guest in (vm, node.qemu(101), node.lxc(200)):
        assert done(guest.delete(purge=1)) == "OK"
    assert pve.cluster.resources.get(type="vm") == []


print(f"proxmoxer: {passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
