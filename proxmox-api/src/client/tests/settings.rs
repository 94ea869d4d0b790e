//! Addresses, credentials and environment variables.

use super::*;

#[test]
fn addresses_are_parsed() {
    for (text, origin, prefix) in [
        ("pve1", "https://pve1:8006", ""),
        (" pve1.example.org ", "https://pve1.example.org:8006", ""),
        ("pve1:443", "https://pve1:443", ""),
        ("10.0.0.1:8007", "https://10.0.0.1:8007", ""),
        ("::1", "https://[::1]:8006", ""),
        ("[2001:db8::1]", "https://[2001:db8::1]:8006", ""),
        ("[2001:db8::1]:9000", "https://[2001:db8::1]:9000", ""),
        ("https://pve1:8006", "https://pve1:8006", ""),
        ("https://pve1:8006/", "https://pve1:8006", ""),
        ("https://pve1:8006/api2/json", "https://pve1:8006", ""),
        ("https://pve1:8006/api2/json/", "https://pve1:8006", ""),
        (
            "https://proxy.example.org",
            "https://proxy.example.org:443",
            "",
        ),
        (
            "https://proxy.example.org/pve/",
            "https://proxy.example.org:443",
            "/pve",
        ),
        ("http://127.0.0.1:8006", "http://127.0.0.1:8006", ""),
    ] {
        let base = Base::parse(text, None).expect(text);
        assert_eq!(
            (base.origin.as_str(), base.prefix.as_str()),
            (origin, prefix),
            "{text}"
        );
    }
    for text in [
        "",
        "https://",
        "ftp://pve1",
        "pve 1",
        "pve1:port",
        "https://pve1/?x=1",
        "pve1:99999",
    ] {
        let error = Base::parse(text, None).expect_err(text);
        assert!(matches!(error, Error::Config(_)), "{text}: {error}");
    }
    let error = Base::parse("https://root:hunter22@pve1", None).expect_err("credentials in it");
    assert!(!error.to_string().contains("hunter22"), "{error}");
}

#[test]
fn unencrypted_addresses_are_for_this_machine_only() {
    for text in [
        "http://localhost:8006",
        "http://127.0.0.1:1",
        "http://[::1]:1",
    ] {
        Client::builder(text).build().expect(text);
    }
    let error = Client::builder("http://pve1:8006")
        .build()
        .expect_err("readable by anybody");
    assert!(error.to_string().contains("danger_allow_http"), "{error}");
    Client::builder("http://pve1:8006")
        .danger_allow_http(true)
        .build()
        .expect("explicitly allowed");
}

fn from(variables: &[(&str, &str)]) -> Result<Client, Error> {
    builder_from(variables)?.build()
}

fn builder_from(variables: &[(&str, &str)]) -> Result<ClientBuilder, Error> {
    let read = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        Ok(found.map(|(_, value)| (*value).to_owned()))
    };
    from_variables(&read)
}

#[test]
fn a_client_is_built_from_environment_variables() {
    let token = [
        ("PROXMOX_HOST", "pve1.local"),
        ("PROXMOX_PORT", "8007"),
        ("PROXMOX_USERNAME", "root@pam"),
        ("PROXMOX_TOKEN_ID", "ci"),
        ("PROXMOX_TOKEN_SECRET", "uuid"),
        ("PROXMOX_NODE", "pve"),
    ];
    let client = from(&token).expect("complete");
    assert_eq!(client.url(), "https://pve1.local:8007");
    assert_eq!(client.user(), Some("root@pam!ci"));
    assert_eq!(client.default_node(), Some("pve"));

    let several = [
        ("PROXMOX_HOST", "pve1, pve2:8007,"),
        ("PROXMOX_TOKEN_ID", "root@pam!ci"),
        ("PROXMOX_TOKEN_SECRET", "uuid"),
    ];
    let hosts = from(&several).expect("complete").hosts();
    let urls: Vec<_> = hosts.iter().map(|host| host.url.as_str()).collect();
    assert_eq!(urls, ["https://pve1:8006", "https://pve2:8007"]);

    let whole = [
        ("PROXMOX_HOST", "https://pve1:8006"),
        ("PROXMOX_TOKEN_ID", "root@pam!ci"),
        ("PROXMOX_TOKEN_SECRET", "uuid"),
        ("PROXMOX_INSECURE", "1"),
        ("PROXMOX_NODE", ""),
    ];
    let client = from(&whole).expect("complete");
    assert_eq!(
        (client.user(), client.default_node()),
        (Some("root@pam!ci"), None)
    );

    let password = [
        ("PROXMOX_HOST", "pve1"),
        ("PROXMOX_USERNAME", "root@pam"),
        ("PROXMOX_PASSWORD", PASSWORD),
        ("PROXMOX_FINGERPRINT", &["ab"; 32].join(":")),
    ];
    let client = from(&password).expect("complete");
    assert_eq!(client.user(), Some("root@pam"));
}

