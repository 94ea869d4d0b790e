//! Images on a storage: downloaded by a node, uploaded, or existing.

use std::fmt;
use std::path::{Path, PathBuf};

use super::work::{Action, Subject, Track, Work, WorkError};
use crate::bounds::{Bound, Bounds, Exceeded};
use crate::client::Client;
use crate::error::{CallId, Error};
use crate::pve::node_storage::NodeStorageChecksumAlgorithm;
use crate::stream::upload::{ChecksumAlgorithm, UploadContent};
use crate::value::Secret;
use crate::value::endpoint::{Method, Release};

/// The first release with the content type for images to import.
const IMPORTS: Release = Release::new(8, 3);

/// An image for disks of virtual machines: its source, and its storage.
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::image::Image;
/// use proxmox_api::stream::upload::ChecksumAlgorithm;
///
/// let url = "https://cloud.debian.org/images/cloud/trixie/latest/debian-13-genericcloud-amd64.qcow2";
/// let sum = "f0442f3cd0087a609ecd5241109ddef0cbf4a1e05372e13d82c97fc77b35b2d8ecff85aea67709154d84220059672758508afbb0691c41ba8aa6d76818d89d65";
/// let image = Image::url(url).checksum(ChecksumAlgorithm::Sha512, sum);
/// let volume = pve.carry_out(image.on("pve1")).await?;
/// println!("it is {volume}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    source: Source,
    name: Option<String>,
    checksum: Option<(ChecksumAlgorithm, String)>,
    storage: String,
}

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Url(Secret),
    File(PathBuf),
    Volume(String),
}

impl Image {
    /// An image that the node downloads: [`POST
    /// /nodes/{node}/storage/{storage}/download-url`](crate::pve::node_storage::NodeStorageStorageDownloadUrlPost).
    /// It cannot be compressed, because the server does not unpack images to import.
    #[must_use]
    pub fn url(url: impl Into<Secret>) -> Self {
        Self::of(Source::Url(url.into()))
    }

    /// A local file to upload. One that ends in `.gz`, or with the feature `unpack` in `.xz` or
    /// `.zst`, is first unpacked into a temporary file, up to the size of [`Bounds::image`].
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Source::File(path.into()))
    }

    /// An existing volume, as `local:import/debian-13.qcow2` or the disk of another machine.
    #[must_use]
    pub fn volume(volume: impl Into<String>) -> Self {
        Self::of(Source::Volume(volume.into()))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            name: None,
            checksum: None,
            storage: "local".to_owned(),
        }
    }

    /// Its name on the storage, instead of the last part of its address or path. The ending names
    /// the format: `.qcow2`, `.raw` or `.vmdk`; any other ending is taken for a qcow2 image, as
    /// cloud images that end in `.img` are.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The checksum of the image before unpacking, in hexadecimal digits. The server checks a
    /// downloaded image, also an existing one. A compressed local file is checked here, with SHA-2
    /// only.
    #[must_use]
    pub fn checksum(mut self, algorithm: ChecksumAlgorithm, digits: impl Into<String>) -> Self {
        self.checksum = Some((algorithm, digits.into()));
        self
    }

    /// The storage that keeps it; `local` by default. Since release 8.3 it needs the content type
    /// `import`, before `iso`.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = storage.into();
        self
    }

    /// Work that provides it on a node. Returns the value for `import-from` of a disk: the volume,
    /// or on releases before 8.3, which import volumes of disks only, the path of its file. Only
    /// `root@pam` itself may import from a path.
    ///
    /// An existing image of that name is used, and compared only if there is a checksum. The server
    /// removes the result of a failed download or upload.
    #[must_use]
    pub fn on(&self, node: impl Into<String>) -> HaveImage {
        HaveImage {
            image: self.clone(),
            node: node.into(),
        }
    }

    /// Whether the server imports it from the path of a file, which only `root@pam` itself may do.
    pub(super) async fn needs_path(&self, pve: &Client) -> Result<bool, Error> {
        let volume = matches!(self.source, Source::Volume(_));
        Ok(!volume && pve.server_release().await? < IMPORTS)
    }

    fn given_name(&self) -> Result<String, Error> {
        let last = |text: &str| {
            let text = text.split(['?', '#']).next().unwrap_or_default();
            let name = text.trim_end_matches('/').rsplit('/').next();
            name.unwrap_or_default().to_owned()
        };
        let name = match (&self.name, &self.source) {
            (Some(name), _) => name.clone(),
            (None, Source::Url(url)) => last(url.expose()),
            (None, Source::File(path)) => (path.file_name())
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            (None, Source::Volume(volume)) => last(volume),
        };
        if name.is_empty() {
            return Err(refuse("the image has no name; set one"));
        }
        Ok(name)
    }

    /// Its name on the storage of a release.
    fn name_for(&self, content: UploadContent) -> Result<String, Error> {
        let file_name = self.given_name()?;
        let plain = match Compression::of(&file_name) {
            Some((plain, _)) => plain.to_owned(),
            None => file_name,
        };
        let ends = |endings: &[&str]| endings.iter().any(|ending| plain.ends_with(ending));
        Ok(match content {
            UploadContent::Import if ends(&[".qcow2", ".raw", ".vmdk", ".ova"]) => plain,
            UploadContent::Import => {
                let stem = plain.rsplit_once('.').map_or(&*plain, |(stem, _)| stem);
                format!("{stem}.qcow2")
            }
            _ if ends(&[".img", ".iso"]) => plain,
            _ => format!("{plain}.img"),
        })
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Image");
        match &self.source {
            Source::Url(url) => debug.field("url", url),
            Source::File(path) => debug.field("file", path),
            Source::Volume(volume) => debug.field("volume", volume),
        };
        debug
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

fn refuse(problem: impl Into<String>) -> Error {
    WorkError::new(Subject::Other("the image".to_owned()), problem).into()
}

/// The compression of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    /// The name without the ending of the compression.
    fn of(name: &str) -> Option<(&str, Self)> {
        [(".gz", Self::Gzip), (".xz", Self::Xz), (".zst", Self::Zstd)]
            .into_iter()
            .find_map(|(ending, how)| Some((name.strip_suffix(ending)?, how)))
    }
}

