//! The multipart body of an upload, read as strictly as the real server does (wire protocol §9).

use sha2::digest::DynDigest;

use crate::params::{Param, Params};
use crate::text::latin1;

/// An upload's content.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Upload {
    pub(crate) params: Params,
    pub(crate) file: Received,
}

/// The reason why a body is not an upload.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Fields out of order, or unknown fields: a bare 400.
    BadRequest,
    /// Any other shape: a 500 with this text.
    Failed(String),
}

/// The boundary of a content type, including quotes if there are any: the server does not support
/// them.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    content_type
        .strip_prefix("multipart/form-data")?
        .split_once("boundary=")
        .map(|(_, boundary)| boundary.split_whitespace().next().unwrap_or(""))
}

/// The limit on bytes before the file.
const MAX_FIELDS: usize = 64 << 10;

/// Reads an upload while it arrives, in constant memory: the file is counted and hashed, and
/// discarded.
pub(crate) struct Receiver {
    boundary: String,
    /// The algorithm in the query, which takes precedence over a field.
    algorithm: Option<String>,
    /// Received bytes that are not classified yet.
    held: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Fields,
    File(File),
    Done(Upload),
    Refused(Refusal),
}

struct File {
    params: Params,
    hash: Option<Box<dyn DynDigest + Send>>,
    size: u64,
}

impl Receiver {
    pub(crate) fn new(boundary: &str, query: &Params) -> Self {
        Self {
            boundary: boundary.to_owned(),
            algorithm: text(query, "checksum-algorithm").map(str::to_owned),
            held: Vec::new(),
            stage: Stage::Fields,
        }
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) {
        if matches!(self.stage, Stage::Done(_) | Stage::Refused(_)) {
            return;
        }
        self.held.extend_from_slice(chunk);
        if let Stage::Fields = self.stage {
            match fields(&self.held, &self.boundary) {
                Err(None) if self.held.len() < MAX_FIELDS => return,
                Err(refusal) => {
                    self.stage = Stage::Refused(refusal.unwrap_or_else(failed));
                    return;
                }
                Ok((params, start)) => {
                    let algorithm = self.algorithm.as_deref();
                    let algorithm = algorithm.or_else(|| text(&params, "checksum-algorithm"));
                    let hash = algorithm.and_then(hash);
                    self.held.drain(..start);
                    self.stage = Stage::File(File {
                        params,
                        hash,
                        size: 0,
                    });
                }
            }
        }
        self.scan();
    }

    /// Looks for the end of the file in the held bytes, and drops those that belong to it.
    fn scan(&mut self) {
        let Stage::File(file) = &mut self.stage else {
            return;
        };
        let end = format!("\n--{}--", self.boundary);
        let Some((data, _)) = split(&self.held, end.as_bytes()) else {
            // The end may have begun, with a carriage return before it.
            let sure = self.held.len().saturating_sub(end.len());
            file.take(&self.held[..sure]);
            self.held.drain(..sure);
            return;
        };
        file.take(data.strip_suffix(b"\r").unwrap_or(data));
        let checksum = file.hash.take().map(|hash| hex(&hash.finalize()));
        self.stage = Stage::Done(Upload {
            params: std::mem::take(&mut file.params),
            file: Received {
                size: file.size,
                checksum,
            },
        });
        self.held = Vec::new();
    }

    /// The upload, after its last byte.
    pub(crate) fn finish(self) -> Result<Upload, Refusal> {
        match self.stage {
            Stage::Done(upload) => Ok(upload),
            Stage::Refused(refusal) => Err(refusal),
            Stage::Fields | Stage::File(_) => Err(failed()),
        }
    }
}

impl File {
    fn take(&mut self, data: &[u8]) {
        self.size += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if let Some(hash) = &mut self.hash {
            hash.update(data);
        }
    }
}

fn failed() -> Refusal {
    Refusal::Failed("upload failed at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 1370.".into())
}

fn text<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.get(name).and_then(Param::text)
}

