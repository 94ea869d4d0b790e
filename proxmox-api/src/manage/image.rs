//! Images on a storage: downloaded by a node, uploaded from here, or there already.

use std::fmt;
use std::path::{Path, PathBuf};

use super::work::{Action, Subject, Track, Work, WorkError};
use crate::client::Client;
use crate::error::Error;
use crate::pve::node_storage::NodeStorageChecksumAlgorithm;
use crate::stream::upload::{ChecksumAlgorithm, UploadContent};
use crate::value::Secret;
use crate::value::endpoint::Release;

/// Since when storages have images to import among their content.
const IMPORTS: Release = Release::new(8, 3);

/// An image for disks of virtual machines: where it comes from, and where it is kept.
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
#[derive(Clone)]
pub struct Image {
    source: Source,
    name: Option<String>,
    checksum: Option<(ChecksumAlgorithm, String)>,
    storage: String,
}

#[derive(Clone)]
enum Source {
    Url(Secret),
    File(PathBuf),
    Volume(String),
}

impl Image {
    /// An image that the node downloads by itself: [`POST /nodes/{node}/storage/{storage}/download-url`](crate::pve::node_storage::NodeStorageStorageDownloadUrlPost). It cannot be
    /// compressed: the server unpacks only what is no image to import.
    #[must_use]
    pub fn url(url: impl Into<Secret>) -> Self {
        Self::of(Source::Url(url.into()))
    }