/// Provides an image on a node; made by [`Image::on`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaveImage {
    image: Image,
    node: String,
}

impl Work for HaveImage {
    type Done = String;

    async fn run(self, pve: &Client, track: &Track<'_>) -> Result<String, Error> {
        let Self { image, node } = self;
        if let Source::Volume(volume) = &image.source {
            track.found(&Subject::Volume(volume.clone()), Action::Fetch);
            return Ok(volume.clone());
        }
        let content = match pve.server_release().await? >= IMPORTS {
            true => UploadContent::Import,
            false => UploadContent::Iso,
        };
        let name = image.name_for(content)?;
        let volume = format!("{}:{}/{name}", image.storage, content.as_str());
        let subject = Subject::Volume(volume.clone());
        let at = pve
            .api()
            .nodes()
            .node(&node)
            .storage()
            .storage(&image.storage);
        let listed = at.content().get().content(content.as_str()).await?;
        let exists = listed.iter().any(|row| row.volid == *volume);
        match &image.source {
            Source::Url(url) if !exists || image.checksum.is_some() => {
                if Compression::of(&image.given_name()?).is_some() {
                    return Err(refuse(
                        "the server does not unpack images for import; download it and use `Image::file`",
                    ));
                }
                let kind = content.as_str();
                let start_task = || {
                    let request = at.download_url().post();
                    let request = request.url(url.clone()).content(kind).filename(&name);
                    match &image.checksum {
                        Some((algorithm, digits)) => request.checksum(digits).checksum_algorithm(
                            NodeStorageChecksumAlgorithm::from(algorithm.as_str()),
                        ),
                        None => request,
                    }
                };
                track.task(&subject, Action::Fetch, start_task).await?;
                if !exists {
                    track.leave(&subject, "was downloaded");
                }
            }
            Source::File(path) if !exists => {
                upload(pve, track, &image, path, &node, &subject, content, &name).await?;
                track.leave(&subject, "was uploaded");
            }
            _ => track.found(&subject, Action::Fetch),
        }
        if content == UploadContent::Import {
            return Ok(volume);
        }
        let found = at.content().volume(&volume).get().await?;
        found
            .path
            .ok_or_else(|| refuse("the server does not report the path of its file"))
    }
}

