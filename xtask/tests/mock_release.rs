//! A new release from import to a green gate, with a made-up release; `docs/release-day.md`
//! describes it for people.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A copy of the commands' input, and a dump of the release after the newest.
struct Day {
    folder: TempDir,
    /// The newest tracked release, and the made-up one.
    before: String,
    release: String,
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

impl Day {
    fn new() -> Day {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = TempDir::new().unwrap();
        for part in [
            "schema",
            "README.md",
            "CHANGELOG.md",
            "proxmox-api/Cargo.toml",
            "proxmox-api/src/pve",
            "tests/e2e/src/generated",
        ] {
            copy(&root.join(part), &folder.path().join(part));
        }
        let releases = fs::read_dir(root.join("schema/pve")).unwrap();
        let newest = releases
            .filter_map(|entry| {
                let name = entry.unwrap().file_name();
                let (major, minor) = name.to_str()?.strip_suffix(".json")?.split_once('.')?;
                Some((major.parse::<u8>().ok()?, minor.parse::<u8>().ok()?))
            })
            .max()
            .unwrap();
        Day {
            folder,
            before: format!("{}.{}", newest.0, newest.1),
            release: format!("{}.{}", newest.0, newest.1 + 1),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("--workspace")
            .arg(self.folder.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    fn works(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = said(&output);
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        text
    }

    fn import(&self, more: &[&str]) -> Vec<String> {
        let dump = self.path("apidoc.js").to_str().unwrap().to_owned();
        let mut line = vec!["mock", dump.as_str()];
        line.extend(more);
        self.works(&line);
        ["import", &dump, "--release", &self.release]
            .map(str::to_owned)
            .to_vec()
    }

    /// Puts an entry for the release where the mock's decisions say 9.3.
    fn settle(&self, change: impl FnOnce(String) -> String) {
        let text = include_str!("mock/settled.toml")
            .replace("since = \"9.3\"", &format!("since = \"{}\"", self.release));
        fs::write(self.path("schema/pve/overlay/settled.toml"), change(text)).unwrap();
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn words(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

#[test]
fn a_made_up_release_goes_from_import_to_green() {
    let day = Day::new();
    let release = day.release.as_str();

    // Before anything: the command for the import.
    let told = day.fails(&["next", "--release", release]);
    assert!(told.contains("1. Import the dump - TO DO"), "{told}");
    assert!(told.contains("cargo xtask import https://"), "{told}");

    // An unknown key is reported once with its place, and nothing is written.
    let import = day.import(&["--unknown-key"]);
    let told = day.fails(&words(&import));
    assert!(
        told.contains("at /stability: the key \"stability\" is not known on a method (and the same in 5 more places)"),
        "{told}"
    );
    assert!(!day.path(&format!("schema/pve/{release}.json")).exists());

    // A wrong release and a wrong product are detected.
    let mut wrong = day.import(&[]);
    wrong[3].clone_from(&day.before);
    day.works(&words(&[&wrong[..], &["--force".to_owned()]].concat()));
    let told = day.fails(&words(&[&wrong[..3], &[release.to_owned()]].concat()));
    assert!(
        told.contains(&format!(
            "the same file was imported as release {}",
            day.before
        )),
        "{told}"
    );
    let told = day.fails(&[
        "import",
        &wrong[1],
        "--release",
        release,
        "--product",
        "pmg",
    ]);
    assert!(
        told.contains("its paths are those of pve, not of pmg"),
        "{told}"
    );
    let own = format!("schema/pve/{}.json", day.before);
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&own),
        &day.path(&own),
    );

    day.works(&words(&day.import(&[])));
    // Nothing is decided yet, so the changes of the crate are unknown; those of the schema are
    // shown.
    let told = day.fails(&["diff", &day.before, release]);
    for text in [
        "- `POST /nodes/{node}/multipath/scan`",
        "  - parameter `targets`: string, `pve-storage-id-list`, required",
        "  - result: array, with `healthy`, `name`, `paths`",
        "`comment`: now required",
    ] {
        assert!(told.contains(text), "{text} in {told}");
    }

    // All open decisions are reported in one run, with the lines to paste.
    let told = day.fails(&["next"]);
    for text in [
        "`\"multipath\" = \"ClusterOptionsMultipath\"` under [property_strings.\"/cluster/options\"]",
        "`\"vfio[n]\" = \"QemuVfio\"` under [property_strings.\"/nodes/{node}/qemu\"]",
        "`\"vfio[n]\" = 31` under [families.\"/nodes/{node}/qemu\"]",
        "`\"POST /nodes/{node}/multipath/scan\",` in `tasks`",
        "under [texts]",
        "`passphrase = \"what it is\"` under [secret.names] or [public.names]",
        "`at = [\"POST /nodes/{node}/multipath/scan?targets\"]`",
        "`\"NEW\" = \"OLD\"` under [renamed.\"PUT /cluster/options\"]",
    ] {
        assert!(told.contains(text), "{text} in {told}");
    }

    // Decided, but a required parameter under its new name only: that breaks callers, and is
    // refused.
    day.settle(|text| text.replace("\"new-id\" = \"newid\"\n", ""));
    let told = day.fails(&["regen"]);
    assert!(told.contains("`qemu::QemuVmidClonePath::post`"), "{told}");
    assert!(told.contains("nothing was written"), "{told}");

    // Everything is decided: nothing breaks.
    day.settle(|text| text);
    day.works(&["regen"]);
    let crate_text = fs::read_to_string(day.path("proxmox-api/src/pve/qemu.rs")).unwrap();
    let (major, minor) = release.split_once('.').unwrap();
    let renamed = format!("Renamed::new(\"newid\", \"new-id\", Release::new({major}, {minor}))");
    assert!(crate_text.contains(&renamed));
    // A snapshot has the members of the configuration without an entry of its own.
    let snapshot = crate_text
        .split("pub struct QemuSnapshotConfig {")
        .nth(1)
        .unwrap();
    assert!(snapshot.split("\n}").next().unwrap().contains("vfio: "));
    // The release is named in one line of the expectations, and not in all of them.
    let requests = fs::read_to_string(day.path("tests/e2e/src/generated/requests.json")).unwrap();
    assert_eq!(requests.matches(&format!("\"{release}\"")).count(), 1);
    let locked = fs::read_to_string(day.path("schema/pve/names.lock")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for line in fs::read_to_string(root.join("schema/pve/names.lock"))
        .unwrap()
        .lines()
    {
        assert!(locked.contains(line), "names.lock lost: {line}");
    }

    // Counts and documents are left.
    let told = day.fails(&["next"]);
    assert!(
        told.contains("goes to the module `cluster`: GET /cluster/multipath"),
        "{told}"
    );
    assert!(
        told.contains("Describe what is new, in words of our own - done"),
        "{told}"
    );
    assert!(told.contains("cargo xtask coverage --record"), "{told}");
    day.works(&["coverage", "--record"]);
    for file in ["README.md", "schema/README.md", "CHANGELOG.md"] {
        let path = day.path(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\nRelease {release}.\n")).unwrap();
    }
    let told = day.works(&["next"]);
    assert!(
        told.contains("All that this command can see is done"),
        "{told}"
    );
    day.works(&["regen", "--check"]);
}

#[test]
fn files_that_are_wrong_are_told_without_what_follows_from_them() {
    let day = Day::new();
    let returns = day.path("schema/pve/overlay/nodes/returns.toml");
    let text = fs::read_to_string(&returns).unwrap();
    fs::write(&returns, text.replacen("tasks = [", "tasks = [[", 1)).unwrap();
    let told = day.fails(&["regen"]);
    assert!(
        told.contains("one problem:\n  nodes/returns.toml:"),
        "{told}"
    );
    fs::write(&returns, text).unwrap();

    // A file with another name, and an area that covers everything.
    let file = day.path(&format!("schema/pve/{}.json", day.before));
    fs::copy(&file, day.path("schema/pve/backup.json")).unwrap();
    let told = day.fails(&["regen"]);
    assert!(told.contains("backup.json: holds release"), "{told}");
    fs::remove_file(day.path("schema/pve/backup.json")).unwrap();
    let areas = day.path("schema/pve/overlay/areas.toml");
    fs::write(
        &areas,
        "[[area]]\nname = \"\"\nprefix = \"/\"\nabout = \"All.\"\n",
    )
    .unwrap();
    let told = day.fails(&["regen"]);
    assert!(
        told.contains("areas.toml: `` cannot be a name in Rust"),
        "{told}"
    );
    assert!(!told.contains("panicked"), "{told}");
}
