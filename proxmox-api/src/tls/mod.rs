//! Verification of servers: system roots, further authorities, pinned certificates.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::value::serialize::word_serde;

mod known_hosts;

pub use known_hosts::{Distrust, KnownHosts, TrustStore};

/// The SHA-256 fingerprint of a certificate, as Proxmox VE shows it under *Certificates*.
///
/// Parses `AB:CD:…` in either case, with or without colons; prints in upper case with colons.
///
/// ```
/// let text = "0F:".repeat(31) + "0f";
/// let pin: proxmox_api::tls::Fingerprint = text.parse()?;
/// assert_eq!(pin.to_string(), text.to_uppercase());
/// # Ok::<(), proxmox_api::tls::FingerprintError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER form.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let mut bytes = [0; 32];
        let mut count = 0;
        let mut high = None;
        for c in text.trim().chars() {
            // A colon belongs between two bytes, never inside one.
            if c == ':' && high.is_none() && count > 0 {
                continue;
            }
            let digit = c.to_digit(16).ok_or(FingerprintError)?;
            match high.take() {
                None => high = Some(digit),
                Some(first) => {
                    let byte = u8::try_from(first << 4 | digit).map_err(|_| FingerprintError)?;
                    *bytes.get_mut(count).ok_or(FingerprintError)? = byte;
                    count += 1;
                }
            }
        }
        if count == 32 && high.is_none() {
            Ok(Self(bytes))
        } else {
            Err(FingerprintError)
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

word_serde!(Fingerprint);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A text that is not a SHA-256 fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FingerprintError;

impl fmt::Display for FingerprintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a SHA-256 fingerprint: expected 32 bytes in hexadecimal, such as AB:CD:…")
    }
}

impl std::error::Error for FingerprintError {}

/// Trust settings or a client certificate that TLS cannot use.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the client certificate {0}")]
    Identity(&'static str),
    #[error("the client certificate: {0}")]
    UnusableIdentity(#[source] rustls::Error),
    #[error("certificate {number} of the CA file is invalid: {problem}")]
    Authority { number: usize, problem: String },
    #[error("a certificate of the CA file cannot be used: {0}")]
    UnusableAuthority(#[source] rustls::Error),
    #[error("the CA file holds no certificate in PEM form")]
    NoAuthority,
    #[error("root certificates: {0}")]
    Roots(#[source] rustls::client::VerifierBuilderError),
    #[error("{0}")]
    Contradiction(&'static str),
    #[error("TLS: {0}")]
    Setup(#[source] rustls::Error),
}

/// The trust settings of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    pub(crate) pins: Vec<Fingerprint>,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) anything: bool,
    pub(crate) first_use: Option<Arc<dyn TrustStore>>,
    pub(crate) identity: Option<Arc<Identity>>,
}

/// The certificate this client shows, and its key.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both from PEM texts, which may be one and the same.
    pub(crate) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let wrong = TlsError::Identity;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| wrong("does not parse"))?;
        if chain.is_empty() {
            return Err(wrong("is not in PEM form"));
        }
        // The problem with a key is not shown: it could quote a part of the key.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| wrong("has no private key in PEM form"))?;
        Ok(Self { chain, key })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = self.chain.first().map(|first| Fingerprint::of(first));
        write!(f, "Identity({fingerprint:?}, …)")
    }
}

impl Trust {
    /// Adds every certificate of a PEM text.
    pub(crate) fn add_pem(&mut self, pem: &[u8]) -> Result<(), TlsError> {
        let before = self.authorities.len();
        for (i, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let number = i + 1;
            let certificate = certificate.map_err(|error| TlsError::Authority {
                number,
                problem: format!("{error:?}"),
            })?;
            self.authorities.push(certificate.into_owned());
        }
        if self.authorities.len() == before {
            return Err(TlsError::NoAuthority);
        }
        Ok(())
    }

    /// Settings that contradict each other.
    fn check(&self) -> Result<(), TlsError> {
        let problem = match (&self.first_use, self.anything, self.pins.is_empty()) {
            (Some(_), true, _) => {
                "danger_accept_invalid_certs accepts certificates that trust_on_first_use refuses; remove one of them"
            }
            (Some(_), _, false) => {
                "with a fingerprint, trust_on_first_use has no effect; remove one of them"
            }
            _ => return Ok(()),
        };
        Err(TlsError::Contradiction(problem))
    }

    /// The TLS settings. The server selects no protocol by ALPN, so none is offered ([wire protocol
    /// §2](crate::guide::wire_protocol)).
    pub(crate) fn settings(&self) -> Result<TlsSettings, TlsError> {
        self.check()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier {
            rule: Arc::new(self.rule(&provider)?),
            port: 0,
            provider: provider.clone(),
        });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => config
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(TlsError::UnusableIdentity)?,
        };
        if !self.pins.is_empty() || self.first_use.is_some() {
            // A resumed session shows no certificate that could be compared.
            config.resumption = Resumption::disabled();
        }
        Ok(TlsSettings {
            config: Arc::new(config),
            by_port: self.first_use.as_ref().map(|_| verifier),
        })
    }

    fn rule(&self, provider: &Arc<CryptoProvider>) -> Result<Rule, TlsError> {
        if !self.pins.is_empty() {
            return Ok(Rule::Pinned(self.pins.clone()));
        }
        if self.anything {
            return Ok(Rule::Anything);
        }
        let mut roots = RootCertStore::empty();
        // A system may have no roots, or some that do not parse; the others are used.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in &self.authorities {
            (roots.add(certificate.clone())).map_err(TlsError::UnusableAuthority)?;
        }
        let chain = match roots.is_empty() {
            true => None,
            false => WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map(Some)
                .map_err(TlsError::Roots)?,
        };
        Ok(Rule::Chain {
            chain,
            first_use: self.first_use.clone(),
        })
    }
}