#[allow(clippy::too_many_arguments, reason = "one step of one function")]
async fn upload(
    pve: &Client,
    track: &Track<'_>,
    image: &Image,
    path: &Path,
    node: &str,
    subject: &Subject,
    content: UploadContent,
    name: &str,
) -> Result<(), Error> {
    let file_name = image.given_name()?;
    let compression = Compression::of(&file_name).map(|(_, compression)| compression);
    // The file has to exist until the upload is over.
    let mut unpacked = None;
    if let Some(compression) = compression {
        let from = path.to_owned();
        let checksum = image.checksum.clone();
        let bounds = *pve.bounds();
        let place = format!("/nodes/{node}/storage/{}/upload", image.storage);
        let unpacking = async move {
            let unpacking = move || unpack(&from, compression, checksum, &bounds);
            let done = tokio::task::spawn_blocking(unpacking).await;
            done.unwrap_or(Err(Unusable::Stopped))
                .map_err(|why| match why {
                    Unusable::TooLarge(exceeded) => {
                        Error::exceeded(&CallId::new(Method::Post, &place), exceeded)
                    }
                    Unusable::Other(problem) => refuse(problem),
                    Unusable::Stopped => refuse("unpacking stopped"),
                })
        };
        unpacked = Some(track.act(subject, Action::Unpack, unpacking).await?);
    }
    let path = unpacked.as_ref().map_or(path, |file| file.path());
    track
        .task(subject, Action::Fetch, || {
            let upload = pve.upload(node, &image.storage);
            let upload = upload.path(path).name(name).content(content);
            match &image.checksum {
                Some((algorithm, digits)) if compression.is_none() => {
                    upload.checksum(*algorithm, digits)
                }
                _ => upload.verified(),
            }
        })
        .await?;
    Ok(())
}

/// The reason why a compressed file cannot be used.
#[derive(Debug)]
enum Unusable {
    TooLarge(Exceeded),
    Other(String),
    Stopped,
}

/// Unpacks a file into a temporary one, which is deleted when the returned value is dropped.
fn unpack(
    from: &Path,
    compression: Compression,
    checksum: Option<(ChecksumAlgorithm, String)>,
    bounds: &Bounds,
) -> Result<tempfile::NamedTempFile, Unusable> {
    use std::io::{Read, Write};

    let failed = |error: std::io::Error| {
        let inner = error.get_ref();
        match inner.and_then(|inner| inner.downcast_ref::<Exceeded>()) {
            Some(exceeded) => Unusable::TooLarge(*exceeded),
            None => Unusable::Other(format!("unpacking {}: {error}", from.display())),
        }
    };
    let file = std::fs::File::open(from).map_err(failed)?;
    let sum = match &checksum {
        Some((algorithm, digits)) => {
            let sum = Sum::new(*algorithm).map_err(Unusable::Other)?;
            Some((sum, digits))
        }
        None => None,
    };
    let mut input = Summed {
        input: std::io::BufReader::with_capacity(1 << 18, file),
        sum,
    };
    let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
    let mut output = Bounded {
        output: file.as_file_mut(),
        left: bounds.image,
        max: bounds.image,
    };
    copy_unpacked(&mut input, compression, &mut output, bounds.window).map_err(failed)?;
    // The checksum includes bytes after the packed data.
    let mut rest = [0; 1 << 14];
    while input.read(&mut rest).map_err(failed)? > 0 {}
    output.flush().map_err(failed)?;
    if let Some((sum, digits)) = input.sum {
        let found = sum.digits();
        if !found.eq_ignore_ascii_case(digits) {
            return Err(Unusable::Other(format!(
                "{} has the checksum {found}, not {digits}",
                from.display()
            )));
        }
    }
    Ok(file)
}

/// Takes bytes up to a limit.
struct Bounded<W> {
    output: W,
    left: usize,
    max: usize,
}

impl<W: std::io::Write> std::io::Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.left {
            return Err(beyond(Bound::Image, self.max));
        }
        let count = self.output.write(bytes)?;
        self.left -= count;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

fn beyond(bound: Bound, limit: usize) -> std::io::Error {
    std::io::Error::other(Exceeded::new(bound, limit))
}

