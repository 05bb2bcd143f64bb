//! Finds the server that takes our writes, and lets nothing but a master of a fitting version be it.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates, Value, cmd,
};

use crate::store::redis::address::{Address, Host, Kind};
use crate::store::redis::fault;
use crate::store::redis::keys;
use crate::store::redis::schema;
use crate::store::{Password, StoreError};

/// The oldest Redis that has all we need.
const OLDEST: (u32, u32) = (6, 2);
/// How often the nodes of a cluster may send us on.
const MAX_HOPS: usize = 5;

/// Which Redis, and how to get in.
#[derive(Clone)]
pub(in crate::store) struct Access {
    pub(in crate::store) address: Address,
    /// The password, when it does not stand in the URL.
    pub(in crate::store) password: Option<Password>,
    /// PEM of who vouches for the server; the system's trust when there is none.
    pub(in crate::store) ca: Option<Vec<u8>>,
    /// PEM of our own certificate and its key.
    pub(in crate::store) identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The longest a connection may take to come about.
    pub(in crate::store) connect_timeout: Duration,
    /// The longest an answer may take; after that, the connection counts as dead.
    pub(in crate::store) response_timeout: Duration,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Access {
    /// A connection to the master, whoever that is at present.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, Refusal> {
        let mut last = Refusal::Unusable("store.url names no host".to_owned());
        for host in &self.address.hosts {
            let found = match &self.address.kind {
                Kind::Single => self.dial(host).await.map_err(Refusal::from),
                Kind::Sentinel(master) => self.ask_sentinel(host, master).await.map_err(Refusal::from),
                Kind::Cluster => self.ask_node(host).await.map_err(Refusal::from),
            };
            let checked = match found {
                Ok(mut link) => check(&mut link).await.map(|()| link),
                Err(refusal) => Err(refusal),
            };
            match checked {
                Ok(link) => return Ok(link),
                Err(refusal) => last = refusal,
            }
        }
        Err(last)
    }

    async fn ask_sentinel(&self, sentinel: &Host, master: &str) -> RedisResult<MultiplexedConnection> {
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let mut link = self.dial_as(sentinel, false).await?;
        let mut answer = question.query_async::<Option<(String, u16)>>(&mut link).await;
        if answer.as_ref().is_err_and(fault::asks_who_we_are) {
            link = self.dial_as(sentinel, true).await?;
            answer = question.query_async(&mut link).await;
        }
        let unknown = (ErrorKind::MasterNameNotFoundBySentinel, "the sentinels know no master of this name");
        let (name, port) = answer?.ok_or_else(|| RedisError::from(unknown))?;
        self.dial(&Host { name, port }).await
    }

    /// Follows a cluster's directions from `node` on to the one that serves our keys; they share one slot.
    async fn ask_node(&self, node: &Host) -> RedisResult<MultiplexedConnection> {
        let mut host = node.clone();
        for _ in 0..MAX_HOPS {
            let mut link = self.dial(&host).await?;
            let answer: RedisResult<bool> = cmd("EXISTS").arg(keys::HEAD).query_async(&mut link).await;
            match answer {
                Ok(_) => return Ok(link),
                Err(error) => host = directions(&error, &host).ok_or(error)?,
            }
        }
        Err(RedisError::from((ErrorKind::ClusterConnectionNotFound, "the cluster's nodes send us round in a circle")))
    }

    async fn dial(&self, host: &Host) -> RedisResult<MultiplexedConnection> {
        self.dial_as(host, true).await
    }

    /// A connection to `host`, with user and password or without.
    async fn dial_as(&self, host: &Host, signed_in: bool) -> RedisResult<MultiplexedConnection> {
        let address = &self.address;
        let at = if address.tls {
            let (name, port) = (host.name.clone(), host.port);
            ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.name.clone(), host.port)
        };
        let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        let password =
            self.password.as_ref().map(Password::reveal).or(address.password.as_deref()).filter(|_| signed_in);
        if let Some(password) = password {
            settings = settings.set_password(password).set_db(address.database.into());
            if let Some(user) = &address.user {
                settings = settings.set_username(user);
            }
        } else if signed_in {
            settings = settings.set_db(address.database.into());
        }
        let info = at.into_connection_info()?;
        let tcp = info.tcp_settings().clone().set_nodelay(true).set_user_timeout(self.response_timeout);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let client = if address.tls { Client::build_with_tls(info, self.certificates())? } else { Client::open(info)? };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout));
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn certificates(&self) -> TlsCertificates {
        let client_tls =
            self.identity.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: self.ca.clone() }
    }
}

/// Where a cluster's node sends us; a node that does not know its own name leaves it out and means the one that was asked.
fn directions(error: &RedisError, asked: &Host) -> Option<Host> {
    if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
        return None;
    }
    let (name, port) = error.redirect_node()?.0.rsplit_once(':')?;
    let name = if name.is_empty() || name == "?" { asked.name.clone() } else { name.to_owned() };
    Some(Host { name, port: port.parse().ok()? })
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server's words, or the network's.
    Redis(RedisError),
    /// It is no server for us, and will not be.
    Unusable(String),
}

impl From<RedisError> for Refusal {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Refusal {
    /// What it means while the store is being opened.
    pub(super) fn at_start(self) -> StoreError {
        match self {
            Self::Redis(error) => fault::at_start(error),
            Self::Unusable(why) => StoreError::Unusable(why, None),
        }
    }

    /// What it means later.
    pub(super) fn at_work(self) -> StoreError {
        match self {
            Self::Redis(error) => fault::at_work(error),
            Self::Unusable(why) => StoreError::Unusable(why, None),
        }
    }
}

/// Makes sure that `link` leads to a master, that its version will do, and that our schema may use what is in it.
async fn check(link: &mut MultiplexedConnection) -> Result<(), Refusal> {
    let greeting: Vec<Value> = cmd("HELLO").query_async(link).await?;
    let version = said(&greeting, "version").unwrap_or_default();
    if !version_fits(&version) {
        let (major, minor) = OLDEST;
        return Err(Refusal::Unusable(format!(
            "the Redis of store.url is {version}; portcullis needs {major}.{minor}"
        )));
    }
    if said(&greeting, "role").as_deref() == Some("replica") {
        return Err(RedisError::from((ErrorKind::Io, "the Redis is a replica and takes no writes")).into());
    }
    let (schema, oldest): (Option<u32>, Option<u32>) =
        cmd("HMGET").arg(keys::HEAD).arg("schema").arg("oldest").query_async(link).await?;
    schema::may_run(schema, oldest).map_err(Refusal::Unusable)
}

/// What a greeting, a list of names and values, says under `name`.
fn said(greeting: &[Value], name: &str) -> Option<String> {
    let text = |value: &Value| redis::from_redis_value::<String>(value.clone()).ok();
    greeting.chunks_exact(2).find_map(|pair| match pair {
        [key, value] if text(key).as_deref() == Some(name) => text(value),
        _ => None,
    })
}

fn version_fits(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next(), numbers.next().unwrap_or(0));
    major.is_some_and(|major| (major, minor) >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_have_all_we_need_fit() {
        for version in ["6.2.0", "6.2.14", "7.0.15", "8.0.1", "7.2"] {
            assert!(version_fits(version), "{version}");
        }
        for version in ["6.0.16", "5.0.7", "", "x"] {
            assert!(!version_fits(version), "{version}");
        }
    }
}
