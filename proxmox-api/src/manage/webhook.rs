//! Signed delivery of events to other programs.
//!
//! A delivery is a POST with the event as JSON and two headers: `X-Webhook-Timestamp`, in seconds
//! since 1970, and `X-Webhook-Signature`, which is `sha256=` and the HMAC-SHA256 of
//! `timestamp.body` in hexadecimal. A receiver checks both with [`verify`], which refuses forged,
//! changed and replayed deliveries.
//!
//! ```
//! use proxmox_api::manage::webhook::{WINDOW, sign, verify};
//!
//! let (time, body) = (1_768_471_200, br#"{"type":"guest.started"}"#);
//! let signature = sign(b"webhook-secret-key", time, body);
//! assert!(verify(b"webhook-secret-key", &signature, "1768471200", body, time + 299, WINDOW).is_ok());
//! assert!(verify(b"webhook-secret-key", &signature, "1768471200", body, time + 301, WINDOW).is_err());
//! assert!(verify(b"another key", &signature, "1768471200", body, time, WINDOW).is_err());
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::bounds::Bounds;
use crate::error::{DeliveryError, Error};
use crate::manage::events::{Event, unix_now, utc};
use crate::tls::Trust;
use crate::transport::{HttpSettings, HttpTransport, Proxies, Transport, WireRequest};
use crate::value::Secret;
use crate::value::address::{Address, is_this_machine};
use crate::value::endpoint::Method;

/// The header with the signature.
pub const SIGNATURE: &str = "X-Webhook-Signature";

/// The header with the time the signature was made at.
pub const TIMESTAMP: &str = "X-Webhook-Timestamp";

/// The accepted difference between a delivery's time and the receiver's: 300 seconds.
pub const WINDOW: Duration = Duration::from_secs(300);

const SCHEME: &str = "sha256=";

#[inline]
fn mac(secret: &[u8], timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    // HMAC accepts keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret)
        .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// The signature of a body at a time, as `sha256=…`.
#[must_use]
#[inline]
pub fn sign(secret: &[u8], timestamp: u64, body: &[u8]) -> String {
    let tag = mac(secret, &timestamp.to_string(), body)
        .finalize()
        .into_bytes();
    let digits: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{SCHEME}{digits}")
}

/// Checks a delivery: the two headers and the body as received, and the time now in seconds since
/// 1970. Takes constant time for wrong signatures.
///
/// # Errors
/// The reason why the delivery must not be trusted.
#[inline]
pub fn verify(
    secret: &[u8],
    signature: &str,
    timestamp: &str,
    body: &[u8],
    now: u64,
    window: Duration,
) -> Result<(), VerifyError> {
    let digits = (signature.trim().strip_prefix(SCHEME)).ok_or(VerifyError::Malformed)?;
    let tag = unhex(digits).ok_or(VerifyError::Malformed)?;
    let timestamp = timestamp.trim();
    if !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::Malformed);
    }
    let time: u64 = timestamp.parse().map_err(|_| VerifyError::Malformed)?;
    mac(secret, timestamp, body)
        .verify_slice(&tag)
        .map_err(|_| VerifyError::Forged)?;
    if now.abs_diff(time) > window.as_secs() {
        return Err(VerifyError::OutsideWindow);
    }
    Ok(())
}

#[inline]
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    // In lower case only: then a signature has one spelling, and can be used to detect duplicates.
    let value = |digit: u8| match digit {
        b'A'..=b'F' => None,
        digit => char::from(digit).to_digit(16),
    };
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(value(*high)? * 16 + value(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// The reason why a delivery must not be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The signature or the time is malformed.
    Malformed,
    /// The signature was not made with this secret for this body and time.
    Forged,
    /// The signature is right, but was made too long ago, or in the future.
    OutsideWindow,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the signature or its time is malformed",
            Self::Forged => "the signature does not belong to this body, time and secret",
            Self::OutsideWindow => "the delivery is too old, or the clocks differ",
        })
    }
}