/// `window` limits the memory that the file may demand.
#[cfg_attr(
    not(feature = "unpack"),
    allow(unused_variables, reason = "gzip demands none")
)]
fn copy_unpacked(
    input: &mut impl std::io::Read,
    compression: Compression,
    output: &mut impl std::io::Write,
    window: usize,
) -> std::io::Result<()> {
    match compression {
        Compression::Gzip => {
            std::io::copy(&mut flate2::read::MultiGzDecoder::new(input), output)?;
        }
        #[cfg(feature = "unpack")]
        Compression::Xz => {
            // The decoder's own memory beside the window.
            const OWN: usize = 256;
            let kibibytes = (window / 1024).saturating_add(OWN);
            let kibibytes = u32::try_from(kibibytes).unwrap_or(u32::MAX);
            let mut decoder = lzma_rust2::XzReader::new_mem_limit(input, true, kibibytes);
            std::io::copy(&mut decoder, output).map_err(|error| match error.kind() {
                std::io::ErrorKind::OutOfMemory => beyond(Bound::Window, window),
                _ => error,
            })?;
        }
        #[cfg(feature = "unpack")]
        Compression::Zstd => zstd_frames(input, output, window)?,
        #[cfg(not(feature = "unpack"))]
        Compression::Xz | Compression::Zstd => {
            return Err(std::io::Error::other(
                "this needs the crate's feature `unpack`",
            ));
        }
    }
    Ok(())
}

/// Unpacks all frames of a file, and skips empty ones.
#[cfg(feature = "unpack")]
fn zstd_frames(
    input: &mut impl std::io::Read,
    output: &mut impl std::io::Write,
    window: usize,
) -> std::io::Result<()> {
    use std::io::Read;

    use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
    use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(window as u64);
    let mut frames = 0_u64;
    loop {
        let mut first = [0];
        if input.read(&mut first)? == 0 {
            return match frames {
                0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            };
        }
        frames = frames.saturating_add(1);
        let source = first.as_slice().chain(&mut *input);
        match StreamingDecoder::new_with_decoder(source, &mut decoder) {
            Ok(mut frame) => {
                std::io::copy(&mut frame, output)?;
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let length = u64::from(length);
                let nothing = &mut std::io::sink();
                if std::io::copy(&mut input.by_ref().take(length), nothing)? < length {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            Err(FrameDecoderError::WindowSizeTooBig { .. }) => {
                return Err(beyond(Bound::Window, window));
            }
            Err(error) => return Err(std::io::Error::other(error)),
        }
        let (announced, found) = (
            decoder.get_checksum_from_data(),
            decoder.get_calculated_checksum(),
        );
        if announced.is_some() && announced != found {
            return Err(std::io::Error::other(
                "its content does not match its checksum",
            ));
        }
    }
}

/// Computes a checksum of the bytes that are read through it.
struct Summed<'a, R> {
    input: R,
    sum: Option<(Sum, &'a String)>,
}

impl<R: std::io::Read> std::io::Read for Summed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let (Some((sum, _)), Some(read)) = (&mut self.sum, buffer.get(..count)) {
            sum.update(read);
        }
        Ok(count)
    }
}

enum Sum {
    Sha224(sha2::Sha224),
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Sum {
    fn new(algorithm: ChecksumAlgorithm) -> Result<Self, String> {
        Ok(match algorithm {
            ChecksumAlgorithm::Sha224 => Self::Sha224(sha2::Sha224::default()),
            ChecksumAlgorithm::Sha256 => Self::Sha256(sha2::Sha256::default()),
            ChecksumAlgorithm::Sha384 => Self::Sha384(sha2::Sha384::default()),
            ChecksumAlgorithm::Sha512 => Self::Sha512(sha2::Sha512::default()),
            other => {
                let other = other.as_str();
                return Err(format!(
                    "the {other} checksum of a compressed file cannot be checked; use SHA-2"
                ));
            }
        })
    }

    fn update(&mut self, data: &[u8]) {
        use sha2::Digest;

        match self {
            Self::Sha224(sum) => sum.update(data),
            Self::Sha256(sum) => sum.update(data),
            Self::Sha384(sum) => sum.update(data),
            Self::Sha512(sum) => sum.update(data),
        }
    }

    fn digits(self) -> String {
        use sha2::Digest;

        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha224(sum) => hex(&sum.finalize()),
            Self::Sha256(sum) => hex(&sum.finalize()),
            Self::Sha384(sum) => hex(&sum.finalize()),
            Self::Sha512(sum) => hex(&sum.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn unpacked(name: &str, data: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Unusable> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, data).expect("writable");
        let (_, compression) = Compression::of(name).expect("packed");
        let file = unpack(&path, compression, None, bounds)?;
        Ok(std::fs::read(file.path()).expect("readable"))
    }

    fn too_large(result: Result<Vec<u8>, Unusable>) -> Bound {
        match result {
            Err(Unusable::TooLarge(exceeded)) => exceeded.bound(),
            other => panic!("{:?}", other.map(|bytes| bytes.len())),
        }
    }

    fn gzip(length: usize) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; length];
        packed.write_all(&zeros).expect("in memory");
        packed.finish().expect("in memory")
    }

