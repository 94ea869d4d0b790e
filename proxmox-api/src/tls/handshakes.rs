//! TLS handshakes and their verification, tested on a socket.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::client::call::Call;
use crate::client::retry::RetryPolicy;
use crate::client::{Client, ClientBuilder};
use crate::error::Error;
use crate::transport::{Transport, TransportError, Upgraded, WireRequest};
use crate::value::endpoint::Method;

struct Server {
    url: String,
    certificate: rcgen::Certificate,
    /// The fingerprint of the certificate that each client showed.
    presented: Arc<Mutex<Vec<Option<Fingerprint>>>>,
}

/// Answers every request with an empty success; `clients` is the certificate that clients must
/// have.
async fn server(clients: Option<CertificateDer<'static>>) -> Server {
    let generated =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let chain = vec![CertificateDer::from(generated.cert.der().to_vec())];
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("supported versions");
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(certificate) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate).expect("usable");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("complete");
            config.with_client_cert_verifier(verifier)
        }
    };
    let config = config
        .with_single_cert(chain, key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let presented = Arc::<Mutex<Vec<_>>>::default();
    let seen = Arc::clone(&presented);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let peer = stream.get_ref().1.peer_certificates();
            let peer = peer
                .and_then(|chain| chain.first())
                .map(|first| Fingerprint::of(first));
            seen.lock().expect("no panic").push(peer);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else {
                    break;
                };
                head.push(byte);
            }
            let answer =
                "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"data\":null}";
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    Server {
        url: format!("https://localhost:{port}"),
        certificate: generated.cert,
        presented,
    }
}

fn builder(server: &Server) -> ClientBuilder {
    Client::builder(&server.url).retry(RetryPolicy::none())
}

async fn version(builder: ClientBuilder) -> Result<(), Error> {
    let client = builder.build()?;
    client
        .execute(Call::new(Method::Get, "/version"))
        .await
        .map(drop)
}

/// Shares a store between several clients.
#[derive(Clone, Debug)]
struct Shared(Arc<KnownHosts>);

impl TrustStore for Shared {
    fn check(&self, host: &str, port: u16, fingerprint: Fingerprint) -> Result<(), Distrust> {
        self.0.check(host, port, fingerprint)
    }
}

#[tokio::test]
async fn a_certificate_is_confirmed_once_and_then_required() {
    let (one, other) = (server(None).await, server(None).await);
    let questions = Arc::<Mutex<Vec<_>>>::default();
    let known = Shared(Arc::new(KnownHosts::in_memory({
        let questions = Arc::clone(&questions);
        move |host, fingerprint| {
            questions
                .lock()
                .expect("no panic")
                .push((host.to_owned(), fingerprint));
            true
        }
    })));
    for _ in 0..2 {
        version(builder(&one).trust_on_first_use(known.clone()))
            .await
            .expect("accepted");
    }
    let fingerprint = Fingerprint::of(one.certificate.der());
    assert_eq!(
        *questions.lock().expect("no panic"),
        [(one.url.replace("https://", ""), fingerprint)]
    );
    version(builder(&other).trust_on_first_use(known))
        .await
        .expect("another port is another server");
    assert_eq!(questions.lock().expect("no panic").len(), 2);

    let port = one
        .url
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    let wrong = Fingerprint::of(b"another");
    let known = KnownHosts::in_memory(|_, _| true);
    known
        .check("localhost", port.expect("a port"), wrong)
        .expect("first use");
    let error = version(builder(&one).trust_on_first_use(known))
        .await
        .expect_err("it changed");
    assert!(error.never_sent());
    let text = error.to_string();
    assert!(
        text.contains(&format!("expected {wrong}, shown {fingerprint}")),
        "{text}"
    );
    let Error::Connect(error) = error else {
        panic!("nothing was sent: {error}");
    };
    assert_eq!(error.expected_certificates(), [wrong]);
    assert_eq!(error.server_certificate(), Some(fingerprint));
}

