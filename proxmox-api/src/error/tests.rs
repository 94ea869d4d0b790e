use super::*;

fn sorted(cause: TransportError) -> Error {
    Error::transport(&"POST /nodes/pve1/qemu".into(), "https://pve1:8006", cause)
}

#[test]
fn never_sent_stays_apart_from_maybe_processed() {
    let refused = sorted(TransportError::never_sent("connection refused"));
    assert!(matches!(refused, Error::Connect(_)));
    assert!(refused.never_sent() && refused.is_retryable());
    assert_eq!(
        refused.to_string(),
        "POST /nodes/pve1/qemu: cannot connect to https://pve1:8006: connection refused"
    );

    let reset = sorted(TransportError::interrupted("connection reset"));
    assert!(matches!(reset, Error::Interrupted(_)));
    assert!(
        !reset.never_sent() && !reset.is_retryable(),
        "a POST may have arrived"
    );

    let late = sorted(TransportError::timed_out(Duration::from_secs(60)));
    assert!(matches!(late, Error::Timeout(_)));
    assert!(!late.never_sent() && !late.is_retryable());
    assert_eq!(
        late.to_string(),
        "POST /nodes/pve1/qemu: no answer from https://pve1:8006 within 60s; it may still act on it"
    );
}

#[test]
fn reads_and_logins_may_be_repeated_after_an_interruption() {
    let cause = TransportError::interrupted("connection reset");
    assert!(Error::transport(&"GET /version".into(), "https://pve1:8006", cause).is_retryable());
    let cause = TransportError::interrupted("connection reset");
    assert!(
        Error::transport(&"POST /access/ticket".into(), "https://pve1:8006", cause).is_retryable()
    );
}

#[test]
fn results_stay_small() {
    assert!(std::mem::size_of::<Error>() <= 32);
}
