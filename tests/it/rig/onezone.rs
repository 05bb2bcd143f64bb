//! A service that plays Onezone: it mints macaroons with one secret, numbers the generations of its users' temporary tokens,
//! and answers the calls that its real client makes. It also falls silent on demand.
//!
//! What it does beyond the calls under test, Onezone's login aside, is as little as its client looks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::rig::now;
use crate::rig::serve::{Body, Server, full};

/// What its macaroons say they are from.
pub(crate) const DOMAIN: &str = "onezone.test";
/// What it mints with.
pub(crate) const SECRET: &str = "onezone-secret-4b1d";
/// Where its calls begin.
pub(crate) const BASE: &str = "/api/v3/onezone";

/// A running one.
pub(crate) struct Onezone {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    books: Mutex<Books>,
    /// Where revocations wait for each other.
    together: Mutex<Option<Arc<Barrier>>>,
}

#[derive(Default)]
struct Books {
    generations: BTreeMap<String, u64>,
    administrators: BTreeSet<String>,
    /// By id: whose, and whether it is revoked.
    named: BTreeMap<String, (String, bool)>,
    minted: usize,
    silent: Option<Method>,
    all_silent: bool,
    seen: Vec<(Method, String, HeaderMap)>,
}

/// A token, decoded.
struct Read {
    user: String,
    generation: Option<u64>,
    id: String,
    caveats: Vec<String>,
    genuine: bool,
}

impl Onezone {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let of = shared.clone();
        let server = Server::start(None, move |request| answer(of.clone(), request)).await;
        Self { server, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// A named access token of a user.
    pub(crate) fn named(&self, user: &str) -> (String, String) {
        let mut books = self.shared.books.lock().unwrap();
        let id = books.next_id();
        books.named.insert(id.clone(), (user.to_owned(), false));
        (mint(SECRET, &format!("2/nmd/usr-{user}/act/{id}"), &[]), id)
    }

    /// A temporary access token of a user, good for an hour.
    pub(crate) fn temporary(&self, user: &str) -> String {
        self.shared.books.lock().unwrap().temporary(user)
    }

    /// The generation of the temporary tokens a user gets now.
    pub(crate) fn generation(&self, user: &str) -> u64 {
        self.shared.books.lock().unwrap().generation(user)
    }

    /// Lets a user mind everybody's tokens.
    pub(crate) fn promote(&self, user: &str) {
        self.shared.books.lock().unwrap().administrators.insert(user.to_owned());
    }

    /// Answers nothing but 503 to this method from now on, or to every one.
    pub(crate) fn falls_silent(&self, to: Option<Method>) {
        let mut books = self.shared.books.lock().unwrap();
        books.all_silent = to.is_none();
        books.silent = to;
    }

    /// Answers again.
    pub(crate) fn speaks(&self) {
        let mut books = self.shared.books.lock().unwrap();
        (books.silent, books.all_silent) = (None, false);
    }

    /// Carries out the revocations that come from now on only when so many are there.
    pub(crate) fn revokes_together(&self, many: usize) {
        *self.shared.together.lock().unwrap() = Some(Arc::new(Barrier::new(many)));
    }

    /// Every request so far: method, path, headers.
    pub(crate) fn seen(&self) -> Vec<(Method, String, HeaderMap)> {
        self.shared.books.lock().unwrap().seen.clone()
    }
}

impl Books {
    fn next_id(&mut self) -> String {
        self.minted += 1;
        format!("{:032x}", self.minted)
    }

    fn generation(&self, user: &str) -> u64 {
        self.generations.get(user).copied().unwrap_or(1)
    }

    fn temporary(&mut self, user: &str) -> String {
        let (id, generation) = (self.next_id(), self.generation(user));
        let until = format!("time < {}", now() + 3600);
        mint(SECRET, &format!("2/tmp-{generation}/usr-{user}/act/{id}"), &[&until])
    }

    /// Why a token is no good, by its id in errors.
    fn judge(&self, text: &str) -> Result<Read, &'static str> {
        let read = read(text).ok_or("badToken")?;
        match read.generation {
            Some(generation) if generation < self.generation(&read.user) => return Err("tokenRevoked"),
            Some(generation) if generation > self.generation(&read.user) => return Err("tokenInvalid"),
            Some(_) => {}
            None => match self.named.get(&read.id) {
                Some((_, true)) => return Err("tokenRevoked"),
                Some((user, false)) if *user == read.user => {}
                _ => return Err("tokenInvalid"),
            },
        }
        let late =
            |caveat: &String| caveat.strip_prefix("time < ").is_some_and(|at| at.parse::<u64>().unwrap() <= now());
        if !read.genuine {
            return Err("tokenInvalid");
        }
        if read.caveats.iter().any(late) { Err("tokenCaveatUnverified") } else { Ok(read) }
    }

