//! Certificates that were trusted on first use.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Fingerprint;
use crate::value::address::with_port;
use crate::value::file;

/// Decides on certificates that no authority has signed. See
/// [`ClientBuilder::trust_on_first_use`](crate::ClientBuilder::trust_on_first_use).
pub trait TrustStore: fmt::Debug + Send + Sync {
    /// Checks the certificate of a host on a port. `host` is a name or an IP address.
    ///
    /// Called while a connection is made, on a thread of the runtime, which blocks until it
    /// returns.
    ///
    /// # Errors
    /// The reason why the certificate is refused.
    fn check(&self, host: &str, port: u16, fingerprint: Fingerprint) -> Result<(), Distrust>;
}

/// The reason why a [`TrustStore`] refuses a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    why: String,
    expected: Option<Fingerprint>,
}

impl Distrust {
    /// For another reason, as part of a sentence: "the program did not accept it".
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            expected: None,
        }
    }

    /// Because the host showed another certificate before.
    #[must_use]
    pub fn changed(expected: Fingerprint) -> Self {
        Self {
            why: "the host showed another one at the first connection".to_owned(),
            expected: Some(expected),
        }
    }

    /// The certificate that the host should have shown, if one is known.
    #[must_use]
    pub fn expected(&self) -> Option<Fingerprint> {
        self.expected
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Distrust {}

impl From<io::Error> for Distrust {
    fn from(error: io::Error) -> Self {
        Self::new(format!("the file of known hosts cannot be used: {error}"))
    }
}

type Ask = Box<dyn Fn(&str, Fingerprint) -> bool + Send + Sync>;

/// Remembers the certificate of each host and port, in a file or until the program ends.
///
/// The file has a line for each, `name:port SHA256-fingerprint`, or `[address]:port` for IPv6; a line without a port counts for
/// all ports that have none of their own. Lines that start with `#` are kept. A certificate that was renewed is refused
/// until its line is removed. Clones of a client share what is remembered, and so do programs with the same file: one adds its
/// line after the other, under a lock on a file `<name>.lock` beside it. The mode of the file stays, a new one is for its
/// owner alone, and symbolic links to it are followed; a lock that is a link is refused.
pub struct KnownHosts {
    file: Option<PathBuf>,
    ask: Ask,
    /// By host and port. Locked while asking, so that two connections do not ask twice.
    seen: Mutex<BTreeMap<String, Fingerprint>>,
}

impl KnownHosts {
    /// Remembers in a file, which is created with the first entry. `ask` gets host and port, such
    /// as `pve1:8006`, and the certificate, and returns whether to trust it.
    pub fn in_file(
        path: impl AsRef<Path>,
        ask: impl Fn(&str, Fingerprint) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            file: Some(path.as_ref().to_owned()),
            ..Self::in_memory(ask)
        }
    }

    /// Remembers until it is dropped.
    pub fn in_memory(ask: impl Fn(&str, Fingerprint) -> bool + Send + Sync + 'static) -> Self {
        Self {
            file: None,
            ask: Box::new(ask),
            seen: Mutex::default(),
        }
    }
}

/// The certificate of a host and port in the text of a file.
fn recall(text: &str, host: &str, port: u16) -> Result<Option<Fingerprint>, Distrust> {
    let address = with_port(host, port);
    let mut general = None;
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        if !name.eq_ignore_ascii_case(&address) && !name.eq_ignore_ascii_case(host) {
            continue;
        }
        let damaged = |why: &dyn fmt::Display| {
            Distrust::new(format!(
                "line {} of the file of known hosts, for {name}, is damaged: {why}; correct or remove it",
                number + 1
            ))
        };
        // A line with a name only is damaged; the host was seen before.
        let word = words
            .next()
            .ok_or_else(|| damaged(&"it has no fingerprint"))?;
        let fingerprint = word.parse().map_err(|error| damaged(&error))?;
        if name.eq_ignore_ascii_case(&address) {
            return Ok(Some(fingerprint));
        }
        general = general.or(Some(fingerprint));
    }
    Ok(general)
}

fn compare(known: Fingerprint, shown: Fingerprint) -> Result<(), Distrust> {
    match known == shown {
        true => Ok(()),
        false => Err(Distrust::changed(known)),
    }
}

impl TrustStore for KnownHosts {
    fn check(&self, host: &str, port: u16, fingerprint: Fingerprint) -> Result<(), Distrust> {
        // Host names are not case sensitive.
        let host = &host.to_ascii_lowercase();
        let address = with_port(host, port);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &self.file {
            None => seen.get(&address).copied(),
            Some(path) => match file::read(path)? {
                Some(text) => recall(&text, host, port)?,
                None => None,
            },
        };
        if let Some(known) = known {
            return compare(known, fingerprint);
        }
        if !(self.ask)(&address, fingerprint) {
            return Err(Distrust::new("the program did not accept it"));
        }
        if let Some(path) = &self.file {
            file::change(path, |text| {
                // Another process may have added it meanwhile.
                if let Some(known) = recall(text, host, port)? {
                    return compare(known, fingerprint).map(|()| None);
                }
                let end = if text.is_empty() || text.ends_with('\n') {
                    ""
                } else {
                    "\n"
                };
                Ok::<_, Distrust>(Some(format!("{text}{end}{address} {fingerprint}\n")))
            })?;
        }
        seen.insert(address, fingerprint);
        Ok(())
    }
}

