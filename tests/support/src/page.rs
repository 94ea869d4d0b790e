//! Parts of pages that a test writes and holds against what it saw. A part is between `<!-- NAME -->` and
//! `<!-- end of NAME -->`, each in a line of its own.

use std::path::PathBuf;

/// Has a part written instead of compared.
pub const WRITE: &str = "FAULTS_WRITE";

/// A part of a page.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    head: String,
    written: String,
    tail: String,
}

impl Part {
    /// The part `name` of a page below `docs`.
    ///
    /// # Panics
    /// The page cannot be read, or has no such part.
    #[must_use]
    pub fn read(page: &str, name: &str) -> Self {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
        let path = PathBuf::from(docs).join(page);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (start, end) = (
            format!("<!-- {name} -->\n"),
            format!("<!-- end of {name} -->\n"),
        );
        let parts = text.split_once(&start).and_then(|(head, rest)| {
            let (written, tail) = rest.split_once(&end)?;
            Some((
                format!("{head}{start}"),
                written.to_owned(),
                format!("{end}{tail}"),
            ))
        });
        let Some((head, written, tail)) = parts else {
            panic!("docs/{page} has no part {name}");
        };
        Self {
            path,
            head,
            written,
            tail,
        }
    }

    /// The text of the part.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Writes the part if [`WRITE`] is set, and returns whether it is.
    ///
    /// # Panics
    /// The page cannot be written.
    pub fn write_if_asked(&self, text: &str) -> bool {
        let write = std::env::var_os(WRITE).is_some();
        if write {
            let page = format!("{}{text}{}", self.head, self.tail);
            std::fs::write(&self.path, page).expect("the page can be written");
        }
        write
    }

    /// Writes the part if [`WRITE`] is set, and compares it otherwise.
    ///
    /// # Panics
    /// The part differs, or the page cannot be written.
    pub fn hold(&self, text: &str) {
        if !self.write_if_asked(text) {
            let path = self.path.display();
            assert!(
                self.written == text,
                "{path} is out of date; run this test with {WRITE}=1:\n{text}"
            );
        }
    }
}
