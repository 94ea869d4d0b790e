//! What differs from one Proxmox product to another on the wire.

/// What a client has to know of a product before it knows any endpoint.
#[derive(Debug)]
pub(crate) struct Product {
    /// As people write it.
    pub(crate) name: &'static str,
    /// The port that its API listens on.
    pub(crate) port: u16,
    /// Where the API lies below the server's address.
    pub(crate) api: &'static str,
    /// What tickets begin with, without the colon behind it.
    pub(crate) ticket: &'static str,
    /// What a ticket begins with that asks for a second factor.
    pub(crate) challenge: &'static str,
    /// The cookie that carries the ticket.
    pub(crate) cookie: &'static str,
    /// The header field that a writing call with a ticket needs.
    pub(crate) csrf: &'static str,
    /// What an API token begins with in the `Authorization` field.
    pub(crate) token: &'static str,
    /// What stands between the id of an API token and its secret.
    pub(crate) token_separator: char,
    /// Where a login goes.
    pub(crate) login: &'static str,
    /// The service that answers calls, for hints.
    pub(crate) service: &'static str,
}

/// Proxmox VE (wire protocol §7).
pub(crate) const PVE: Product = Product {
    name: "Proxmox VE",
    port: 8006,
    api: "/api2/json",
    ticket: "PVE",
    challenge: "PVE:!tfa!",
    cookie: "PVEAuthCookie",
    csrf: "CSRFPreventionToken",
    token: "PVEAPIToken=",
    token_separator: '=',
    login: "/access/ticket",
    service: "pveproxy",
};
