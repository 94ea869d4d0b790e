use super::*;

fn answer(status: u16, reason: &[u8], body: &str) -> WireResponse {
    let mut response = WireResponse::new(status, Bytes::copy_from_slice(body.as_bytes()));
    response.reason = Bytes::copy_from_slice(reason);
    response
}

fn error(status: u16, reason: &str, body: &str) -> ApiError {
    ApiError::new(
        &"PUT /nodes/pve1/qemu/100/config".into(),
        &answer(status, reason.as_bytes(), body),
        &Scrubber::default(),
    )
}

#[test]
fn texts_are_classified() {
    for (text, kind) in [
        (
            "Configuration file 'nodes/pve1/qemu-server/9.conf' does not exist",
            ErrorKind::NotFound,
        ),
        ("no such user ('bob@pve')", ErrorKind::NotFound),
        (
            "unable to find configuration file for VM 9 on node 'pve1'",
            ErrorKind::NotFound,
        ),
        ("storage ID 'nas' already defined", ErrorKind::AlreadyExists),
        (
            "unable to create VM 1 - VM 1 already exists on node 'pve1'",
            ErrorKind::AlreadyExists,
        ),
        ("VM 100 already running", ErrorKind::AlreadyRunning),
        ("snapshot name 's1' already used", ErrorKind::AlreadyExists),
        (
            "address 'fe80::1' already used on link 0 by node 'b'",
            ErrorKind::InUse,
        ),
        ("mapping 'gpu' not found", ErrorKind::NotFound),
        ("sh: zfs: command not found", ErrorKind::Internal),
        ("VM quit/powerdown failed - got timeout", ErrorKind::Timeout),
        ("block job 'drive-scsi0' - got timeout", ErrorKind::Timeout),
        ("database is locked", ErrorKind::Other),
        ("CT 100 not running", ErrorKind::NotRunning),
        ("VM 100 is not running", ErrorKind::NotRunning),
        (
            "QEMU guest agent is not running",
            ErrorKind::AgentNotRunning,
        ),
        ("No QEMU guest agent configured", ErrorKind::AgentNotRunning),
        ("VM is locked (backup)", ErrorKind::Locked),
        ("CT is locked (snapshot)", ErrorKind::Locked),
        (
            "can't lock file '/var/lock/qemu-server/lock-1.conf' - got timeout",
            ErrorKind::LockTimeout,
        ),
        (
            "error with cfs lock 'storage-x': got lock request timeout",
            ErrorKind::LockTimeout,
        ),
        ("cluster not ready - no quorum?", ErrorKind::NoQuorum),
        (
            "checksum mismatch (file change by other user?)",
            ErrorKind::ConfigChanged,
        ),
        (
            "RRD error: opening 'x': No such file or directory",
            ErrorKind::Internal,
        ),
        ("pvestatd is not running", ErrorKind::Other),
        ("no options specified", ErrorKind::InvalidParameter),
        (
            "could not acquire lock for SDN config: configuration has pending changes",
            ErrorKind::PendingChanges,
        ),
        (
            "can't lock file '/var/lock/x.lck' - can't open file - No such file or directory",
            ErrorKind::Internal,
        ),
        (
            "VM 101 qmp command 'guest-network-get-interfaces' failed - got timeout",
            ErrorKind::AgentTimeout,
        ),
        (
            "VM 101 qmp command 'backup' failed - got timeout",
            ErrorKind::MonitorTimeout,
        ),
        ("VM 101 is running - destroy failed", ErrorKind::Running),
        (
            "unable to remove VM 101 - used in HA resources and purge parameter not set.",
            ErrorKind::InUse,
        ),
        (
            "storage 'nfs1' is not online",
            ErrorKind::StorageUnavailable,
        ),
        (
            "storage 'nfs1' is not available on node 'pve2'",
            ErrorKind::StorageUnavailable,
        ),
        (
            "can't clone to non-shared storage 'local'",
            ErrorKind::NotShared,
        ),
        (
            "can't clone VM to node 'pve2' (VM uses local storage)",
            ErrorKind::NotShared,
        ),
        (
            "parameter 'storage' not allowed for linked clones",
            ErrorKind::InvalidParameter,
        ),
        (
            "unable to use snapshot name 'current' (reserved name)",
            ErrorKind::ReservedName,
        ),
        ("only root can set 'args' config", ErrorKind::RootOnly),
        (
            "cannot index groups: ha groups have been migrated to rules",
            ErrorKind::Replaced,
        ),
        (
            "can't remove CT 101 - protection mode enabled",
            ErrorKind::Protected,
        ),
        ("no space left on device", ErrorKind::NoSpace),
        (
            "vg 'pve' has not enough free space (512.00 MiB < 1.00 GiB)",
            ErrorKind::NoSpace,
        ),
        (
            "can't lock file '/var/lock/x' - got timeout",
            ErrorKind::LockTimeout,
        ),
    ] {
        assert_eq!(ErrorKind::of_text(text), kind, "{text}");
    }
}

