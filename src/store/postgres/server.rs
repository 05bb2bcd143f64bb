//! The server, which may be away: when it is reached for the first time its schema is looked at, by one task, and until
//! that is done every call is told that the store is unavailable, or why it cannot be used.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Transaction};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::store::postgres::connection;
use crate::store::postgres::fault::{Failure, is_severed, lacks_schema, refusal};
use crate::store::postgres::schema;
use crate::store::{Backoff, Settings, StoreError, StoreUrl};
use crate::telemetry::in_one_line;

/// The longest pause between two attempts to reach the server.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a call waits while it is not known whether the server can be used: as long as a look at it may take.
const HESITATION: Duration = Duration::from_millis(500);

/// A server and the ways to it.
pub(super) struct Server {
    pub(super) pool: PgPool,
    pub(super) options: PgConnectOptions,
    /// The longest one call may take.
    pub(super) timeout: Duration,
    /// Whether each transaction may be on another connection.
    pub(super) is_pooled: bool,
    reading: Arc<str>,
    paging: Arc<str>,
    writing: Arc<str>,
    state: watch::Sender<State>,
}

/// What is known of the server.
#[derive(Clone, Debug)]
enum State {
    /// It has to be looked at, for this reason.
    Unknown(String),
    /// It can be used.
    Ready,
    /// It cannot be used, and why.
    Refused(String),
    /// We have let go of it.
    Closed,
}

impl Server {
    /// A server that nobody has asked anything yet.
    pub(super) fn new(url: &StoreUrl, settings: &Settings) -> Result<Arc<Self>, StoreError> {
        let options = connection::options(url, &settings.remote)?;
        let is_pooled = connection::is_pooled(url);
        let begin = |sql: String| Arc::from(if is_pooled { connection::behind_a_pooler(&sql) } else { sql });
        Ok(Arc::new(Self {
            pool: connection::pool(options.clone(), settings.remote.connections, settings),
            options,
            timeout: settings.timeout,
            is_pooled,
            reading: begin(connection::begin_reading(settings.timeout)),
            paging: begin(connection::begin_paging(settings.timeout)),
            writing: begin(connection::begin_writing(settings.timeout)),
            state: watch::Sender::new(State::Unknown("it has not been reached yet".to_owned())),
        }))
    }

    /// Looks at the server whenever it is unknown whether it can be used; ends when it is closed.
    async fn look_after(self: Arc<Self>) {
        let mut state = self.state.subscribe();
        loop {
            let mut backoff = Backoff::new(Duration::from_millis(50), LONGEST_PAUSE);
            while matches!(&*state.borrow_and_update(), State::Unknown(_) | State::Refused(_)) {
                if self.look().await {
                    break;
                }
                let _ = timeout(backoff.pause(), state.wait_for(|now| matches!(now, State::Closed))).await;
            }
            let unknown = |now: &State| matches!(now, State::Unknown(_) | State::Closed);
            if !matches!(state.wait_for(unknown).await.as_deref(), Ok(State::Unknown(_))) {
                return;
            }
        }
    }

    /// Whether the server can be used now.
    async fn look(&self) -> bool {
        let seen = match timeout(self.timeout, self.prepare()).await {
            Ok(Ok(())) => State::Ready,
            Ok(Err(Failure::Row(StoreError::Unusable(why, _)))) => State::Refused(why),
            Ok(Err(Failure::Row(error))) => State::Unknown(error.source_text().unwrap_or_default()),
            Ok(Err(Failure::Sql(error))) => match refusal(&error) {
                Some(why) => State::Refused(why),
                None => State::Unknown(in_one_line(&error)),
            },
            Err(_) => State::Unknown("it did not answer in time".to_owned()),
        };
        let ready = matches!(seen, State::Ready);
        if let State::Unknown(why) | State::Refused(why) = &seen {
            tracing::warn!(why, "PostgreSQL cannot be used yet; trying again");
        }
        self.state.send_if_modified(|state| {
            let closed = matches!(state, State::Closed);
            if !closed {
                *state = seen;
            }
            !closed
        });
        ready
    }

