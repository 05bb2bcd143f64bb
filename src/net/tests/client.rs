//! Calls out, to a server of our own.

use hyper::Uri;

use super::*;
use crate::net::client::{self, CallError, Client};
use crate::net::tls;

fn client(ca: Option<&Path>) -> Client {
    Client::new(&client::Settings { ca: ca.map(Into::into), ..client::Settings::default() }).unwrap()
}

fn url(rig: &Rig, path: &str) -> Uri {
    format!("http://{}{path}", rig.address).parse().unwrap()
}

#[tokio::test]
async fn an_answer_is_taken_up_to_its_bound() {
    let rig = Rig::start(loopback());
    let answer = client(None).get(&url(&rig, "/"), 5).await.unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.max_age), (200, b"hello".as_slice(), None));
    assert!(matches!(client(None).get(&url(&rig, "/"), 4).await, Err(CallError::TooLarge(4))));
    assert!(matches!(client(None).get(&url(&rig, "/big"), 4096).await, Err(CallError::TooLarge(4096))));
}

#[tokio::test]
async fn a_redirect_is_an_error_that_says_so() {
    let rig = Rig::start(loopback());
    let error = client(None).get(&url(&rig, "/moved?token=secret"), 100).await.unwrap_err();
    assert_eq!(error.to_string(), "answered 302, a redirect; redirects are not followed");
}

#[tokio::test]
async fn a_form_goes_out_with_its_credentials() {
    let rig = Rig::start(loopback());
    let fields = [("token", "a b&c"), ("hint", "é")];
    let answer = client(None).post_form(&url(&rig, "/form"), Some(("id", "pass:word")), &fields, 1000).await.unwrap();
    let expected = "Basic aWQ6cGFzcyUzQXdvcmQ=\napplication/json\ntoken=a+b%26c&hint=%C3%A9";
    assert_eq!(String::from_utf8_lossy(&answer.body), expected);
    assert_eq!(answer.max_age, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let rig = Rig::start(loopback());
    let settings = client::Settings { timeout: Duration::from_millis(50), ..client::Settings::default() };
    let error = Client::new(&settings).unwrap().get(&url(&rig, "/slow"), 100).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut), "{error}");
}

#[tokio::test]
async fn only_a_verified_server_is_spoken_to() {
    let authority = Authority::new();
    let pair = authority.sign("a", "localhost");
    let tls = Some(tls::Settings { default: pair, certificates: Vec::new(), client_ca: None });
    let rig = Rig::start(Settings { tls, ..loopback() });
    let (port, ca) = (rig.address.port(), Some(authority.path()));
    let named = |host: &str| format!("https://{host}:{port}/").parse::<Uri>().unwrap();
    // `localhost` may be ::1 first; then the connection is refused there and the next address is tried.
    assert_eq!(client(ca).get(&named("localhost"), 100).await.unwrap().status, 200);
    assert!(matches!(client(None).get(&named("localhost"), 100).await, Err(CallError::Tls(_))));
    assert!(matches!(client(ca).get(&named("127.0.0.1"), 100).await, Err(CallError::Tls(_))));
}

#[tokio::test]
async fn only_plain_urls_are_called() {
    for bad in ["ftp://a/", "/path", "http://user:secret@a/"] {
        let error = client(None).get(&bad.parse().unwrap(), 1).await.unwrap_err();
        assert!(matches!(error, CallError::Url(_)) && !error.to_string().contains("secret"), "{error}");
    }
}
