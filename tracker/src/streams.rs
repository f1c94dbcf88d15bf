//! The streams that exist: names, keys, who may publish and watch. Kept in memory, stored in the database.

use std::sync::Arc;

use dashmap::DashMap;
use millstream_ledger::{Name, Terms};
use millstream_model::{Price, PublicKey, StreamId, WallTime};
use millstream_service::Secret;
use millstream_wire::{
    media::Delegation,
    sign::{Context, SecretKey, Signed, Signer as _},
};
use thiserror::Error;

use crate::{
    money::Money,
    store::{self, Store, StreamRow},
    ticket::Claims,
};

/// Life of a delegation: a packager that runs longer asks again.
const DELEGATION_MS: u64 = 30 * 86_400_000;

/// Random bytes of a stream key: 160 bits, beyond guessing.
const KEY_BYTES: usize = 20;

/// Streams of one tracker at most: each has a row in memory.
const STREAMS_MAX: usize = 100_000;

/// A stream as everybody may know it.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) account: Name,
    pub(crate) root: PublicKey,
    pub(crate) public: bool,
    pub(crate) ticket_key: Option<PublicKey>,
    pub(crate) price: Price,
    pub(crate) created: WallTime,
}

/// What a broadcaster asks for.
#[derive(Debug, Clone)]
pub(crate) struct NewStream {
    pub(crate) id: StreamId,
    pub(crate) account: Name,
    pub(crate) public: bool,
    pub(crate) ticket_key: Option<PublicKey>,
    pub(crate) terms: Terms,
}

/// A stream just made. The key is shown once.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) stream: Stream,
    pub(crate) key: String,
}

/// Why a stream was not made, found or removed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("there is a stream {0} already")]
    Exists(StreamId),
    #[error("there is no stream {0}")]
    Unknown(StreamId),
    #[error("this tracker has all the streams it can take")]
    Full,
    #[error(transparent)]
    Terms(#[from] millstream_ledger::stream::Refused),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// All streams.
#[derive(Clone)]
pub(crate) struct Streams {
    store: Store,
    money: Money,
    by_id: Arc<DashMap<StreamId, StreamRow>>,
    by_key: Arc<DashMap<[u8; 32], StreamId>>,
}

impl Streams {
    /// Reads all streams.
    pub(crate) async fn load(store: Store, money: Money) -> Result<Self, store::Error> {
        let (by_id, by_key) = (DashMap::new(), DashMap::new());
        for row in store.streams().await? {
            by_key.insert(row.key_hash.0, row.id.clone());
            by_id.insert(row.id.clone(), row);
        }
        Ok(Self { store, money, by_id: Arc::new(by_id), by_key: Arc::new(by_key) })
    }

    pub(crate) fn get(&self, id: &StreamId) -> Option<Stream> {
        self.by_id.get(id).map(|row| self.describe(&row))
    }

    /// The stream that a publisher's key belongs to.
    pub(crate) fn by_key(&self, key: &str) -> Option<Stream> {
        let id = self.by_key.get(&store::hash_key(key).0)?.clone();
        self.get(&id)
    }

    pub(crate) fn all(&self) -> Vec<Stream> {
        let mut all: Vec<Stream> = self.by_id.iter().map(|row| self.describe(&row)).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    fn describe(&self, row: &StreamRow) -> Stream {
        Stream {
            id: row.id.clone(),
            account: row.account.clone(),
            root: SecretKey::from_seed(row.root_seed.expose()).public(),
            public: row.public,
            ticket_key: row.ticket_key,
            price: self.money.price(&row.id).unwrap_or_default(),
            created: row.created,
        }
    }

    pub(crate) async fn create(&self, new: NewStream, now: WallTime) -> Result<Created, Error> {
        if self.by_id.contains_key(&new.id) {
            return Err(Error::Exists(new.id));
        }
        if self.by_id.len() >= STREAMS_MAX {
            return Err(Error::Full);
        }
        let key = random_key()?;
        let mut root_seed = [0; 32];
        getrandom::fill(&mut root_seed)?;
        self.money.set_stream(&new.id, &new.account, new.terms).await?;
        let row = StreamRow {
            id: new.id.clone(),
            account: new.account,
            key_hash: store::hash_key(&key),
            root_seed: Secret::new(root_seed),
            public: new.public,
            ticket_key: new.ticket_key,
            generation: 0,
            created: now,
        };
        self.store.add_stream(row.clone()).await?;
        self.by_key.insert(row.key_hash.0, row.id.clone());
        let stream = self.describe(&row);
        self.by_id.insert(new.id, row);
        Ok(Created { stream, key })
    }

    pub(crate) async fn remove(&self, id: &StreamId) -> Result<(), Error> {
        if !self.by_id.contains_key(id) {
            return Err(Error::Unknown(id.clone()));
        }
        self.money.remove_stream(id).await?;
        self.store.remove_stream(id).await?;
        if let Some((_, row)) = self.by_id.remove(id) {
            self.by_key.remove(&row.key_hash.0);
        }
        Ok(())
    }

    /// The seed of a stream's root key, for its owner to keep.
    pub(crate) fn export_root(&self, id: &StreamId) -> Option<[u8; 32]> {
        self.by_id.get(id).map(|row| *row.root_seed.expose())
    }

    /// Uses up a ticket, for good: false when it was used before.
    pub(crate) async fn spend_ticket(
        &self,
        id: &StreamId,
        claims: &Claims,
        now: WallTime,
    ) -> Result<bool, store::Error> {
        self.store.spend_ticket(id, &claims.jti, claims.forget_at(), now).await
    }

    /// Delegates a stream to a packager, in a generation above all before. Stored before it is given out.
    pub(crate) async fn delegate(
        &self,
        id: &StreamId,
        packager: PublicKey,
        above: u32,
        now: WallTime,
    ) -> Result<Signed<Delegation>, Error> {
        let (row, root) = {
            let mut row = self.by_id.get_mut(id).ok_or_else(|| Error::Unknown(id.clone()))?;
            row.generation = row.generation.max(above).saturating_add(1);
            (row.clone(), SecretKey::from_seed(row.root_seed.expose()))
        };
        self.store.put_stream(row.clone()).await?;
        let delegation = Delegation {
            stream: id.clone(),
            generation: row.generation,
            packager,
            not_before: now,
            expires: now.plus_millis(DELEGATION_MS),
        };
        Ok(Signed::new(delegation, Context::None, &root))
    }
}

fn random_key() -> Result<String, getrandom::Error> {
    use base64::Engine as _;
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}
