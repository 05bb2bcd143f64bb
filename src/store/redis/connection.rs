//! A connection that comes back by itself, to whoever is the master then. Everybody who asks shares it; whoever blocks, or
//! must not be kept waiting by others, takes one of its own.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Value};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::store::redis::fault;
use crate::store::redis::lua::Lua;
use crate::store::redis::server::{Access, Refusal};
use crate::store::{Backoff, StoreError};

/// How long nobody tries to connect after a failure; longer after each.
const PAUSE: Duration = Duration::from_millis(50);
/// The same, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A way to the server, cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct Connection {
    access: Arc<Access>,
    /// Held for a moment, never across an await.
    line: Arc<Mutex<Line>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.access).finish()
    }
}

/// A link that is made by the first who needs it.
type Link = Arc<OnceCell<MultiplexedConnection>>;

struct Line {
    link: Link,
    backoff: Backoff,
    /// Until when nobody tries again, and what went wrong.
    resting: Option<(Instant, StoreError)>,
    closed: bool,
}

impl Connection {
    pub(in crate::store) fn new(access: Arc<Access>) -> Self {
        let backoff = Backoff::new(PAUSE, LONGEST_PAUSE);
        let line = Line { link: Link::default(), backoff, resting: None, closed: false };
        Self { access, line: Arc::new(Mutex::new(line)) }
    }

    /// Another connection to the same server.
    pub(in crate::store) fn another(&self) -> Self {
        Self::new(self.access.clone())
    }

    /// Makes the connection now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] when the server will never let us in, [`StoreError::Unavailable`] when it is not there.
    pub(in crate::store) async fn open(&self) -> Result<(), StoreError> {
        let link = self.line().link.clone();
        let made = link.get_or_try_init(|| self.access.connect()).await;
        made.map(|_| ()).map_err(Refusal::at_start)
    }

    /// Asks one thing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] leaves it unknown whether it was done.
    pub(in crate::store) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let question = Question { lesson: None, asked: Asked::One(command) };
        self.ask(question).await.and_then(read)
    }

    /// Asks several things, one after the other, in one go; not as one transaction unless the pipeline is atomic.
    ///
    /// # Errors
    ///
    /// As [`Connection::run`]; the others are carried out though one fails.
    pub(in crate::store) async fn pipe<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        let question = Question { lesson: None, asked: Asked::Several(pipeline) };
        self.ask(question).await.and_then(read)
    }

    /// Carries out `call`, a call of `script`.
    ///
    /// # Errors
    ///
    /// As [`Connection::run`].
    pub(in crate::store) async fn script<T: FromRedisValue>(&self, script: &Lua, call: &Cmd) -> Result<T, StoreError> {
        let question = Question { lesson: Some(script), asked: Asked::One(call) };
        self.ask(question).await.and_then(read)
    }

    /// The same for a pipeline that calls `script` and no other.
    ///
    /// # Errors
    ///
    /// As [`Connection::run`].
    pub(in crate::store) async fn script_pipe<T: FromRedisValue>(
        &self,
        script: &Lua,
        calls: &Pipeline,
    ) -> Result<T, StoreError> {
        let question = Question { lesson: Some(script), asked: Asked::Several(calls) };
        self.ask(question).await.and_then(read)
    }

    /// Lets go of the server; every later call is answered with an error.
    pub(in crate::store) fn close(&self) {
        let mut line = self.line();
        line.closed = true;
        line.link = Link::default();
    }

    /// Asks, and once more where the server has certainly done nothing.
    async fn ask(&self, question: Question<'_>) -> Result<Value, StoreError> {
        let mut again = true;
        loop {
            let (line, mut link) = self.link().await?;
            let error = match question.put(&mut link).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if fault::ends_the_link(&error) {
                self.hang_up(&line);
            }
            if !again || !fault::was_not_done(&error) {
                return Err(fault::at_work(error));
            }
            again = false;
        }
    }

    /// The link, made if there is none; whoever comes while it is being made waits for it.
    async fn link(&self) -> Result<(Link, MultiplexedConnection), StoreError> {
        let line = self.line().link.clone();
        let made = line.get_or_try_init(|| self.connect()).await.cloned();
        made.map(|link| (line, link))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        self.line().may_try()?;
        let made = self.access.connect().await.map_err(Refusal::at_work);
        self.line().tried(made)
    }

    /// Gives up a link; unless somebody has done so already.
    fn hang_up(&self, broken: &Link) {
        let mut line = self.line();
        if Arc::ptr_eq(&line.link, broken) {
            line.link = Link::default();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn may_try(&self) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::closed());
        }
        match &self.resting {
            Some((until, error)) if Instant::now() < *until => Err(error.once_more()),
            _ => Ok(()),
        }
    }

    fn tried<T>(&mut self, made: Result<T, StoreError>) -> Result<T, StoreError> {
        match &made {
            Ok(_) => {
                self.resting = None;
                self.backoff.reset();
            }
            Err(error) => self.resting = Some((Instant::now() + self.backoff.pause(), error.once_more())),
        }
        made
    }
}

/// What is asked of a server.
#[derive(Clone, Copy)]
struct Question<'a> {
    /// The script that it calls.
    lesson: Option<&'a Lua>,
    asked: Asked<'a>,
}

#[derive(Clone, Copy)]
enum Asked<'a> {
    One(&'a Cmd),
    Several(&'a Pipeline),
}

impl Question<'_> {
    /// Asks, and teaches the script first where it is unknown.
    async fn put(self, link: &mut MultiplexedConnection) -> RedisResult<Value> {
        match (self.asked.put(link).await, self.lesson) {
            (Err(error), Some(script)) if fault::knows_no_such_script(&error) => {
                script.lesson().query_async::<()>(link).await?;
                self.asked.put(link).await
            }
            (answer, _) => answer,
        }
    }
}

impl Asked<'_> {
    async fn put(self, link: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self {
            Self::One(command) => command.query_async(link).await,
            Self::Several(pipeline) => pipeline.query_async(link).await,
        }
    }
}

fn read<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
    redis::from_redis_value(answer).map_err(|error| fault::at_work(error.into()))
}