#[test]
fn old_servers_send_the_text_in_the_reason_phrase_only() {
    let error = error(500, "VM is locked (backup)", "{\"data\":null}");
    assert_eq!(error.message(), "VM is locked (backup)");
    assert_eq!(error.kind(), ErrorKind::Locked);
}

#[test]
fn a_latin1_phrase_is_text_and_stays_available_as_bytes() {
    let error = ApiError::new(
        &"GET /x".into(),
        &answer(500, b"latin1 \xfc\xe9", "{\"data\":null}"),
        &Scrubber::default(),
    );
    assert_eq!(error.message(), "latin1 üé");
    assert_eq!(error.reason_bytes(), b"latin1 \xfc\xe9");
}

#[test]
fn every_refused_parameter_is_shown_on_one_line() {
    let body = r#"{"message":"Parameter verification failed.\n","data":null,
        "errors":{"cores":"type check ('integer') failed - got 'x'","vmid":"bad\\nworse\n"}}"#;
    let error = error(400, "Parameter verification failed.", body);
    assert_eq!(error.kind(), ErrorKind::ParameterVerification);
    assert_eq!(
        error.to_string(),
        "PUT /nodes/pve1/qemu/100/config: 400 Parameter verification failed. \
         (cores: type check ('integer') failed - got 'x'; vmid: bad / worse)"
    );
}

