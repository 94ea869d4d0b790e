//! Attacks: servers on raw sockets that do what no honest server does, and what it takes to stand them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proxmox_api::client::limit::RateLimit;
use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, ClientBuilder, Error};

/// Serves each connection in a thread of its own and gives the address.
fn serve(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), answer) = (stream, Arc::clone(&answer)) else {
                return;
            };
            std::thread::spawn(move || answer(&mut stream));
        }
    });
    url
}

/// Reads the head of a request without a body; `None` at the end of the connection.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&piece[..count]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn builder(url: &str) -> ClientBuilder {
    Client::builder(url)
        .api_token("root@pam!ci", "0a1b2c3d")
        .rate_limit(RateLimit::none())
        .retry(RetryPolicy::none())
}

/// Refuses so many calls, each with a phrase of its own, and counts who got another one.
async fn mixed_up(calls: usize, body: &'static str) -> usize {
    let url = serve(move |stream| {
        while let Some(head) = read_head(stream) {
            let id = head.split(['/', ' ']).nth(5).unwrap_or_default();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 500 phrase {id}\r\nContent-Length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let client = builder(&url).concurrency(8, 8).build().expect("complete");
    let wrong = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (client, wrong) = (client.clone(), Arc::clone(&wrong));
        tasks.spawn(async move {
            for number in (task..calls).step_by(64) {
                let call = client.request(Method::Get, format!("/pools/{number}"));
                match call.await {
                    Err(Error::Api(error)) if error.reason() == format!("phrase {number}") => {}
                    _ => {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    wrong.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_refusal_has_its_own_phrase() {
    assert_eq!(mixed_up(10_000, r#"{"data":null}"#).await, 0);
    assert_eq!(mixed_up(10_000, "").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes; run it after a change of the transport"]
async fn every_one_of_half_a_million_refusals_has_its_own_phrase() {
    assert_eq!(mixed_up(250_000, r#"{"data":null}"#).await, 0);
    assert_eq!(mixed_up(250_000, "").await, 0);
}
