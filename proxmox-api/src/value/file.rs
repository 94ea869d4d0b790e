//! Files that are written completely or not at all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(unix)]
use rustix::fs::OFlags;
use tempfile::{Builder, NamedTempFile};

/// More links in a row are a loop.
const LINKS: usize = 40;
/// The time for which another program may hold a file. It may be asking a person.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// The limit on the size of a file that several programs change, in bytes.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// The target of a path: that of its symbolic link, whether it exists or not.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match std::fs::read_link(&path) {
            // A relative target is relative to the link.
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("it is a cycle of symbolic links"))
}

/// A temporary file beside a path, which replaces the path when it is complete, and is removed
/// otherwise.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: NamedTempFile,
    place: PathBuf,
}

/// The readers of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Its owner.
    Owner,
    /// By the umask of the process.
    AsUsual,
}

impl PartFile {
    /// Creates the file. Its name is unique, so two of them do not mix, and an existing file or
    /// link is neither followed nor overwritten.
    pub(crate) fn beside(path: &Path, readers: Readers) -> io::Result<Self> {
        let place = resolve(path)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(place.file_name().unwrap_or_default());
        name.push(".");
        let folder = match place.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = Builder::new();
        builder.prefix(&name).suffix(".part");
        #[cfg(unix)]
        if readers == Readers::AsUsual {
            builder.permissions(usual());
        }
        #[cfg(not(unix))]
        let _ = readers;
        let file = builder.tempfile_in(folder)?;
        if let Ok(old) = std::fs::metadata(&place) {
            file.as_file().set_permissions(old.permissions())?;
        }
        Ok(Self { file, place })
    }

    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Moves it to its path, complete and on disk.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.place)?;
        Ok(())
    }
}

#[cfg(unix)]
fn usual() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    // The process's umask applies here, too.
    std::fs::Permissions::from_mode(0o666)
}

/// Changes a text file that several programs change, one after the other. `change` gets the text,
/// empty if there is no file, and returns the new one, or `None` to keep it. Mode and owner are
/// kept; a new file is readable by its owner only.
///
/// The lock is a separate file beside it, `<name>.lock`, since the file itself is replaced.
pub(crate) fn change<E: From<io::Error>>(
    path: &Path,
    change: impl FnOnce(&str) -> Result<Option<String>, E>,
) -> Result<(), E> {
    let place = resolve(path)?;
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock = open_lock(&place.with_file_name(name))?;
    // The lock ends when the file is closed.
    take(&lock, PATIENCE)?;
    let text = read(&place)?.unwrap_or_default();
    let Some(text) = change(&text)? else {
        return Ok(());
    };
    let part = PartFile::beside(&place, Readers::Owner)?;
    part.file().write_all(text.as_bytes())?;
    Ok(part.finish()?)
}

/// Opens a lock file, and creates it if it does not exist. Nothing is ever written to it. Anything
/// but a regular file is refused: a symbolic link would create or lock a file elsewhere, and a pipe
/// would block.
fn open_lock(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| {
        let text = format!("the lock {}: {error}", path.display());
        io::Error::new(error.kind(), text)
    };
    // On systems where opening cannot refuse a link, it is checked before.
    if let Ok(found) = std::fs::symlink_metadata(path)
        && !found.is_file()
    {
        return Err(named(io::Error::other("it is not a regular file")));
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    not_followed(&mut options);
    let lock = options.open(path).map_err(named)?;
    match lock.metadata()?.is_file() {
        true => Ok(lock),
        false => Err(named(io::Error::other("it is not a regular file"))),
    }
}

/// Takes a lock, with a time limit, so that a hanging program does not make others hang.
fn take(lock: &File, patience: Duration) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(RETRY_INTERVAL);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another program holds its lock"));
            }
        }
    }
}

