// proxmox-api (npm) against the simulator, step by step. Reads PVE_PORT, PVE_PASSWORD, PVE_TOKEN and PVE_MODULES.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const { proxmoxApi } = createRequire(`${process.env.PVE_MODULES}/`)('proxmox-api');
const host = '127.0.0.1';
const port = Number(process.env.PVE_PORT);
const login = { host, port, username: 'root@pam', password: process.env.PVE_PASSWORD };
let passed = 0;
let failed = 0;

async function step(name, check) {
    try {
        await check();
        passed += 1;
        console.log(`ok   proxmox-api: ${name}`);
    } catch (error) {
        failed += 1;
        console.log(`FAIL proxmox-api: ${name}: ${error.message}`);
    }
}

async function refused(call, ...words) {
    try {
        await call();
    } catch (error) {
        for (const word of words) {
            assert.ok(error.message.includes(word), error.message);
        }
        return;
    }
    assert.fail('not refused');
}

const pve = proxmoxApi(login);
const node = pve.nodes.$('pve1');
const vm = node.qemu.$(100);

async function done(upid) {
    assert.match(upid, /^UPID:pve1:/);
    for (let tries = 0; tries < 1000; tries += 1) {
        const status = await node.tasks.$(upid).status.$get();
        if (status.status === 'stopped') {
            return status.exitstatus;
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return assert.fail(`${upid} does not end`);
}

await step('login with a ticket', async () => {
    assert.ok((await pve.version.$get()).release);
});
await step('a wrong password is refused', async () => {
    await refused(() => proxmoxApi({ ...login, password: 'wrong' }).version.$get(), 'Failed');
});
await step('login with a token', async () => {
    const [tokenID, tokenSecret] = process.env.PVE_TOKEN.split('=');
    const nodes = await proxmoxApi({ host, port, tokenID, tokenSecret }).nodes.$get();
    assert.deepEqual(nodes.map((row) => row.node), ['pve1']);
});
await step('list nodes and storages', async () => {
    assert.equal((await pve.nodes.$get())[0].status, 'online');
    assert.ok((await node.storage.$get()).some((row) => row.storage === 'local-lvm'));
});
await step('create a virtual machine', async () => {
    const vmid = Number(await pve.cluster.nextid.$get());
    assert.equal(vmid, 100);
    const upid = await node.qemu.$post({
        vmid, name: 'one', memory: '1024', cores: 2, net0: 'virtio,bridge=vmbr0', scsi0: 'local-lvm:8',
    });
    assert.equal(await done(upid), 'OK');
});
await step('find it in lists', async () => {
    assert.deepEqual((await node.qemu.$get({ full: true })).map((row) => row.name), ['one']);
    assert.deepEqual((await pve.cluster.resources.$get({ type: 'vm' })).map((row) => row.id), ['qemu/100']);
});
await step('read and change its configuration', async () => {
    assert.equal((await vm.config.$get()).cores, 2);
    await vm.config.$put({ description: 'a & b = c; d', delete: 'cores' });
    const config = await vm.config.$get();
    assert.equal(config.description, 'a & b = c; d');
    assert.equal(config.cores, undefined);
});
await step('start it', async () => {
    assert.equal(await done(await vm.status.start.$post()), 'OK');
    assert.equal((await vm.status.current.$get()).status, 'running');
});
await step('start it again: the task fails', async () => {
    assert.equal(await done(await vm.status.start.$post()), 'VM 100 already running');
});
await step('take a snapshot, list and delete it', async () => {
    assert.equal(await done(await vm.snapshot.$post({ snapname: 'before' })), 'OK');
    assert.deepEqual((await vm.snapshot.$get()).map((row) => row.name), ['before', 'current']);
    assert.equal(await done(await vm.snapshot.$('before').$delete()), 'OK');
});
await step('clone it', async () => {
    assert.equal(await done(await vm.clone.$post({ newid: 101, full: true })), 'OK');
    assert.equal(await done(await node.qemu.$(101).$delete()), 'OK');
});
await step('create a container', async () => {
    const ostemplate = 'local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst';
    assert.equal(await done(await node.lxc.$post({ vmid: 200, ostemplate, rootfs: 'local-lvm:4' })), 'OK');
    assert.equal(await done(await node.lxc.$(200).$delete()), 'OK');
});
await step('a console ticket', async () => {
    const console_ = await vm.vncproxy.$post({ websocket: true });
    assert.match(console_.ticket, /:PVEVNC:/);
});
await step('firewall rules', async () => {
    await vm.firewall.rules.$post({ type: 'in', action: 'ACCEPT', enable: 1 });
    assert.equal((await vm.firewall.rules.$get())[0].enable, 1);
});
await step('a refused parameter', async () => {
    await refused(() => node.qemu.$post({ vmid: 'abc' }), '400', 'vmid');
});
await step('a missing guest', async () => {
    // The gateway gives refusals statuses that say what they mean.
    const status = process.env.PVE_STATUSES === 'telling' ? '404' : '500';
    await refused(() => node.qemu.$(999).config.$get(), status, '999.conf');
});
await step('stop and delete', async () => {
    assert.equal(await done(await vm.status.stop.$post()), 'OK');
    assert.equal(await done(await vm.$delete({ purge: true })), 'OK');
    assert.deepEqual(await pve.cluster.resources.$get({ type: 'vm' }), []);
});

console.log(`proxmox-api: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