#[test]
fn contradicting_settings_are_refused() {
    let builder = || Client::builder("pve1").trust_on_first_use(KnownHosts::in_memory(|_, _| true));
    for (builder, named) in [
        (
            builder().danger_accept_invalid_certs(true),
            "danger_accept_invalid_certs",
        ),
        (builder().fingerprint(Fingerprint::of(b"x")), "fingerprint"),
    ] {
        let error = builder.build().expect_err(named).to_string();
        assert!(
            error.contains(named) && error.contains("trust_on_first_use"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_stops_the_request() {
    let server = server(None).await;
    let known = KnownHosts::in_memory(|_, _| false);
    let error = version(builder(&server).trust_on_first_use(known))
        .await
        .expect_err("refused");
    assert!(error.never_sent());
    assert!(
        error.to_string().contains("the program did not accept it"),
        "{error}"
    );
    assert!(server.presented.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn certificates_of_an_authority_need_no_confirmation() {
    let server = server(None).await;
    let never =
        KnownHosts::in_memory(|host, _| panic!("an authority signed the certificate of {host}"));
    let builder = builder(&server)
        .ca_pem(server.certificate.pem())
        .trust_on_first_use(never);
    version(builder).await.expect("sourced for");
}

#[tokio::test]
async fn a_client_certificate_is_accepted() {
    let identity =
        rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate");
    let server = server(Some(identity.cert.der().clone())).await;
    let pin = Fingerprint::of(server.certificate.der());
    version(builder(&server).fingerprint(pin))
        .await
        .expect_err("it shows none");

    let key = identity.signing_key.serialize_pem();
    let with = |chain: &str, key: &str| {
        builder(&server)
            .fingerprint(pin)
            .client_certificate(chain, key)
    };
    version(with(&identity.cert.pem(), &key))
        .await
        .expect("known");
    let both = format!("{key}\n{}", identity.cert.pem());
    version(with(&both, &both)).await.expect("known");
    let presented = Some(Fingerprint::of(identity.cert.der()));
    assert_eq!(
        *server.presented.lock().expect("no panic"),
        [presented, presented]
    );
}

#[test]
fn an_invalid_client_certificate_is_refused_without_showing_its_key() {
    let identity =
        rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).expect("a certificate");
    let (pem, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let foreign = other.signing_key.serialize_pem();
    let secret = key.lines().nth(1).expect("a line of the key");
    for (chain, key) in [
        ("", key.as_str()),
        (pem.as_str(), ""),
        (key.as_str(), key.as_str()),
        (pem.as_str(), pem.as_str()),
        (pem.as_str(), foreign.as_str()),
    ] {
        let builder = Client::builder("pve1").client_certificate(chain, key);
        let printed = format!("{builder:?}");
        let error = builder.build().expect_err("they do not fit");
        assert!(error.to_string().contains("client certificate"), "{error}");
        assert!(!format!("{printed} {error} {error:?}").contains(secret));
    }
}

/// Shows one of several certificates.
#[derive(Debug)]
struct RotatingCertResolver {
    keys: Vec<Arc<CertifiedKey>>,
    current: AtomicUsize,
}

impl ResolvesServerCert for RotatingCertResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.keys.get(self.current.load(Ordering::SeqCst)).cloned()
    }
}

/// A server that changes its certificate, and resumes sessions from before the change.
struct Changing {
    url: String,
    resolver: Arc<RotatingCertResolver>,
    certificates: Vec<rcgen::Certificate>,
    /// The kind of each connection's handshake.
    kinds: Arc<Mutex<Vec<Option<HandshakeKind>>>>,
}

impl Changing {
    async fn start() -> Self {
        let mut keys = Vec::new();
        let mut certificates = Vec::new();
        for _ in 0..2 {
            let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
            let generated = generated.expect("a certificate");
            let chain = vec![CertificateDer::from(generated.cert.der().to_vec())];
            let key =
                PrivateKeyDer::try_from(generated.signing_key.serialize_der()).expect("a key");
            let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a usable key");
            keys.push(Arc::new(CertifiedKey::new(chain, key)));
            certificates.push(generated.cert);
        }
        let current = AtomicUsize::new(0);
        let resolver = Arc::new(RotatingCertResolver { keys, current });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("supported versions")
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let kinds = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&kinds);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let kind = stream.get_ref().1.handshake_kind();
                seen.lock().expect("no panic").push(kind);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        break;
                    };
                    head.push(byte);
                }
                let upgrade = String::from_utf8_lossy(&head).contains("Upgrade");
                let answer = match upgrade {
                    true => {
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                    }
                    false => {
                        "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"data\":null}"
                    }
                };
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self {
            url: format!("https://localhost:{port}"),
            resolver,
            certificates,
            kinds,
        }
    }

    fn fingerprint(&self, number: usize) -> Fingerprint {
        Fingerprint::of(self.certificates[number].der())
    }

    fn kinds(&self) -> Vec<Option<HandshakeKind>> {
        std::mem::take(&mut self.kinds.lock().expect("no panic"))
    }

    async fn get(&self, transport: &dyn Transport) -> Result<(), TransportError> {
        let request = WireRequest::new(Method::Get, &self.url, "/api2/json/version");
        transport.send(request).await.map(drop)
    }

    async fn websocket(&self, transport: &dyn Transport) -> Result<(), TransportError> {
        let mut request = WireRequest::new(Method::Get, &self.url, "/api2/json/x/vncwebsocket");
        for (name, value) in [("Connection", "Upgrade"), ("Upgrade", "websocket")] {
            request.headers.push((name.to_owned(), value.to_owned()));
        }
        let upgraded = transport.upgrade(request).await?;
        assert!(matches!(upgraded, Upgraded::Switched(..)), "{upgraded:?}");
        Ok(())
    }
}

#[tokio::test]
async fn a_pin_applies_to_resumed_sessions() {
    let server = Changing::start().await;
    let sourced = Client::builder(&server.url).ca_pem(server.certificates[0].pem());
    let sourced = sourced.build_transport().expect("complete");
    for _ in 0..2 {
        server.get(&*sourced).await.expect("sourced for");
    }
    let kinds = server.kinds();
    assert_eq!(
        kinds[1],
        Some(HandshakeKind::Resumed),
        "the server does resume"
    );

    let first = server.fingerprint(0);
    for builder in [
        Client::builder(&server.url).fingerprint(first),
        Client::builder(&server.url)
            .trust_on_first_use(KnownHosts::in_memory(move |_, shown| shown == first)),
    ] {
        server.resolver.current.store(0, Ordering::SeqCst);
        let transport = builder.build_transport().expect("complete");
        server
            .get(&*transport)
            .await
            .expect("the one that is known");
        server
            .websocket(&*transport)
            .await
            .expect("the one that is known");
        server
            .get(&*transport)
            .await
            .expect("the one that is known");
        let kinds = server.kinds();
        assert_eq!(kinds.len(), 3);
        assert!(!kinds.contains(&Some(HandshakeKind::Resumed)), "{kinds:?}");

        server.resolver.current.store(1, Ordering::SeqCst);
        for error in [
            server.get(&*transport).await.expect_err("another one"),
            server
                .websocket(&*transport)
                .await
                .expect_err("another one"),
        ] {
            assert!(error.is_never_sent(), "{error}");
            assert_eq!(error.server_certificate(), Some(server.fingerprint(1)));
        }
    }
}