/// The TLS configuration of a client.
#[derive(Clone)]
pub(crate) struct TlsSettings {
    config: Arc<ClientConfig>,
    /// Set if the port matters for trust, which TLS itself does not know.
    by_port: Option<Arc<Verifier>>,
}

impl TlsSettings {
    /// The settings for a connection to that port.
    pub(crate) fn for_port(&self, port: u16) -> Arc<ClientConfig> {
        let Some(verifier) = &self.by_port else {
            return Arc::clone(&self.config);
        };
        let mut config = ClientConfig::clone(&self.config);
        let verifier = Verifier {
            rule: Arc::clone(&verifier.rule),
            port,
            provider: Arc::clone(&verifier.provider),
        };
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }
}

#[derive(Debug)]
enum Rule {
    Chain {
        chain: Option<Arc<WebPkiServerVerifier>>,
        /// Decides on certificates without a trusted authority.
        first_use: Option<Arc<dyn TrustStore>>,
    },
    Pinned(Vec<Fingerprint>),
    Anything,
}

#[derive(Debug)]
struct Verifier {
    rule: Arc<Rule>,
    /// The port of the server.
    port: u16,
    provider: Arc<CryptoProvider>,
}

/// The reason why a certificate was refused, with its fingerprint.
#[derive(Debug)]
pub(crate) struct Untrusted {
    pub(crate) fingerprint: Fingerprint,
    /// The expected ones, if any are known.
    pub(crate) expected: Vec<Fingerprint>,
    pub(crate) why: String,
}

#[cfg(test)]
impl Untrusted {
    pub(crate) fn new(fingerprint: Fingerprint, expected: Vec<Fingerprint>, why: &str) -> Self {
        Self {
            fingerprint,
            expected,
            why: why.to_owned(),
        }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fingerprint,
            expected,
            why,
        } = self;
        write!(f, "the server's certificate is not trusted: {why}; ")?;
        if expected.is_empty() {
            return write!(
                f,
                "its SHA-256 fingerprint is {fingerprint}: if `pvenode cert info` on the node shows the same one, pass it to \
                 ClientBuilder::fingerprint or as PROXMOX_FINGERPRINT, or the cluster's own authority to ca_file or as \
                 PROXMOX_CA_FILE"
            );
        }
        let expected: Vec<_> = expected.iter().map(Fingerprint::to_string).collect();
        write!(
            f,
            "expected {}, shown {fingerprint}: either it was renewed (compare with `pvenode cert info` on the node), or \
             the connection is intercepted",
            expected.join(" or ")
        )
    }
}

