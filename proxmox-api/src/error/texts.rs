//! The texts of errors, as a table for people: `docs/errors.md`.
//!
//! `ERRORS_WRITE=1 cargo test -p proxmox-api --lib error::texts` writes the file.

use std::sync::Arc;

use crate::client::retry::RetryPolicy;
use crate::client::{Client, ClientBuilder};
use crate::error::Error;
use crate::request::Call;
use crate::testing::{Fake, TOKEN_SECRET, json};
use crate::tls::{Fingerprint, KnownHosts};
use crate::transport::TransportError;
use crate::value::endpoint::Method;

const HEAD: &str = "# Error texts

Each row is an error as it is printed, with its cause; a test writes the table and compares it with the code. The second column
is what a program can match on: the variant of `Error`, and for refusals by the server the `ErrorKind`.

| failure | error | text |
|---|---|---|
";

/// Refusals by the server: the cause, the call, the status, and the server's text.
const REFUSALS: &[(&str, &str, u16, &str)] = &[
    (
        "a guest that is not on the node",
        "GET /nodes/pve1/qemu/102/config",
        500,
        "Configuration file 'nodes/pve1/qemu-server/102.conf' does not exist\n",
    ),
    (
        "a missing user",
        "GET /access/users/bob@pve",
        500,
        "no such user ('bob@pve')\n",
    ),
    (
        "a taken number",
        "POST /nodes/pve1/qemu",
        500,
        "unable to create VM 100 - VM 100 already exists on node 'pve1'\n",
    ),
    (
        "starting a running guest",
        "POST /nodes/pve1/qemu/100/status/start",
        500,
        "VM 100 already running\n",
    ),
    (
        "removing a running guest",
        "DELETE /nodes/pve1/qemu/100",
        500,
        "VM 100 is running - destroy failed\n",
    ),
    (
        "a stopped container",
        "POST /nodes/pve1/lxc/101/status/shutdown",
        500,
        "CT 101 not running\n",
    ),
    (
        "a guest during its backup",
        "PUT /nodes/pve1/qemu/100/config",
        500,
        "VM is locked (backup)\n",
    ),
    (
        "a lock that is held too long",
        "PUT /nodes/pve1/qemu/100/config",
        500,
        "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout\n",
    ),
    (
        "a change of an outdated configuration",
        "PUT /nodes/pve1/qemu/100/config",
        500,
        "detected modified configuration - file changed by other user? Try again.\n",
    ),
    (
        "no quorum",
        "PUT /nodes/pve1/qemu/100/config",
        500,
        "cluster not ready - no quorum?\n",
    ),
    (
        "pending network changes",
        "POST /cluster/sdn/lock",
        500,
        "could not acquire lock for SDN config: configuration has pending changes\n",
    ),
    (
        "a guest agent that is not configured",
        "POST /nodes/pve1/qemu/100/agent/ping",
        500,
        "No QEMU guest agent configured\n",
    ),
    (
        "a guest agent that does not run",
        "POST /nodes/pve1/qemu/100/agent/ping",
        500,
        "QEMU guest agent is not running\n",
    ),
    (
        "a guest agent while its guest boots",
        "GET /nodes/pve1/qemu/100/agent/network-get-interfaces",
        500,
        "VM 100 qmp command 'guest-network-get-interfaces' failed - got timeout\n",
    ),
    (
        "a hanging virtual machine",
        "POST /nodes/pve1/qemu/100/snapshot",
        500,
        "VM 100 qmp command 'savevm-start' failed - got timeout\n",
    ),
    (
        "removing a protected guest",
        "DELETE /nodes/pve1/qemu/100",
        500,
        "can't remove VM 100 - protection mode enabled\n",
    ),
    (
        "removing a guest that high availability manages",
        "DELETE /nodes/pve1/qemu/100",
        500,
        "unable to remove VM 100 - used in HA resources and purge parameter not set.\n",
    ),
    (
        "a pool with members",
        "DELETE /pools/dev",
        500,
        "pool 'dev' is not empty (contains VM 100)\n",
    ),
    (
        "cloning a local disk to another node",
        "POST /nodes/pve1/qemu/100/clone",
        500,
        "can't clone VM to node 'pve2' (VM uses local storage)\n",
    ),
    (
        "an offline storage",
        "GET /nodes/pve1/storage/nfs1/content",
        500,
        "storage 'nfs1' is not online\n",
    ),
    (
        "a storage of another node",
        "POST /nodes/pve1/qemu",
        500,
        "storage 'fast' is not available on node 'pve1'\n",
    ),
    (
        "a full volume group",
        "POST /nodes/pve1/qemu",
        500,
        "vg 'pve' has not enough free space (512.00 MiB < 1.00 GiB)\n",
    ),
    (
        "a linked clone to another storage",
        "POST /nodes/pve1/qemu/9000/clone",
        500,
        "parameter 'storage' not allowed for linked clones\n",
    ),
    (
        "a snapshot called current",
        "POST /nodes/pve1/qemu/100/snapshot",
        500,
        "unable to use snapshot name 'current' (reserved name)\n",
    ),
    (
        "a setting that only root may change",
        "PUT /nodes/pve1/qemu/100/config",
        500,
        "only root can set 'args' config\n",
    ),
    (
        "a call that only root may make",
        "POST /nodes/pve1/execute",
        403,
        "Permission check failed (user != root@pam)\n",
    ),
    (
        "a missing privilege",
        "PUT /nodes/pve1/qemu/100/config",
        403,
        "Permission check failed (/vms/100, VM.Config.Disk|VM.Config.CDROM)\n",
    ),
    (
        "an unknown token, or a wrong secret",
        "GET /nodes",
        401,
        "Authentication failed!",
    ),
    (
        "groups of high availability since 9.0",
        "GET /cluster/ha/groups",
        500,
        "cannot index groups: ha groups have been migrated to rules\n",
    ),
    (
        "an unknown path",
        "GET /nope",
        501,
        "Method 'GET /nope' not implemented",
    ),
    (
        "an unknown node",
        "GET /nodes/nope/qemu",
        500,
        "hostname lookup 'nope' failed - failed to get address info for: nope: Name or service not known\n",
    ),
    (
        "an offline node",
        "GET /nodes/pve3/qemu",
        595,
        "Connection refused",
    ),
    ("too many calls", "GET /nodes", 429, "Too Many Requests"),
    (
        "a proxy without its server",
        "GET /nodes",
        502,
        "Bad Gateway",
    ),
    (
        "parameters beyond the limit of an older server",
        "POST /nodes/pve1/qemu",
        501,
        "for data too large",
    ),
    (
        "a program of the server that failed",
        "POST /nodes/pve1/disks/lvm",
        500,
        "command '/sbin/vgcreate data /dev/sdx' failed: exit code 5\n",
    ),
    (
        "a text without a kind",
        "POST /nodes/pve1/qemu",
        500,
        "something new\n",
    ),
];