impl fmt::Debug for KnownHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownHosts")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PORT: u16 = 8006;

    fn print(byte: u8) -> Fingerprint {
        Fingerprint::from([byte; 32])
    }

    fn counting(
        calls: &Arc<AtomicUsize>,
    ) -> impl Fn(&str, Fingerprint) -> bool + Send + Sync + 'static {
        let calls = Arc::clone(calls);
        move |address, _| {
            calls.fetch_add(1, Ordering::SeqCst);
            address != "evil:8006"
        }
    }

    #[test]
    fn a_host_is_confirmed_once() {
        let calls = Arc::new(AtomicUsize::new(0));
        let known = KnownHosts::in_memory(counting(&calls));
        known.check("pve1", PORT, print(1)).expect("accepted");
        known.check("pve1", PORT, print(1)).expect("known");
        known.check("pve2", PORT, print(2)).expect("accepted");
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        let problem = known.check("pve1", PORT, print(2)).expect_err("it changed");
        assert_eq!(problem, Distrust::changed(print(1)));
        known
            .check("evil", PORT, print(1))
            .expect_err("not accepted");
        known
            .check("evil", PORT, print(1))
            .expect_err("asked again");
        assert_eq!(calls.load(Ordering::SeqCst), 4);
        known.check("pve1", 443, print(3)).expect("another server");
        known.check("pve1", PORT, print(1)).expect("still known");
    }

    #[test]
    fn host_names_are_not_case_sensitive() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hosts");
        std::fs::write(&path, format!("PVE1:8006 {}\n", print(1))).expect("written");
        let calls = Arc::new(AtomicUsize::new(0));
        let known = KnownHosts::in_file(&path, counting(&calls));
        for name in ["pve1", "PVE1", "Pve1"] {
            known.check(name, PORT, print(1)).expect("known");
            known.check(name, PORT, print(2)).expect_err("it changed");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        let known = KnownHosts::in_memory(counting(&calls));
        known.check("Pve1", PORT, print(1)).expect("accepted");
        known.check("pve1", PORT, print(2)).expect_err("it changed");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_file_keeps_certificates_between_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hosts");
        let old = format!("# mine\nold {}\ntorn\nshort:1 00:11", print(9));
        std::fs::write(&path, &old).expect("written");
        let calls = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let known = KnownHosts::in_file(&path, counting(&calls));
            known.check("pve1", PORT, print(1)).expect("accepted");
            known.check("::1", PORT, print(4)).expect("accepted");
            let changed = known.check("pve1", PORT, print(2)).expect_err("it changed");
            assert_eq!(changed.expected(), Some(print(1)));
            known
                .check("old", 1, print(9))
                .expect("known on every port");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert_eq!(
            text,
            format!("{old}\npve1:8006 {}\n[::1]:8006 {}\n", print(1), print(4))
        );
        let known = KnownHosts::in_file(&path, |_, _| true);
        for (host, port, line) in [("torn", PORT, "line 3"), ("short", 1, "line 4")] {
            let problem = known.check(host, port, print(1)).expect_err("damaged");
            assert!(problem.to_string().starts_with(line), "{problem}");
        }
        let missing = KnownHosts::in_file(folder.path().join("no/hosts"), |_, _| true);
        let problem = missing.check("pve1", PORT, print(1));
        problem.expect_err("cannot be remembered");
    }

    proptest::proptest! {
        #[test]
        fn no_file_causes_a_panic_and_damage_is_not_a_first_use(
            before in "(.{0,20}\n){0,3}", damage in "[^\n]{0,60}", after in "(.{0,20}\n){0,3}",
        ) {
            let text = format!("{before}\npve1:8006 {damage}\n{after}");
            let known = recall(&text, "pve1", PORT);
            match damage.split_whitespace().next().map(str::parse::<Fingerprint>) {
                Some(Ok(print)) => proptest::prop_assert_eq!(known, Ok(Some(print))),
                _ => proptest::prop_assert!(known.is_err(), "{text}"),
            }
            let _ = recall(&damage, "", 0);
        }
    }

    #[test]
    fn stores_with_one_file_lose_no_line_and_trust_no_second_certificate() {
        const STORES: usize = 8;
        const HOSTS: usize = 30;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hosts");
        let old: String = (0..200)
            .map(|host| format!("old{host}:8006 {}\n", print(7)))
            .collect();
        std::fs::write(&path, &old).expect("written");
        std::thread::scope(|scope| {
            for store in 0..STORES {
                let path = &path;
                scope.spawn(move || {
                    let known = KnownHosts::in_file(path, |_, _| true);
                    for host in 0..HOSTS {
                        let own = format!("new{store}-{host}");
                        known.check(&own, PORT, print(1)).expect("first use");
                        let byte = u8::try_from(store).expect("few");
                        // All stores meet these; the first one decides.
                        let _ = known.check(&format!("both{host}"), PORT, print(byte));
                        let wrong = known.check(&format!("old{host}"), PORT, print(8));
                        wrong.expect_err("it was known before");
                    }
                });
            }
        });
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(text.starts_with(&old), "what was there stays");
        let names: std::collections::BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(text.lines().count(), 200 + STORES * HOSTS + HOSTS);
        assert_eq!(
            names.len(),
            200 + STORES * HOSTS + HOSTS,
            "one line for each"
        );
    }
}
