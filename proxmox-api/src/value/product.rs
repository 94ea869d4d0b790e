//! Differences between Proxmox products on the wire.

/// Facts about a product that the client needs beside its endpoints.
#[derive(Debug)]
pub(crate) struct Product {
    /// The product's name.
    pub(crate) name: &'static str,
    /// The port of its API.
    pub(crate) port: u16,
    /// The path of the API below the server's address.
    pub(crate) api: &'static str,
    /// The prefix of tickets, without the colon behind it.
    pub(crate) ticket: &'static str,
    /// The prefix of a ticket that asks for a second factor.
    pub(crate) challenge: &'static str,
    /// The cookie that carries the ticket.
    pub(crate) cookie: &'static str,
    /// The header field that a writing call with a ticket needs.
    pub(crate) csrf: &'static str,
    /// The prefix of an API token in the `Authorization` field.
    pub(crate) token: &'static str,
    /// The separator between the id of an API token and its secret.
    pub(crate) token_separator: char,
    /// The path of the login.
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