    /// Whose request this is.
    fn caller(&self, headers: &HeaderMap) -> Result<Read, Reply> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let shown = text("x-auth-token").or(bearer).or(text("macaroon"));
        let Some(shown) = shown else { return Err(error(401, "unauthorized", None)) };
        let nested = |id| error(401, "unauthorized", Some(json!({ "authError": { "id": id, "description": "-" } })));
        self.judge(shown).map_err(nested)
    }

    fn may(&self, caller: &Read, user: &str) -> Result<(), Reply> {
        let may = caller.user == user || self.administrators.contains(&caller.user);
        if may { Ok(()) } else { Err(error(403, "forbidden", None)) }
    }
}

type Reply = (u16, Option<Value>);

fn error(status: u16, id: &str, details: Option<Value>) -> Reply {
    let mut error = json!({ "id": id, "description": "-" });
    if let Some(details) = details {
        error["details"] = details;
    }
    (status, Some(json!({ "error": error })))
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path().trim_end_matches('/').to_owned();
    let together = shared.together.lock().unwrap().clone().filter(|_| head.method == Method::DELETE);
    if let Some(together) = together {
        together.wait().await;
    }
    let (status, document) = {
        let mut books = shared.books.lock().unwrap();
        books.seen.push((head.method.clone(), path.clone(), head.headers.clone()));
        if books.all_silent || books.silent.as_ref() == Some(&head.method) {
            (503, None)
        } else {
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            books.answer(&head.method, &path, &head.headers, &body).unwrap_or_else(|reply| reply)
        }
    };
    let content = document.map_or_else(String::new, |document| document.to_string());
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    let response = response.header("content-type", "application/json").header("access-control-allow-origin", "*");
    response.body(full(content)).unwrap()
}

impl Books {
    fn answer(&mut self, method: &Method, path: &str, headers: &HeaderMap, body: &Value) -> Result<Reply, Reply> {
        let rest = path.strip_prefix(BASE).ok_or_else(|| error(404, "notFound", None))?;
        let segments: Vec<&str> = rest.split('/').skip(1).collect();
        match (method.as_str(), segments.as_slice()) {
            ("POST", ["tokens", call]) => self.about(call, body),
            (_, ["user", rest @ ..]) => {
                let user = self.caller(headers)?.user;
                self.of_user(method, headers, &user, rest)
            }
            (_, ["users", user, rest @ ..]) => self.of_user(method, headers, user, rest),
            ("PATCH" | "DELETE", ["tokens", "named", id]) => self.change(method, headers, id, body),
            _ => Err(error(404, "notFound", None)),
        }
    }

    fn of_user(&mut self, method: &Method, headers: &HeaderMap, user: &str, rest: &[&str]) -> Result<Reply, Reply> {
        let caller = self.caller(headers)?;
        match (method.as_str(), rest) {
            ("GET", []) => Ok((200, Some(json!({ "userId": user })))),
            ("GET", ["effective_privileges"]) => {
                let all = self.administrators.contains(user).then_some("oz_tokens_manage");
                Ok((200, Some(json!({ "privileges": all.into_iter().collect::<Vec<_>>() }))))
            }
            (_, ["tokens", "temporary"]) => {
                self.may(&caller, user)?;
                match method.as_str() {
                    "GET" => Ok((200, Some(json!({ "generation": self.generation(user) })))),
                    "POST" => Ok((201, Some(json!({ "token": self.temporary(user) })))),
                    "DELETE" => {
                        let next = self.generation(user) + 1;
                        self.generations.insert(user.to_owned(), next);
                        Ok((204, None))
                    }
                    _ => Err(error(405, "notSupported", None)),
                }
            }
            _ => Err(error(404, "notFound", None)),
        }
    }

    fn change(&mut self, method: &Method, headers: &HeaderMap, id: &str, body: &Value) -> Result<Reply, Reply> {
        let caller = self.caller(headers)?;
        let owner = self.named.get(id).map(|(user, _)| user.clone()).ok_or_else(|| error(404, "notFound", None))?;
        self.may(&caller, &owner)?;
        if method == Method::DELETE {
            self.named.remove(id);
        } else if let Some(revoked) = body["revoked"].as_bool() {
            self.named.insert(id.to_owned(), (owner, revoked));
        }
        Ok((204, None))
    }

