//! A database that can only be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, Error, OpenFlags};
use thiserror::Error as ThisError;

use crate::functions;
use crate::interruption::{Interruption, StopReason};
use crate::sys::TableEntry;
use crate::table::Table;

/// Maximum memory in bytes that SQLite may use, for example to sort; as much again may hold each
/// index of a join.
pub const MAX_MEMORY: usize = 1 << 30;

/// Number of SQLite's instructions between two checks of the interruption.
const INSTRUCTIONS: i32 = 10_000;

/// The limits of a statement. Generous for people, and tight for a generated one.
const LIMITS: [(Limit, i32); 8] = [
    (Limit::SQLITE_LIMIT_LENGTH, 64 << 20),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 500),
    (Limit::SQLITE_LIMIT_VDBE_OP, 1_000_000),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 10_000),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
];

/// A database whose tables are computed, and which no statement can change.
pub struct Database {
    connection: Connection,
    entries: Vec<Arc<TableEntry>>,
    interruption: Arc<Interruption>,
    now: Arc<AtomicI64>,
}

/// Why a query failed.
#[derive(Debug, ThisError)]
pub enum QueryError<E> {
    /// The SQL is wrong, or it failed.
    #[error("{message}")]
    Sql {
        /// The reason.
        message: String,
        /// Position of the mistake in the SQL in bytes.
        position: Option<usize>,
    },
    /// The query was interrupted.
    #[error("interrupted")]
    Stopped(StopReason),
    /// The receiver of the rows failed.
    #[error("cannot pass on a row")]
    Sink(E),
}

/// Receives the results of statements.
pub trait RowSink {
    /// Why a row cannot be received.
    type Error;

    /// Begins the result of a statement with these columns.
    ///
    /// # Errors
    /// The error ends the query.
    fn begin(&mut self, columns: &[&str]) -> Result<(), Self::Error>;

    /// Receives a row.
    ///
    /// # Errors
    /// The error ends the query.
    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), Self::Error>;

    /// Ends the result of a statement.
    ///
    /// # Errors
    /// The error ends the query.
    fn end(&mut self) -> Result<(), Self::Error>;
}

impl Database {
    /// Creates a database of `tables` and `views`, which are `CREATE VIEW` statements.
    ///
    /// # Errors
    /// When SQLite has no memory, or a view is wrong.
    pub fn open(
        tables: Vec<Box<dyn Table>>,
        views: &str,
        interruption: Arc<Interruption>,
    ) -> Result<Self, QueryError<()>> {
        let entries: Vec<_> = tables.into_iter().map(|table| TableEntry::new(table, MAX_MEMORY)).collect();
        let now = Arc::new(AtomicI64::new(0));
        let connection =
            connect(&entries, views, &interruption, &now).map_err(|error| sql_error(&error, views))?;
        Ok(Self { connection, entries, interruption, now })
    }

    /// Runs statements, and passes their rows to `sink`.
    ///
    /// # Errors
    /// When a statement is wrong or fails; the earlier ones have been run.
    pub fn run<S: RowSink>(&self, sql: &str, sink: &mut S) -> Result<(), QueryError<S::Error>> {
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        self.now.store(now, Ordering::Relaxed);
        let result = self.run_all(sql, sink);
        self.entries.iter().for_each(|entry| entry.clear());
        // An interrupted scan reports an error of its own.
        match (result, self.interruption.check()) {
            (Err(QueryError::Sql { .. }), Some(reason)) => Err(QueryError::Stopped(reason)),
            (result, _) => result,
        }
    }

    fn run_all<S: RowSink>(&self, sql: &str, sink: &mut S) -> Result<(), QueryError<S::Error>> {
        let mut batch = Batch::new(&self.connection, sql);
        while let Some(mut statement) = batch.next().map_err(|error| sql_error(&error, sql))? {
            let columns: Vec<_> = statement.column_names().map(str::to_owned).collect();
            let names: Vec<_> = columns.iter().map(String::as_str).collect();
            if statement.parameter_count() > 0 {
                let message = "the query has a parameter, such as `?` or `:name`, without a value".into();
                return Err(QueryError::Sql { message, position: None });
            }
            let mut rows = statement.raw_query();
            let mut has_begun = false;
            loop {
                let row = rows.next().map_err(|error| sql_error(&error, sql))?;
                if !has_begun {
                    sink.begin(&names).map_err(QueryError::Sink)?;
                    has_begun = true;
                }
                let Some(row) = row else { break };
                let values: Result<Vec<_>, _> = (0..names.len()).map(|at| row.get_ref(at)).collect();
                sink.row(&values.map_err(|error| sql_error(&error, sql))?).map_err(QueryError::Sink)?;
            }
            sink.end().map_err(QueryError::Sink)?;
        }
        Ok(())
    }
}

fn connect(
    entries: &[Arc<TableEntry>],
    views: &str,
    interruption: &Arc<Interruption>,
    now: &Arc<AtomicI64>,
) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::from_iter([
        OpenFlags::SQLITE_OPEN_READ_WRITE,
        OpenFlags::SQLITE_OPEN_CREATE,
        OpenFlags::SQLITE_OPEN_NO_MUTEX,
    ]);
    let mut connection = Connection::open_in_memory_with_flags(flags)?;
    connection.execute_batch(&format!(
        "PRAGMA temp_store = memory; PRAGMA hard_heap_limit = {MAX_MEMORY}; PRAGMA mmap_size = 0;"
    ))?;
    functions::register(&connection, Arc::clone(now))?;
    entries.iter().try_for_each(|entry| entry.register(&connection))?;
    connection.execute_batch(views)?;
    for (limit, value) in LIMITS {
        connection.set_limit(limit, value)?;
    }
    // Published queries put strings into double quotes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false)?;
    connection.authorizer(Some(authorize))?;
    let interruption = Arc::clone(interruption);
    connection.progress_handler(INSTRUCTIONS, Some(move || interruption.check().is_some()))?;
    Ok(connection)
}

/// Permits only what reads the tables.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Deny
        }
        AuthAction::Function { .. } => Authorization::Allow,
        AuthAction::Pragma { pragma_name, .. } => match pragma_name.to_ascii_lowercase().as_str() {
            "table_info" | "table_xinfo" | "table_list" | "function_list" => Authorization::Allow,
            _ => Authorization::Deny,
        },
        _ => Authorization::Deny,
    }
}

fn sql_error<E>(error: &Error, sql: &str) -> QueryError<E> {
    let (message, position) = match error {
        Error::SqlInputError { msg, sql: rest, offset, .. } => {
            // The position is that in the rest of the SQL that begins with the statement.
            let start = sql.len().saturating_sub(rest.len());
            (msg.clone(), usize::try_from(*offset).ok().map(|offset| start + offset))
        }
        Error::SqliteFailure(_, Some(message)) => (message.clone(), None),
        Error::SqliteFailure(code, None) => (code.to_string(), None),
        other => (other.to_string(), None),
    };
    let message = match message.as_str() {
        "not authorized" | "authorization denied" => "not permitted: a query can only read the tables".into(),
        "out of memory" => format!("the query needs more than {} MiB", MAX_MEMORY >> 20),
        _ => message,
    };
    QueryError::Sql { message, position }
}

#[cfg(test)]
mod tests;