    /// A file on this side, which is uploaded. One that ends in `.gz`, and with the feature `unpack` in `.xz` or `.zst`, is
    /// unpacked into a temporary file before.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Source::File(path.into()))
    }

    /// A volume that is there already, as `local:import/debian-13.qcow2` or the disk of another machine.
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

    /// What it is called on the storage, instead of the last part of its address or path. Its ending says what is in it:
    /// `.qcow2`, `.raw` or `.vmdk`; another ending is taken for that of a qcow2 image, which is what cloud images that are
    /// called `.img` are.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The checksum that it has to have as it comes, in hexadecimal digits. For an image by address the server checks
    /// that, also of one it has already. That of a compressed file is checked on this side, for SHA-2 only.
    #[must_use]
    pub fn checksum(mut self, algorithm: ChecksumAlgorithm, digits: impl Into<String>) -> Self {
        self.checksum = Some((algorithm, digits.into()));
        self
    }

    /// The storage that keeps it; `local` unless set. Since release 8.3 it has to have the content type `import`, before
    /// `iso`.
    #[must_use]
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = storage.into();
        self
    }

    /// The work of having it on a node. Gives what a disk of a virtual machine can be imported from (`import-from`): the
    /// volume, or on releases before 8.3, which import no volume that is no disk, the path of its file. Only `root@pam`
    /// itself may import from a path.
    ///
    /// An image of that name that is there already is taken, and not compared unless there is a checksum. What a failed
    /// download or upload wrote is removed by the server.
    #[must_use]
    pub fn on(&self, node: impl Into<String>) -> HaveImage {
        HaveImage {
            image: self.clone(),
            node: node.into(),
        }
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
            return Err(refuse(
                "nothing tells what the image is called; set its name",
            ));
        }
        Ok(name)
    }

    /// What it is called on the storage of a release.
    fn name_for(&self, content: UploadContent) -> Result<String, Error> {
        let given = self.given_name()?;
        let plain = match Packing::of(&given) {
            Some((plain, _)) => plain.to_owned(),
            None => given,
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
        let mut shown = f.debug_struct("Image");
        match &self.source {
            Source::Url(url) => shown.field("url", url),
            Source::File(path) => shown.field("file", path),
            Source::Volume(volume) => shown.field("volume", volume),
        };
        shown
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

fn refuse(problem: impl Into<String>) -> Error {
    WorkError::new(Subject::Other("the image".to_owned()), problem).into()
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Gzip,
    Xz,
    Zstd,
}

impl Packing {
    /// The name without the ending that tells.
    fn of(name: &str) -> Option<(&str, Self)> {
        [(".gz", Self::Gzip), (".xz", Self::Xz), (".zst", Self::Zstd)]
            .into_iter()
            .find_map(|(ending, how)| Some((name.strip_suffix(ending)?, how)))
    }
}

/// The work of having an image on a node; made by [`Image::on`].
#[derive(Clone, Debug)]
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
        let there = listed.iter().any(|row| row.volid == *volume);
        match &image.source {
            Source::Url(url) if !there || image.checksum.is_some() => {
                if Packing::of(&image.given_name()?).is_some() {
                    return Err(refuse(
                        "the server unpacks no image to import; download it here and use `Image::file`",
                    ));
                }
                let kind = content.as_str();
                let begin = || {
                    let request = at.download_url().post();
                    let request = request.url(url.clone()).content(kind).filename(&name);
                    match &image.checksum {
                        Some((algorithm, digits)) => request.checksum(digits).checksum_algorithm(
                            NodeStorageChecksumAlgorithm::from(algorithm.as_str()),
                        ),
                        None => request,
                    }
                };
                track.task(&subject, Action::Fetch, begin).await?;
                if !there {
                    track.leave(&subject, "was downloaded");
                }
            }
            Source::File(path) if !there => {
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
            .ok_or_else(|| refuse("the server does not say where its file is"))
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
    let given = image.given_name()?;
    let packing = Packing::of(&given).map(|(_, packing)| packing);
    // It has to be there until the upload is over.
    let mut unpacked = None;
    if let Some(packing) = packing {
        let from = path.to_owned();
        let wanted = image.checksum.clone();
        let doing = async move {
            let done = tokio::task::spawn_blocking(move || unpack(&from, packing, wanted)).await;
            done.unwrap_or_else(|_| Err(refuse("unpacking stopped")))
        };
        unpacked = Some(track.act(subject, Action::Unpack, doing).await?);
    }
    let path = unpacked.as_ref().map_or(path, |file| file.path());
    track
        .task(subject, Action::Fetch, || {
            let upload = pve.upload(node, &image.storage);
            let upload = upload.path(path).name(name).content(content);
            match &image.checksum {
                Some((algorithm, digits)) if packing.is_none() => {
                    upload.checksum(*algorithm, digits)
                }
                _ => upload.verified(),
            }
        })
        .await?;
    Ok(())
}

/// Unpacks a file into a temporary one, which goes with what this gives.
fn unpack(
    from: &Path,
    packing: Packing,
    wanted: Option<(ChecksumAlgorithm, String)>,
) -> Result<tempfile::NamedTempFile, Error> {
    use std::io::{Read, Write};

    let failed = |error: std::io::Error| refuse(format!("unpacking {}: {error}", from.display()));
    let file = std::fs::File::open(from).map_err(failed)?;
    let sum = match &wanted {
        Some((algorithm, digits)) => Some((Sum::new(*algorithm)?, digits)),
        None => None,
    };
    let mut input = Summed {
        input: std::io::BufReader::with_capacity(1 << 18, file),
        sum,
    };
    let mut output = tempfile::NamedTempFile::new().map_err(failed)?;
    copy_unpacked(&mut input, packing, output.as_file_mut()).map_err(failed)?;
    // What comes after the packed data belongs to the file as well.
    let mut rest = [0; 1 << 14];
    while input.read(&mut rest).map_err(failed)? > 0 {}
    output.flush().map_err(failed)?;
    if let Some((sum, digits)) = input.sum {
        let found = sum.digits();
        if !found.eq_ignore_ascii_case(digits) {
            return Err(refuse(format!(
                "{} has the checksum {found}, not {digits}",
                from.display()
            )));
        }
    }
    Ok(output)
}

fn copy_unpacked(
    input: &mut impl std::io::Read,
    packing: Packing,
    output: &mut std::fs::File,
) -> std::io::Result<()> {
    match packing {
        Packing::Gzip => {
            std::io::copy(&mut flate2::read::MultiGzDecoder::new(input), output)?;
        }
        #[cfg(feature = "unpack")]
        Packing::Xz => {
            std::io::copy(&mut lzma_rust2::XzReader::new(input, true), output)?;
        }
        #[cfg(feature = "unpack")]
        Packing::Zstd => {
            let mut decoder =
                ruzstd::decoding::StreamingDecoder::new(input).map_err(std::io::Error::other)?;
            std::io::copy(&mut decoder, output)?;
        }
        #[cfg(not(feature = "unpack"))]
        Packing::Xz | Packing::Zstd => {
            return Err(std::io::Error::other(
                "this takes the feature `unpack` of the crate",
            ));
        }
    }
    Ok(())
}

/// Computes a checksum of what is read through it.
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
    fn new(algorithm: ChecksumAlgorithm) -> Result<Self, Error> {
        Ok(match algorithm {
            ChecksumAlgorithm::Sha224 => Self::Sha224(sha2::Sha224::default()),
            ChecksumAlgorithm::Sha256 => Self::Sha256(sha2::Sha256::default()),
            ChecksumAlgorithm::Sha384 => Self::Sha384(sha2::Sha384::default()),
            ChecksumAlgorithm::Sha512 => Self::Sha512(sha2::Sha512::default()),
            other => {
                let other = other.as_str();
                return Err(refuse(format!(
                    "the {other} checksum of a compressed file cannot be checked; give one of SHA-2"
                )));
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