impl std::error::Error for Untrusted {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = Fingerprint::of(end_entity);
        let mut expected = Vec::new();
        let why = match &*self.rule {
            Rule::Anything => return Ok(ServerCertVerified::assertion()),
            Rule::Pinned(pins) if pins.contains(&fingerprint) => {
                return Ok(ServerCertVerified::assertion());
            }
            Rule::Pinned(pins) => {
                expected.clone_from(pins);
                "it is not the pinned one".to_owned()
            }
            Rule::Chain { chain, first_use } => {
                let sourced = match chain {
                    None => Err("this machine has no root certificates".to_owned()),
                    Some(chain) => chain
                        .verify_server_cert(
                            end_entity,
                            intermediates,
                            server_name,
                            ocsp_response,
                            now,
                        )
                        .map_err(|error| words(&error)),
                };
                match (sourced, first_use) {
                    (Ok(verified), _) => return Ok(verified),
                    (Err(why), None) => why,
                    (Err(why), Some(store)) => {
                        match store.check(&server_name.to_str(), self.port, fingerprint) {
                            Ok(()) => return Ok(ServerCertVerified::assertion()),
                            Err(problem) => {
                                expected.extend(problem.expected());
                                format!("{why}, and {problem}")
                            }
                        }
                    }
                }
            }
        };
        let refusal = Untrusted {
            fingerprint,
            expected,
            why,
        };
        Err(CertificateError::Other(OtherError(Arc::new(refusal))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if matches!(*self.rule, Rule::Anything) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if matches!(*self.rule, Rule::Anything) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "it was not issued by a known authority".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(error))
            if error.to_string().contains("CaUsedAsEndEntity") =>
        {
            "it is the certificate of an authority, not of a server".to_owned()
        }
        rustls::Error::InvalidCertificate(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_spelling_of_a_fingerprint_is_parsed(bytes in any::<[u8; 32]>()) {
            let pin = Fingerprint::from(bytes);
            let text = pin.to_string();
            prop_assert_eq!(text.parse(), Ok(pin));
            prop_assert_eq!(text.to_lowercase().parse(), Ok(pin));
            prop_assert_eq!(text.replace(':', "").parse(), Ok(pin));
        }

        #[test]
        fn no_text_causes_a_panic(text in ".*") {
            let _ = text.parse::<Fingerprint>();
        }
    }

    #[test]
    fn other_digests_and_misplaced_colons_are_refused() {
        let sha1 = ["AB"; 20].join(":");
        let long = ["AB"; 33].join(":");
        let shifted = format!("A:{}B", "BA:".repeat(31));
        for text in ["", "sha256", &sha1, &long, &shifted] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text}");
        }
    }

    #[test]
    fn an_authoritys_certificate_as_a_servers_has_its_own_error() {
        let inner = std::io::Error::other("CaUsedAsEndEntity");
        let error = CertificateError::Other(rustls::OtherError(Arc::new(inner)));
        let words = words(&rustls::Error::InvalidCertificate(error));
        assert_eq!(
            words,
            "it is the certificate of an authority, not of a server"
        );
    }

    #[test]
    fn the_digest_is_sha256() {
        let abc = Fingerprint::of(b"abc").to_string();
        assert!(
            abc.starts_with("BA:78:16:BF:") && abc.ends_with(":F2:00:15:AD"),
            "{abc}"
        );
    }

    #[test]
    fn a_ca_file_without_certificates_is_an_error() {
        let error = Trust::default()
            .add_pem(b"no pem here")
            .expect_err("no certificate in it");
        assert_eq!(
            error.to_string(),
            "the CA file holds no certificate in PEM form"
        );
        let broken = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(Trust::default().add_pem(broken).is_err());
    }
}

#[cfg(test)]
mod handshakes;