    async fn prepare(&self) -> Result<(), Failure> {
        let mut connection = self.options.connect().await?;
        let prepared = schema::prepare(&mut connection, self.begin_writing()).await;
        let _ = connection.close().await;
        prepared
    }

    /// Begins to look after the server, and waits for the first look at it; one that is away may still come.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] when it was reached and cannot be used.
    pub(super) async fn reach(self: &Arc<Self>) -> Result<JoinHandle<()>, StoreError> {
        let mut state = self.state.subscribe();
        let looker = tokio::spawn(self.clone().look_after());
        let _ = timeout(self.timeout, state.changed()).await;
        let seen = state.borrow().clone();
        match seen {
            State::Refused(why) => {
                self.close().await;
                Err(StoreError::Unusable(why, None))
            }
            _ => Ok(looker),
        }
    }

    /// Begins a transaction that reads one moment of the store; dropped, it ends.
    pub(super) async fn read(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.begin(&self.reading).await
    }

    /// The same for what a follower reads.
    pub(super) async fn page(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.begin(&self.paging).await
    }

    /// Begins a transaction that writes; dropped without a commit, it is undone.
    pub(super) async fn write(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.begin(&self.writing).await
    }

    async fn begin(&self, statement: &Arc<str>) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.ready().await?;
        let begin = async {
            // Every connection that was idle may be dead, and nothing was asked of it yet.
            for _ in 0..self.pool.size() {
                // Made of numbers alone.
                match self.pool.begin_with(AssertSqlSafe(statement.clone())).await {
                    Err(error) if is_severed(&error) => {}
                    begun => return begun,
                }
            }
            self.pool.begin_with(AssertSqlSafe(statement.clone())).await
        };
        self.bounded(async { begin.await.map_err(|error| self.fault(error)) }).await
    }

    /// What a transaction that writes begins with, on a connection of one's own.
    pub(super) fn begin_writing(&self) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(self.writing.clone())
    }

    /// `call`, given up when it takes too long; a connection it used is then checked before it is used again.
    pub(super) async fn bounded<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = |_| StoreError::Unavailable("PostgreSQL did not answer in time".into());
        timeout(self.timeout, call).await.map_err(late)?
    }

    /// Whether the server can be used.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        if matches!(&*self.state.borrow(), State::Ready) {
            return Ok(());
        }
        let mut state = self.state.subscribe();
        let settled = |state: &State| !matches!(state, State::Unknown(_));
        let _ = timeout(self.timeout.min(HESITATION), state.wait_for(settled)).await;
        match &*state.borrow() {
            State::Ready => Ok(()),
            State::Unknown(why) => Err(StoreError::Unavailable(why.clone().into())),
            State::Refused(why) => Err(StoreError::Unusable(why.clone(), None)),
            State::Closed => Err(StoreError::closed()),
        }
    }

    /// What a failure of PostgreSQL means. Where our tables are gone, they are made again, empty; what was lost is then found
    /// by the positions.
    pub(super) fn fault(&self, error: sqlx::Error) -> StoreError {
        if lacks_schema(&error) {
            self.state.send_if_modified(|state| {
                let was_ready = matches!(state, State::Ready);
                if was_ready {
                    *state = State::Unknown("its tables are gone".to_owned());
                }
                was_ready
            });
        }
        StoreError::Unavailable(error.into())
    }

    /// What a failure inside a transaction means.
    pub(super) fn explain(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Row(error) => error,
            Failure::Sql(error) => self.fault(error),
        }
    }

    /// Lets go of the server.
    pub(super) async fn close(&self) {
        self.state.send_replace(State::Closed);
        // One that does not answer is not waited for.
        let _ = timeout(self.timeout.min(LONGEST_PAUSE), self.pool.close()).await;
    }
}