impl std::error::Error for VerifyError {}

/// The address of a receiver, its secret, and the events that it gets.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    name: String,
    origin: String,
    path: String,
    events: Vec<String>,
    secret: Secret,
    enabled: bool,
}

/// Addresses that do not belong to one machine of a routed network: link-local, unspecified and
/// multicast ones.
fn is_of_one_segment(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()
        }
        Ok(IpAddr::V6(ip)) => {
            // IPv4 inside IPv6, also behind a translator (RFC 6052).
            let translated = ip.segments().starts_with(&[0x64, 0xff9b, 0, 0, 0, 0]);
            let [.., a, b, c, d] = ip.octets();
            let inside = (ip.to_ipv4()).or_else(|| translated.then(|| Ipv4Addr::new(a, b, c, d)));
            let inside = inside
                .filter(|_| !ip.is_loopback())
                .is_some_and(|ip| is_of_one_segment(&ip.to_string()));
            inside || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast()
        }
        Err(_) => false,
    }
}

impl Webhook {
    /// A webhook for all events. `url` starts with `https://`, or with `http://` for a receiver on this machine; `name` is for
    /// people and logs.
    ///
    /// Refuses addresses of a single network segment, such as `169.254.169.254`, where clouds keep
    /// credentials. Host names are not resolved for this check.
    ///
    /// # Errors
    /// [`Error::Config`] if the URL cannot be used for a POST, or the secret is empty.
    #[inline]
    pub fn new(
        name: impl Into<String>,
        url: &str,
        secret: impl Into<Secret>,
    ) -> Result<Self, Error> {
        Self::checked(name.into(), url, secret.into(), false)
    }

    /// Like [`Webhook::new`], for a receiver on another machine without TLS: anyone on the network
    /// path can read the events.
    ///
    /// # Errors
    /// Those of [`Webhook::new`].
    #[inline]
    pub fn danger_over_http(
        name: impl Into<String>,
        url: &str,
        secret: impl Into<Secret>,
    ) -> Result<Self, Error> {
        Self::checked(name.into(), url, secret.into(), true)
    }

    fn checked(name: String, url: &str, secret: Secret, allow_http: bool) -> Result<Self, Error> {
        let refuse =
            |why: &dyn fmt::Display| Err(Error::config(format!("webhook {name:?}: its URL {why}")));
        if secret.expose().is_empty() {
            return Err(Error::config(format!(
                "webhook {name:?}: its secret is empty"
            )));
        }
        let address = match Address::parse(url) {
            Ok(address) => address,
            Err(error) => return refuse(&error),
        };
        let port = match address.scheme() {
            "https" => 443,
            "http" if allow_http || is_this_machine(address.host()) => 80,
            "http" => {
                return refuse(&"is not encrypted; use https, or allow it with danger_over_http");
            }
            _ => return refuse(&"must start with https:// or http://"),
        };
        if address.login().is_some() {
            return refuse(&"must not contain a user name");
        }
        if url.chars().any(|c| !c.is_ascii_graphic()) {
            return refuse(&"contains white space or characters that must be percent-encoded");
        }
        if is_of_one_segment(address.host()) {
            return refuse(&"has an address that is valid on one network segment only");
        }
        let query = address.query().map(|query| format!("?{query}"));
        Ok(Self {
            origin: match address.port() {
                Some(port) => address.origin(port),
                None => address
                    .origin(port)
                    .trim_end_matches(&format!(":{port}"))
                    .to_owned(),
            },
            path: format!("{}{}", address.path(), query.unwrap_or_default()),
            name,
            events: Vec::new(),
            secret,
            enabled: true,
        })
    }

    /// Restricts it to some events, by name: `guest.started`, or `guest.*` for all with that
    /// prefix.
    #[must_use]
    pub fn events(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.events = names.into_iter().map(Into::into).collect();
        self
    }

