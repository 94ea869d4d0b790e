use tokio::net::TcpListener;

use super::*;
use crate::client::Client;
use crate::client::retry::RetryPolicy;
use crate::error::Error;
use crate::request::Call;
use crate::transport::tests::unused_address;
use crate::value::endpoint::Method;

#[test]
fn addresses_are_parsed_and_passwords_are_not_printed() {
    for (text, address) in [
        ("http://proxy:3128", "the proxy proxy:3128"),
        ("proxy:3128/", "the proxy proxy:3128"),
        ("http://bob:hunter22@[::1]:8080", "the proxy [::1]:8080"),
        ("socks5://bob:hunter22@proxy", "the proxy proxy:1080"),
        ("socks5h://proxy:9050/", "the proxy proxy:9050"),
    ] {
        let proxy = Proxy::parse(text).expect(text);
        assert_eq!(proxy.to_string(), address);
        assert!(!format!("{proxy:?}").contains("hunter22"));
    }
    for text in [
        "",
        "https://bob:hunter22@proxy",
        "socks4://bob:hunter22@proxy",
        "socks5://bob:hunter22@pro xy",
        "http://bob:hunter22@pro xy",
        "http://proxy/path",
    ] {
        let error = Proxy::parse(text).expect_err(text).to_string();
        assert!(!error.contains("hunter22"), "{error}");
    }
}

#[test]
fn a_login_that_is_too_long_for_socks_is_refused() {
    let login = |length| format!("socks5://bob:{}@proxy", "x".repeat(length));
    Proxy::parse(&login(255)).expect("it fits");
    let error = Proxy::parse(&login(256)).expect_err("too long").to_string();
    assert!(
        error.contains("too long") && !error.contains("xx"),
        "{error}"
    );
}

/// A proxy for one connection: sends this answer to the `CONNECT`, and then acts as the server
/// itself.
async fn proxy(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut seen = Vec::new();
        for answer in [
            answer,
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"data\":1}",
        ] {
            let start = seen.len();
            while !seen[start..].ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => seen.push(byte),
                    Err(_) => return latin1_or_utf8(&seen),
                }
            }
            stream
                .write_all(answer.as_bytes())
                .await
                .expect("somebody reads");
        }
        latin1_or_utf8(&seen)
    });
    (format!("http://bob:p%40ss@{address}"), server)
}

async fn version_through(proxy: &str) -> Result<crate::client::Reply, Error> {
    Client::builder("http://pve1.invalid:8006")
        .danger_allow_http(true)
        .proxy(proxy)
        .retry(RetryPolicy::none())
        .build()
        .expect("complete")
        .execute(Call::new(Method::Get, "/version"))
        .await
}

#[tokio::test]
async fn a_request_goes_through_the_tunnel() {
    let (url, server) = proxy("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
    let reply = version_through(&url).await.expect("answered");
    assert_eq!(reply.body, "{\"data\":1}");
    let seen = server.await.expect("no panic");
    let (connect, request) = seen.split_once("\r\n\r\n").expect("two requests");
    assert_eq!(
        connect,
        "CONNECT pve1.invalid:8006 HTTP/1.1\r\nHost: pve1.invalid:8006\r\n\
         Proxy-Authorization: Basic Ym9iOnBAc3M="
    );
    assert!(
        request.starts_with("GET /api2/json/version HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        !request.to_ascii_lowercase().contains("proxy-authorization"),
        "{request}"
    );
}

#[tokio::test]
async fn errors_name_a_refusing_proxy() {
    for (answer, text) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "refuses: 407 Proxy Authentication Required",
        ),
        ("SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
    ] {
        let (url, server) = proxy(answer).await;
        let error = version_through(&url).await.expect_err("refused");
        assert!(error.never_sent());
        let message = error.to_string();
        assert!(
            message.contains("the proxy 127.0.0.1:") && message.ends_with(text),
            "{message}"
        );
        assert!(
            !message.contains("p@ss") && !message.contains("p%40ss"),
            "{message}"
        );
        server.await.expect("no panic");
    }
}

#[tokio::test]
async fn errors_name_an_unreachable_proxy() {
    let (_socket, address) = unused_address();
    let error = version_through(&address.to_string())
        .await
        .expect_err("nobody listens");
    assert!(error.never_sent());
    assert!(
        error
            .to_string()
            .contains(&format!("the proxy {address} cannot be reached")),
        "{error}"
    );
}

/// A SOCKS server for one connection: asks for a password, sends this answer to the request, and
/// then acts as the server itself.
async fn socks(answer: u8) -> (String, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut seen = Vec::new();
        let name = "pve1.invalid".len();
        for (length, bytes) in [
            (3, vec![5, 2]),
            (3 + "bob".len() + "p@ss".len(), vec![1, 0]),
            (7 + name, vec![5, answer, 0, 1, 0, 0, 0, 0, 0, 0]),
        ] {
            let mut some = vec![0; length];
            stream.read_exact(&mut some).await.expect("a message");
            seen.extend_from_slice(&some);
            stream.write_all(&bytes).await.expect("somebody reads");
        }
        if answer == 0 {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"data\":1}";
            stream.write_all(reply).await.expect("somebody reads");
        }
        seen
    });
    (format!("socks5://bob:p%40ss@{address}"), server)
}

