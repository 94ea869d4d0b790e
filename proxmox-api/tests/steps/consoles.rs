//! Consoles that one process opens and another attaches to.

use proxmox_api::Client;
use proxmox_api::manage::guest::Display;
use proxmox_api::stream::console::ConsoleTicket;
use proxmox_simulator::{Builder, ROOT_PASSWORD, Simulator, last_of_each_major};

use crate::support::start;

fn cluster(release: &str) -> Builder {
    Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .qemu(101, "pve1", &[("vga", "qxl"), ("serial0", "socket")])
        .qemu(102, "pve1", &[("vga", "serial0"), ("serial0", "socket")])
        .qemu(103, "pve1", &[("vga", "none")])
        .qemu(104, "pve1", &[])
        .lxc(201, "pve2", &[("rootfs", "local-lvm:1")])
        .running(101)
        .running(102)
        .running(201)
}

#[tokio::test]
async fn a_guest_has_the_displays_of_its_configuration() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        for (vmid, displays) in [
            (
                101,
                vec![Display::Spice, Display::Vnc, Display::Terminal(0)],
            ),
            (102, vec![Display::Terminal(0)]),
            (103, vec![]),
            (104, vec![Display::Vnc]),
            (201, vec![Display::Terminal(0), Display::Vnc]),
        ] {
            let console = pve.guest(vmid).console().await.unwrap();
            assert_eq!(console.displays(), displays, "{release} {vmid}");
        }
        let mut terminal = pve
            .guest(101)
            .console()
            .await
            .unwrap()
            .terminal(0)
            .terminal()
            .await
            .unwrap();
        terminal.write(b"x").await.unwrap();
        let requests = simulator.requests();
        let opened = requests
            .iter()
            .find(|request| request.path.ends_with("101/termproxy"));
        assert_eq!(opened.unwrap().params["serial"], "serial0", "{release}");
        pve.guest(201)
            .console()
            .await
            .unwrap()
            .open()
            .terminal()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_opened_console_can_be_attached_to_elsewhere() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        // Another process: it gets only a text.
        let other = || {
            Client::builder(simulator.url())
                .password("root@pam", ROOT_PASSWORD)
                .fingerprint(simulator.fingerprint().parse().unwrap())
                .build()
                .unwrap()
        };
        let opened = pve
            .guest(201)
            .console()
            .await
            .unwrap()
            .open()
            .open_terminal()
            .await
            .unwrap();
        let text = opened.to_text();
        assert!(!format!("{opened:?} {text:?}").contains(opened.ticket().expose()));
        let ticket: ConsoleTicket = text.expose().parse().unwrap();
        assert_eq!((ticket.port(), ticket.user()), (opened.port(), "root@pam"));
        let mut terminal = other()
            .attach_console(ticket.clone())
            .terminal()
            .await
            .unwrap();
        terminal.resize(80, 24).await.unwrap();
        terminal.write(b"hostname\n").await.unwrap();
        let output = terminal.read().await.unwrap();
        assert!(output.is_some_and(|output| !output.is_empty()), "{release}");
        terminal.close().await.unwrap();

        let opened = pve
            .guest(101)
            .console()
            .await
            .unwrap()
            .open()
            .open_vnc()
            .await
            .unwrap();
        assert!(opened.password().is_some());
        let vnc = other().attach_console(opened).vnc().await.unwrap();
        drop(vnc);

        // The requested node opens a console of a guest whose node is offline; the other end does
        // not exist.
        simulator.set_online("pve2", false);
        let opened = pve
            .guest(201)
            .console()
            .await
            .unwrap()
            .open()
            .open_terminal()
            .await
            .unwrap();
        let nothing = match other().attach_console(opened).terminal().await {
            Ok(mut terminal) => !matches!(terminal.read().await, Ok(Some(_))),
            Err(_) => true,
        };
        assert!(nothing, "{release}");
        simulator.set_online("pve2", true);
        // A port without a listener, and a text that is not a ticket.
        let invalid: ConsoleTicket = text
            .expose()
            .replace("\"port\":\"", "\"port\":\"9")
            .parse()
            .unwrap();
        other()
            .attach_console(invalid)
            .terminal()
            .await
            .map(drop)
            .unwrap_err();
        let error = "{\"ticket\":\"s3cret\"}"
            .parse::<ConsoleTicket>()
            .unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
