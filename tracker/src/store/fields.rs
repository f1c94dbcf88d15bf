//! Values in and out of columns: strict both ways.

use std::str::FromStr;

use millstream_ledger::epoch::Earned;
use millstream_model::Micros;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::Error;

/// A count, size or time for a BIGINT. What is above its range stays at its end: 2⁶³ bytes are 8 EiB.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A row being read.
pub(super) struct Fields<'a>(pub(super) &'a SqliteRow);

impl Fields<'_> {
    pub(super) fn int(&self, column: &'static str) -> Result<i64, Error> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn uint(&self, column: &'static str) -> Result<u64, Error> {
        self.narrow(column)
    }

    pub(super) fn uint_or_none(&self, column: &'static str) -> Result<Option<u64>, Error> {
        let value: Option<i64> = self.0.try_get(column)?;
        let damaged = |value: i64| Error::Damaged { column, value: value.to_string() };
        value.map(|value| u64::try_from(value).map_err(|_| damaged(value))).transpose()
    }

    pub(super) fn narrow<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, Error> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_| Error::Damaged { column, value: value.to_string() })
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool, Error> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn string(&self, column: &'static str) -> Result<String, Error> {
        Ok(self.0.try_get(column)?)
    }

    pub(super) fn text<T: FromStr>(&self, column: &'static str) -> Result<T, Error> {
        parse(column, &self.string(column)?)
    }

    pub(super) fn text_or_none<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, Error> {
        let value: Option<String> = self.0.try_get(column)?;
        value.map(|value| parse(column, &value)).transpose()
    }

    pub(super) fn blob(&self, column: &'static str) -> Result<Vec<u8>, Error> {
        Ok(self.0.try_get(column)?)
    }

    /// The columns `micros`, `bytes` and `segments`.
    pub(super) fn earned(&self) -> Result<Earned, Error> {
        Ok(Earned {
            micros: Micros(self.int("micros")?),
            bytes: self.uint("bytes")?,
            segments: self.uint("segments")?,
        })
    }
}

fn parse<T: FromStr>(column: &'static str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|_| Error::Damaged { column, value: value.to_owned() })
}
