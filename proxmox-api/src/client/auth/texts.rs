//! Texts of logins: users, tickets, and the redirection of a browser.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::percent_decode_str;

use crate::error::Error;
use crate::value::Secret;
use crate::value::product::PVE;
use crate::value::text::OneLine;

pub(super) fn check_user(user: &str) -> Result<(), Error> {
    match user.rsplit_once('@') {
        Some((name, realm)) if !name.is_empty() && !realm.is_empty() => Ok(()),
        _ => Err(Error::config(format!(
            "the user {user:?} must have the form name@realm, such as root@pam"
        ))),
    }
}

/// Checks the name of a user who logs in with a password.
pub(super) fn check_login(user: &str) -> Result<(), Error> {
    if user.contains('!') {
        return Err(Error::config(
            "the user for the password login is the id of an API token; use api_token with the token's secret",
        ));
    }
    if user.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::config("the user contains white space; remove it"));
    }
    check_user(user)
}

/// The `state` and the `code` that a browser brings back from an OpenID provider.
pub(crate) fn read_redirect(url: &str) -> Result<(Secret, Secret), Error> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == key)?;
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8().ok()?.into_owned();
        Some(value).filter(|value| !value.is_empty())
    };
    match (value("state"), value("code")) {
        (Some(state), Some(code)) => Ok((state.into(), code.into())),
        _ => Err(Error::config(
            match value("error_description").or_else(|| value("error")) {
                Some(error) => format!("the OpenID provider says: {}", OneLine(&error)),
                None => "the redirect address has no state and code".to_owned(),
            },
        )),
    }
}

/// The user and the time of a ticket: `PVE:user:time in hexadecimal::signature`.
pub(super) fn read_ticket(ticket: &str) -> Option<(String, SystemTime)> {
    let (plain, _signature) = ticket.split_once("::")?;
    let mut parts = plain.split(':');
    let (Some(user), Some(time), None) = (
        parts
            .next()
            .filter(|product| *product == PVE.ticket)
            .and_then(|_| parts.next()),
        parts.next(),
        parts.next(),
    ) else {
        return None;
    };
    let user = percent_decode_str(user).decode_utf8().ok()?.into_owned();
    let time = u32::from_str_radix(time, 16).ok()?;
    check_user(&user).ok()?;
    Some((user, UNIX_EPOCH + Duration::from_secs(u64::from(time))))
}
