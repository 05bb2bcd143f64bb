//! A gateway in front of a token service: what stories about refresh tokens and sessions start from.
//!
//! Everything leads to the service but `/api`, which leads to the usual upstream and wants an access token.

use std::net::{IpAddr, SocketAddr};

use hyper::Request;
use hyper::header::USER_AGENT;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::rig::http::{Answer, ask, form};
use crate::rig::serve::Body;
use crate::rig::token_service::{Issued, Make, Manner, TokenService, login, oauth2, refresh};
use crate::rig::{Rig, get, within};

/// A gateway and the token service behind it.
pub(crate) struct Front {
    pub(crate) rig: Rig,
    pub(crate) service: TokenService,
}

/// The issuer whose access tokens are JWTs.
const SIGNED: &str = "verification = 'signature'\njwks_url = '{jwks}'\naudiences = ['api']\nalgorithms = ['ES256']";
/// The issuer of opaque ones, which only its own upstream can verify.
const OPAQUE: &str = "verification = 'none'\nopaque_tokens = true";

impl Front {
    /// A gateway whose token endpoints, `/token` for forms and `/json/token` for JSON, have these keys too.
    pub(crate) async fn start(manner: Manner, keys: &str) -> Self {
        Self::with(manner, keys, "").await
    }

    /// The same with more in the configuration.
    pub(crate) async fn with(manner: Manner, keys: &str, more: &str) -> Self {
        let issuer = if matches!(manner.access, Make::Opaque) { OPAQUE } else { SIGNED };
        let builder = Rig::builder().await;
        let service = TokenService::start(manner, builder.signer()).await;
        let settings = format!(
            "[[issuers]]\nname = 'main'\nissuer = 'https://id.test/'\n{issuer}\nleeway = '5s'\nmax_token_lifetime = '24h'\n\
             max_refresh_token_lifetime = '30d'\n\
             [[issuers.token_endpoints]]\npath = '/token'\n{keys}\n\
             [[issuers.token_endpoints]]\npath = '/json/token'\nrefresh_token = 'json:/refresh_token'\n{keys}\n\
             [[routes]]\npath = '/'\nupstreams = ['{{tokens}}']\nauth = 'none'\n\
             [[routes]]\npath = '/api'\nupstreams = ['{{upstream}}']\n{more}"
        );
        let rig = builder.word("tokens", service.url()).config(&settings).start().await;
        Self { rig, service }
    }

    pub(crate) fn proxy(&self) -> SocketAddr {
        self.rig.gateway.proxy
    }

    /// A login through the gateway, and what it was given.
    pub(crate) async fn login(&self, user: &str) -> Issued {
        self.issued(&ask(self.proxy(), login("/token", user, "web")).await)
    }

    /// What the service noted of a good answer.
    pub(crate) fn issued(&self, answer: &Answer) -> Issued {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let access = answer.json()["access_token"].clone();
        let issued = self.service.issued();
        issued.into_iter().find(|issued| access == issued.access).expect("the service issued it")
    }

    /// Redeems a refresh token as the browser that logs in here does.
    pub(crate) async fn refresh(&self, token: &str) -> Answer {
        ask(self.proxy(), refresh("/token", token, "web")).await
    }

    /// Redeems a refresh token, which must be good.
    pub(crate) async fn renew(&self, token: &str) -> Issued {
        self.issued(&self.refresh(token).await)
    }

    /// Whether a refresh token is good, by whoever says so.
    pub(crate) async fn renews(&self, token: &str) -> bool {
        let answer = self.refresh(token).await;
        answer.status == 200 || !is_dead(&answer)
    }

    /// Whether an access token opens what it should.
    pub(crate) async fn opens(&self, token: &str) -> bool {
        let answer = ask(self.proxy(), get("/api", token)).await;
        assert!(matches!(answer.status, 200 | 401), "neither good nor dead: {} {}", answer.status, answer.text());
        answer.status == 200
    }

    /// How often the endpoints counted that.
    pub(crate) async fn counted(&self, result: &str) -> f64 {
        let sample = format!(r#"portcullis_token_endpoint_total{{issuer="main",result="{result}"}}"#);
        self.rig.admin.metric(&sample).await
    }

    /// Waits until the endpoints have counted that so often.
    pub(crate) async fn count_of(&self, result: &str, many: f64) {
        within(result, async { while self.counted(result).await < many {} }).await;
    }

    /// The ids of a user's sessions that go on.
    pub(crate) async fn sessions(&self, username: &str) -> Vec<String> {
        let page = self.rig.admin.get(&format!("/v1/sessions?state=active&sort=created&username={username}")).await;
        page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Whether this is what the client of a dead refresh token is told (RFC 6749 §5.2); anything else must be good.
pub(crate) fn is_dead(answer: &Answer) -> bool {
    assert!(matches!(answer.status, 200 | 400), "neither good nor dead: {} {}", answer.status, answer.text());
    if answer.status == 200 {
        return false;
    }
    assert_eq!(answer.json()["error"], json!("invalid_grant"), "{}", answer.text());
    assert_eq!((answer.header("cache-control"), answer.header("content-type")), ("no-store", "application/json"));
    true
}

/// The same request by another program.
pub(crate) fn by(agent: &str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert(USER_AGENT, agent.parse().unwrap());
    request
}

/// A refresh as the usual browser sends it, to the byte.
pub(crate) fn on_the_wire(token: &str) -> Vec<u8> {
    use http_body_util::BodyExt;
    let request = refresh("/token", token, "web");
    let body = futures_util::FutureExt::now_or_never(request.into_body().collect()).unwrap().unwrap().to_bytes();
    let head = "POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    [format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(), body.to_vec()].concat()
}

/// Sends these bytes from one of loopback's addresses, and leaves the answer unread.
pub(crate) async fn send_from(local: &str, to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(local.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// All that comes until the other side closes.
pub(crate) async fn rest_of(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    within("the end of an answer", stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A reply that names the user and the session, for services whose tokens say nothing.
pub(crate) fn telling(issued: &Issued) -> serde_json::Value {
    let mut reply = oauth2(issued);
    reply["user"] = json!(issued.user);
    reply
}

/// A login that asks for nothing but tokens: no name and no password in it.
pub(crate) fn by_code(user: &str) -> Request<Body> {
    form("/token", &[("grant_type", "authorization_code"), ("code", user), ("client_id", "web")])
}
