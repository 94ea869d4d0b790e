//! The caller of a request: its credentials, found as pveproxy finds them, passed through and never
//! stored.

use std::fmt;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use percent_encoding::percent_decode_str;
use proxmox_api::client::auth::ApiToken;
use proxmox_api::{ClientBuilder, Secret};
use sha2::{Digest, Sha256};

use crate::refusal::Refusal;

/// The name of the cookie that holds a ticket.
const TICKET: &str = "PVEAuthCookie";
/// The header with the CSRF prevention token.
const CSRF: &str = "csrfpreventiontoken";

const TOKEN: &str = "PVEAPIToken";

/// The sender of a request. Only the cluster can tell whether the credentials are valid.
#[derive(Clone)]
pub(crate) struct Caller {
    credential: Credential,
    /// The header field with the credentials, as passed to the cluster.
    field: (&'static str, Secret),
}

#[derive(Clone)]
enum Credential {
    Ticket {
        ticket: Secret,
        csrf: Option<Secret>,
    },
    Token(Secret),
}

impl Caller {
    /// Looks for a ticket in the cookie, then for one in `Authorization`, then for an API token, as pveproxy does (wire
    /// protocol §7).
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let csrf = (headers.get(CSRF)).and_then(|value| value.to_str().ok());
        let csrf = csrf.map(Secret::from);
        let cookies = headers.get_all(COOKIE).iter();
        let cookies = cookies.filter_map(|value| Some(("cookie", value.to_str().ok()?)));
        let authorization = (headers.get(AUTHORIZATION)).and_then(|value| value.to_str().ok());
        let authorized = authorization.map(|value| ("authorization", value));
        let credential_in = |name: &'static str, (header, text): (&'static str, &str)| {
            let (raw, value) = find_credential(text, name)?;
            Some((
                (header, format!("{name}={raw}").into()),
                Secret::from(value),
            ))
        };
        let ticket = cookies
            .chain(authorized)
            .find_map(|field| credential_in(TICKET, field));
        if let Some((field, ticket)) = ticket {
            let credential = Credential::Ticket { ticket, csrf };
            return Some(Self { credential, field });
        }
        let (field, token) = credential_in(TOKEN, authorized?)?;
        let credential = Credential::Token(token);
        Some(Self { credential, field })
    }

    /// The header fields that authenticate this caller at the cluster. Nothing else is passed, so
    /// the caller that is logged and limited is the one that the cluster sees.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let (name, value) = &self.field;
        let mut fields = vec![((*name).to_owned(), value.expose().to_owned())];
        if let Credential::Ticket {
            csrf: Some(csrf), ..
        } = &self.credential
        {
            fields.push((CSRF.to_owned(), csrf.expose().to_owned()));
        }
        fields
    }

    /// The caller of a request that requires credentials.
    pub(crate) fn required(headers: &HeaderMap) -> Result<Self, Refusal> {
        Self::from_headers(headers).ok_or_else(Refusal::unauthorized)
    }

    /// The caller of a request that changes the gateway's own data. With a ticket it needs a CSRF
    /// prevention token, as for changes at the cluster: a browser sends cookies with requests of
    /// other sites' pages, which cannot set this header.
    pub(crate) fn changing(headers: &HeaderMap) -> Result<Self, Refusal> {
        let caller = Self::required(headers)?;
        match &caller.credential {
            Credential::Ticket { csrf: None, .. } => Err(Refusal::new(
                http::StatusCode::UNAUTHORIZED,
                "Permission denied - invalid csrf token",
            )),
            _ => Ok(caller),
        }
    }

    /// Whether the caller uses a ticket, which browsers send with every request.
    pub(crate) fn has_ticket(&self) -> bool {
        matches!(self.credential, Credential::Ticket { .. })
    }

    /// Sets the caller's credentials on a client.
    pub(crate) fn sign_in(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.credential {
            Credential::Token(text) => builder.api_token_text(text.clone()),
            Credential::Ticket { ticket, csrf } => builder.ticket(ticket.clone(), csrf.clone()),
        }
    }

    /// The user or token that the credentials name, for logs. It is not verified.
    pub(crate) fn claims(&self) -> String {
        let name = match &self.credential {
            Credential::Token(text) => (text.expose().parse::<ApiToken>())
                .map(|token| token.id().to_owned())
                .unwrap_or_default(),
            Credential::Ticket { ticket, .. } => user_of(ticket.expose()).unwrap_or_default(),
        };
        name.chars().filter(|c| !c.is_control()).take(128).collect()
    }

    /// Identifies the user that the credentials name; a token's user is the same. Credentials without
    /// a name identify themselves.
    pub(crate) fn user(&self) -> [u8; 32] {
        let name = match &self.credential {
            // Parsed less strictly than for the log; every token that the cluster accepts has this form.
            Credential::Token(text) => text.expose().split_once('!').map(|(user, _)| user.into()),
            Credential::Ticket { ticket, .. } => user_of(ticket.expose()),
        };
        // A ticket for the second factor has no user there.
        match name.filter(|name| !name.is_empty() && !name.starts_with('!')) {
            Some(user) => Sha256::digest(user.as_bytes()).into(),
            None => self.key(),
        }
    }

    /// Identifies a caller without keeping its credentials.
    pub(crate) fn key(&self) -> [u8; 32] {
        let secret = match &self.credential {
            Credential::Token(text) => text,
            Credential::Ticket { ticket, .. } => ticket,
        };
        Sha256::digest(secret.expose().as_bytes()).into()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.claims()).finish()
    }
}

