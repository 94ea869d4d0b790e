//! Certificates that were trusted on first use.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Fingerprint;

/// Decides about certificates that no authority vouches for. See
/// [`ClientBuilder::trust_on_first_use`](crate::ClientBuilder::trust_on_first_use).
pub trait TrustStore: fmt::Debug + Send + Sync {
    /// Whether the host may show this certificate. `host` is a name or an IP address, without a port.
    ///
    /// Called while a connection is made, on a thread of the runtime, which waits for the answer.
    ///
    /// # Errors
    /// Why it may not, as a half sentence: "it is another one than before".
    fn check(&self, host: &str, fingerprint: Fingerprint) -> Result<(), String>;
}

type Ask = Box<dyn Fn(&str, Fingerprint) -> bool + Send + Sync>;

/// Remembers the certificate of each host, in a file or for as long as the program runs.
///
/// The file has a line for each host, `name SHA256-fingerprint`; lines that start with `#` are kept. A certificate that
/// was renewed is refused until its line is removed. Clones of a client share what is remembered; so do
/// programs with the same file, apart from what two of them learn at the same moment.
pub struct KnownHosts {
    file: Option<PathBuf>,
    ask: Ask,
    /// Held while asking, so that two connections do not ask twice.
    seen: Mutex<BTreeMap<String, Fingerprint>>,
}

impl KnownHosts {
    /// Remembers in a file, which is made when there is something to remember. `ask` is given the host and its
    /// certificate and says whether that is the right one.
    pub fn in_file(
        path: impl AsRef<Path>,
        ask: impl Fn(&str, Fingerprint) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            file: Some(path.as_ref().to_owned()),
            ..Self::in_memory(ask)
        }
    }

    /// Remembers as long as this lives.
    pub fn in_memory(ask: impl Fn(&str, Fingerprint) -> bool + Send + Sync + 'static) -> Self {
        Self {
            file: None,
            ask: Box::new(ask),
            seen: Mutex::default(),
        }
    }

    fn recall(
        &self,
        host: &str,
        seen: &BTreeMap<String, Fingerprint>,
    ) -> Result<Option<Fingerprint>, String> {
        let Some(path) = &self.file else {
            return Ok(seen.get(host).copied());
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        for (i, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(fingerprint)) = (words.next(), words.next()) else {
                continue;
            };
            if name == host {
                let problem = |error| format!("line {} of {}: {error}", i + 1, path.display());
                return fingerprint.parse().map(Some).map_err(problem);
            }
        }
        Ok(None)
    }

    fn remember(
        &self,
        host: &str,
        fingerprint: Fingerprint,
        seen: &mut BTreeMap<String, Fingerprint>,
    ) -> Result<(), String> {
        seen.insert(host.to_owned(), fingerprint);
        let Some(path) = &self.file else {
            return Ok(());
        };
        append(path, &format!("{host} {fingerprint}\n"))
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }
}

/// Adds a line, so that whoever reads the file meanwhile sees it with the line or without.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let aside = path.with_file_name(name);
    let mut file = fs::File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

impl TrustStore for KnownHosts {
    fn check(&self, host: &str, fingerprint: Fingerprint) -> Result<(), String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match self.recall(host, &seen)? {
            Some(known) if known == fingerprint => Ok(()),
            Some(known) => Err(format!(
                "{host} showed another one when it was first seen, {known}"
            )),
            None if (self.ask)(host, fingerprint) => self.remember(host, fingerprint, &mut seen),
            None => Err("it was not accepted when asked".to_owned()),
        }
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

    fn print(byte: u8) -> Fingerprint {
        Fingerprint::from([byte; 32])
    }

    fn counting(
        asked: &Arc<AtomicUsize>,
    ) -> impl Fn(&str, Fingerprint) -> bool + Send + Sync + 'static {
        let asked = Arc::clone(asked);
        move |host, _| {
            asked.fetch_add(1, Ordering::SeqCst);
            host != "evil"
        }
    }

    #[test]
    fn a_host_is_asked_about_once_and_held_to_the_answer() {
        let asked = Arc::new(AtomicUsize::new(0));
        let known = KnownHosts::in_memory(counting(&asked));
        known.check("pve1", print(1)).expect("accepted");
        known.check("pve1", print(1)).expect("known");
        known.check("pve2", print(2)).expect("accepted");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let problem = known.check("pve1", print(2)).expect_err("it changed");
        assert_eq!(
            problem,
            format!(
                "pve1 showed another one when it was first seen, {}",
                print(1)
            )
        );
        known.check("evil", print(1)).expect_err("not accepted");
        known.check("evil", print(1)).expect_err("asked again");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_file_outlives_the_program() {
        let folder = std::env::temp_dir().join(format!("known-hosts-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("hosts");
        fs::write(&path, "# mine\nold 00").expect("written");
        let asked = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let known = KnownHosts::in_file(&path, counting(&asked));
            known.check("pve1", print(1)).expect("accepted");
            known.check("pve1", print(2)).expect_err("it changed");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(text, format!("# mine\nold 00\npve1 {}\n", print(1)));
        assert_eq!(
            fs::read_dir(&folder).expect("a folder").count(),
            1,
            "nothing else is left"
        );

        let known = KnownHosts::in_file(&path, |_, _| true);
        let problem = known
            .check("old", print(1))
            .expect_err("its line is damaged");
        assert!(
            problem.starts_with(&format!("line 2 of {}", path.display())),
            "{problem}"
        );
        let missing = KnownHosts::in_file(folder.join("no/hosts"), |_, _| true);
        missing
            .check("pve1", print(1))
            .expect_err("cannot be remembered");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
