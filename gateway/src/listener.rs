//! Listeners of events: their selection, and their permissions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use proxmox_api::Client;

use crate::app::App;
use crate::caller::Caller;
use crate::events::{Filter, Hub, Lost, SentEvent};
use crate::pages::Query;
use crate::permissions::Permissions;
use crate::permits::{Full, Permit};
use crate::refusal::Refusal;

/// Interval at which a listener's permissions are read again.
const PERMISSIONS_INTERVAL: Duration = Duration::from_secs(60);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A listener.
pub(crate) struct Listener {
    hub: Hub,
    seq: i64,
    filter: Filter,
    client: Client,
    user: String,
    permissions: Permissions,
    permissions_read_at: Instant,
    /// The permit of a listener.
    _permit: Permit,
}

impl Listener {
    /// Starts listening to the events that a query selects.
    pub(crate) async fn start(
        app: &App,
        headers: &HeaderMap,
        query: &str,
    ) -> Result<Self, Refusal> {
        let caller = Caller::required(headers)?;
        if caller.has_ticket() && !is_same_site(headers) {
            let text = "pages of other sites may not listen";
            return Err(Refusal::new(StatusCode::FORBIDDEN, text));
        }
        if !app.watches {
            let text = "the gateway has no API token for watching the cluster";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        let query = Query::parse(query);
        let filter = Filter::read(query.get("types"), query.get("vmids"), query.get("nodes"))?;
        let last = headers
            .get(LAST_EVENT_ID)
            .and_then(|value| value.to_str().ok());
        let seq = match query.get("cursor").or(last) {
            None => app.hub.newest(),
            Some(cursor) => {
                let wrong =
                    |_| Refusal::parameters([("cursor", "is not a cursor of this gateway")]);
                let seq: i64 = cursor.parse().map_err(wrong)?;
                app.hub.check(seq).await.map_err(|lost| match lost {
                    Lost::TooOld => Refusal::new(
                        StatusCode::GONE,
                        "the events after this cursor are not kept any more; start again without a cursor",
                    ),
                    Lost::Store(error) => error.into(),
                })?;
                seq
            }
        };
        let client = app.cluster.client(&caller)?;
        let permissions = Permissions::fetch(&client, None).await?;
        // The cluster has authenticated the caller by now, so nobody can use up another user's
        // permits.
        let user = caller.claims();
        let permit = app.listeners.take(&user).map_err(|full| {
            let (status, text) = match full {
                Full::All => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "there are too many listeners",
                ),
                Full::User => (
                    StatusCode::TOO_MANY_REQUESTS,
                    "this user has too many listeners",
                ),
            };
            Refusal::new(status, text).retry_after(Duration::from_secs(30))
        })?;
        Ok(Self {
            hub: app.hub.clone(),
            seq,
            filter,
            client,
            user,
            permissions,
            permissions_read_at: Instant::now(),
            _permit: permit,
        })
    }

    /// The user.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The next events; waits until there are some. It is cancel-safe: dropping the future loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Result<Vec<Arc<SentEvent>>, String> {
        loop {
            self.hub.wait_after(self.seq).await;
            let new_events = self.hub.after(self.seq).await.map_err(|lost| match lost {
                Lost::TooOld => "too slow: the events that follow are not kept any more".to_owned(),
                Lost::Store(error) => error.to_string(),
            })?;
            if self.permissions_read_at.elapsed() > PERMISSIONS_INTERVAL {
                let permissions = Permissions::fetch(&self.client, None).await;
                self.permissions = permissions.map_err(|error| match error.api() {
                    Some(refusal) if refusal.status() == 401 => {
                        "the credentials are not valid any more".to_owned()
                    }
                    _ => "the permissions cannot be read from the cluster".to_owned(),
                })?;
                self.permissions_read_at = Instant::now();
            }
            // There is no await from here on, so cancelling loses no events.
            if let Some(last) = new_events.last() {
                self.seq = last.seq;
            }
            let (filter, user, permissions) = (&self.filter, &self.user, &self.permissions);
            let selected = new_events
                .into_iter()
                .filter(|event| filter.wants(event) && event.subject.is_visible(user, permissions));
            let selected: Vec<_> = selected.collect();
            if !selected.is_empty() {
                return Ok(selected);
            }
        }
    }
}

/// Whether a browser sends this from a page of the gateway itself. Other programs send no `Origin`.
fn is_same_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(&header::ORIGIN) {
        None => !headers.contains_key(header::ORIGIN),
        Some(origin) => {
            let own = text(&header::HOST);
            let from = origin.split_once("://").map(|(_, host)| host);
            from.is_some() && from == own
        }
    }
}
