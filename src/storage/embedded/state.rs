//! The keyed state port on SQLite, in the same file and the same group commits as the log.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;

use super::events::CHUNK_ROWS;
use super::queue::{Patience, Weight};
use super::{Embedded, entries};
use crate::storage::event_log::ReadError;
use crate::storage::keyed_state::{Beside, Bucket, Entry, KeyedState, Precondition, Put, StateError};

impl Embedded {
    async fn read_state<T, F>(&self, read: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.readers.run(read).await.map_err(|error: ReadError| StateError::Unreadable(error.to_string()))
    }
}

#[async_trait]
impl KeyedState for Embedded {
    async fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Entry>, StateError> {
        let (key, now_ms) = (key.to_vec(), self.clock.now_ms());
        self.read_state(move |connection| entries::get(connection, bucket, &key, now_ms)).await
    }

    async fn get_many(&self, bucket: Bucket, keys: &[Bytes]) -> Result<Vec<Option<Entry>>, StateError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (keys, now_ms) = (keys.to_vec(), self.clock.now_ms());
        self.read_state(move |connection| entries::get_many(connection, bucket, &keys, now_ms)).await
    }

    async fn put(&self, put: Put, precondition: Precondition) -> Result<u64, StateError> {
        put.check_size()?;
        let weight = Weight { grows: put.grows(precondition), ..weight(std::slice::from_ref(&put)) };
        let written =
            self.queue.submit(weight, Patience::Settle, move |batch| entries::put(batch, &put, precondition));
        written.await?.map_err(|current| StateError::Conflict { current })
    }

    async fn put_beside(
        &self,
        put: Put,
        precondition: Precondition,
        beside: Beside,
    ) -> Result<u64, StateError> {
        put.check_size()?;
        let mut weight = Weight { grows: put.grows(precondition), ..weight(std::slice::from_ref(&put)) };
        if let Beside::Put(other) = &beside {
            other.check_size()?;
            weight.events += 1;
            weight.grows |= other.grows(Precondition::None);
            weight.bytes += other.key.len() + other.value.len();
        }
        let written = self.queue.submit(weight, Patience::Settle, move |batch| {
            let written = entries::put(batch, &put, precondition)?;
            // A conflict writes nothing at all.
            if written.is_ok() {
                match &beside {
                    Beside::Put(other) => drop(entries::put(batch, other, Precondition::None)?),
                    Beside::Delete(bucket, key) => {
                        drop(entries::delete(batch, *bucket, key, Precondition::None)?);
                    }
                }
            }
            Ok(written)
        });
        written.await?.map_err(|current| StateError::Conflict { current })
    }

    async fn put_all(&self, puts: Vec<Put>) -> Result<(), StateError> {
        if puts.is_empty() {
            return Ok(());
        }
        puts.iter().try_for_each(Put::check_size)?;
        let written = self.queue.submit(weight(&puts), Patience::Settle, move |batch| {
            for put in &puts {
                // Without a precondition there is no conflict.
                drop(entries::put(batch, put, Precondition::None)?);
            }
            Ok(())
        });
        Ok(written.await?)
    }

    async fn delete(
        &self,
        bucket: Bucket,
        key: &[u8],
        precondition: Precondition,
    ) -> Result<bool, StateError> {
        let key = key.to_vec();
        let deleted = self.queue.submit(Weight::SHRINKING, Patience::Settle, move |batch| {
            entries::delete(batch, bucket, &key, precondition)
        });
        deleted.await?.map_err(|current| StateError::Conflict { current })
    }

    async fn scan(
        &self,
        bucket: Bucket,
        after_key: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Entry)>, StateError> {
        let (after_key, now_ms) = (after_key.map(<[u8]>::to_vec), self.clock.now_ms());
        self.read_state(move |connection| {
            entries::scan(connection, bucket, after_key.as_deref(), limit, now_ms)
        })
        .await
    }

    async fn sweep(&self) -> Result<u64, StateError> {
        let mut swept = 0;
        loop {
            let chunk = self.queue.submit(Weight::SHRINKING, Patience::Settle, entries::sweep).await?;
            swept += chunk as u64;
            if chunk < CHUNK_ROWS {
                return Ok(swept);
            }
        }
    }
}

fn weight(puts: &[Put]) -> Weight {
    let bytes = puts.iter().map(|put| put.key.len() + put.value.len()).sum();
    Weight { events: puts.len(), bytes, grows: puts.iter().any(|put| put.grows(Precondition::None)) }
}
