//! The multipart body of an upload, read as strictly as the real server does (wire protocol §9).

use crate::http::latin1;
use crate::params::{Param, Params};

/// What an upload body held.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Upload<'a> {
    pub(crate) params: Params,
    pub(crate) data: &'a [u8],
}

/// Why a body is no upload.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Fields out of order, or fields nobody asked for: a bare 400.
    BadRequest,
    /// Any other shape: a 500 with this text.
    Failed(String),
}

/// The boundary of a content type, quotes included if there are any: they are not understood.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    content_type
        .strip_prefix("multipart/form-data")?
        .split_once("boundary=")
        .map(|(_, boundary)| boundary.split_whitespace().next().unwrap_or(""))
}

/// Reads the parts: `content`, `checksum-algorithm`, `checksum` in this order, each optional, and the file at last.
pub(crate) fn parse<'a>(body: &'a [u8], boundary: &str) -> Result<Upload<'a>, Refusal> {
    const FIELDS: [&str; 3] = ["content", "checksum-algorithm", "checksum"];
    let failed = || {
        Refusal::Failed(
            "upload failed at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 1370.".into(),
        )
    };
    let mut upload = Upload::default();
    let mut allowed = 0;
    let opening = format!("--{boundary}");
    let mut rest = body.strip_prefix(opening.as_bytes()).ok_or_else(failed)?;
    loop {
        let part = after_line_end(rest).ok_or_else(failed)?;
        let disposition = part
            .strip_prefix(b"Content-Disposition: form-data; name=\"".as_slice())
            .ok_or_else(failed)?;
        let (name, after) = split(disposition, b"\"").ok_or_else(failed)?;
        let name = latin1(name);
        let (_, body) = blank_line(after).ok_or_else(failed)?;
        if let Some(file) = after.strip_prefix(b"; filename=\"".as_slice()) {
            if name != "filename" {
                return Err(Refusal::Failed(format!(
                    "wrong field name '{name}' for file upload, expected 'filename' at \
                     /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 1325."
                )));
            }
            let (file, _) = split(file, b"\"").ok_or_else(failed)?;
            let file = String::from_utf8_lossy(file).into_owned();
            upload.params.insert("filename".into(), Param::Text(file));
            let end = format!("\n--{boundary}--");
            let (data, _) = split(body, end.as_bytes()).ok_or_else(failed)?;
            upload.data = data.strip_suffix(b"\r").unwrap_or(data);
            return Ok(upload);
        }
        let position = FIELDS.iter().position(|field| *field == name);
        let Some(position) = position.filter(|position| *position >= allowed) else {
            return Err(Refusal::BadRequest);
        };
        allowed = position + 1;
        let end = format!("\n--{boundary}");
        let (value, next) = split(body, end.as_bytes()).ok_or_else(failed)?;
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        let value = String::from_utf8_lossy(value).into_owned();
        upload.params.insert(name, Param::Text(value));
        rest = next;
    }
}

/// What a call knows of the file that came with it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) size: usize,
    /// The checksum it has where another was promised.
    pub(crate) other_checksum: Option<String>,
}

impl Received {
    pub(crate) fn new(data: &[u8], params: &Params) -> Self {
        let text = |name: &str| params.get(name).and_then(Param::text);
        let other_checksum =
            text("checksum")
                .zip(text("checksum-algorithm"))
                .and_then(|(wanted, algorithm)| {
                    let own = checksum(algorithm, data)?;
                    (!wanted.eq_ignore_ascii_case(&own)).then_some(own)
                });
        Self {
            size: data.len(),
            other_checksum,
        }
    }
}

/// `None` for the algorithms no library here knows, `md5` and `sha224`.
fn checksum(algorithm: &str, data: &[u8]) -> Option<String> {
    use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
    let algorithm = match algorithm {
        "sha1" => &SHA1_FOR_LEGACY_USE_ONLY,
        "sha256" => &SHA256,
        "sha384" => &SHA384,
        "sha512" => &SHA512,
        _ => return None,
    };
    let hash = digest(algorithm, data);
    Some(
        hash.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
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

/// Whether the extension suits the kind of content.
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

fn after_line_end(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"\r\n")
        .or_else(|| text.strip_prefix(b"\n"))
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

    #[test]
    fn the_order_is_fixed() {
        let good = field("content", "iso")
            + &field("checksum-algorithm", "md5")
            + &field("checksum", "00")
            + FILE;
        let upload = parse(good.as_bytes(), "B").expect("an upload");
        assert_eq!(upload.data, b"data");
        assert_eq!(upload.params["filename"], Param::Text("a.iso".into()));
        assert_eq!(upload.params["checksum"], Param::Text("00".into()));
        let bad = field("checksum", "00") + &field("content", "iso") + FILE;
        assert_eq!(parse(bad.as_bytes(), "B"), Err(Refusal::BadRequest));
        let extra = field("content", "iso") + &field("foo", "bar") + FILE;
        assert_eq!(parse(extra.as_bytes(), "B"), Err(Refusal::BadRequest));
        assert!(matches!(
            parse(good.as_bytes(), "\"B\""),
            Err(Refusal::Failed(_))
        ));
    }

    #[test]
    fn bare_line_feeds_do() {
        let text = (field("content", "iso") + FILE).replace('\r', "");
        let upload = parse(text.as_bytes(), "B").expect("an upload");
        assert_eq!(upload.data, b"data");
    }

    #[test]
    fn names_are_cleaned() {
        assert_eq!(stored_name("v-\u{fc}.iso"), "v-_.iso");
        assert_eq!(stored_name("../../x y.iso"), "x_y.iso");
        assert!(extension_fits("iso", "A.ISO"));
        assert!(!extension_fits("iso", "p.txt"));
    }
}
