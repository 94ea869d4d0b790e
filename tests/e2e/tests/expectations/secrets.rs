//! No type prints a secret.

use std::collections::BTreeMap;

use proxmox_api::transport::{Transport, TransportError, WireRequest, WireResponse};
use proxmox_api::value::encode::ParamValue;
use proxmox_api::{BoxFuture, Client, ClientBuilder};
use proxmox_e2e::shape::{Item, Member, Properties, Returns, Shapes, Ty};
use proxmox_e2e::{ANSWERS, PROPERTY_STRINGS, REQUESTS};
use serde_json::{Map, Value, json};

const PLANTED: &str = "PLANTED-s3cr3t";
/// Deeper than any answer without recursion.
const DEPTH: usize = 12;

#[derive(serde::Deserialize)]
struct Overlay {
    secret: Entries,
    public: Entries,
}

#[derive(serde::Deserialize)]
struct Entries {
    names: BTreeMap<String, String>,
    places: BTreeMap<String, String>,
}

impl Overlay {
    fn read() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../schema/pve/overlay/secrets.toml"
        );
        let text = std::fs::read_to_string(path).expect("the overlay is there");
        toml::from_str(&text).expect("it is TOML")
    }

    /// The file's entries for a place, read independently of the generator.
    fn is_secret(&self, place: &str) -> bool {
        let name = place.rsplit(['?', '#', '.']).next().unwrap_or_default();
        self.secret.places.contains_key(place)
            || (self.secret.names.contains_key(name) && !self.public.places.contains_key(place))
    }
}

/// Fills answers, and counts the planted secrets.
struct SecretPlanter<'a> {
    shapes: &'a Shapes,
    overlay: &'a Overlay,
    planted: usize,
}

impl SecretPlanter<'_> {
    fn value(&mut self, ty: &Ty, place: &str, depth: usize) -> Value {
        match ty {
            Ty::Boolean => json!(true),
            Ty::Integer | Ty::Bytes | Ty::Number => json!(7),
            Ty::Vmid => json!(100),
            Ty::Json => json!({ "inner": [{ "password": self.secret() }] }),
            Ty::Text | Ty::List(_) if self.overlay.is_secret(place) => self.secret(),
            Ty::Text | Ty::List(_) => json!("plain"),
            Ty::Optional(of) | Ty::Pending(of) => self.value(of, place, depth),
            Ty::Array(of) => json!([self.value(of, place, depth)]),
            Ty::Map(of) => json!({ "some": self.value(of, &format!("{place}.*"), depth) }),
            Ty::Item(name) => match &self.shapes.items[name] {
                Item::Enum(values) => json!(values[0]),
                Item::Struct(members) => self.object(members, place, depth),
                Item::Properties(properties) => json!(self.properties(properties, place)),
            },
        }
    }

    fn secret(&mut self) -> Value {
        self.planted += 1;
        json!(PLANTED)
    }

    fn object(&mut self, members: &[Member], place: &str, depth: usize) -> Value {
        let mut object = Map::new();
        for member in members.iter().filter(|_| depth > 0) {
            let dot = if place.ends_with('#') { "" } else { "." };
            let suffix = if member.indexed { "[n]" } else { "" };
            let place = format!("{place}{dot}{}{suffix}", member.name);
            let index = if member.indexed { "0" } else { "" };
            let value = self.value(&member.ty, &place, depth - 1);
            object.insert(format!("{}{index}", member.name), value);
        }
        // Extra members, and values that fit no member.
        for name in self.overlay.secret.names.keys() {
            if !object.contains_key(name) {
                let value = json!({ "deep": [self.secret()] });
                object.insert(name.clone(), value);
            }
        }
        let address = format!("otpauth://totp/x?secret={PLANTED}");
        object.insert("unknown-address".to_owned(), json!(address));
        Value::Object(object)
    }

    fn properties(&mut self, properties: &Properties, place: &str) -> String {
        let mut parts = Vec::new();
        for key in &properties.keys {
            let secret = self.overlay.is_secret(&format!("{place}.{}", key.name));
            let value = match (secret, &key.ty) {
                (true, _) => {
                    self.planted += 1;
                    PLANTED.to_owned()
                }
                (_, Ty::Boolean | Ty::Integer | Ty::Bytes | Ty::Number | Ty::Vmid) => {
                    "1".to_owned()
                }
                _ => "plain".to_owned(),
            };
            parts.push(format!("{}={value}", key.name));
        }
        parts.push(format!("unknown-password={PLANTED}"));
        parts.join(",")
    }
}

#[test]
fn no_answer_prints_a_secret() {
    let (shapes, overlay) = (Shapes::get(), Overlay::read());
    let mut planter = SecretPlanter {
        shapes,
        overlay: &overlay,
        planted: 0,
    };
    let (mut printed, mut leaks) = (0, Vec::new());
    for answer in ANSWERS {
        let Returns::Data(ty) = &shapes.answers[&answer.to_string()] else {
            continue;
        };
        // Such an answer may hold anything: its type cannot tell what is secret.
        if matches!(ty, Ty::Json | Ty::Text) {
            continue;
        }
        let data = planter.value(ty, &format!("{answer}#"), DEPTH);
        let body = serde_json::to_vec(&json!({ "data": data })).expect("JSON");
        let text = (answer.print)(&body).unwrap_or_else(|error| panic!("{answer}: {error}"));
        printed += 1;
        if let Some(at) = text.find(PLANTED) {
            leaks.push(format!("{answer}: {}", &text[at.saturating_sub(80)..at]));
        }
    }
    println!("{printed} answers with {} secrets", planter.planted);
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(printed > 250 && planter.planted > 10_000);
}

