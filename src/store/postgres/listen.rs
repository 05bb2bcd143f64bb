//! Who is woken when another replica commits. A connection listens; what it hears says nothing but that there is news.
//!
//! A connection whose other end has gone is silent, so it is asked something every few seconds. Whatever was sent while there
//! was none is lost; so followers are woken when there is one again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::raw_sql;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::domain::Position;
use crate::store::postgres::connection;
use crate::store::postgres::fault::Failure;
use crate::store::postgres::server::Server;
use crate::store::postgres::write::CHANNEL;
use crate::store::{Backoff, Settings, StoreError};

/// After how much silence the connection is asked whether it lives, and how long it may take to say so.
const SILENCE: Duration = Duration::from_secs(3);
/// The longest pause between two attempts to listen again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Wakes `wake` whenever there may be news, as long as somebody follows; the poll stands in while nobody can
/// listen.
pub(super) async fn listen(server: Arc<Server>, wake: watch::Sender<Position>, settings: Settings) {
    if server.is_pooled {
        return;
    }
    let mut backoff = Backoff::new(Duration::from_millis(50), LONGEST_PAUSE);
    loop {
        if server.ready().await.is_ok() {
            let Err(failure) = hear(&server, &wake, &settings, &mut backoff).await;
            tracing::debug!(?failure, "nobody wakes us; the log is polled until somebody does");
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

async fn hear(
    server: &Server,
    wake: &watch::Sender<Position>,
    settings: &Settings,
    backoff: &mut Backoff,
) -> Result<Infallible, Failure> {
    // The listener wants a pool, and keeps its one connection.
    let pool = connection::pool(server.options.clone(), 1, settings);
    let mut listener = in_time(async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    })
    .await?;
    wake.send_modify(|_| {});
    backoff.reset();
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => wake.send_modify(|_| {}),
            Ok(Ok(None)) => return Err(silent()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                in_time(async { raw_sql("SELECT 1").execute(&mut listener).await }).await?;
            }
        }
        // All that came at once is one reason to read.
        while listener.next_buffered().is_some() {}
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Failure> {
    timeout(SILENCE, call).await.map_err(|_| silent())?.map_err(Failure::Sql)
}

fn silent() -> Failure {
    StoreError::Unavailable("the connection that listens was lost".into()).into()
}