#[test]
fn a_token_can_be_set_in_one_variable() {
    let text = format!("PVEAPIToken=root@pam!ci={TOKEN_SECRET}");
    let host = ("PROXMOX_HOST", "pve1");
    let client = from(&[host, ("PROXMOX_API_TOKEN", &text)]).expect("complete");
    assert_eq!(client.user(), Some("root@pam!ci"));
}

#[tokio::test]
async fn white_space_is_part_of_a_password() {
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let body = Arc::clone(&seen);
    let fake = Fake::new(move |request| {
        *body.lock().expect("not poisoned") = String::from_utf8_lossy(&request.body).into_owned();
        ok(login_answer(1))
    });
    let variables = [
        ("PROXMOX_HOST", "pve1"),
        ("PROXMOX_USERNAME", "root@pam"),
        ("PROXMOX_PASSWORD", " pass word "),
    ];
    let builder = builder_from(&variables).expect("complete");
    let client = builder.transport(Arc::new(fake)).build().expect("complete");
    client.login().await.expect("accepted");
    let body = seen.lock().expect("not poisoned").clone();
    assert!(body.contains("password=%20pass%20word%20"), "{body}");
}

#[test]
fn errors_name_contradicting_variables() {
    let host = ("PROXMOX_HOST", "pve1");
    let whole = format!("root@pam!ci={TOKEN_SECRET}");
    let token = ("PROXMOX_API_TOKEN", whole.as_str());
    let id = ("PROXMOX_TOKEN_ID", "root@pam!ci");
    let secret = ("PROXMOX_TOKEN_SECRET", TOKEN_SECRET);
    for (variables, named) in [
        (vec![], "PROXMOX_HOST"),
        (vec![host], "PROXMOX_API_TOKEN"),
        (vec![host, id], "PROXMOX_TOKEN_SECRET"),
        (vec![host, secret], "PROXMOX_TOKEN_ID"),
        (
            vec![host, ("PROXMOX_TOKEN_ID", "ci"), secret],
            "PROXMOX_USERNAME",
        ),
        (
            vec![host, id, secret, ("PROXMOX_USERNAME", "bob@pve")],
            "another user",
        ),
        (vec![host, token, id], "PROXMOX_TOKEN_ID"),
        (vec![host, token, secret], "PROXMOX_TOKEN_SECRET"),
        (
            vec![host, token, ("PROXMOX_USERNAME", "bob@pve")],
            "another user",
        ),
        (
            vec![host, ("PROXMOX_API_TOKEN", TOKEN_SECRET)],
            "PROXMOX_API_TOKEN",
        ),
        (
            vec![
                host,
                ("PROXMOX_USERNAME", "root@pam!ci"),
                ("PROXMOX_PASSWORD", PASSWORD),
            ],
            "api_token",
        ),
        (
            vec![
                host,
                ("PROXMOX_USERNAME", "root@pam"),
                ("PROXMOX_PASSWORD", "pass\n"),
            ],
            "line break",
        ),
        (
            vec![host, ("PROXMOX_USERNAME", "root@pam")],
            "PROXMOX_PASSWORD",
        ),
        (
            vec![host, ("PROXMOX_PASSWORD", PASSWORD)],
            "PROXMOX_USERNAME",
        ),
        (
            vec![
                host,
                ("PROXMOX_USERNAME", "root"),
                ("PROXMOX_PASSWORD", PASSWORD),
            ],
            "name@realm",
        ),
        (
            vec![host, id, secret, ("PROXMOX_PORT", "https")],
            "PROXMOX_PORT",
        ),
        (
            vec![
                ("PROXMOX_HOST", "pve1:1"),
                id,
                secret,
                ("PROXMOX_PORT", "2"),
            ],
            "PROXMOX_PORT",
        ),
        (
            vec![host, id, secret, ("PROXMOX_FINGERPRINT", "AB:CD")],
            "PROXMOX_FINGERPRINT",
        ),
        (
            vec![host, id, secret, ("PROXMOX_CA_FILE", "/no/such/file.pem")],
            "/no/such/file.pem",
        ),
        (
            vec![host, id, secret, ("PROXMOX_INSECURE", "maybe")],
            "PROXMOX_INSECURE",
        ),
    ] {
        let error = from(&variables).expect_err(named).to_string();
        assert!(error.contains(named), "{named}: {error}");
        assert!(
            !error.contains(TOKEN_SECRET) && !error.contains(PASSWORD),
            "{error}"
        );
    }
}

#[test]
fn invalid_credentials_are_refused() {
    for id in ["root@pam", "root!ci", "@pam!ci", "root@!ci", "root@pam!"] {
        let error = Client::builder("pve1")
            .api_token(id, TOKEN_SECRET)
            .build()
            .expect_err(id);
        assert!(matches!(error, Error::Config(_)));
    }
    Client::builder("pve1")
        .api_token("root@pam!ci", "")
        .build()
        .expect_err("no secret");
    for ticket in [
        "",
        "PVE",
        "PVE:root@pam:xyz::s",
        "PBS:root@pam:6B49D200::s",
        "PVE:root@pam:6B49D200",
    ] {
        Client::builder("pve1")
            .ticket(ticket, None)
            .build()
            .expect_err(ticket);
    }
}