/// Reads the parts before the data of the file: `content`, `checksum-algorithm`, `checksum` in this
/// order, each optional. Returns the parameters and the start of the data; `Err(None)` if it has
/// not arrived yet.
fn fields(body: &[u8], boundary: &str) -> Result<(Params, usize), Option<Refusal>> {
    const FIELDS: [&str; 3] = ["content", "checksum-algorithm", "checksum"];
    const DISPOSITION: &[u8] = b"Content-Disposition: form-data; name=\"";
    let mut params = Params::new();
    let mut allowed = 0;
    let mut rest = expect(body, format!("--{boundary}").as_bytes())?;
    loop {
        let part = match rest {
            [b'\r', rest @ ..] | rest => expect(rest, b"\n")?,
        };
        let disposition = expect(part, DISPOSITION)?;
        let (name, after) = split(disposition, b"\"").ok_or(None)?;
        let name = latin1(name);
        let (_, body_of_part) = blank_line(after).ok_or(None)?;
        if let Some(file) = after.strip_prefix(b"; filename=\"".as_slice()) {
            if name != "filename" {
                return Err(Some(Refusal::Failed(format!(
                    "wrong field name '{name}' for file upload, expected 'filename' at \
                     /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 1325."
                ))));
            }
            let (file, _) = split(file, b"\"").ok_or_else(failed)?;
            let file = String::from_utf8_lossy(file).into_owned();
            params.insert("filename".into(), Param::Text(file));
            return Ok((params, body.len() - body_of_part.len()));
        }
        let position = FIELDS.iter().position(|field| *field == name);
        let Some(position) = position.filter(|position| *position >= allowed) else {
            return Err(Some(Refusal::BadRequest));
        };
        allowed = position + 1;
        let end = format!("\n--{boundary}");
        let (value, next) = split(body_of_part, end.as_bytes()).ok_or(None)?;
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        let value = String::from_utf8_lossy(value).into_owned();
        params.insert(name, Param::Text(value));
        rest = next;
    }
}

/// The rest after `expected`. Without it, the error is `None` if more bytes may complete it, and the
/// refusal if they cannot.
fn expect<'a>(text: &'a [u8], expected: &[u8]) -> Result<&'a [u8], Option<Refusal>> {
    match text.strip_prefix(expected) {
        Some(rest) => Ok(rest),
        None if expected.starts_with(text) => Err(None),
        None => Err(Some(failed())),
    }
}

/// A file that was received completely, as the handler of the call sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Received {
    pub(crate) size: u64,
    /// By the requested algorithm.
    pub(crate) checksum: Option<String>,
}

fn hash(algorithm: &str) -> Option<Box<dyn DynDigest + Send>> {
    Some(match algorithm {
        "md5" => Box::<md5::Md5>::default(),
        "sha1" => Box::<sha1::Sha1>::default(),
        "sha224" => Box::<sha2::Sha224>::default(),
        "sha256" => Box::<sha2::Sha256>::default(),
        "sha384" => Box::<sha2::Sha384>::default(),
        "sha512" => Box::<sha2::Sha512>::default(),
        _ => return None,
    })
}

