use super::*;
use crate::request::Call;
use crate::value::endpoint::Method;

fn sorted(cause: TransportError) -> Error {
    Error::transport(&"POST /nodes/pve1/qemu".into(), "https://pve1:8006", cause)
}

#[test]
fn never_sent_differs_from_maybe_processed() {
    let refused = sorted(TransportError::never_sent("connection refused"));
    assert!(matches!(refused, Error::Connect(_)));
    assert!(refused.never_sent() && refused.is_retryable());
    assert_eq!(
        refused.to_string(),
        "POST /nodes/pve1/qemu: cannot connect to https://pve1:8006: connection refused (is the service pveproxy running \
         there?)"
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
        "POST /nodes/pve1/qemu: no answer from https://pve1:8006 within 60s; it may still process the request"
    );
}

#[test]
fn repeatable_requests_may_be_retried_after_an_interruption() {
    let lost = |call: &Call| {
        let cause = TransportError::interrupted("connection reset");
        Error::transport(&call.id(), "https://pve1:8006", cause)
    };
    let read = Call::new(Method::Get, "/version");
    let mut write = Call::new(Method::Post, "/access/ticket");
    assert!(lost(&read).is_retryable());
    assert!(!lost(&write).is_retryable());
    write.repeatable = true;
    assert!(lost(&write).is_retryable());
}

#[test]
fn a_program_may_retry_everything_that_the_client_would() {
    let refused = (100..600).map(Failure::Refused);
    let others = [
        Failure::Untrusted,
        Failure::TooMuch,
        Failure::NeverSent,
        Failure::Lost,
        Failure::LockTaken,
    ];
    for failure in refused.chain(others) {
        let (once, twice) = (failure.repetition(false), failure.repetition(true));
        for decided in [once, twice] {
            assert!(
                decided.by_the_program || !decided.by_the_client,
                "{failure:?}"
            );
        }
        assert!(twice.by_the_client || !once.by_the_client, "{failure:?}");
        assert!(twice.by_the_program || !once.by_the_program, "{failure:?}");
    }
    assert!(!Failure::Refused(500).repetition(true).by_the_program);
}

#[test]
fn a_call_that_timed_out_in_the_queue_was_not_sent() {
    let name = Call::new(Method::Post, "/pools").id();
    for waiting_for in [
        WaitingFor::Limits,
        WaitingFor::ServerPause(Duration::from_secs(60)),
        WaitingFor::Login,
        WaitingFor::Release,
    ] {
        let error = Error::late(&name, Duration::from_secs(5), waiting_for);
        assert!(error.never_sent() && error.is_retryable());
        assert!(error.to_string().starts_with("POST /pools: not sent"));
    }
}

#[test]
fn an_error_has_at_most_32_bytes() {
    assert!(std::mem::size_of::<Error>() <= 32);
}