    /// Enables or disables it.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it gets an event.
    #[must_use]
    #[inline]
    pub fn wants(&self, event: &Event) -> bool {
        let kind = event.change.kind();
        let fits = |name: &String| match name.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => kind == name,
        };
        self.enabled && (self.events.is_empty() || self.events.iter().any(fits))
    }

    /// The body of a request:
    /// `{"id":"evt-…","timestamp":"2026-01-15T10:00:00Z","type":"guest.started","data":{…}}`.
    #[must_use]
    #[inline]
    pub fn payload(event: &Event) -> String {
        json!({
            "id": event.id(),
            "timestamp": utc(event.time),
            "type": event.change.kind(),
            "data": event.change.data(),
        })
        .to_string()
    }

    #[inline]
    fn request(&self, event: &Event, now: u64) -> WireRequest {
        let body = Self::payload(event);
        let signature = sign(self.secret.expose().as_bytes(), now, body.as_bytes());
        let headers = [
            ("Content-Type", "application/json".to_owned()),
            (TIMESTAMP, now.to_string()),
            (SIGNATURE, signature),
        ];
        let mut request = WireRequest::new(Method::Post, self.origin.clone(), self.path.clone());
        request.headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
        request.body = body.into();
        request
    }
}

/// Shows neither the secret nor the path, which is a secret with some services.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("events", &self.events)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// Delivers events to webhooks.
#[derive(Clone, Debug)]
pub struct Deliverer {
    transport: Arc<dyn Transport>,
    attempts: u32,
    pause: Duration,
}

impl Deliverer {
    /// Delivers over the network, trusting the authorities of the system, in five attempts of ten
    /// seconds each.
    ///
    /// # Errors
    /// [`Error::Config`] if the system's certificates cannot be read.
    #[inline]
    pub fn new() -> Result<Self, Error> {
        let transport = HttpTransport::new(&HttpSettings {
            trust: Trust::default(),
            proxies: Proxies::default(),
            timeout: Duration::from_secs(10),
            read_timeout: None,
            connect_timeout: Duration::from_secs(5),
            bounds: Bounds::new(),
        })?;
        Ok(Self::with_transport(Arc::new(transport)))
    }