#[test]
fn no_property_string_prints_a_secret() {
    let (shapes, overlay) = (Shapes::get(), Overlay::read());
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (endpoint, parameters) in &shapes.parameters {
        for (name, ty) in parameters {
            if let Ty::Item(item) = ty {
                places
                    .entry(item)
                    .or_default()
                    .push(format!("{endpoint}?{name}"));
            }
        }
    }
    let (mut leaks, mut planted) = (Vec::new(), 0);
    for kind in PROPERTY_STRINGS {
        let Item::Properties(own) = &shapes.items[kind.name] else {
            panic!("{} is no property string", kind.name);
        };
        // A property string that does not parse, and one for each place of this type.
        let mut texts = vec![format!("broken,password={PLANTED},password={PLANTED}")];
        for place in places.get(kind.name).into_iter().flatten() {
            let mut planter = SecretPlanter {
                shapes,
                overlay: &overlay,
                planted: 0,
            };
            texts.push(planter.properties(own, place));
            planted += planter.planted;
        }
        for text in texts {
            let printed = (kind.read)(&text).printed;
            if printed.contains(PLANTED) {
                leaks.push(format!("{}: {printed}", kind.name));
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(planted > 3, "{planted}");
}

#[test]
fn no_request_prints_a_secret() {
    let overlay = Overlay::read();
    let client = Client::builder("pve1")
        .api_token("root@pam!ci", "t0ken")
        .build()
        .expect("complete");
    let mut leaks = Vec::new();
    let mut hidden = 0;
    for wire in REQUESTS.iter() {
        let call = (wire.build)();
        let text = format!("{call:?}");
        for parameter in wire.parameters {
            if !overlay.is_secret(&format!("{}?{}", wire.endpoint, parameter.name)) {
                continue;
            }
            hidden += 1;
            let texts = call.params().get(parameter.name).map(ParamValue::texts);
            let texts = texts.unwrap_or_default();
            let parameter_text = format!("{:?}: {:?}", parameter.name, texts.first());
            let parameter_text = parameter_text.replace("Some(", "").replace(')', "");
            if text.contains(&parameter_text) {
                leaks.push(format!("{}: {text}", wire.endpoint));
            }
        }
        // Unknown parameters are hidden by name.
        let mut raw = client.request::<Value>(call.method(), call.path());
        for name in overlay.secret.names.keys() {
            raw = raw.param(name.clone(), PLANTED);
        }
        if format!("{raw:?}").contains(PLANTED) {
            leaks.push(format!("{raw:?}"));
        }
    }
    println!("{hidden} secret parameters");
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(hidden > 60, "{hidden}");
}

#[tokio::test]
async fn no_error_shows_a_secret_in_any_encoding() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let encodings: [fn(&str) -> String; 8] = [
        str::to_owned,
        |text| text.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        |text| text.replace(' ', "+").replace('/', "%2F"),
        |text| STANDARD.encode(format!("root@pam:{text}")),
        |text| {
            text.chars()
                .map(|c| format!("\\u{:04x}", u32::from(c)))
                .collect()
        },
        |text| text.replace('/', "\\/"),
        |text| text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        |text| text.bytes().map(|byte| format!("{byte:02X}")).collect(),
    ];
    let secrets = [
        "pa55 w/rd-of-root",
        "header/v4lue x",
        "parameter/v4lue x",
        "tok3n-s3cret-value",
    ];
    for encode in encodings {
        let quoted: Vec<String> = secrets.iter().map(|secret| encode(secret)).collect();
        let quoted = quoted.join(" ");
        for status in [400, 401, 403, 500, 501, 596] {
            let answer = format!(r#"{{"message":"{quoted}","errors":{{"{quoted}":"{quoted}"}}}}"#);
            for body in [
                answer,
                format!("<html><title>{quoted}</title>"),
                quoted.clone(),
            ] {
                for login in [
                    (|b: ClientBuilder| b.password("root@pam", "pa55 w/rd-of-root"))
                        as fn(ClientBuilder) -> ClientBuilder,
                    |b| b.api_token("root@pam!ci", "tok3n-s3cret-value"),
                ] {
                    let builder = Client::builder("pve1").header("X-Gate", "header/v4lue x");
                    let transport = FixedAnswer {
                        status,
                        body: body.clone(),
                    };
                    let client = login(builder)
                        .transport(std::sync::Arc::new(transport))
                        .retry(proxmox_api::client::retry::RetryPolicy::none())
                        .build()
                        .expect("complete");
                    let request = client
                        .request::<Value>(
                            proxmox_api::value::endpoint::Method::Put,
                            "/access/password",
                        )
                        .param("password", "parameter/v4lue x");
                    let error = request.await.expect_err("refused");
                    let mut text = format!("{error} {error:?}");
                    if let Some(error) = error.api() {
                        let body = String::from_utf8_lossy(error.body());
                        text += &format!(
                            "{} {} {body} {:?}",
                            error.reason(),
                            error.message(),
                            error.errors()
                        );
                    }
                    // A refused login repeats what it sent; the token's secret is not known then.
                    let sent = if text.contains("ticket") { 0..2 } else { 1..3 };
                    for secret in &secrets[sent] {
                        let form = encode(secret);
                        assert!(!text.contains(&form), "{form}: {text}");
                    }
                }
            }
        }
    }
}

/// Gives the same answer to every request.
#[derive(Debug)]
struct FixedAnswer {
    status: u16,
    body: String,
}

impl Transport for FixedAnswer {
    fn send(&self, _: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        let mut answer = WireResponse::new(self.status, self.body.clone().into_bytes());
        answer.reason = self.body.clone().into_bytes().into();
        Box::pin(async move { Ok(answer) })
    }
}