/// The user of a ticket `PVE:user@realm:TIME::SIGNATURE`.
fn user_of(ticket: &str) -> Option<String> {
    let (user, _) = ticket.strip_prefix("PVE:")?.split_once(':')?;
    Some(user.to_owned())
}

/// The value after `NAME=` or `NAME ` up to a semicolon, at the start or after white space; raw and
/// decoded.
fn find_credential<'t>(text: &'t str, name: &str) -> Option<(&'t str, String)> {
    let at = text.match_indices(name).find_map(|(at, _)| {
        let starts = text[..at]
            .chars()
            .next_back()
            .is_none_or(char::is_whitespace);
        let rest = &text[at + name.len()..];
        (starts && rest.starts_with(['=', ' '])).then_some(&rest[1..])
    })?;
    let raw = at.split(';').next().unwrap_or_default();
    let value = percent_decode_str(raw).decode_utf8().ok()?;
    (!value.is_empty()).then(|| (raw, value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(headers: &[(&str, &str)]) -> Option<Caller> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        Caller::from_headers(&map)
    }

    fn claims(headers: &[(&str, &str)]) -> Option<String> {
        caller(headers).map(|caller| caller.claims())
    }

    #[test]
    fn credentials_are_found_where_pveproxy_finds_them() {
        let ticket = "PVE:root@pam:6789ABCD::c2ln";
        let cookie = format!("PVEAuthCookie={ticket}");
        assert_eq!(claims(&[("cookie", &cookie)]).as_deref(), Some("root@pam"));
        let encoded = cookie.replace(':', "%3A");
        assert_eq!(claims(&[("cookie", &encoded)]).as_deref(), Some("root@pam"));
        let second = format!("a=b; {cookie}; c=d");
        assert_eq!(claims(&[("cookie", &second)]).as_deref(), Some("root@pam"));
        // pveproxy requires the space, too.
        assert_eq!(claims(&[("cookie", &format!("a=b;{cookie}"))]), None);
        for value in ["PVEAPIToken=me@pve!ci=1234", "PVEAPIToken me@pve!ci=1234"] {
            assert_eq!(
                claims(&[("authorization", value)]).as_deref(),
                Some("me@pve!ci")
            );
        }
        // A ticket takes precedence over a token.
        let both = [
            ("cookie", cookie.as_str()),
            ("authorization", "PVEAPIToken=me@pve!ci=1"),
        ];
        assert_eq!(claims(&both).as_deref(), Some("root@pam"));
        assert_eq!(claims(&[("authorization", "Bearer x")]), None);
    }

    #[test]
    fn only_the_credentials_of_the_logged_caller_reach_the_cluster() {
        let fields = |headers: &[(&str, &str)]| caller(headers).expect("a caller").fields();
        let (one, two) = (
            "PVEAuthCookie=PVE:mallory@pve:1::x",
            "PVEAuthCookie=PVE%3Aroot@pam%3A2%3A%3Ay",
        );
        let both = format!("a {one}; {two}");
        for headers in [
            vec![("cookie", both.as_str())],
            vec![("cookie", one), ("cookie", two)],
            vec![("cookie", one), ("authorization", two)],
            vec![
                ("cookie", one),
                ("authorization", "PVEAPIToken=root@pam!t=1"),
            ],
        ] {
            assert_eq!(
                claims(&headers).as_deref(),
                Some("mallory@pve"),
                "{headers:?}"
            );
            let expected = vec![("cookie".to_owned(), one.to_owned())];
            assert_eq!(fields(&headers), expected, "{headers:?}");
        }
        let with_csrf = fields(&[("authorization", two), ("csrfpreventiontoken", "c")]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            with_csrf,
            [pair("authorization", two), pair("csrfpreventiontoken", "c")]
        );
        let token = "PVEAPIToken me@pve!ci=1; x=y";
        let expected = [pair("authorization", "PVEAPIToken=me@pve!ci=1")];
        assert_eq!(fields(&[("authorization", token)]), expected);
    }

    #[test]
    fn tickets_and_tokens_of_a_user_identify_the_same_user() {
        let user = |name: &str, value: &str| caller(&[(name, value)]).expect("a caller").user();
        let ticket = user("cookie", "PVEAuthCookie=PVE:me@pve:6789ABCD::c2ln");
        for value in [
            "PVEAPIToken=me@pve!ci=1",
            "PVEAPIToken=me@pve!0=",
            "PVEAPIToken=me@pve!",
        ] {
            assert_eq!(user("authorization", value), ticket, "{value}");
        }
        assert_ne!(user("authorization", "PVEAPIToken=you@pve!ci=1"), ticket);
        // Credentials without a name are all different.
        let unnamed = ["x", "y", "PVE:!tfa!a:1::x", "PVE:!tfa!b:1::x", "PVE::1::x"];
        let unnamed = unnamed.map(|value| user("cookie", &format!("PVEAuthCookie={value}")));
        assert_eq!(
            std::collections::BTreeSet::from(unnamed).len(),
            unnamed.len()
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let caller = caller(&[("authorization", "PVEAPIToken=me@pve!ci=hunter2")]);
        assert!(!format!("{caller:?}").contains("hunter2"));
    }
}