    /// Delivers through something else.
    #[must_use]
    pub fn with_transport(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            attempts: 5,
            pause: Duration::from_secs(1),
        }
    }

    /// The maximum number of attempts for a delivery; at least one.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Delivers an event to a webhook, unless the webhook excludes it. A status from 200 to 299 is
    /// success. After a status of 500 and above, 408 or 429, or without any answer, it tries again,
    /// after one second and then twice as long each time, with a new time and signature. Receivers
    /// can get the same event more than once, with the same `id`.
    ///
    /// # Errors
    /// [`Error::Delivery`] with the result of the last attempt.
    pub async fn deliver(&self, hook: &Webhook, event: &Event) -> Result<(), Error> {
        if !hook.wants(event) {
            return Ok(());
        }
        let mut pause = self.pause;
        let mut attempt = 1;
        loop {
            // Only the status matters, and the receiver may be hostile.
            let answer = self.transport.open(hook.request(event, unix_now()));
            let (why, again) = match answer.await.map(|answer| answer.head().status) {
                Ok(200..300) => return Ok(()),
                Ok(status) => {
                    let again = status >= 500 || matches!(status, 408 | 429);
                    (format!("it answered {status}"), again)
                }
                Err(error) => (error.text().to_owned(), true),
            };
            if !again || attempt >= self.attempts {
                let error = DeliveryError::new(hook.name.clone(), attempt, why);
                return Err(Error::Delivery(error));
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::manage::events::Change;
    use crate::testing::{Fake, json};
    use crate::transport::TransportError;

    const SECRET: &[u8] = b"webhook-secret-key";

    fn event() -> Event {
        let change = Change::NodeStatus {
            node: "node2".to_owned(),
            old: Some("online".to_owned()),
            new: "offline".to_owned(),
        };
        Event::new(1_768_471_200, change)
    }

    #[test]
    fn the_signature_equals_that_of_other_implementations() {
        // `printf '1699900000.{}' | openssl dgst -sha256 -hmac webhook-secret-key`
        assert_eq!(
            sign(SECRET, 1_699_900_000, b"{}"),
            "sha256=f7cb7ca69859833b8911509712e3740896962400d17405950d8d09b98453c3a9"
        );
    }

    #[test]
    fn invalid_deliveries_have_specific_errors() {
        let signature = sign(SECRET, 1_000, b"body");
        let loud = format!("sha256={}", signature["sha256=".len()..].to_uppercase());
        let check = |signature: &str, time: &str, body: &[u8], now| {
            verify(SECRET, signature, time, body, now, WINDOW)
        };
        assert_eq!(check(&signature, "1000", b"body", 1_300), Ok(()));
        assert_eq!(check(&signature, "1000", b"body", 700), Ok(()));
        let cases = [
            (
                signature.as_str(),
                "1000",
                &b"body"[..],
                1_301,
                VerifyError::OutsideWindow,
            ),
            (&signature, "1000", b"body", 699, VerifyError::OutsideWindow),
            (&signature, "1001", b"body", 1_000, VerifyError::Forged),
            (&signature, "01000", b"body", 1_000, VerifyError::Forged),
            (&signature, "1000", b"bodY", 1_000, VerifyError::Forged),
            (
                &signature[..20],
                "1000",
                b"body",
                1_000,
                VerifyError::Malformed,
            ),
            ("sha1=00", "1000", b"body", 1_000, VerifyError::Malformed),
            ("sha256=", "1000", b"body", 1_000, VerifyError::Forged),
            ("sha256=zz", "1000", b"body", 1_000, VerifyError::Malformed),
            (&loud, "1000", b"body", 1_000, VerifyError::Malformed),
            (&signature, "+1000", b"body", 1_000, VerifyError::Malformed),
            (&signature, "", b"body", 1_000, VerifyError::Malformed),
        ];
        for (signature, time, body, now, expected) in cases {
            assert_eq!(
                check(signature, time, body, now),
                Err(expected),
                "{signature} {time}"
            );
        }
    }

    proptest! {
        #[test]
        fn changed_deliveries_are_refused(
            secret in prop::collection::vec(any::<u8>(), 0..100), time in any::<u32>(),
            body in prop::collection::vec(any::<u8>(), 0..100), flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let time = u64::from(time);
            let signature = sign(&secret, time, &body);
            prop_assert_eq!(verify(&secret, &signature, &time.to_string(), &body, time, WINDOW), Ok(()));
            if !body.is_empty() && flip.1 != 0 {
                let mut changed = body.clone();
                let at = flip.0.index(changed.len());
                changed[at] ^= flip.1;
                prop_assert_eq!(
                    verify(&secret, &signature, &time.to_string(), &changed, time, WINDOW),
                    Err(VerifyError::Forged)
                );
            }
        }

        #[test]
        fn no_header_causes_a_panic(signature in "(sha256=)?\\PC{0,70}", time in "\\PC{0,20}") {
            let _ = verify(SECRET, &signature, &time, b"", 0, WINDOW);
        }
    }

    #[test]
    fn unusable_urls_are_refused() {
        for url in [
            "hooks.example.org/x",
            "ftp://hooks.example.org/",
            "https:///path",
            "https://user:pw@hooks.example.org/",
            "https://hooks.example.org/a b",
            "https://hooks.example.org/#top",
            "http://[::1",
            "https://hooks.example.org:99999/",
            "http://hooks.example.org/",
            "https://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://0.0.0.0/",
            "https://[::169.254.169.254]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://2852039166/latest",
            "https://0xa9fea9fe/latest",
            "https://169.254.43518/latest",
            "https://169.254.169.254./latest",
        ] {
            let error = Webhook::new("test", url, "s").expect_err(url).to_string();
            assert!(error.contains("webhook \"test\""), "{error}");
            assert!(!error.contains("pw@"), "{error}");
        }
        Webhook::new("test", "https://hooks.example.org", "").expect_err("the secret is empty");
        Webhook::new("test", "http://127.0.0.1:8080/in", "s")
            .expect("it does not leave this machine");
        Webhook::new("test", "https://10.0.0.9/in", "s").expect("receivers are often inside");
        Webhook::danger_over_http("test", "http://10.0.0.9/in", "s").expect("it is allowed");
        let hook = Webhook::new(
            "test",
            "https://hooks.example.org/services/T0KEN?x=1",
            "s3cret",
        )
        .expect("it is a URL");
        assert_eq!(hook.path, "/services/T0KEN?x=1");
        let printed = format!("{hook:?}");
        assert!(
            !printed.contains("T0KEN") && !printed.contains("s3cret"),
            "{printed}"
        );
    }

    #[test]
    fn a_webhook_gets_only_selected_events() {
        let hook = || Webhook::new("test", "https://hooks.example.org", "s").expect("it is a URL");
        assert!(hook().wants(&event()));
        assert!(
            hook()
                .events(["guest.started", "node.offline"])
                .wants(&event())
        );
        assert!(hook().events(["node.*"]).wants(&event()));
        assert!(!hook().events(["guest.*", "node.online"]).wants(&event()));
        assert!(!hook().enabled(false).wants(&event()));
    }

    #[tokio::test(start_paused = true)]
    async fn deliveries_are_signed_and_retried() {
        let attempts = AtomicUsize::new(0);
        let fake = Fake::new(move |_| match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Err(TransportError::interrupted("connection reset")),
            1 => Ok(json(503, "Service Unavailable", "")),
            _ => Ok(json(204, "No Content", "")),
        });
        let hook = Webhook::new("test", "https://hooks.example.org/in", "webhook-secret-key");
        let hook = hook.expect("it is a URL");
        let deliverer = Deliverer::with_transport(Arc::new(fake.clone()));
        deliverer
            .deliver(&hook, &event())
            .await
            .expect("the third attempt works");
        let requests = fake.requests();
        assert_eq!(requests.len(), 3);
        for request in requests {
            let header = |expected_name: &str| {
                (request.headers.iter())
                    .find(|(name, _)| name == expected_name)
                    .map(|(_, value)| value.clone())
                    .expect("it has the header")
            };
            assert_eq!(
                (request.origin.as_str(), request.path.as_str()),
                ("https://hooks.example.org", "/in")
            );
            let now = unix_now();
            verify(
                SECRET,
                &header(SIGNATURE),
                &header(TIMESTAMP),
                &request.body,
                now,
                WINDOW,
            )
            .expect("a receiver believes it");
            let body: crate::Value = serde_json::from_slice(&request.body).expect("it is JSON");
            assert_eq!(body["type"], "node.offline");
            assert_eq!(body["timestamp"], "2026-01-15T10:00:00Z");
            assert!(body["id"].as_str().is_some_and(|id| id.starts_with("evt-")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final_and_attempts_are_limited() {
        for (status, sent) in [(410, 1), (302, 1), (500, 3), (429, 3)] {
            let fake = Fake::new(move |_| Ok(json(status, "", "")));
            let hook = Webhook::new("test", "https://hooks.example.org", "s").expect("it is a URL");
            let deliverer = Deliverer::with_transport(Arc::new(fake.clone())).attempts(3);
            let delivered = deliverer.deliver(&hook, &event()).await;
            let Err(Error::Delivery(error)) = delivered else {
                panic!("it never works: {delivered:?}");
            };
            assert_eq!(
                (error.attempts(), fake.requests().len()),
                (sent, sent as usize)
            );
            assert!(error.to_string().contains(&status.to_string()), "{error}");
        }
    }
}
