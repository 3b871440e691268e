//! The connection that makes and drops roles. It carries only statements that are written here.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;

use super::login::{receive, refused};
use super::{Database, Login, Stream, UpstreamError, dial, login};
use crate::wire::Fields;
use crate::wire::backend::{put, put_text};

/// How long a statement of the administrator may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest message in answer to one, in bytes.
const LONGEST: usize = 4 << 20;
/// Longest answer, in bytes.
const ANSWER: usize = 32 << 20;

/// Rows of text; NULL is empty.
pub(crate) type Rows = Vec<Vec<String>>;

/// One connection, made when it is needed, and one statement at a time on it.
#[derive(Default)]
pub(crate) struct Admin(Mutex<Option<Connection>>);

struct Connection {
    stream: Stream,
    buffer: BytesMut,
}

impl Admin {
    /// Carries out statements, all or none, and returns the rows of all.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(crate) async fn run(&self, database: &Database, sql: &str) -> Result<Rows, UpstreamError> {
        let mut held = self.0.lock().await;
        let running = async {
            // An idle connection may have been closed meanwhile: then once more on a new one.
            if let Some(mut connection) = held.take() {
                match connection.run(sql).await {
                    Err(UpstreamError::Unreachable(_)) => {}
                    done => {
                        *held = keeps(&done).then_some(connection);
                        return done;
                    }
                }
            }
            let mut connection = Connection::new(database).await?;
            let done = connection.run(sql).await;
            *held = keeps(&done).then_some(connection);
            done
        };
        tokio::time::timeout(PATIENCE, running)
            .await
            .map_err(|_| UpstreamError::TimedOut)?
    }
}

fn keeps(done: &Result<Rows, UpstreamError>) -> bool {
    matches!(done, Ok(_) | Err(UpstreamError::Refused { .. }))
}

impl Connection {
    async fn new(database: &Database) -> Result<Self, UpstreamError> {
        let stream = dial(database).await?;
        let ready = login(
            stream,
            &Login {
                user: &database.user,
                password: &database.password,
                database: &database.address.database,
                parameters: &[
                    ("application_name", "sallyport"),
                    ("client_encoding", "UTF8"),
                    ("standard_conforming_strings", "on"),
                    ("search_path", "pg_catalog"),
                    ("lock_timeout", "5s"),
                    ("statement_timeout", "15s"),
                ],
            },
        )
        .await?;
        Ok(Self {
            stream: ready.stream,
            buffer: ready.buffer,
        })
    }

    async fn run(&mut self, sql: &str) -> Result<Rows, UpstreamError> {
        let mut out = BytesMut::with_capacity(sql.len() + 16);
        put(&mut out, b'Q', |body| put_text(body, sql));
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut rows = Rows::new();
        let mut failed = None;
        let mut read = 0;
        loop {
            let message = receive(&mut self.stream, &mut self.buffer, LONGEST).await?;
            read += message.bytes.len();
            if read > ANSWER {
                return Err(UpstreamError::Protocol("an answer that is too long"));
            }
            match message.tag {
                b'D' => {
                    let mut fields = Fields::new(b'D', message.body());
                    let mut row = Vec::new();
                    for _ in 0..fields.int16()? {
                        let length = fields.int32()?;
                        let value = match usize::try_from(length) {
                            Ok(length) if length != u32::MAX as usize => fields.bytes(length)?,
                            _ => &[],
                        };
                        row.push(String::from_utf8_lossy(value).into_owned());
                    }
                    rows.push(row);
                }
                b'E' => failed = Some(refused(&message)),
                b'Z' => return failed.map_or(Ok(rows), Err),
                b'T' | b'C' | b'N' | b'S' | b'I' => {}
                _ => return Err(UpstreamError::Protocol("an unexpected message")),
            }
        }
    }
}