#[tokio::test]
async fn a_socks_proxy_resolves_the_name() {
    let (url, server) = socks(0).await;
    let reply = version_through(&url).await.expect("answered");
    assert_eq!(reply.body, "{\"data\":1}");
    let seen = server.await.expect("no panic");
    let mut expected = vec![5, 1, 2, 1, 3];
    expected.extend_from_slice(b"bob\x04p@ss");
    expected.extend_from_slice(&[5, 1, 0, 3, 12]);
    expected.extend_from_slice(b"pve1.invalid");
    expected.extend_from_slice(&8006_u16.to_be_bytes());
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn errors_name_a_refusing_socks_server() {
    let (url, server) = socks(2).await;
    let error = version_through(&url).await.expect_err("refused");
    assert!(error.never_sent());
    let message = error.to_string();
    assert!(
        message.contains("the proxy 127.0.0.1:") && message.contains(" refused the tunnel: "),
        "{message}"
    );
    assert!(
        !message.contains("p@ss") && !message.contains("p%40ss"),
        "{message}"
    );
    server.await.expect("no panic");
}

fn environment(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
    let proxies = Proxies::from_variables(&|name| {
        let found = variables.iter().find(|(key, _)| *key == name)?;
        Some(found.1.to_owned())
    })?;
    Ok(proxies)
}

fn chosen(proxies: &Proxies, url: &str) -> String {
    let proxy = proxies.of(&url.parse().expect(url));
    proxy.map_or("none".to_owned(), |proxy| proxy.to_string())
}

#[test]
fn each_scheme_has_its_environment_variable() {
    let (secure, plain) = ("https://pve1:8006", "http://pve1:8006");
    for (variables, for_secure, for_plain) in [
        (&[][..], "none", "none"),
        (&[("HTTPS_PROXY", " ")], "none", "none"),
        (
            &[("HTTPS_PROXY", "http://a:1")],
            "the proxy a:1 of HTTPS_PROXY",
            "none",
        ),
        (
            &[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "b:2")],
            "the proxy b:2 of https_proxy",
            "none",
        ),
        (
            &[("ALL_PROXY", "socks5://c"), ("http_proxy", "d:4")],
            "the proxy c:1080 of ALL_PROXY",
            "the proxy d:4 of http_proxy",
        ),
        // The caller of a CGI program can set it.
        (&[("HTTP_PROXY", "evil:1")], "none", "none"),
        (
            &[("all_proxy", "e:5"), ("NO_PROXY", "example.org,pve1")],
            "none",
            "none",
        ),
    ] {
        let proxies = environment(variables).expect("they parse");
        assert_eq!(chosen(&proxies, secure), for_secure, "{variables:?}");
        assert_eq!(chosen(&proxies, plain), for_plain, "{variables:?}");
        for local in [
            "https://localhost:8006",
            "https://127.1.2.3:8006",
            "https://[::1]:8006",
        ] {
            assert_eq!(chosen(&proxies, local), "none", "{variables:?}");
        }
    }
    let error = environment(&[("HTTPS_PROXY", "ftp://bob:hunter22@proxy")]).expect_err("no proxy");
    assert_eq!(
        error.to_string(),
        "client settings: HTTPS_PROXY: the proxy address \"proxy\" must start with http:// or socks5://"
    );
    // An explicit proxy serves this machine, too.
    let explicit = Proxies::one(Proxy::parse("http://a:1").expect("usable"));
    assert_eq!(chosen(&explicit, "https://localhost:8006"), "the proxy a:1");
}

