//! The server's release, and whether it has what a call needs.

use super::availability;
use super::call::Call;
use super::state::Client;
use crate::error::{CallId, Error};
use crate::value::endpoint::Release;

impl Client {
    /// The release of the server, such as 9.1. The client asks once; after an upgrade of the server
    /// it keeps the old release.
    ///
    /// # Errors
    /// Those of `GET /version`, which every authenticated user may call.
    pub async fn server_release(&self) -> Result<Release, Error> {
        self.release().await
    }

    /// Checks by the server's release whether it has the endpoint and all the parameters of a call.
    /// Sends only, once, `GET /version`. A call by plain path always passes.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// let request = pve.version().get();
    /// pve.check(request.call()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Request`] with [`RequestErrorKind::Unavailable`](crate::error::RequestErrorKind::Unavailable) if it does not; those of `GET /version`.
    pub async fn check(&self, call: &Call) -> Result<(), Error> {
        let name = call.id();
        self.check_call(&name, call).await
    }

    pub(crate) async fn release(&self) -> Result<Release, Error> {
        let ask = async || {
            let call = availability::version_call();
            let name = self.call_id(&call);
            let reply = self.reply(&name, &call).await?;
            availability::release_of(&reply).map_err(|error| Error::decode(name, error))
        };
        self.0.release.get_or_try_init(ask).await.copied()
    }

    pub(crate) async fn check_call(&self, name: &CallId, call: &Call) -> Result<(), Error> {
        if !availability::is_in_doubt(call) {
            return Ok(());
        }
        match availability::missing(call, self.release().await?) {
            Some(kind) => Err(Error::request(name, kind)),
            None => Ok(()),
        }
    }
}