/// The text of a file; `None` if it does not exist.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    let fits = |found: &std::fs::Metadata| match found.is_file() {
        // Reading a device may never end, and reading a pipe blocks until somebody writes.
        false => Err(io::Error::other("it is not a regular file")),
        true if found.len() > MAX_SIZE => Err(io::Error::other("it is too long")),
        true => Ok(()),
    };
    // Opening some devices has an effect.
    match std::fs::metadata(path) {
        Ok(found) => fits(&found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut options = OpenOptions::new();
    options.read(true);
    not_waited_for(&mut options);
    let file = options.open(path)?;
    // The file may have been replaced, and may grow.
    fits(&file.metadata()?)?;
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_SIZE {
        true => Err(io::Error::other("it is too long")),
        false => Ok(Some(text)),
    }
}

/// A new file is readable by its owner only; links are not followed, and opening a pipe does not
/// block.
#[cfg(unix)]
fn not_followed(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.mode(0o600).custom_flags(bits(flags));
}

#[cfg(unix)]
fn not_waited_for(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(bits(OFlags::NONBLOCK));
}

#[cfg(unix)]
fn bits(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

#[cfg(not(unix))]
fn not_followed(_: &mut OpenOptions) {}

#[cfg(not(unix))]
fn not_waited_for(_: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_lock_that_is_held_for_too_long_is_an_error() {
        let folder = folder();
        let path = folder.path().join("x.lock");
        let open = || File::create(&path).expect("writable");
        let (theirs, ours) = (open(), open());
        theirs.lock().expect("free");
        let start = Instant::now();
        let error = take(&ours, Duration::from_millis(100)).expect_err("it is kept");
        assert!(error.to_string().contains("holds its lock"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
        drop(theirs);
        take(&ours, Duration::ZERO).expect("free");
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = folder();
        assert!(read(folder.path()).is_err());
        let long = folder.path().join("long");
        File::create(&long)
            .and_then(|file| file.set_len(MAX_SIZE + 1))
            .expect("writable");
        let error = read(&long).expect_err("too long");
        assert!(error.to_string().contains("too long"), "{error}");
        assert!(change(&long, |_| Ok::<_, io::Error>(None)).is_err());
        #[cfg(target_os = "linux")]
        assert!(read(Path::new("/dev/zero")).is_err());
    }

    fn append(path: &Path, line: &str) -> io::Result<()> {
        change(path, |text| {
            Ok::<_, io::Error>(Some(format!("{text}{line}\n")))
        })
    }

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    }

    #[test]
    fn concurrent_changes_are_not_lost() {
        let folder = folder();
        let path = folder.path().join("file");
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for line in 0..25 {
                        append(path, &format!("{writer}-{line}")).expect("written");
                    }
                });
            }
        });
        let text = std::fs::read_to_string(&path).expect("it is there");
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 200);
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["file", "file.lock"], "nothing else is left");
    }

    #[cfg(unix)]
    #[test]
    fn the_mode_stays_and_a_new_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        let path = folder.path().join("file");
        append(&path, "a").expect("written");
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        append(&path, "b").expect("written");
        assert_eq!(mode(&path), 0o640);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_target_is_changed() {
        let folder = folder();
        let real = folder.path().join("real");
        std::fs::create_dir(folder.path().join("links")).expect("a folder");
        let link = folder.path().join("links/link");
        std::os::unix::fs::symlink("../real", &link).expect("a link");
        append(&link, "a").expect("written, though it points to nothing yet");
        append(&link, "b").expect("written");
        assert_eq!(
            std::fs::read_to_string(&real).expect("it is there"),
            "a\nb\n"
        );
        assert!(std::fs::read_link(&link).is_ok(), "still a link");
        let circle = folder.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).expect("a link");
        let error = append(&circle, "a").expect_err("it leads nowhere");
        assert!(error.to_string().contains("cycle"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_file_is_not_followed_through_a_link() {
        let folder = folder();
        let path = folder.path().join("file");
        let lock = folder.path().join("file.lock");
        let elsewhere = folder.path().join("elsewhere");
        let refused = |what: &str| {
            let error = append(&path, "a").expect_err(what);
            assert!(error.to_string().contains("file.lock"), "{what}: {error}");
            assert!(!path.exists(), "{what}");
        };
        std::os::unix::fs::symlink(&elsewhere, &lock).expect("a link");
        refused("a link to nothing");
        assert!(!elsewhere.exists(), "nothing was made where it points to");
        std::fs::write(&elsewhere, "keep").expect("written");
        refused("a link to a file");
        // Between looking and opening somebody may put one there.
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        not_followed(&mut options);
        options.open(&lock).expect_err("not followed");
        std::fs::remove_file(&lock).expect("it is there");
        std::fs::create_dir(&lock).expect("a folder");
        refused("a folder");
        std::fs::remove_dir(&lock).expect("it is there");
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(CWD, &lock, FileType::Fifo, mode, 0).expect("a pipe");
            refused("a pipe");
            options.open(&lock).expect_err("nobody reads it");
            assert!(read(&lock).is_err());
            std::fs::remove_file(&lock).expect("it is there");
        }
        append(&path, "a").expect("written");
        assert_eq!(mode(&lock), 0o600);
        assert_eq!(std::fs::read(&elsewhere).expect("it is there"), b"keep");
    }

    #[test]
    fn a_failed_change_leaves_the_file_unchanged() {
        let folder = folder();
        let path = folder.path().join("file");
        append(&path, "a").expect("written");
        change(&path, |_| Err(io::Error::other("no"))).expect_err("it fails");
        change(&path, |_| Ok::<_, io::Error>(None)).expect("nothing to do");
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "a\n");
    }
}
