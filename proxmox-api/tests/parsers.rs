//! All parsers return a value or an error for any input from a server, a file or a person.
//!
//! Each parser has such a property test. Those of private parsers are beside them: the first line
//! of an answer (`transport/tests.rs`), refusals (`error/api/tests.rs`), texts in errors
//! (`value/text.rs`), streams of lines and elements (`stream/lines/tests.rs`), frames of consoles
//! (`stream/console/tests.rs`), tickets, saved sessions and redirect URLs (`client/auth/tests.rs`),
//! pauses and limits that a server requests (`client/retry/tests.rs`, `client/limit/tests.rs`),
//! dates (`manage/guest/locations.rs`), versions (`client/availability/tests.rs`), files of known
//! hosts (`tls/known_hosts.rs`), proxies and `NO_PROXY` (`transport/proxy/tests.rs`), headers of
//! webhooks (`manage/webhook.rs`), addresses (`value/address.rs`). `hostile.rs` damages whole
//! answers on a socket, and `twisted.rs` sends invalid ones to the everyday layer.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proxmox_api::client::auth::{ApiToken, SavedSession};
use proxmox_api::manage::events::State;
use proxmox_api::pve::cluster::ClusterResourcesItem;
use proxmox_api::pve::qemu::{QemuConfig, QemuNet};
use proxmox_api::stream::envelope::Answer;
use proxmox_api::tls::Fingerprint;
use proxmox_api::value::List;
use proxmox_api::value::decode::from_answer;
use proxmox_api::value::formats::{Cidr, DiskSize, IpAddress, MacAddr, UserId, VolumeId};
use proxmox_api::value::upid::Upid;
use serde_json::{Value, json};

/// Any JSON, often with names and texts that are known here.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "data", "net0", "net255", "net256", "net00", "cores", "digest", "smbios1", "password",
            "vmid", "type", "pending", "version", "guests", "nodes", "tasks", "reported", "origin",
            "",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,10}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(virtio|model)?=?.{0,20}".prop_map(Value::from),
        "[0-9]{1,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn read_all(body: &[u8]) {
    let _ = from_answer::<QemuConfig>(body).map(|config| format!("{config:?}"));
    let _ = from_answer::<Vec<ClusterResourcesItem>>(body).map(|rows| format!("{rows:?}"));
    let _ = Answer::<Vec<QemuConfig>>::from_body(body).map(|answer| format!("{answer:?}"));
    let _ = from_answer::<Value>(body);
    if let Err(error) = from_answer::<QemuConfig>(body) {
        let text = error.to_string();
        assert!(text.len() < 2000 + body.len() * 10, "{} bytes", text.len());
    }
}

proptest! {
    #[test]
    fn any_bytes_as_an_answer(
        bytes in prop::collection::vec(any::<u8>(), 0..300), start in r#"|[{]"data":|[{]"data":[{]"net0":"#,
    ) {
        read_all(&[start.as_bytes(), &bytes].concat());
    }

    #[test]
    fn any_json_as_an_answer(data in any_json(), beside in any_json(), cut in any::<prop::sample::Index>()) {
        let whole = json!({ "data": data, "beside": beside }).to_string();
        read_all(whole.as_bytes());
        read_all(&whole.as_bytes()[..cut.index(whole.len())]);
        read_all(data.to_string().as_bytes());
    }

    #[test]
    fn any_json_as_a_cursor(json in any_json(), version in 0..4_u8) {
        let mut state = State::default().to_json();
        state["version"] = version.into();
        if let (Some(members), Value::Object(unexpected)) = (state.as_object_mut(), &json) {
            members.extend(unexpected.clone());
        }
        for json in [&json, &state] {
            if let Some(state) = State::from_json(json) {
                prop_assert_eq!(State::from_json(&state.to_json()), Some(state));
            }
        }
    }

    #[test]
    fn any_text_for_each_text_format(
        text in prop_oneof!["\\PC{0,60}", ".{0,60}", "[a-z0-9=,;:/.!@_-]{0,60}", "[0-9]{0,40}[KMGTPx.]{0,3}"],
    ) {
        let _ = text.parse::<QemuNet>().map(|net| format!("{net:?} {net}"));
        let net = QemuNet::from(text.as_str());
        let _ = format!("{net:?} {net}");
        let list = List::from(text.as_str());
        prop_assert!(list.iter().all(|item| !item.is_empty()));
        prop_assert_eq!(List::from(list.to_string()), list);
        let _ = text.parse::<Upid>().map(|upid| format!("{upid:?} {upid}"));
        let _ = format!("UPID:{text}").parse::<Upid>();
        let _ = text.parse::<Fingerprint>();
        let _ = text.parse::<ApiToken>().map(|token| format!("{token:?}"));
        let _ = text.parse::<SavedSession>();
        let size = DiskSize::from(text.as_str());
        let _ = (size.bytes(), format!("{size:?}"));
        let volume = VolumeId::from(text.as_str());
        let _ = format!("{volume:?} {volume}");
        let _ = format!("{:?}", IpAddress::from(text.as_str()));
        let _ = format!("{:?}", Cidr::from(text.as_str()));
        let _ = format!("{:?}", MacAddr::from(text.as_str()));
        let _ = format!("{:?}", UserId::from(text.as_str()));
    }
}

#[test]
fn decode_errors_quote_nothing_and_are_one_line() {
    let planted = "PLANTED".repeat(10_000);
    let key = format!("a\nb\u{202e}{}", "x".repeat(50_000));
    for body in [
        format!("\"{planted}\""),
        format!("[\"{planted}\"]"),
        format!("{{\"data\":\"{planted}\"}}"),
        format!("{{\"data\":[\"{planted}\"]}}"),
        format!("{{\"data\":{{\"digest\":[\"{planted}\"]}}}}"),
        "12345678901234567890".to_owned(),
        json!({ "data": { key: { "type": [planted] } } }).to_string(),
    ] {
        let errors = [
            from_answer::<ClusterResourcesItem>(body.as_bytes()).map(drop),
            from_answer::<Vec<ClusterResourcesItem>>(body.as_bytes()).map(drop),
            from_answer::<BTreeMap<String, ClusterResourcesItem>>(body.as_bytes()).map(drop),
        ];
        assert!(errors.iter().any(Result::is_err));
        for error in errors.into_iter().filter_map(Result::err) {
            let text = error.to_string();
            let start = body.get(..40).unwrap_or(&body);
            assert!(
                !text.contains("PLANTED") && !text.contains("123456789"),
                "{start}: {text}"
            );
            assert!(
                text.len() < 3_000 && !text.contains(['\n', '\u{202e}']),
                "{start}: {text}"
            );
        }
    }
}
