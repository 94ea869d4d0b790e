//! Backups of single guests, and restoring them.

use super::started::TargetState;
use super::{
    Guest, GuestErrorKind, GuestLocation, IdentityCheck, Kind, StartedOperation, start_task,
};
use crate::client::Client;
use crate::error::Error;
use crate::pve::node_storage::NodeStorageContentItem;
use crate::value::List;

/// Backs a guest up; made by [`Guest::backup`], awaiting it returns a [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Backup {
    guest: Guest,
    storage: String,
    mode: Option<String>,
    compress: Option<String>,
    notes: Option<String>,
    protected: bool,
}

impl Guest {
    /// Backs it up to a storage: [`POST /nodes/{node}/vzdump`](crate::pve::nodes::NodeVzdumpPost).
    pub fn backup(&self, storage: impl Into<String>) -> Backup {
        Backup {
            guest: self.clone(),
            storage: storage.into(),
            mode: None,
            compress: None,
            notes: None,
            protected: false,
        }
    }

    /// Its backups on a storage, the newest first: [`GET /nodes/{node}/storage/{storage}/content`](crate::pve::node_storage::NodeStorageStorageContentGet).
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn backups(&self, storage: &str) -> Result<Vec<NodeStorageContentItem>, Error> {
        let mut found = self
            .call(None, &|location| {
                let node = self.client.api().nodes().node(&location.node);
                let content = node.storage().storage(storage).content();
                content
                    .get()
                    .content("backup")
                    .vmid(self.vmid)
                    .into_future()
            })
            .await?;
        found.sort_by(|a, b| (b.ctime, &b.volid).cmp(&(a.ctime, &a.volid)));
        Ok(found)
    }
}

impl Backup {
    /// The mode for a running guest: it continues (`snapshot`, the default), is paused for a while
    /// (`suspend`) or stopped for a while (`stop`).
    pub fn mode(mut self, mode: impl Into<String>) -> Self {
        self.mode = Some(mode.into());
        self
    }

    /// How the archive is compressed, as `zstd`.
    pub fn compress(mut self, how: impl Into<String>) -> Self {
        self.compress = Some(how.into());
        self
    }

    /// Notes for the backup, with any number of lines. The server replaces `{{guestname}}`,
    /// `{{node}}`, `{{vmid}}` and `{{cluster}}`; other placeholders, which it would refuse, end in
    /// [`GuestErrorKind::InvalidInput`] before anything is sent. The server reads one line with the
    /// escapes `\n` and `\\`, and that is what is sent.
    pub fn notes(mut self, text: impl AsRef<str>) -> Self {
        let text = text.as_ref().replace("\r\n", "\n").replace('\\', r"\\");
        self.notes = Some(text.replace('\n', r"\n"));
        self
    }

    /// Notes for the backup as the server reads them: one line, in which `\n` is a line feed and `\\` a
    /// backslash.
    pub fn notes_template(mut self, template: impl Into<String>) -> Self {
        self.notes = Some(template.into());
        self
    }

    /// Protects it from being pruned or deleted until the protection is removed.
    pub fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        let guest = &self.guest;
        if let Some(problem) = self.notes.as_deref().and_then(problem_of_notes) {
            let vmid = guest.vmid;
            let input = "the notes of the backup";
            let invalid = GuestErrorKind::InvalidInput {
                vmid,
                input,
                problem,
            };
            return Err(invalid.into());
        }
        let send = |location: &GuestLocation| {
            let request = guest
                .client
                .api()
                .nodes()
                .node(&location.node)
                .vzdump()
                .post();
            start_task!(
                request.vmid(List(vec![guest.vmid])).storage(&self.storage),
                mode: self.mode.as_deref(),
                compress: self.compress.as_deref(),
                notes_template: self.notes.as_deref(),
                protected: self.protected.then_some(true),
            )
        };
        for again in [true, false] {
            let location = guest.location().await?;
            let started = guest
                .start_operation(None, TargetState::Nothing, &send)
                .await?;
            if !started.task().is_done() {
                return Ok(started);
            }
            // The server accepts a backup of a guest that is on another node, and does nothing.
            if !again || guest.find(IdentityCheck::Lenient, false).await? == location {
                break;
            }
        }
        Err(GuestErrorKind::NotBackedUp { vmid: guest.vmid }.into())
    }
}

/// The server's objection to a template of notes.
fn problem_of_notes(template: &str) -> Option<String> {
    if template.contains('\n') {
        return Some(r"a template must be one line; write `\n` for a line feed".to_owned());
    }
    let mut rest = template.chars();
    while let Some(c) = rest.next() {
        if c == '\\'
            && let Some(escaped) = rest.next().filter(|c| !matches!(c, 'n' | '\\'))
        {
            return Some(format!(
                r"`\{escaped}` is not an escape of templates; write `\\` for a backslash"
            ));
        }
    }
    let names = template.split("{{").skip(1).filter_map(|rest| {
        let name = rest.split_once("}}")?.0.trim_start_matches('{');
        let fits = |c: char| !c.is_whitespace() && !matches!(c, '{' | '}');
        (!name.is_empty() && name.chars().all(fits)).then_some(name)
    });
    let known = ["cluster", "guestname", "node", "vmid"];
    let unknown = names.into_iter().find(|name| !known.contains(name))?;
    Some(format!(
        "the server has no placeholder {{{{{unknown}}}}}, only {{{{cluster}}}}, {{{{guestname}}}}, {{{{node}}}} and {{{{vmid}}}}"
    ))
}

super::impl_into_started!(Backup);

