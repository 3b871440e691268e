//! Between rows and the model's types.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::StoreError;

/// A moment as the store keeps it. Nanoseconds in 64 bits reach from 1677 to 2262; what lies
/// beyond is as good as never.
pub(crate) fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at > Timestamp::UNIX_EPOCH {
        i64::MAX
    } else {
        i64::MIN
    })
}

/// A position in the audit log as the store keeps it.
pub(crate) fn index(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// Reads the columns of one row.
pub(crate) struct Reader<'a> {
    pub(crate) what: &'static str,
    pub(crate) row: &'a SqliteRow,
}

impl Reader<'_> {
    pub(crate) fn damaged(&self, why: impl std::fmt::Display) -> StoreError {
        StoreError::Damaged {
            what: self.what,
            why: why.to_string(),
        }
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.row
            .try_get(column)
            .map_err(|error| self.damaged(error))
    }

    pub(crate) fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.row
            .try_get(column)
            .map_err(|error| self.damaged(error))
    }

    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.row
            .try_get(column)
            .map_err(|error| self.damaged(error))
    }

    pub(crate) fn hash(&self, column: &'static str) -> Result<[u8; 32], StoreError> {
        <[u8; 32]>::try_from(self.bytes(column)?)
            .map_err(|bytes| self.damaged(format!("{} bytes instead of 32", bytes.len())))
    }

    pub(crate) fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        self.row
            .try_get(column)
            .map_err(|error| self.damaged(error))
    }

    pub(crate) fn position(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.number(column)?).map_err(|error| self.damaged(error))
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.moment(self.number(column)?)
    }

    pub(crate) fn maybe_time(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        let nanos: Option<i64> = self
            .row
            .try_get(column)
            .map_err(|error| self.damaged(error))?;
        nanos.map(|nanos| self.moment(nanos)).transpose()
    }

    fn moment(&self, nanos: i64) -> Result<Timestamp, StoreError> {
        Timestamp::from_nanosecond(i128::from(nanos)).map_err(|error| self.damaged(error))
    }

    pub(crate) fn parsed<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        self.text(column)?
            .parse()
            .map_err(|error| self.damaged(error))
    }

    pub(crate) fn maybe_parsed<T>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        self.maybe_text(column)?
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| self.damaged(error))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.damaged(error))
    }
}