#[test]
fn a_damaged_body_does_not_hide_the_phrase() {
    let error = error(500, "VM is locked (backup)", r#"{"data":null,"mess"#);
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(
        error.message().contains(r#"{"data":null,"mess"#),
        "{}",
        error.message()
    );
}

#[test]
fn the_title_of_a_proxys_page_is_shown() {
    let page = "<html><head><title>Gateway\n down</title></head></html>";
    let error = error(502, "Bad Gateway", page);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.message(), "Bad Gateway (web page \"Gateway down\")");
}

#[test]
fn an_empty_answer_still_names_the_call() {
    let text = error(500, "", "").to_string();
    assert_eq!(
        text,
        "PUT /nodes/pve1/qemu/100/config: 500 without any text"
    );
}

#[test]
fn control_characters_are_escaped() {
    let text = error(500, "", r#"{"message":"escape \u001b[31mred"}"#).to_string();
    assert!(text.ends_with(r"500 escape \u{1b}[31mred"), "{text}");
}

#[test]
fn the_missing_privilege_can_be_read() {
    let error = error(403, "Permission check failed (/vms/102, VM.Audit)", "");
    let missing = error.missing_permission().expect("it says what");
    assert_eq!(
        (missing.path, missing.any_of),
        ("/vms/102", vec!["VM.Audit"])
    );
    let several = self::error(
        403,
        "Permission check failed (/vms/1, VM.Clone|VM.Audit)",
        "",
    );
    let missing = several.missing_permission().expect("it says what");
    assert_eq!(missing.any_of, ["VM.Clone", "VM.Audit"]);
    let other = self::error(403, "Permission check failed (user != root@pam)", "");
    assert_eq!(other.kind(), ErrorKind::RootOnly);
    assert_eq!(other.missing_permission(), None);
}

#[test]
fn quoted_secrets_are_removed_everywhere() {
    let response = answer(
        400,
        b"got 'hunter22'",
        r#"{"message":"got 'hunter22'","errors":{"password":"'hunter22' is weak"}}"#,
    );
    let error = ApiError::new(
        &"PUT /access/password".into(),
        &response,
        &Scrubber::new(["hunter22"]),
    );
    for text in [
        error.to_string(),
        format!("{error:?}"),
        error.reason(),
        error.message().to_owned(),
    ] {
        assert!(!text.contains("hunter22"), "{text}");
    }
    let body = String::from_utf8_lossy(error.body());
    assert!(
        body.contains("is weak") && !body.contains("hunter22"),
        "{body}"
    );
}

#[test]
fn no_encoding_of_a_secret_is_shown() {
    let secret = "p\u{e4}ss \"w0rd/";
    let scrubber = Scrubber::new([secret]);
    let bodies = [
        // The name of a parameter, a web page, plain text longer than the excerpt.
        r#"{"errors":{"p\u00e4ss \"w0rd\/":"no such parameter"}}"#.to_owned(),
        "<html><title>p&#228;ss &quot;w0rd/</title>".to_owned(),
        format!("{}{secret} and more", "x".repeat(1995)),
        "cannot read p%C3%A4ss+%22w0rd%2f".to_owned(),
        format!("{{\"message\": \"broken {secret}"),
    ];
    for body in bodies {
        for status in [200, 400, 500] {
            let name = "PUT /access/password".into();
            let response = answer(status, "p\u{e4}ss \"w0rd/ again".as_bytes(), &body);
            let error = match status {
                200 => ApiError::not_the_api(&name, &response, &scrubber),
                _ => ApiError::new(&name, &response, &scrubber),
            };
            let text = format!(
                "{error} {error:?} {} {} {:?}",
                String::from_utf8_lossy(error.body()),
                error.reason(),
                error.errors()
            );
            for part in ["w0rd", "p\u{e4}ss", "p%C3", "p&#228", "p\\u00e4"] {
                assert!(!text.contains(part), "{part} of {body}: {text}");
            }
        }
    }
}

#[test]
fn a_path_cannot_forge_a_line() {
    let call = crate::request::Call::new(
        crate::value::endpoint::Method::Get,
        "/nodes/a%0d%0aX:%20y%E2%80%AEb%1b",
    );
    let error = ApiError::new(&call.id(), &answer(500, b"no", ""), &Scrubber::default());
    assert_eq!(
        error.to_string(),
        "GET /nodes/a\\r\\nX: y\\u{202e}b\\u{1b}: 500 no"
    );
}

#[test]
fn a_redirection_names_the_host_but_not_the_query() {
    let mut response = answer(301, b"Moved", "");
    response.headers.push((
        "Location".into(),
        "https://u:p@other:8006/x?password=hunter22".into(),
    ));
    let error = ApiError::new(&"GET /version".into(), &response, &Scrubber::default());
    assert_eq!(error.kind(), ErrorKind::Redirected);
    assert_eq!(
        error.to_string(),
        "GET /version: 301 Moved, to https://other:8006 (redirections are not followed; set the client's address to the \
         API itself: https, port 8006)"
    );
}

#[test]
fn retry_after_is_parsed() {
    let mut response = answer(429, b"Too Many Requests", "");
    response.headers.push(("retry-after".into(), "7".into()));
    let error = ApiError::new(&"GET /version".into(), &response, &Scrubber::default());
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

proptest::proptest! {
    #[test]
    fn no_answer_causes_a_panic_and_texts_are_limited(
        status in proptest::prelude::any::<u16>(),
        reason in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000),
        start in r#"|<html><title>|[{]"message":"|[{]"errors":[{]"#,
        body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000),
        errors in proptest::collection::vec((".{0,400}", ".{0,400}"), 0..40),
    ) {
        let errors: std::collections::BTreeMap<_, _> = errors.into_iter().collect();
        let whole = serde_json::json!({ "errors": errors, "message": latin1_or_utf8(&body) });
        for body in [[start.as_bytes(), &body].concat(), whole.to_string().into_bytes()] {
            let mut response = WireResponse::new(status, body);
            response.reason = reason.clone().into();
            response.headers.push(("Location".to_owned(), latin1_or_utf8(&reason)));
            let scrubber = Scrubber::new(["secret"]);
            for error in [
                ApiError::new(&"GET /x".into(), &response, &scrubber),
                ApiError::not_the_api(&"GET /x".into(), &response, &scrubber),
            ] {
                for text in [error.to_string(), format!("{error:?}")] {
                    // An escape takes ten characters at most.
                    proptest::prop_assert!(text.len() < 60_000, "{} bytes", text.len());
                    proptest::prop_assert!(!text.contains(['\n', '\r', '\u{1b}']), "{text}");
                }
                let _ = (error.kind(), error.missing_permission(), error.hint());
            }
        }
    }
}

#[test]
fn many_long_parameter_errors_are_truncated() {
    let errors: std::collections::BTreeMap<_, _> = (0..30)
        .map(|n| (format!("p{n}"), "x".repeat(900)))
        .collect();
    let body = serde_json::json!({ "errors": errors }).to_string();
    let text = error(400, "Parameter verification failed.", &body).to_string();
    assert!(text.len() < 4000, "{} bytes", text.len());
    assert!(text.contains("; and 27 more)"), "{text}");
}
