//! Credentials in the headers of a request.

use crate::http::Head;
use crate::state::access::named;

/// Credentials found in a request.
pub(crate) enum Credentials {
    None,
    Ticket(String),
    Token(String),
}

impl Credentials {
    /// The cookie takes precedence over the `Authorization` header, a ticket there over a token.
    pub(crate) fn of(head: &Head) -> Self {
        let cookie = head.header("cookie").unwrap_or("");
        let authorization = head.header("authorization").unwrap_or("");
        if let Some(ticket) =
            named(cookie, "PVEAuthCookie").or_else(|| named(authorization, "PVEAuthCookie"))
        {
            Self::Ticket(ticket)
        } else if let Some(token) = named(authorization, "PVEAPIToken") {
            Self::Token(token)
        } else {
            Self::None
        }
    }
}
