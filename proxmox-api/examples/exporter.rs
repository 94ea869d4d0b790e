//! Serves a cluster's metrics to Prometheus: `cargo run -p proxmox-api --example exporter`.
//!
//! Listens on `PROXMOX_EXPORTER`, by default `127.0.0.1:9221`. On the simulated cluster it listens
//! on a free port, reads its own metrics once, prints them and ends.

mod common;

use std::time::Duration;

use common::{Outcome, open, variable};
use proxmox_api::Client;
use proxmox_api::manage::metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Outcome {
    let (simulator, pve) = open(|builder| {
        builder
            .qemu(100, "pve1", &[("name", "web"), ("memory", "2048")])
            .running(100)
            .lxc(
                200,
                "pve2",
                &[("hostname", "dns"), ("rootfs", "local-lvm:4")],
            )
    })
    .await?;
    let address = match (variable("PROXMOX_EXPORTER"), &simulator) {
        (Some(address), _) => address,
        (None, Some(_)) => "127.0.0.1:0".to_owned(),
        (None, None) => "127.0.0.1:9221".to_owned(),
    };
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    println!("http://{address}/metrics");
    let server = tokio::spawn(serve(listener, pve));
    if simulator.is_none() {
        return server.await?;
    }
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("\n{answer}");
    match answer.starts_with("HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err("the exporter did not answer".into()),
    }
}

async fn serve(listener: TcpListener, pve: Client) -> Outcome {
    loop {
        let (stream, _) = listener.accept().await?;
        let pve = pve.clone();
        tokio::spawn(async move {
            // Ignores a client that disconnected.
            let _ = tokio::time::timeout(Duration::from_secs(30), answer(stream, &pve)).await;
        });
    }
}

async fn answer(mut stream: TcpStream, pve: &Client) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 8_192 {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, kind, body) = if !request.starts_with(b"GET /metrics ") {
        ("404 Not Found", "text/plain", "See /metrics.\n".to_owned())
    } else {
        match metrics::scrape(pve).await {
            Ok(text) => ("200 OK", metrics::CONTENT_TYPE, text),
            Err(error) => {
                eprintln!("{error}");
                (
                    "502 Bad Gateway",
                    "text/plain",
                    "The cluster is unreachable.\n".to_owned(),
                )
            }
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
