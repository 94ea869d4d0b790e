//! Control over the inside of a virtual machine, for tests.

use std::fmt;
use std::sync::Arc;

use crate::app::App;
use crate::guest_agent::Inside;
use crate::guest_agent::output::CommandOutput;
use crate::state::guest::Kind;

/// The guest agent of one virtual machine, made by [`crate::Simulator::guest_agent`].
///
/// A client reaches it while the machine runs, its `agent` option is set and its system has booted.
/// It has some programs: `true`, `false`, `echo`, `cat`, `tee`, `ls`, `test`, `mkdir`, `rm`, `mv`,
/// `base64`, `sleep`, `date`, `uname`, `hostname`, `whoami`, `id`, and `sh -c` for scripts of one
/// line. For a machine that does not exist, changes are ignored.
#[derive(Clone)]
pub struct GuestAgent {
    app: Arc<App>,
    vmid: u32,
}

impl GuestAgent {
    pub(crate) fn new(app: Arc<App>, vmid: u32) -> Self {
        Self { app, vmid }
    }

    /// Sets the result of a program whose command line starts with these words. The longest
    /// matching start applies, and of equal ones the last; it precedes the machine's own programs.
    pub fn command(&self, words: &[&str], output: CommandOutput) -> &Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        self.change(|inside| inside.script(words, output));
        self
    }

    /// Writes a file, whether or not its directory exists.
    pub fn write_file(&self, path: &str, content: impl Into<Vec<u8>>) -> &Self {
        let content = Arc::new(content.into());
        self.change(|inside| {
            inside.files.insert(path.to_owned(), content);
        });
        self
    }

    /// The content of a file; `None` if the file or the machine does not exist.
    #[must_use]
    pub fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        let mut content = None;
        self.change(|inside| content = inside.files.get(path).map(|file| file.to_vec()));
        content
    }

    /// Stops the agent from answering, like one that hangs or is not installed, or lets it answer
    /// again.
    pub fn set_answering(&self, answering: bool) -> &Self {
        self.change(|inside| inside.silent = !answering);
        self
    }

    fn change(&self, change: impl FnOnce(&mut Inside)) {
        let mut cluster = self.app.cluster();
        let machine = cluster.guests.get_mut(&self.vmid);
        if let Some(guest) = machine.filter(|guest| guest.kind == Kind::Qemu) {
            change(guest.inside(self.vmid));
        }
    }
}

impl fmt::Debug for GuestAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestAgent")
            .field("vmid", &self.vmid)
            .finish_non_exhaustive()
    }
}