/// The checksum of a file, in hexadecimal digits; empty for an unknown algorithm.
pub(crate) fn checksum(algorithm: &str, file: &[u8]) -> String {
    hash(algorithm).map_or_else(String::new, |mut hash| {
        hash.update(file);
        hex(&hash.finalize())
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name a file is stored under.
pub(crate) fn stored_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// Whether the extension fits the kind of content.
pub(crate) fn extension_fits(content: &str, name: &str) -> bool {
    let ends = |endings: &[&str]| {
        let name = name.to_ascii_lowercase();
        endings.iter().any(|ending| name.ends_with(ending))
    };
    match content {
        "iso" => ends(&[".iso", ".img"]),
        "vztmpl" => ends(&[".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar"]),
        "import" => ends(&[".ova", ".qcow2", ".raw", ".vmdk"]),
        _ => true,
    }
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = text.windows(at.len()).position(|window| window == at)?;
    Some((&text[..found], &text[found + at.len()..]))
}

/// Splits at the first empty line, whichever line ends are used.
fn blank_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let unix = text.windows(2).position(|w| w == b"\n\n").map(|at| (at, 2));
    let web = text
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map(|at| (at, 4));
    let (at, length) = unix.into_iter().chain(web).min()?;
    Some((&text[..at], &text[at + length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "--B\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n\
                        Content-Type: application/octet-stream\r\n\r\ndata\r\n--B--\r\n";

    fn field(name: &str, value: &str) -> String {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    /// Reads a body that comes in pieces of this size.
    fn parse(body: &str, boundary: &str, piece: usize) -> Result<Upload, Refusal> {
        let mut receiver = Receiver::new(boundary, &Params::new());
        for piece in body.as_bytes().chunks(piece) {
            receiver.push(piece);
        }
        receiver.finish()
    }

    #[test]
    fn the_order_of_fields_is_fixed() {
        let good = field("content", "iso")
            + &field("checksum-algorithm", "md5")
            + &field("checksum", "00")
            + FILE;
        let bad = field("checksum", "00") + &field("content", "iso") + FILE;
        let extra = field("content", "iso") + &field("foo", "bar") + FILE;
        for piece in [1, 7, 1_000] {
            let upload = parse(&good, "B", piece).expect("an upload");
            assert_eq!(upload.file.size, 4);
            assert_eq!(upload.params["filename"], Param::Text("a.iso".into()));
            assert_eq!(upload.params["checksum"], Param::Text("00".into()));
            assert_eq!(parse(&bad, "B", piece), Err(Refusal::BadRequest));
            assert_eq!(parse(&extra, "B", piece), Err(Refusal::BadRequest));
            assert_eq!(parse(&good, "\"B\"", piece), Err(failed()));
            let short = good.strip_suffix("--\r\n").expect("an end");
            assert_eq!(parse(short, "B", piece), Err(failed()));
        }
    }

    #[test]
    fn every_checksum_is_known() {
        for (algorithm, expected) in [
            ("md5", "8d777f385d3dfec8815d20f7496026dc"),
            ("sha1", "a17c9aaa61e80a1bf71d0d850af4e5baa9800bbd"),
            (
                "sha224",
                "f4739673acc03c424343b452787ee23dd62999a8a9f14f4250995769",
            ),
            (
                "sha256",
                "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7",
            ),
            (
                "sha384",
                "2039e0f0b92728499fb88e23ebc3cfd0554b28400b0ed7b753055c88b5865c3c2aa72c6a1a9ae0a755d87900a4a6ff41",
            ),
            (
                "sha512",
                "77c7ce9a5d86bb386d443bb96390faa120633158699c8844c30b13ab0bf92760b7e4416aea397db91b4ac0e5dd56b8ef7e4b066162ab1fdc088319ce6defc876",
            ),
        ] {
            let body = field("checksum-algorithm", algorithm) + FILE;
            let upload = parse(&body, "B", 50).expect("an upload");
            assert_eq!(
                upload.file.checksum.as_deref(),
                Some(expected),
                "{algorithm}"
            );
        }
    }

    #[test]
    fn a_partial_boundary_is_part_of_the_file() {
        let body = FILE.replace("\r\n\r\ndata", "\r\n\r\n\r\n--B-\n--B\r\r\n--");
        for piece in [1, 3, 1_000] {
            let upload = parse(&body, "B", piece).expect("an upload");
            assert_eq!(upload.file.size, 15);
        }
    }

    #[test]
    fn bare_line_feeds_are_accepted() {
        let text = (field("content", "iso") + FILE).replace('\r', "");
        let upload = parse(&text, "B", 1_000).expect("an upload");
        assert_eq!(upload.file.size, 4);
    }

    #[test]
    fn characters_of_file_names_are_replaced() {
        assert_eq!(stored_name("v-\u{fc}.iso"), "v-_.iso");
        assert_eq!(stored_name("../../x y.iso"), "x_y.iso");
        assert!(extension_fits("iso", "A.ISO"));
        assert!(!extension_fits("iso", "p.txt"));
    }
}