    #[test]
    fn a_file_unpacks_up_to_a_limit() {
        let bounds = Bounds::new().image(1 << 20);
        let whole = unpacked("x.raw.gz", &gzip(1 << 20), &bounds).expect("exactly this long");
        assert_eq!(whole.len(), 1 << 20);
        let bomb = gzip(64 << 20);
        assert!(bomb.len() < 100_000);
        assert_eq!(
            too_large(unpacked("x.raw.gz", &bomb, &bounds)),
            Bound::Image
        );
        // Several members in one file count together.
        let two = gzip(600_000).repeat(2);
        assert_eq!(too_large(unpacked("x.raw.gz", &two, &bounds)), Bound::Image);
    }

    /// "proxmox\n".
    const XZ: &[u8] = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\x02\0!\x01\x16\0\0\0t/\xe5\xa3\x01\0\x07proxmox\n\x001\x93\xc4\x8e\xd9\xa0\x8ds\0\x01 \x08\xbb\x19\xd9\xbb\x1f\xb6\xf3}\x01\0\0\0\0\x04YZ";
    const ZSTD: &[u8] = b"(\xb5/\xfd$\x08A\0\0proxmox\n\xfa\xa9\xd5\xf0";

    #[cfg(feature = "unpack")]
    #[test]
    fn unpacking_has_a_memory_limit() {
        let bounds = Bounds::new();
        assert_eq!(
            unpacked("x.raw.xz", XZ, &bounds).expect("good"),
            b"proxmox\n"
        );
        assert_eq!(
            unpacked("x.raw.zst", ZSTD, &bounds).expect("good"),
            b"proxmox\n"
        );
        // A window of 4 GiB.
        let mut demanding = XZ.to_vec();
        demanding[16] = 40;
        let mut sum = flate2::Crc::new();
        sum.update(&demanding[12..20]);
        demanding[20..24].copy_from_slice(&sum.sum().to_le_bytes());
        assert_eq!(
            too_large(unpacked("x.raw.xz", &demanding, &bounds)),
            Bound::Window
        );
        let mut small = XZ.to_vec();
        small[16] = 0;
        let mut sum = flate2::Crc::new();
        sum.update(&small[12..20]);
        small[20..24].copy_from_slice(&sum.sum().to_le_bytes());
        let tight = Bounds::new().window(4096);
        unpacked("x.raw.xz", &small, &tight).expect("it demands that");
        assert_eq!(too_large(unpacked("x.raw.xz", XZ, &tight)), Bound::Window);
        let demanding = b"(\xb5/\xfd\0\xf8\x01\0\0";
        assert_eq!(
            too_large(unpacked("x.raw.zst", demanding, &bounds)),
            Bound::Window
        );
    }

    #[cfg(feature = "unpack")]
    #[test]
    fn a_file_of_several_parts_is_unpacked_to_its_end() {
        let bounds = Bounds::new();
        let nothing = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let parts = [nothing, ZSTD, nothing, ZSTD, ZSTD].concat();
        let whole = unpacked("x.raw.zst", &parts, &bounds).expect("good");
        assert_eq!(whole, b"proxmox\n".repeat(3));
        let whole = unpacked("x.raw.xz", &XZ.repeat(2), &bounds).expect("good");
        assert_eq!(whole, b"proxmox\n".repeat(2));
        for broken in [
            ZSTD[..ZSTD.len() - 6].to_vec(),
            [ZSTD, b"garbage"].concat(),
            [ZSTD, &nothing[..10]].concat(),
            Vec::new(),
            {
                let mut other = ZSTD.to_vec();
                other[10] ^= 1;
                other
            },
        ] {
            let result = unpacked("x.raw.zst", &broken, &bounds);
            assert!(matches!(result, Err(Unusable::Other(_))), "{broken:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_exceeds_the_limits(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), at in 0_usize..80) {
            for (name, valid) in [("x.gz", gzip(100)), ("x.xz", XZ.to_vec()), ("x.zst", ZSTD.to_vec())] {
                let mut damaged = valid.get(..at.min(valid.len())).unwrap_or_default().to_vec();
                damaged.extend_from_slice(&data);
                let _ = unpacked(name, &damaged, &Bounds::new().image(1 << 20).window(1 << 20));
            }
        }
    }
}
