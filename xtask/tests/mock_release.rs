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
        let text = printed(&output);
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = printed(&output);
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
    fn write_decisions(&self, change: impl FnOnce(String) -> String) {
        let text = include_str!("mock/settled.toml")
            .replace("since = \"9.3\"", &format!("since = \"{}\"", self.release));
        fs::write(self.path("schema/pve/overlay/settled.toml"), change(text)).unwrap();
    }
}

fn printed(output: &Output) -> String {
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

    // At the start: the command for the import.
    let output = day.fails(&["next", "--release", release]);
    assert!(output.contains("1. Import the dump - TO DO"), "{output}");
    assert!(output.contains("cargo xtask import https://"), "{output}");

    // An unknown key is reported once with its place, and nothing is written.
    let import = day.import(&["--unknown-key"]);
    let output = day.fails(&words(&import));
    assert!(
        output.contains("at /stability: the key \"stability\" is not known on a method (and the same in 5 more places)"),
        "{output}"
    );
    assert!(!day.path(&format!("schema/pve/{release}.json")).exists());

    // A wrong release and a wrong product are detected.
    let mut wrong = day.import(&[]);
    wrong[3].clone_from(&day.before);
    day.works(&words(&[&wrong[..], &["--force".to_owned()]].concat()));
    let output = day.fails(&words(&[&wrong[..3], &[release.to_owned()]].concat()));
    assert!(
        output.contains(&format!(
            "the same file was imported as release {}",
            day.before
        )),
        "{output}"
    );
    let output = day.fails(&[
        "import",
        &wrong[1],
        "--release",
        release,
        "--product",
        "pmg",
    ]);
    assert!(
        output.contains("its paths are those of pve, not of pmg"),
        "{output}"
    );
    let own = format!("schema/pve/{}.json", day.before);
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&own),
        &day.path(&own),
    );

    day.works(&words(&day.import(&[])));
    // Nothing is decided yet, so the changes of the crate are unknown; those of the schema are
    // shown.
    let output = day.fails(&["diff", &day.before, release]);
    for text in [
        "- `POST /nodes/{node}/multipath/scan`",
        "  - parameter `targets`: string, `pve-storage-id-list`, required",
        "  - result: array, with `healthy`, `name`, `paths`",
        "`comment`: now required",
    ] {
        assert!(output.contains(text), "{text} in {output}");
    }

    // All open decisions are reported in one run, with the lines to paste.
    let output = day.fails(&["next"]);
    for text in [
        "`\"multipath\" = \"ClusterOptionsMultipath\"` under [property_strings.\"/cluster/options\"]",
        "`\"vfio[n]\" = \"QemuVfio\"` under [property_strings.\"/nodes/{node}/qemu\"]",
        "`\"vfio[n]\" = 31` under [last_index.\"/nodes/{node}/qemu\"]",
        "`\"POST /nodes/{node}/multipath/scan\",` in `tasks`",
        "under [texts]",
        "`passphrase = \"what it is\"` under [secret.names] or [public.names]",
        "`at = [\"POST /nodes/{node}/multipath/scan?targets\"]`",
        "`\"NEW\" = \"OLD\"` under [renamed.\"PUT /cluster/options\"]",
    ] {
        assert!(output.contains(text), "{text} in {output}");
    }

    // Decided, but a required parameter under its new name only: that breaks callers, and is
    // refused.
    day.write_decisions(|text| text.replace("\"new-id\" = \"newid\"\n", ""));
    let output = day.fails(&["regen"]);
    assert!(
        output.contains("`qemu::QemuVmidClonePath::post`"),
        "{output}"
    );
    assert!(output.contains("nothing was written"), "{output}");

    // All decisions are made: nothing breaks.
    day.write_decisions(|text| text);
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
    // The release is named in one line of the expectations, not in all of them.
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

    // Counts and documents remain.
    let output = day.fails(&["next"]);
    assert!(
        output.contains("goes to the module `cluster`: GET /cluster/multipath"),
        "{output}"
    );
    assert!(
        output.contains("Write documentation for new items - done"),
        "{output}"
    );
    assert!(output.contains("cargo xtask coverage --record"), "{output}");
    day.works(&["coverage", "--record"]);
    for file in ["README.md", "schema/README.md", "CHANGELOG.md"] {
        let path = day.path(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\nRelease {release}.\n")).unwrap();
    }
    let output = day.works(&["next"]);
    assert!(
        output.contains("All steps that this command can check are done"),
        "{output}"
    );
    day.works(&["regen", "--check"]);
}

#[test]
fn invalid_files_are_reported_without_consequential_errors() {
    let day = Day::new();
    let returns = day.path("schema/pve/overlay/nodes/returns.toml");
    let text = fs::read_to_string(&returns).unwrap();
    fs::write(&returns, text.replacen("tasks = [", "tasks = [[", 1)).unwrap();
    let output = day.fails(&["regen"]);
    assert!(
        output.contains("one problem:\n  nodes/returns.toml:"),
        "{output}"
    );
    fs::write(&returns, text).unwrap();

    // A file with another name, and an area that covers everything.
    let file = day.path(&format!("schema/pve/{}.json", day.before));
    fs::copy(&file, day.path("schema/pve/backup.json")).unwrap();
    let output = day.fails(&["regen"]);
    assert!(output.contains("backup.json: has release"), "{output}");
    fs::remove_file(day.path("schema/pve/backup.json")).unwrap();
    let areas = day.path("schema/pve/overlay/areas.toml");
    fs::write(
        &areas,
        "[[area]]\nname = \"\"\nprefix = \"/\"\nabout = \"All.\"\n",
    )
    .unwrap();
    let output = day.fails(&["regen"]);
    assert!(
        output.contains("areas.toml: `` cannot be a name in Rust"),
        "{output}"
    );
    assert!(!output.contains("panicked"), "{output}");
}
