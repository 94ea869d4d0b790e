//! Reading and writing files of the workspace.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use proxmox_codegen::facts::Release;
use proxmox_codegen::product::Product;

use crate::Outcome;

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// With `/` on every system.
pub(crate) fn relative(base: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(base).unwrap_or(path);
    relative
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}

/// All files in a folder and its folders, sorted; none if it does not exist.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    if !folder.exists() {
        return Ok(files);
    }
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry
            .map_err(|error| format!("{}: {error}", folder.display()))?
            .path();
        match path.is_dir() {
            true => files.extend(files_below(&path)?),
            false => files.push(path),
        }
    }
    files.sort();
    Ok(files)
}

/// Replaces one file as a whole.
pub(crate) fn write(path: &Path, text: &str) -> Outcome {
    write_all(&BTreeMap::from([(path.to_owned(), text)]))
}

/// Replaces files: everything is first written beside its target, so that a full disk or a
/// read-only folder leaves all of them unchanged.
pub(crate) fn write_all(texts: &BTreeMap<PathBuf, &str>) -> Outcome {
    let mut staged = Vec::new();
    for (path, text) in texts {
        let fail = |error: std::io::Error| format!("{}: {error}", path.display());
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(fail)?;
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // A temporary file is private by default; these get the permissions of the umask.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut file = builder
            .prefix(".xtask-")
            .tempfile_in(folder)
            .map_err(fail)?;
        file.write_all(text.as_bytes()).map_err(fail)?;
        file.as_file().sync_all().map_err(fail)?;
        staged.push((path, file));
    }
    for (path, file) in staged {
        file.persist(path)
            .map_err(|error| format!("{}: {}", path.display(), error.error))?;
    }
    Ok(())
}

/// The facts of a product's newest release.
pub(crate) fn newest_release(product: &Product, root: &Path) -> Result<PathBuf, String> {
    let folder = product.schema(root);
    let release = |path: &PathBuf| -> Option<Release> {
        let name = path.file_name()?.to_str()?;
        name.strip_suffix(".json")?.parse().ok()
    };
    let newest = files_below(&folder)?.into_iter().max_by_key(release);
    newest.ok_or_else(|| format!("{}: contains no release", folder.display()))
}
