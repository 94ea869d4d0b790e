//! proxmox-client against the simulator, step by step. Reads PVE_PORT, PVE_PASSWORD and PVE_TOKEN;
//! SSL_CERT_FILE names the certificate.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use proxmox_client::nodes::lxc::ContainerCreateParams;
use proxmox_client::nodes::qemu::snapshot::SnapshotCreateParams;
use proxmox_client::nodes::qemu::{VmCloneParams, VmCreateParams};
use proxmox_client::{PoolCreateParams, ProxmoxClient};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

async fn wait_for(pve: &ProxmoxClient, upid: &str) -> Outcome {
    for _ in 0..1_000 {
        let status = pve.get_task_status("pve1", upid).await?;
        if let Some(end) = status.exitstatus {
            return ensure(end == "OK", &end);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("it does not end".into())
}

fn refused<T>(outcome: proxmox_client::Result<T>, words: &str) -> Outcome {
    match outcome {
        Ok(_) => Err("not refused".into()),
        Err(error) => ensure(error.to_string().contains(words), &error.to_string()),
    }
}

/// Prints the result of a step.
struct Steps {
    passed: u32,
    failed: u32,
}

impl Steps {
    fn note(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok   proxmox-client: {name}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL proxmox-client: {name}: {error}");
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let address = format!("https://127.0.0.1:{}", env::var("PVE_PORT")?);
    let token = env::var("PVE_TOKEN")?;
    let (id, secret) = token.split_once('=').ok_or("no token")?;
    let by_token = ProxmoxClient::with_api_token(&address, id, secret)?;
    let mut pve = ProxmoxClient::new(&address)?;
    let mut steps = Steps {
        passed: 0,
        failed: 0,
    };

    steps.note("login with a ticket", {
        pve.login("root@pam", &env::var("PVE_PASSWORD")?)
            .await
            .map(drop)
            .map_err(Into::into)
    });
    let pve = pve;
    steps.note(
        "login with a token",
        async { ensure(by_token.version().await?.release.is_some(), "no release") }.await,
    );
    steps.note(
        "the next free number",
        async { ensure(pve.get_next_id().await? == "100", "not 100") }.await,
    );
    steps.note(
        "create a virtual machine",
        async {
            let mut machine = VmCreateParams::new(100);
            machine.name = Some("web".into());
            machine.memory = Some(1024);
            machine.cores = Some(2);
            wait_for(&pve, &pve.create_vm("pve1", &machine).await?).await
        }
        .await,
    );
    steps.note(
        "the same number again",
        async {
            refused(
                pve.create_vm("pve1", &VmCreateParams::new(100)).await,
                "already exists",
            )
        }
        .await,
    );
    steps.note(
        "find it in lists",
        async {
            let machines = pve.list_vms("pve1").await?;
            ensure(
                machines.len() == 1 && machines[0].name.as_deref() == Some("web"),
                "not there",
            )
        }
        .await,
    );
    steps.note(
        "start it",
        async {
            wait_for(&pve, &pve.start_vm("pve1", 100, None).await?).await?;
            let status = pve.get_vm_status("pve1", 100).await?.status;
            ensure(status.as_deref() == Some("running"), "it does not run")
        }
        .await,
    );
    steps.note(
        "take, find and remove a snapshot",
        async {
            let snapshot = SnapshotCreateParams::new("before");
            wait_for(&pve, &pve.create_vm_snapshot("pve1", 100, &snapshot).await?).await?;
            let names = pve.list_vm_snapshots("pve1", 100).await?;
            ensure(
                names
                    .iter()
                    .any(|other| other.name.as_deref() == Some("before")),
                "not there",
            )?;
            wait_for(
                &pve,
                &pve.rollback_vm_snapshot("pve1", 100, "before").await?,
            )
            .await?;
            wait_for(&pve, &pve.delete_vm_snapshot("pve1", 100, "before").await?).await
        }
        .await,
    );
    steps.note(
        "clone it",
        async {
            let mut clone = VmCloneParams::new(101);
            clone.full = Some(true);
            wait_for(&pve, &pve.clone_vm("pve1", 100, &clone).await?).await
        }
        .await,
    );
    steps.note(
        "create a container",
        async {
            let template = "local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst";
            let mut container = ContainerCreateParams::new(200, template);
            container.rootfs = Some("local-lvm:4".into());
            wait_for(&pve, &pve.create_container("pve1", &container).await?).await
        }
        .await,
    );
    steps.note(
        "create a pool",
        async {
            pve.create_pool(&PoolCreateParams::new("shop")).await?;
            ensure(pve.get_pool("shop").await.is_ok(), "not there")
        }
        .await,
    );
    steps.note(
        "a running machine is not removed",
        async {
            // It was rolled back to a snapshot without memory.
            wait_for(&pve, &pve.start_vm("pve1", 100, None).await?).await?;
            refused(pve.delete_vm("pve1", 100, None).await, "running")
        }
        .await,
    );
    steps.note(
        "stop and remove",
        async {
            wait_for(&pve, &pve.stop_vm("pve1", 100, None).await?).await?;
            for vmid in [100, 101] {
                wait_for(&pve, &pve.delete_vm("pve1", vmid, None).await?).await?;
            }
            wait_for(&pve, &pve.delete_container("pve1", 200, None).await?).await
        }
        .await,
    );

    println!(
        "proxmox-client: {} passed, {} failed",
        steps.passed, steps.failed
    );
    Ok(if steps.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
