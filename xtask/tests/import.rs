//! `cargo xtask import` from the command line: its output, and that a bad source changes nothing.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const DUMP: &str = r#"const apiSchema = [
   {
      "info" : {
         "GET" : {
            "allowtoken" : 1,
            "method" : "GET",
            "name" : "read",
            "parameters" : { "additionalProperties" : 0, "properties" : { "id" : { "type" : "string" } } },
            "permissions" : { "user" : "all" },
            "returns" : { "type" : "null" }
         }
      },
      "leaf" : 1,
      "path" : "/x/{id}",
      "text" : "{id}"
   }
]
;

let viewer = { GET : "get" };
"#;

struct TestFolder(TempDir);

impl TestFolder {
    fn new() -> TestFolder {
        TestFolder(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn import(&self, source: &[u8], more: &[&str]) -> Output {
        let file = self.path("apidoc.js");
        fs::write(&file, source).unwrap();
        run(&file, "9.2", &self.path("schema"), more)
    }

    fn written(&self) -> String {
        fs::read_to_string(self.path("schema/pve/9.2.json")).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("schema/pve"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn run(source: &Path, release: &str, schema_dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("import")
        .arg(source)
        .args(["--product", "pve", "--release", release, "--schema-dir"])
        .arg(schema_dir)
        .args(more)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_dump_becomes_a_schema_file() {
    let folder = TestFolder::new();
    let out = stdout(&folder.import(DUMP.as_bytes(), &["--package-version", "9.2.1"]));
    assert!(
        out.contains("pve 9.2 (package 9.2.1): 1 paths, 1 methods, 1 parameters"),
        "{out}"
    );
    let text = folder.written();
    assert!(text.contains("\"package_version\": \"9.2.1\""), "{text}");
    assert!(text.contains("\"id\": {\"type\": \"string\"}"), "{text}");
    assert_eq!(folder.files(), ["9.2.json"]);
}

#[test]
fn the_package_version_stays_while_the_source_does() {
    let folder = TestFolder::new();
    stdout(&folder.import(DUMP.as_bytes(), &[]));
    assert!(folder.written().contains("\"package_version\": null"));
    stdout(&folder.import(DUMP.as_bytes(), &["--package-version", "9.2.1"]));
    let before = folder.written();

    let out = stdout(&folder.import(DUMP.as_bytes(), &[]));
    assert!(out.contains("9.2.json (unchanged)"), "{out}");
    assert_eq!(folder.written(), before);

    stdout(&folder.import(format!("{DUMP}\n").as_bytes(), &[]));
    assert!(folder.written().contains("\"package_version\": null"));
}

#[test]
fn an_invalid_source_leaves_the_old_file() {
    let folder = TestFolder::new();
    stdout(&folder.import(DUMP.as_bytes(), &[]));
    let before = folder.written();
    let with = |good: &str, bad: &str| {
        assert!(DUMP.contains(good), "{good}");
        DUMP.replacen(good, bad, 1)
    };
    let get = DUMP.find("\"GET\" : {").unwrap();
    let end = DUMP.find("      },\n      \"leaf\"").unwrap();
    let twice = format!("{},\n{}", &DUMP[..end].trim_end(), &DUMP[get..]);
    let cases = [
        (
            "truncated",
            DUMP[..300].to_owned(),
            "line 9, column 42: EOF while parsing a string; the file is cut off",
        ),
        (
            "no array",
            "let x = 7;".to_owned(),
            "no API dump: found neither a JSON array",
        ),
        (
            "login page",
            "<!DOCTYPE html>\n<html><body>Log in</body></html>".to_owned(),
            "this is an HTML page",
        ),
        (
            "unknown key",
            with("\"name\"", "\"nickname\" : 1, \"name\""),
            "GET /x/{id}: at /nickname: the key \"nickname\" is not known on a method",
        ),
        (
            "unknown kind of value",
            with("{ \"type\" : \"string\" }", "{ \"type\" : [\"string\"] }"),
            "GET /x/{id}: at /parameters/properties/id/type: expected a string, found an array",
        ),
        (
            "duplicate method",
            twice,
            "/x/{id}: at /0/info/GET: the key \"GET\" appears twice",
        ),
    ];
    for (what, source, expected) in cases {
        let err = stderr(&folder.import(source.as_bytes(), &[]));
        let file = folder.path("apidoc.js");
        assert!(
            err.contains(&format!("{}: {expected}", file.display())),
            "{what}: {err}"
        );
        assert!(err.contains("9.2.json unchanged"), "{what}: {err}");
        assert_eq!(folder.written(), before, "{what}");
        assert_eq!(folder.files(), ["9.2.json"], "{what}");
    }
}

/// A dump of several methods.
fn dump_of(paths: &[&str]) -> String {
    let node = &DUMP[DUMP.find('{').unwrap()..DUMP.find("]\n;").unwrap()];
    let nodes: Vec<String> = paths
        .iter()
        .map(|path| node.trim().replace("/x/{id}", path))
        .collect();
    format!("const apiSchema = [{}];", nodes.join(","))
}

#[test]
fn a_dump_of_another_release_or_product_is_refused_unless_forced() {
    let folder = TestFolder::new();
    let file = folder.path("apidoc.js");
    let import = |paths: &[&str], release: &str, more: &[&str]| {
        fs::write(&file, dump_of(paths)).unwrap();
        run(&file, release, &folder.path("schema"), more)
    };
    stdout(&import(&["/a/{id}", "/b/{id}"], "9.1", &[]));
    let cases: [(&[&str], &str, &str); 4] = [
        (
            &["/a/{id}", "/b/{id}"],
            "9.2",
            "the same file was imported as release 9.1",
        ),
        (
            &["/a/{id}"],
            "9.2",
            "it has 1 methods, fewer than the 2 of release 9.1",
        ),
        (
            &["/a/{id}", "/b/{id}", "/c/{id}"],
            "9.0",
            "it has 3 methods, more than the 2 of release 9.1",
        ),
        (
            &["/a/{id}", "/b/{id}", "/config/mail/{id}", "/config/mail"],
            "9.2",
            "its paths are those of pmg, not of pve",
        ),
    ];
    for (paths, release, doubt) in cases {
        let err = stderr(&import(paths, release, &[]));
        assert!(err.contains(doubt), "{err}");
        assert!(err.contains("--force"), "{err}");
        assert_eq!(folder.files(), ["9.1.json"], "{doubt}");
    }
    stdout(&import(&["/a/{id}"], "9.2", &["--force"]));
    assert_eq!(folder.files(), ["9.1.json", "9.2.json"]);
}

#[test]
fn a_file_larger_than_any_dump_is_not_read() {
    let folder = TestFolder::new();
    let file = folder.path("huge.js");
    fs::File::create(&file)
        .unwrap()
        .set_len(64 * 1024 * 1024 + 1)
        .unwrap();
    let output = run(&file, "9.2", &folder.path("schema"), &[]);
    assert!(stderr(&output).contains("no API dump is that large"));
}

#[cfg(unix)]
#[test]
fn a_schema_file_can_be_read_by_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TestFolder::new();
    stdout(&folder.import(DUMP.as_bytes(), &[]));
    let mode = fs::metadata(folder.path("schema/pve/9.2.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o400, 0o400);
    assert_ne!(mode & 0o777, 0o600, "{mode:o}");
}

#[test]
fn a_missing_source_is_an_error() {
    let folder = TestFolder::new();
    let output = run(&folder.path("none.js"), "9.2", &folder.path("schema"), &[]);
    assert!(stderr(&output).contains("none.js: "));
    assert!(!folder.path("schema").exists());
}

#[test]
fn a_release_must_be_a_valid_file_name() {
    let folder = TestFolder::new();
    let file = folder.path("apidoc.js");
    fs::write(&file, DUMP).unwrap();
    for release in ["9", "../9.2", "9.2.1", "09.2", "+9.2", ""] {
        let output = run(&file, release, &folder.path("schema"), &[]);
        assert!(!output.status.success(), "{release}");
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.contains("is not a release such as 9.2"), "{err}");
    }
    assert!(!folder.path("schema").exists());
}
