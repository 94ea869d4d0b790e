//! Logins, tickets and tokens.

use super::*;

#[tokio::test]
async fn a_token_needs_no_login_and_no_csrf() {
    let fake = accepting_server();
    fake.token_client()
        .execute(call(Method::Post, "/pools", &[]))
        .await
        .expect("accepted");
    let [request] = &fake.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(request.origin, "https://pve1:8006");
    assert_eq!(
        request.header("authorization"),
        Some("PVEAPIToken=root@pam!ci=tok3n-s3cret")
    );
    assert_eq!(request.header("cookie"), None);
    assert_eq!(request.header("csrfpreventiontoken"), None);
}

#[tokio::test]
async fn a_password_becomes_a_ticket_and_writes_carry_the_csrf_token() {
    let fake = accepting_server();
    let client = with_password(&fake, &ManualClock::default());
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("accepted");
    client
        .execute(call(Method::Delete, "/pools/p1", &[]))
        .await
        .expect("accepted");

    let requests = fake.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(body(&requests[0]), "username=root%40pam&password=pa55-word");
    assert_eq!(requests[0].header("cookie"), None);
    let cookie = Some("PVEAuthCookie=PVE:root@pam:6B49D200::sig1+/==");
    assert_eq!(requests[1].header("cookie"), cookie);
    assert_eq!(requests[1].header("csrfpreventiontoken"), None);
    assert_eq!(requests[2].header("cookie"), cookie);
    assert_eq!(
        requests[2].header("csrfpreventiontoken"),
        Some("6B49D200:csrf1")
    );
    assert_eq!(requests[2].header("authorization"), None);
}

#[tokio::test]
async fn many_calls_at_once_log_in_once_and_renew_once() {
    let fake = accepting_server();
    let clock = ManualClock::default();
    let client = with_password(&fake, &clock);
    for round in 1..=3 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..50 {
            calls.spawn(client.execute(call(Method::Get, "/version", &[])));
        }
        while let Some(result) = calls.join_next().await {
            result.expect("no panic").expect("accepted");
        }
        assert_eq!(logins(&fake), round);
        clock.forward(RENEWAL);
    }
    let renewal = fake
        .requests()
        .into_iter()
        .filter(|request| request.path.ends_with("ticket"))
        .nth(1);
    let form = body(&renewal.expect("there were three logins"));
    assert!(
        form.contains("password=PVE%3Aroot%40pam"),
        "the ticket stands in for the password: {form}"
    );
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_old_ticket_in_use() {
    let away = Arc::new(Mutex::new(false));
    let clock = ManualClock::default();
    let mut number = 0;
    let fake = Fake::new({
        let away = Arc::clone(&away);
        move |request| {
            if !request.path.ends_with("/access/ticket") {
                return ok(r#"{"data":null}"#);
            }
            if *away.lock().expect("no panic") {
                return Err(TransportError::interrupted("reset"));
            }
            number += 1;
            ok(login_answer(number))
        }
    });
    let client = with_password(&fake, &clock);
    let version = || client.execute(call(Method::Get, "/version", &[]));
    version().await.expect("accepted");

    clock.forward(RENEWAL);
    *away.lock().expect("no panic") = true;
    version()
        .await
        .expect("the ticket is good for another hour");
    settle().await;
    version()
        .await
        .expect("the ticket is good for another hour");
    settle().await;
    assert_eq!(
        logins(&fake),
        2,
        "a failed renewal is not tried with every call"
    );
    clock.forward(60);
    version()
        .await
        .expect("the ticket is good for another hour");
    settle().await;
    assert_eq!(logins(&fake), 3);

    *away.lock().expect("no panic") = false;
    clock.forward(60);
    version().await.expect("accepted");
    settle().await;
    version().await.expect("accepted");
    let last = fake.requests().pop().expect("requests were sent");
    assert!(
        last.header("cookie")
            .is_some_and(|cookie| cookie.ends_with("sig2+/=="))
    );

    *away.lock().expect("no panic") = true;
    clock.forward(2 * RENEWAL);
    let error = version().await.expect_err("no ticket is valid any more");
    assert!(matches!(error, Error::Interrupted(_)), "{error}");
}

#[tokio::test]
async fn a_refused_ticket_is_replaced_once_and_the_call_retried_once() {
    let mut number = 0;
    let fake = Fake::new(move |request| {
        if request.path.ends_with("/access/ticket") {
            number += 1;
            return ok(login_answer(number));
        }
        match request.header("cookie") {
            Some(cookie) if cookie.contains("sig1") => Ok(json(401, "Authentication failed!", "")),
            _ => ok(r#"{"data":1}"#),
        }
    });
    let client = with_password(&fake, &ManualClock::default());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(client.execute(call(Method::Post, "/pools", &[("poolid", "p")])));
    }
    while let Some(result) = calls.join_next().await {
        result
            .expect("no panic")
            .expect("the second ticket is accepted");
    }
    assert_eq!(logins(&fake), 2);
    let accepted = fake.requests().into_iter().filter(|request| {
        request.path.ends_with("/pools")
            && request.header("csrfpreventiontoken") == Some("6B49D200:csrf2")
            && request
                .header("cookie")
                .is_some_and(|cookie| cookie.contains("sig2"))
    });
    assert_eq!(accepted.count(), 20);
}

#[tokio::test]
async fn a_server_that_refuses_every_ticket_gets_two_attempts() {
    let mut number = 0;
    let fake = Fake::new(move |request| {
        if request.path.ends_with("/access/ticket") {
            number += 1;
            return ok(login_answer(number));
        }
        Ok(json(401, "Permission denied - invalid csrf token", ""))
    });
    let client = with_password(&fake, &ManualClock::default());
    let error = client
        .execute(call(Method::Post, "/pools", &[]))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), Some(ErrorKind::InvalidCsrf));
    assert_eq!(
        error.to_string(),
        "POST /pools #1: 401 Permission denied - invalid csrf token"
    );
    assert_eq!(fake.lines().len(), 4);
}

