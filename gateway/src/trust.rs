//! Certificate authorities.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::ConfigError;

/// The authorities of the system, and one from a PEM file. `what` names their use in errors.
pub(crate) fn roots(what: &str, ca: Option<&Path>) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    // Invalid certificates of the system are ignored.
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        let wrong =
            |problem: String| ConfigError::new(format!("{what}: {}: {problem}", path.display()));
        let found = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(error.to_string()))?;
        for certificate in found {
            roots
                .add(certificate)
                .map_err(|error| wrong(error.to_string()))?;
        }
    }
    Ok(roots)
}