fn row(what: &str, error: &Error) -> String {
    let variant = format!("{error:?}");
    let variant = variant.split('(').next().unwrap_or_default();
    let kind = error
        .kind()
        .map(|kind| format!(", `{kind:?}`"))
        .unwrap_or_default();
    let text = error.to_string().replace('|', "\\|");
    format!("| {what} | `{variant}`{kind} | {text} |\n")
}

fn call(text: &str) -> Call {
    let (method, path) = text.split_once(' ').expect("verb and path");
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        _ => Method::Delete,
    };
    Call::new(method, path)
}

fn through(fake: &Fake) -> ClientBuilder {
    Client::builder("pve1")
        .transport(Arc::new(fake.clone()))
        .retry(RetryPolicy::none())
}

async fn refused(what: &str, text: &str, builder: ClientBuilder) -> String {
    let client = builder.build().expect("complete");
    let error = client.execute(call(text)).await.expect_err(what);
    row(what, &error)
}

fn not_built(what: &str, builder: ClientBuilder) -> String {
    row(what, &builder.build().expect_err(what))
}

#[tokio::test]
async fn the_table_of_errors_is_up_to_date() {
    let mut table = HEAD.to_owned();
    for (what, text, status, message) in REFUSALS {
        let body = match *status {
            500 | 403 => serde_json::json!({ "data": null, "message": message }).to_string(),
            _ => String::new(),
        };
        let fake = Fake::new(move |_| Ok(json(*status, message.trim(), body.clone())));
        let builder = through(&fake).api_token("root@pam!ci", TOKEN_SECRET);
        table.push_str(&refused(what, text, builder).await);
    }

    let body = r#"{"data":null,"errors":{"cores":"value must have a minimum value of 1"}}"#;
    let fake = Fake::new(move |_| Ok(json(400, "Parameter verification failed.", body)));
    let token = |fake: &Fake| through(fake).api_token("root@pam!ci", TOKEN_SECRET);
    table.push_str(
        &refused(
            "a value out of range",
            "POST /nodes/pve1/qemu",
            token(&fake),
        )
        .await,
    );
    let fake = Fake::new(|_| Ok(json(401, "No ticket", "")));
    table.push_str(&refused("no credentials", "GET /nodes", through(&fake)).await);
    let fake = Fake::new(|_| Ok(json(401, "authentication failure", "")));
    let wrong = through(&fake).password("root@pam", "wrong");
    table.push_str(&refused("a wrong password", "GET /nodes", wrong).await);
    let fake = Fake::new(|_| {
        let mut moved = json(301, "Moved Permanently", "");
        moved
            .headers
            .push(("Location".to_owned(), "https://pve1:8006/".to_owned()));
        Ok(moved)
    });
    table.push_str(&refused("http on the https port", "GET /version", token(&fake)).await);
    let fake = Fake::new(|_| {
        let mut page = json(200, "OK", "<html><title>nginx</title>");
        page.headers = vec![("Content-Type".to_owned(), "text/html".to_owned())];
        Ok(page)
    });
    table.push_str(&refused("a web page", "GET /version", token(&fake)).await);

    for (what, cause) in [
        (
            "an unresolved name",
            "failed to lookup address information: Name or service not known",
        ),
        ("connection refused", "Connection refused (os error 111)"),
    ] {
        let fake = Fake::new(move |_| Err(TransportError::never_sent(cause)));
        table.push_str(&refused(what, "GET /version", token(&fake)).await);
    }
    let fake = Fake::new(|_| {
        Err(TransportError::never_sent(
            "Connection refused (os error 111)",
        ))
    });
    let port = Client::builder("pve1:8007")
        .transport(Arc::new(fake))
        .retry(RetryPolicy::none());
    table.push_str(&refused("connection refused on another port", "GET /version", port).await);
    let fake = Fake::new(|_| Err(TransportError::interrupted("connection reset")));
    table.push_str(&refused("a broken connection", "POST /nodes/pve1/qemu", token(&fake)).await);
    let fake = Fake::new(|_| {
        Err(TransportError::timed_out(std::time::Duration::from_secs(
            60,
        )))
    });
    for (what, call) in [
        ("no answer in time", "POST /nodes/pve1/qemu"),
        ("no answer in time to a read", "GET /nodes"),
    ] {
        table.push_str(&refused(what, call, token(&fake)).await);
    }
    let presented = Fingerprint::from([0xAB; 32]);
    for (what, expected) in [
        ("a certificate of no known authority", Vec::new()),
        (
            "a certificate other than the pinned one",
            vec![Fingerprint::from([0xCD; 32])],
        ),
    ] {
        let fake = Fake::new(move |_| {
            let why = match expected.is_empty() {
                true => "it was not issued by a known authority",
                false => "it is not the pinned one",
            };
            Err(crate::tls::Untrusted::new(presented, expected.clone(), why).into())
        });
        table.push_str(&refused(what, "GET /version", token(&fake)).await);
    }
    let fake = Fake::new(|_| Ok(json(200, "OK", "{\"data\":[")));
    table.push_str(&refused("a path with dot segments", "GET /a/../b", token(&fake)).await);

    let plain = || Client::builder("pve1");
    table.push_str(&not_built(
        "a token id with the secret",
        plain().api_token("root@pam!ci=x", "y"),
    ));
    table.push_str(&not_built(
        "a token id without a name",
        plain().api_token("root@pam", "y"),
    ));
    table.push_str(&not_built(
        "a token id as user",
        plain().password("root@pam!ci", "y"),
    ));
    table.push_str(&not_built(
        "a user without a realm",
        plain().password("root", "y"),
    ));
    table.push_str(&not_built(
        "an address without encryption",
        Client::builder("http://pve1:8006"),
    ));
    let known = KnownHosts::in_memory(|_, _| true);
    let both = plain()
        .trust_on_first_use(known)
        .danger_accept_invalid_certs(true);
    table.push_str(&not_built("contradicting settings", both));

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    if std::env::var_os("ERRORS_WRITE").is_some() {
        std::fs::write(path, &table).expect("writable");
    }
    let written = std::fs::read_to_string(path).expect("docs/errors.md is there");
    assert!(table.lines().count() > 55, "fifty texts");
    assert_eq!(
        written, table,
        "run with ERRORS_WRITE=1 and read the difference"
    );
}