#[tokio::test]
async fn an_endpoint_that_checks_a_password_itself_causes_no_login() {
    let fake = Fake::new(|request| match request.path.as_str() {
        "/api2/json/access/ticket" => ok(login_answer(1)),
        _ => Ok(json(
            401,
            "permission denied",
            r#"{"data":null,"message":"permission denied\n"}"#,
        )),
    });
    let client = with_password(&fake, &ManualClock::default());
    let error = client
        .execute(call(Method::Put, "/access/tfa", &[]))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), Some(ErrorKind::Unauthorized));
    assert_eq!(logins(&fake), 1);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let clock = ManualClock::default();
    let fake = Fake::new(|_| {
        let body = r#"{"data":null,"message":"authentication failure\n"}"#;
        Ok(json(401, "authentication failure", body))
    });
    let client = with_password(&fake, &clock);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(client.execute(call(Method::Get, "/version", &[])));
    }
    while let Some(result) = calls.join_next().await {
        let error = result.expect("no panic").expect_err("refused");
        assert!(error.never_sent());
        assert_eq!(error.kind(), Some(ErrorKind::Unauthorized));
        assert_eq!(
            error.to_string(),
            "POST /access/ticket #21: the server refuses the login of root@pam: authentication failure"
        );
    }
    assert_eq!(logins(&fake), 1);
    clock.forward(30);
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect_err("refused");
    assert_eq!(logins(&fake), 2);
    client.login().await.expect_err("refused");
    assert_eq!(logins(&fake), 3, "an explicit login is sent at once");
}

#[tokio::test]
async fn a_second_factor_is_requested_and_answered() {
    let fake = Fake::new(|request| {
        let form = String::from_utf8_lossy(&request.body);
        match request.path.as_str() {
            "/api2/json/access/ticket" if form.contains("tfa-challenge=") => ok(login_answer(1)),
            "/api2/json/access/ticket" => ok(
                r#"{"data":{"username":"root@pam","NeedTFA":1,"CSRFPreventionToken":"x",
                    "ticket":"PVE:!tfa!{\"totp\"%3Atrue,\"recovery\"%3A[0,1]}:6B49D200::c0de+"}}"#,
            ),
            _ => ok(r#"{"data":null}"#),
        }
    });
    let client = with_password(&fake, &ManualClock::default());
    let error = client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect_err("not yet");
    assert_eq!(
        error.to_string(),
        "GET /version #1: the login of root@pam needs a second factor (recovery, totp)"
    );
    let Error::Auth(error) = error else {
        panic!("a login error")
    };
    let challenge = error.challenge().expect("the server asked");
    assert_eq!(challenge.methods(), ["recovery", "totp"]);

    client
        .answer_tfa(challenge, "totp:123456")
        .await
        .expect("accepted");
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("logged in");
    assert_eq!(
        body(&fake.requests()[1]),
        "username=root%40pam&tfa-challenge=PVE%3A%21tfa%21%7B%22totp%22%253Atrue%2C%22recovery%22%253A\
         %5B0%2C1%5D%7D%3A6B49D200%3A%3Ac0de%2B&password=totp%3A123456"
    );
    assert_eq!(fake.lines().len(), 3);
}