#[test]
fn exempted_servers_are_reached_directly() {
    let list = "Example.ORG, .lan *.home 192.0.2.7,10.1.0.0/16,2001:db8::/32,[fd00::1],10.9.0.0/x";
    let proxies = environment(&[("ALL_PROXY", "p:1"), ("no_proxy", list)]).expect("usable");
    for (host, direct) in [
        ("example.org", true),
        ("pve1.example.org", true),
        ("pve1.EXAMPLE.org.", true),
        ("notexample.org", false),
        ("example.org.evil.net", false),
        ("pve1.lan", true),
        ("pve1.home", true),
        ("pve1", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("10.1.255.255", true),
        ("10.2.0.0", false),
        ("10.9.0.0", false),
        ("[2001:db8:1::1]", true),
        ("[2001:db9::1]", false),
        ("[fd00::1]", true),
        ("[fd00::2]", false),
    ] {
        let route = chosen(&proxies, &format!("https://{host}:8006"));
        assert_eq!(route == "none", direct, "{host}");
    }
    let all = environment(&[("ALL_PROXY", "p:1"), ("no_proxy", "a, *")]).expect("usable");
    assert_eq!(chosen(&all, "https://pve1:8006"), "none");
}

#[tokio::test]
async fn the_builder_can_disable_proxies() {
    let (url, server) = proxy("HTTP/1.1 200 OK\r\n\r\n").await;
    let error = Client::builder("http://127.0.0.1:1")
        .proxy(url)
        .no_proxy()
        .retry(RetryPolicy::none())
        .build()
        .expect("complete")
        .execute(Call::new(Method::Get, "/version"))
        .await
        .expect_err("nobody listens there");
    assert!(!error.to_string().contains("proxy"), "{error}");
    server.abort();
}

/// The variables of a process cannot be set while it runs, so this test runs itself as another
/// process.
#[tokio::test]
async fn a_client_uses_the_proxy_of_its_environment_by_default() {
    const INSIDE: &str = "PROXMOX_API_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let call = async |builder: crate::client::ClientBuilder| {
            let client = builder
                .retry(RetryPolicy::none())
                .build()
                .expect("complete");
            let call = Call::new(Method::Get, "/version");
            client
                .execute(call)
                .await
                .expect_err("there is no such server")
                .to_string()
        };
        let text = call(Client::builder("pve1.invalid")).await;
        let refusal = " of HTTPS_PROXY refuses: 407 Proxy Authentication Required";
        assert!(text.ends_with(refusal), "{text}");
        for direct in [
            Client::builder("pve1.invalid").no_proxy(),
            Client::builder("direct.invalid"),
        ] {
            let text = call(direct).await;
            assert!(!text.contains("proxy"), "{text}");
        }
        return;
    }
    let (url, server) = proxy("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let program = std::env::current_exe().expect("a program");
    let name = "a_client_uses_the_proxy_of_its_environment_by_default";
    let mut inside = std::process::Command::new(program);
    for other in ["https_proxy", "all_proxy", "ALL_PROXY", "no_proxy"] {
        inside.env_remove(other);
    }
    inside
        .args(["--exact", &format!("transport::proxy::tests::{name}")])
        .env("HTTPS_PROXY", url)
        .env("NO_PROXY", "direct.invalid")
        .env(INSIDE, "1");
    let ran = tokio::task::spawn_blocking(move || inside.output()).await;
    let ran = ran.expect("no panic").expect("it runs");
    let output = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && output.contains("1 passed"),
        "{output}"
    );
    server.await.expect("no panic");
}

proptest::proptest! {
    #[test]
    fn no_variable_causes_a_panic(text in "\\PC{0,60}", net in "[0-9.:\\[\\]a-f*]{0,20}/[0-9]{0,12}") {
        let _ = Proxy::parse(&text).map(|proxy| format!("{proxy:?} {proxy}"));
        for text in [&text, &net] {
            let no_proxy = environment::NoProxy::parse(text);
            for host in ["pve1.example.org", "192.0.2.7", "2001:db8::1", text] {
                let _ = no_proxy.has(host);
            }
        }
    }
}

#[tokio::test]
async fn no_answer_of_a_proxy_causes_a_panic() {
    let long: &'static str = "x".repeat(MAX_ANSWER * 2).leak();
    for answer in [
        "\r\n\r\n",
        "\0\0\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 \r\n\r\n",
        "HTTP/1.1 99999999999999999999\r\n\r\n",
        "HTTP/1.9 407 \u{1b}[31m\u{202e}\r\nx\r\n\r\n",
        long,
    ] {
        let (url, server) = proxy(answer).await;
        let error = version_through(&url).await.expect_err("no way");
        assert!(error.never_sent(), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.len() < 3000 && !text.contains('\u{1b}'), "{text}");
        server.abort();
    }
}

#[tokio::test]
async fn a_login_repeated_by_a_proxy_is_not_shown() {
    let answer = "HTTP/1.1 407 bob:p@ss p%40ss Ym9iOnBAc3M= 70407373\r\n\r\n";
    let (url, server) = proxy(answer).await;
    let error = version_through(&url).await.expect_err("refused");
    let text = format!("{error} {error:?}");
    assert!(text.contains("407"), "{text}");
    for secret in ["p@ss", "p%40ss", "Ym9iOnBAc3M"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    server.abort();
}