/// Restores a guest from a backup; made by [`Client::restore`], awaiting it returns a
/// [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Restore {
    guest: Guest,
    node: String,
    kind: Kind,
    archive: String,
    storage: Option<String>,
    overwrite: bool,
    unique: bool,
    start: bool,
}

impl Client {
    /// Restores a guest from a backup: [`POST /nodes/{node}/qemu`](crate::pve::qemu::QemuPost) or
    /// [`POST /nodes/{node}/lxc`](crate::pve::lxc::LxcPost). `archive` is the backup's volume, as
    /// `local:backup/vzdump-qemu-101-2026_11_21-02_00_00.vma.zst`.
    pub fn restore(
        &self,
        node: impl Into<String>,
        kind: Kind,
        vmid: u32,
        archive: impl Into<String>,
    ) -> Restore {
        let node = node.into();
        Restore {
            guest: self.guest_at(vmid, &node, kind),
            node,
            kind,
            archive: archive.into(),
            storage: None,
            overwrite: false,
            unique: false,
            start: false,
        }
    }
}

impl Restore {
    /// The storage of the disks, instead of the original ones.
    pub fn storage(mut self, storage: impl Into<String>) -> Self {
        self.storage = Some(storage.into());
        self
    }

    /// **Replaces a guest** that has the number.
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Gives it new MAC addresses and identifiers, so that it can run beside the original.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Starts it once it is restored.
    pub fn start(mut self) -> Self {
        self.start = true;
        self
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        let node = self.guest.client.api().nodes().node(&self.node);
        let vmid = self.guest.vmid;
        macro_rules! restore {
            ($request:expr) => {
                start_task!(
                    $request,
                    storage: self.storage.as_deref(),
                    force: self.overwrite.then_some(true),
                    unique: self.unique.then_some(true),
                    start: self.start.then_some(true),
                )
            };
        }
        let sending = match self.kind {
            Kind::Qemu => restore!(node.qemu().post(vmid).archive(&self.archive)),
            Kind::Lxc => restore!(node.lxc().post(vmid, &self.archive).restore(true)),
        };
        Ok(StartedOperation::new(
            &self.guest,
            sending.await?,
            TargetState::Nothing,
        ))
    }
}

super::impl_into_started!(Restore);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, ok};

    #[test]
    fn notes_are_checked_like_by_the_server() {
        for fits in [
            "",
            "v {{vmid}} of {{guestname}}, {{node}} in {{cluster}}",
            r"C:\\data\nline 2",
            "{{ vmid }} {{}} {{a b}} }}{{",
        ] {
            assert_eq!(problem_of_notes(fits), None, "{fits}");
        }
        for (template, named) in [
            ("a\nb", "one line"),
            (r"C:\data", r"`\d`"),
            (r"C:\\\data", r"`\d`"),
            ("{{guestname}} {{x}}", "{{x}}"),
            ("{{{{y}}", "{{y}}"),
            ("{{{z}}", "{{z}}"),
        ] {
            let problem = problem_of_notes(template).expect(template);
            assert!(problem.contains(named), "{template}: {problem}");
        }
    }

    const UPID: &str = "UPID:n2:00001234:0002DDA4:6B01F6EE:vzdump:101:root@pam!ci:";

    #[tokio::test]
    async fn notes_arrive_unchanged() {
        let fake = Fake::new(|_| ok(format!(r#"{{"data":"{UPID}"}}"#)));
        let guest = fake.token_client().guest_at(101, "n2", Kind::Qemu);
        let text = "C:\\data of {{guestname}}\r\nline2";
        guest
            .backup("pbs")
            .notes(text)
            .await
            .expect("accepted")
            .detach();
        let raw = r"one\ntwo \\";
        guest
            .backup("pbs")
            .notes_template(raw)
            .await
            .expect("accepted")
            .detach();
        let refused = guest.backup("pbs").notes("{{owner}}").await;
        let refused = refused.expect_err("the server knows no owner");
        assert!(
            refused.never_sent() && refused.to_string().contains("{{owner}}"),
            "{refused}"
        );
        let sent: Vec<String> = (fake.requests().into_iter())
            .map(|request| String::from_utf8_lossy(&request.body).into_owned())
            .collect();
        assert!(
            sent[0]
                .contains(r"notes-template=C%3A%5C%5Cdata%20of%20%7B%7Bguestname%7D%7D%5Cnline2"),
            "{sent:?}"
        );
        assert!(
            sent[1].contains(r"notes-template=one%5Cntwo%20%5C%5C"),
            "{sent:?}"
        );
        assert_eq!(sent.len(), 2);
    }

    #[tokio::test]
    async fn a_backup_request_that_the_server_ignores_is_an_error() {
        // The guest was moved from n1 to n2 since.
        let moved = |node: &'static str| {
            Fake::new(move |request| {
                if request.path.contains("/cluster/resources") {
                    ok(format!(
                        r#"{{"data":[{{"vmid":101,"type":"qemu","node":"{node}"}}]}}"#
                    ))
                } else if request.path.contains("/n2/vzdump") {
                    ok(format!(r#"{{"data":"{UPID}"}}"#))
                } else if request.path.contains("/vzdump") {
                    ok(r#"{"data":"OK"}"#)
                } else {
                    ok(r#"{"data":{}}"#)
                }
            })
        };
        let fake = moved("n2");
        let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
        let started = guest.backup("local").await.expect("it is found");
        assert!(!started.task().is_done());
        let fake = moved("n1");
        let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
        let refused = guest.backup("local").await.expect_err("nothing was done");
        assert!(refused.to_string().contains("no backup"), "{refused}");
    }
}
