//! Inside simulated machines, through the guest agent.
use std::net::IpAddr;
use std::time::Duration;

use proxmox_api::bounds::{Bound, Bounds};
use proxmox_api::error::ErrorKind;
use proxmox_api::manage::agent::Output;
use proxmox_api::{Client, ClientBuilder, Error};
use proxmox_simulator::{
    Builder, Clock, CommandOutput, Simulator, TOKEN_ID, TOKEN_SECRET, last_of_each_major, releases,
};

const PATIENCE: Duration = Duration::from_secs(60);

async fn start(builder: Builder) -> (Simulator, Client) {
    let simulator = builder.start().await.expect("it starts");
    let client = client(&simulator).build().expect("complete settings");
    (simulator, client)
}

fn client(simulator: &Simulator) -> ClientBuilder {
    Client::builder(simulator.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(simulator.fingerprint().parse().expect("a fingerprint"))
        .rate_limit(proxmox_api::client::limit::RateLimit::none())
}

/// A machine 101 with an agent, one without, and a container 201.
fn machines() -> Builder {
    Simulator::builder()
        .node("pve1")
        .time_factor(0.0)
        .qemu(
            101,
            "pve1",
            &[
                ("name", "web"),
                ("agent", "1"),
                ("scsi0", "local-lvm:8"),
                ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
                ("ipconfig0", "ip=192.0.2.7/24"),
            ],
        )
        .qemu(102, "pve1", &[("name", "bare")])
        .lxc(
            201,
            "pve1",
            &[
                ("hostname", "dns"),
                ("rootfs", "local-lvm:4"),
                (
                    "net0",
                    "name=eth0,bridge=vmbr0,ip=192.0.2.9/24,ip6=2001:db8::9/64",
                ),
            ],
        )
}

#[tokio::test]
async fn waiting_for_the_agent_while_the_system_boots() {
    let clock = Clock::manual(1_793_491_200);
    let builder = machines().clock(clock.clone()).time_factor(1.0);
    let (simulator, pve) = start(builder).await;
    let guest = pve.guest(101);
    let agent = guest.agent();
    // Waiting does not help if the machine is stopped.
    let off = agent.wait_until_up(PATIENCE).await.unwrap_err();
    assert_eq!(off.kind(), Some(ErrorKind::NotRunning), "{off}");

    let started = guest.start().await.unwrap();
    clock.advance(Duration::from_secs(2));
    started.wait().await.unwrap();
    let early = agent.ping().await.unwrap_err();
    assert_eq!(early.kind(), Some(ErrorKind::AgentNotRunning), "{early}");
    simulator.clear_requests();
    let come_up = async {
        let pings = || {
            let requests = simulator.requests();
            (requests.iter().filter(|call| call.path.ends_with("/ping"))).count()
        };
        while pings() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        clock.advance(Duration::from_secs(20));
    };
    let (up, ()) = tokio::join!(agent.wait_until_up(PATIENCE), come_up);
    up.unwrap();
    agent.ping().await.unwrap();

    simulator.guest_agent(101).set_answering(false);
    let silent = agent.wait_until_up(Duration::from_secs(1)).await;
    let silent = silent.unwrap_err();
    assert!(silent.to_string().contains("within 1s"), "{silent}");
    // Waiting does not help if no agent is configured.
    pve.guest(102).start().await.unwrap().detach();
    clock.advance(Duration::from_secs(20));
    let none = pve.guest(102).agent().wait_until_up(PATIENCE).await;
    let none = none.unwrap_err();
    assert!(none.to_string().contains("agent configured"), "{none}");
}

fn ended(output: &Output) -> (Option<i64>, Option<i64>, String, String) {
    let (out, err) = (output.stdout_text(), output.stderr_text());
    (output.exit_code, output.signal, out, err)
}

#[tokio::test]
async fn programs_run_to_their_end_on_every_release() {
    for release in releases() {
        let failing = CommandOutput::failure(100, "no network\n").stdout("Get:1 …\n");
        let builder = (machines().running(101).release(release))
            .guest_command(101, &["apt-get"], failing.seconds(5.0))
            .guest_command(101, &["0"], CommandOutput::failure(3, ""))
            .guest_command(101, &["sleepy"], CommandOutput::killed(15));
        let (_simulator, pve) = start(builder).await;
        let agent = pve.guest(101).agent();
        let output = agent.exec(["echo", "grüße", "& more=1", ""]).await;
        let output = output.unwrap_or_else(|error| panic!("{release}: {error}"));
        assert!(output.success());
        assert_eq!(output.stdout_text(), "grüße & more=1 \n", "{release}");

        let output = agent.exec(["apt-get", "update"]).await.unwrap();
        let expected = (Some(100), None, "Get:1 …\n".into(), "no network\n".into());
        assert_eq!(ended(&output), expected, "{release}");
        assert!(!output.success());
        let output = agent.exec(["sleepy"]).await.unwrap();
        assert_eq!((output.exit_code, output.signal), (None, Some(15)));
        assert!(!output.success());

        // The server does not read one form field as an array; before 8.0 a command is a string.
        if release != "7.4" {
            let output = agent.exec(["0"]).await.unwrap();
            assert_eq!(output.exit_code, Some(3), "{release}");
        }

        let missing = agent.exec(["no-such-program"]).await.unwrap_err();
        assert!(missing.api().is_some(), "{release}: {missing}");
        let output = agent.exec(["cat"]).input("a\nb").await.unwrap();
        assert_eq!(output.stdout_text(), "a\nb", "{release}");
    }
}

#[tokio::test]
async fn a_timeout_does_not_stop_the_program() {
    let clock = Clock::manual(1_793_491_200);
    let builder = (machines().clock(clock.clone()).time_factor(1.0)).running(101);
    let (simulator, pve) = start(builder).await;
    clock.advance(Duration::from_secs(20));
    let agent = pve.guest(101).agent();
    let slow = agent.exec(["sleep", "3600"]);
    let error = slow.timeout(Duration::from_millis(300)).await.unwrap_err();
    assert!(error.to_string().contains("within 300ms"), "{error}");

    // A failed poll is not a failed program.
    let rule = (simulator.faults()).on("GET", "/nodes/*/qemu/*/agent/exec-status");
    let rule = rule.times(2).respond(proxmox_simulator::Fault::NodeDown);
    let running = agent.exec(["echo", "done"]);
    let (output, ()) = tokio::join!(running, async {
        while rule.hits() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        clock.advance(Duration::from_secs(10));
    });
    assert_eq!(output.unwrap().stdout_text(), "done\n");
}

#[tokio::test]
async fn files_of_any_size_on_every_release() {
    const MIB: usize = 1 << 20;
    for release in last_of_each_major() {
        let (simulator, pve) = start(machines().running(101).release(release)).await;
        let agent = pve.guest(101).agent();
        let content =
            |size: usize| -> Vec<u8> { (0..size).map(|n| (n * 7 + n / 251) as u8).collect() };
        for size in [0, 1, 46_080, 46_081, 150_000] {
            agent.write_file("/srv/data", &content(size)).await.unwrap();
            let inside = simulator.guest_agent(101).read_file("/srv/data");
            assert!(
                inside == Some(content(size)),
                "{release}: {size} bytes written"
            );
            let read = agent.read_file("/srv/data").await.unwrap();
            assert!(read == content(size), "{release}: {size} bytes read");
        }
        let partial = simulator.guest_agent(101).read_file("/srv/data.partial");
        assert_eq!(partial, None, "nothing is left behind");

        // More than one read of the server from the agent, and more than one read of this crate.
        for size in [MIB, 5 * MIB + 5] {
            simulator.guest_agent(101).write_file("/big", content(size));
            let read = agent.read_file("/big").await.unwrap();
            assert!(read == content(size), "{release}: {size} bytes read");
        }
        // This release cannot read files beyond one call.
        if release == "8.4" {
            let huge = simulator.guest_agent(101);
            // Bytes whose JSON is longest.
            huge.write_file("/huge", vec![1; 16 * MIB - 1]);
            let read = agent.read_file("/huge").await.unwrap();
            assert!(read == vec![1; 16 * MIB - 1], "as much as one call can");
            huge.write_file("/huge", vec![1; 16 * MIB + 1]);
            let error = agent.read_file("/huge").await.unwrap_err().to_string();
            assert!(error.contains("larger than 16 MiB"), "{error}");
        }
        // The limit of the program, for reads in chunks and as a whole.
        let bounds = Bounds::new().file(MIB - 1);
        let frugal = client(&simulator).bounds(bounds).build().unwrap();
        simulator
            .guest_agent(101)
            .write_file("/big", content(MIB - 1));
        let frugal = frugal.guest(101).agent();
        assert_eq!(frugal.read_file("/big").await.unwrap().len(), MIB - 1);
        simulator.guest_agent(101).write_file("/big", content(MIB));
        let Err(Error::Exceeded(error)) = frugal.read_file("/big").await else {
            panic!("{release}: it is too long")
        };
        assert_eq!(error.exceeded().bound(), Bound::File);
        assert!(error.to_string().contains("1048575 bytes"), "{error}");
        let missing = agent.read_file("/nowhere").await.unwrap_err();
        assert!(missing.to_string().contains("No such file"), "{missing}");
        let nowhere = agent.write_file("/big/inside", &content(50_000)).await;
        assert!(nowhere.is_err(), "a file is not a directory");
    }
}

#[tokio::test]
async fn addresses_and_file_systems() {
    let (_simulator, pve) = start(machines().running(101).running(201)).await;
    let ips = |texts: &[&str]| -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let machine = pve.guest(101);
    let found = machine.interfaces().await.unwrap();
    let card = found.iter().find(|card| card.name == "eth0").unwrap();
    assert_eq!(card.mac.as_deref(), Some("bc:24:11:00:00:01"));
    assert_eq!(card.addresses[0].to_string(), "192.0.2.7/24");
    let reachable = machine.wait_for_address(PATIENCE).await.unwrap();
    assert_eq!(reachable, ips(&["192.0.2.7"]));
    let reachable = pve.guest(201).wait_for_address(PATIENCE).await.unwrap();
    assert_eq!(reachable, ips(&["192.0.2.9", "2001:db8::9"]));

    let systems = machine.agent().file_systems().await.unwrap();
    let root = &systems[0];
    assert_eq!((&*root.mount_point, &*root.file_system), ("/", "ext4"));
    assert_eq!((root.total, root.used), (Some(8 << 30), Some(2 << 30)));
}