    /// The public calls, which are about a token in the body.
    fn about(&self, call: &str, body: &Value) -> Result<Reply, Reply> {
        let text =
            body["token"].as_str().ok_or_else(|| error(400, "missingRequiredValue", Some(json!({"key": "token"}))))?;
        if call == "confine" {
            let added = body["caveats"].as_array().unwrap().iter().map(|caveat| caveat["type"].as_str().unwrap());
            return Ok((200, Some(json!({ "token": confined(text, &added.collect::<Vec<_>>()) }))));
        }
        let read = self.judge(text).map_err(|id| error(400, id, None))?;
        let subject = json!({ "subject": { "type": "user", "id": read.user }, "ttl": null });
        let access = json!({ "readonly": false, "spaces": {}, "providers": {} });
        match call {
            "infer_access_token_scope" => Ok((200, Some(json!({ "validUntil": null, "dataAccessScope": access })))),
            "verify_access_token" => Ok((200, Some(subject))),
            _ => Err(error(404, "notFound", None)),
        }
    }
}

fn mac(key: &[u8], message: &[u8]) -> Tag {
    sign(&Key::new(HMAC_SHA256, key), message)
}

fn packet(name: &str, value: &[u8]) -> Vec<u8> {
    [format!("{:04x}{name} ", name.len() + value.len() + 6).as_bytes(), value, b"\n"].concat()
}

fn chain(secret: &str, identifier: &str, caveats: &[&str]) -> Tag {
    let first = mac(mac(b"macaroons-key-generator", secret.as_bytes()).as_ref(), identifier.as_bytes());
    caveats.iter().fold(first, |key, caveat| mac(key.as_ref(), caveat.as_bytes()))
}

/// A macaroon in Onezone's letters.
pub(crate) fn mint(secret: &str, identifier: &str, caveats: &[&str]) -> String {
    written(identifier, caveats, chain(secret, identifier, caveats).as_ref())
}

/// The same token with more caveats: anybody can do that.
pub(crate) fn confined(text: &str, added: &[&str]) -> String {
    let (identifier, mut caveats, mut signature) = packets(text).expect("a macaroon");
    for caveat in added {
        signature = mac(&signature, caveat.as_bytes()).as_ref().to_vec();
        caveats.push((*caveat).to_owned());
    }
    written(&identifier, &caveats.iter().map(String::as_str).collect::<Vec<_>>(), &signature)
}

/// The same token as if it were from elsewhere: nothing signs that.
pub(crate) fn moved(text: &str, location: &str) -> String {
    let (identifier, caveats, signature) = packets(text).expect("a macaroon");
    written_at(location, &identifier, &caveats.iter().map(String::as_str).collect::<Vec<_>>(), &signature)
}

fn written(identifier: &str, caveats: &[&str], signature: &[u8]) -> String {
    written_at(DOMAIN, identifier, caveats, signature)
}

fn written_at(location: &str, identifier: &str, caveats: &[&str], signature: &[u8]) -> String {
    let mut bytes = [packet("location", location.as_bytes()), packet("identifier", identifier.as_bytes())].concat();
    caveats.iter().for_each(|caveat| bytes.extend(packet("cid", caveat.as_bytes())));
    bytes.extend(packet("signature", signature));
    in_its_letters(&URL_SAFE_NO_PAD.encode(bytes))
}

/// base64url as letters and digits alone.
pub(crate) fn in_its_letters(text: &str) -> String {
    text.replace('0', "00").replace('_', "01").replace('-', "02")
}

fn packets(text: &str) -> Option<(String, Vec<String>, Vec<u8>)> {
    let (mut plain, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        plain.push(if letter == '0' { *['0', '_', '-'].get(letters.next()?.to_digit(10)? as usize)? } else { letter });
    }
    let bytes = URL_SAFE_NO_PAD.decode(plain).ok()?;
    let (mut rest, mut identifier, mut caveats, mut signature) = (&bytes[..], None, Vec::new(), None);
    while !rest.is_empty() {
        let length = usize::from_str_radix(std::str::from_utf8(rest.get(..4)?).ok()?, 16).ok()?;
        let packet = rest.get(4..length)?.strip_suffix(b"\n")?;
        let at = packet.iter().position(|byte| *byte == b' ')?;
        let (name, value) = (&packet[..at], packet[at + 1..].to_vec());
        match name {
            b"identifier" => identifier = Some(String::from_utf8(value).ok()?),
            b"cid" => caveats.push(String::from_utf8(value).ok()?),
            b"signature" => signature = Some(value),
            _ => {}
        }
        rest = &rest[length..];
    }
    Some((identifier?, caveats, signature?))
}

fn read(text: &str) -> Option<Read> {
    let (identifier, caveats, signature) = packets(text)?;
    let parts: Vec<&str> = identifier.split('/').collect();
    let &["2", persistence, subject, "act", id] = parts.as_slice() else { return None };
    let texts: Vec<&str> = caveats.iter().map(String::as_str).collect();
    Some(Read {
        user: subject.strip_prefix("usr-")?.to_owned(),
        generation: persistence.strip_prefix("tmp-").and_then(|number| number.parse().ok()),
        id: id.to_owned(),
        genuine: chain(SECRET, &identifier, &texts).as_ref() == signature,
        caveats,
    })
}