#[tokio::test]
async fn a_given_ticket_is_used_and_renewed() {
    let fake = accepting_server();
    let clock = ManualClock::default();
    let client = with_ticket(&fake, &clock);
    assert_eq!(client.user(), Some("root@pam"));
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("accepted");
    assert_eq!(logins(&fake), 0);
    clock.forward(RENEWAL);
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("accepted");
    settle().await;
    let renewal = (fake.requests().into_iter()).find(|request| request.path.ends_with("ticket"));
    assert_eq!(
        body(&renewal.expect("a renewal")),
        "username=root%40pam&password=PVE%3Aroot%40pam%3A6B49D200%3A%3Agiven%2B"
    );
}

#[tokio::test]
async fn an_expired_given_ticket_has_its_own_error() {
    let fake = Fake::new(|_| Ok(json(401, "Authentication failed!", "")));
    let clock = ManualClock::default();
    let client = with_ticket(&fake, &clock);
    let error = client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect_err("refused");
    assert_eq!(
        error.kind(),
        Some(ErrorKind::Unauthorized),
        "it is young, so something else is wrong with it"
    );
    assert_eq!(fake.lines().len(), 1, "no password to log in again");

    clock.forward(3 * RENEWAL);
    for _ in 0..2 {
        let error = client
            .execute(call(Method::Get, "/version", &[]))
            .await
            .expect_err("refused");
        assert!(
            matches!(&error, Error::Auth(error) if matches!(error.reason(), AuthErrorKind::Expired))
        );
        assert_eq!(error.kind(), Some(ErrorKind::TicketExpired));
    }
    assert_eq!(fake.lines().len(), 2, "one renewal was tried");
}

#[tokio::test]
async fn an_accepted_login_without_a_ticket_is_an_error() {
    let fake = Fake::new(|_| ok(r#"{"data":{"username":"root@pam"}}"#));
    let client = with_password(&fake, &ManualClock::default());
    let error = client.login().await.expect_err("no ticket came");
    assert_eq!(
        error.to_string(),
        "the login of root@pam was accepted but gave no ticket"
    );
}

#[tokio::test]
async fn an_endpoint_that_refuses_tokens_is_not_called_with_one() {
    let fake = accepting_server();
    let put = || Call {
        endpoint: Some(&NEEDS_TICKET),
        ..call(Method::Put, "/access/password", &[])
    };
    let error = fake
        .token_client()
        .execute(put())
        .await
        .expect_err("not sent");
    let Error::Request(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind(), &RequestErrorKind::NeedsTicket);
    assert!(fake.lines().is_empty());
    with_password(&fake, &ManualClock::default())
        .execute(put())
        .await
        .expect("a ticket is accepted");
}

#[tokio::test]
async fn a_refused_ticket_is_replaced_even_if_a_proxy_moved_the_phrase_into_the_body() {
    for (text, replaced) in [
        ("permission denied - invalid PVE ticket", true),
        ("Authentication failed!", true),
        ("authentication failure", false),
    ] {
        let mut refusals = 1;
        let mut logins = 0;
        let fake = Fake::new(move |request| {
            if request.path == "/api2/json/access/ticket" {
                logins += 1;
                return ok(login_answer(logins));
            }
            if refusals > 0 {
                refusals -= 1;
                let body = serde_json::json!({"data": null, "message": format!("{text}\n")});
                return Ok(json(401, text, body.to_string()));
            }
            ok(r#"{"data":null}"#)
        });
        let client = with_password(&fake, &ManualClock::default());
        let result = client.execute(Call::new(Method::Get, "/nodes")).await;
        assert_eq!(result.is_ok(), replaced, "{text}");
        assert_eq!(self::logins(&fake), 1 + usize::from(replaced), "{text}");
    }
}

#[tokio::test]
async fn dropping_a_call_during_a_login_does_not_block_others() {
    let fake = accepting_server();
    let client = with_password(&fake, &ManualClock::default());
    {
        let mut call = client.execute(call(Method::Get, "/version", &[]));
        let once =
            std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context)));
        assert!(once.await.is_pending(), "the login is under way");
    }
    client
        .execute(call(Method::Get, "/version", &[]))
        .await
        .expect("accepted");
    assert_eq!(logins(&fake), 1);
}
