//! Random bytes for secrets.

use http::StatusCode;
use rustls::crypto::SecureRandom;

use crate::refusal::Refusal;

/// Random bytes from the provider of the TLS library.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    let source: &dyn SecureRandom = rustls::crypto::ring::default_provider().secure_random;
    match source.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the system provides no random numbers",
        )),
    }
}
