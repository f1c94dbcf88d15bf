//! The streams that exist: names, keys, who may publish and watch. Kept in memory, stored in the database.

use std::sync::Arc;

use dashmap::DashMap;
use millstream_ledger::{Name, Terms, limits::STREAMS_MAX};
use millstream_model::{Micros, Price, PublicKey, StreamId, WallTime};
use millstream_service::Secret;
use millstream_wire::{
    media::Delegation,
    sign::{Context, SecretKey, Signed, Signer as _},
    tracker::{State, StreamReport, next_generation},
};
use thiserror::Error;

use crate::{
    money::Money,
    store::{self, Store, StreamRow},
    ticket::Claims,
};

/// Life of a delegation: a packager that runs longer asks again.
const DELEGATION_MS: u64 = 30 * 86_400_000;

/// A delegation counts from so long ago: receivers' clocks may be behind, and it names nobody who was not to sign.
const DELEGATION_BACKDATED_MS: u64 = 3_600_000;

/// Random bytes of a stream key: 160 bits, beyond guessing.
const KEY_BYTES: usize = 20;

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

/// What a broadcaster changes: what is left out stays as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) price: Option<Price>,
    pub(crate) budget_day: Option<Micros>,
    pub(crate) stopped: Option<bool>,
    pub(crate) public: Option<bool>,
    /// `Some(None)`: tickets are not asked for any more.
    pub(crate) ticket_key: Option<Option<PublicKey>>,
}

/// Who has a stream: the packager that it was delegated to last, in the generation of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carrier {
    /// Nobody yet, or it was not kept at that time.
    pub(crate) packager: Option<PublicKey>,
    pub(crate) generation: u32,
}

impl Carrier {
    /// Whether `packager` may say with this line where the stream is and how it is.
    pub(crate) fn speaks(self, packager: PublicKey, line: &StreamReport) -> bool {
        let own = self.packager.is_none_or(|own| own == packager);
        // The end of a show says nothing about the next one. Else a packager is believed that did not get the answer
        // to its last question and goes on under the delegation before.
        own && !(line.state == State::Ended && line.generation < self.generation)
    }

    /// Whether what `packager` counted can be: of now, or of a time when the stream was delegated to it.
    pub(crate) fn counts(self, packager: PublicKey, line: &StreamReport) -> bool {
        self.packager == Some(packager) || (1..=self.generation).contains(&line.generation)
    }
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
    #[error("stream {0} has used up its generations; it has to be made anew")]
    Exhausted(StreamId),
    #[error(transparent)]
    Terms(#[from] millstream_ledger::stream::Refused),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// A stream in memory, with what is asked for too often to work it out each time.
#[derive(Debug, Clone)]
struct Known {
    row: StreamRow,
    root: PublicKey,
    price: Price,
}

impl Known {
    fn new(row: StreamRow, price: Price) -> Self {
        Self { root: SecretKey::from_seed(row.root_seed.expose()).public(), row, price }
    }

    fn describe(&self) -> Stream {
        Stream {
            id: self.row.id.clone(),
            account: self.row.account.clone(),
            root: self.root,
            public: self.row.public,
            ticket_key: self.row.ticket_key,
            price: self.price,
            created: self.row.created,
        }
    }
}

/// All streams.
#[derive(Clone)]
pub(crate) struct Streams {
    store: Store,
    money: Money,
    by_id: Arc<DashMap<StreamId, Known>>,
    by_key: Arc<DashMap<[u8; 32], StreamId>>,
}

impl Streams {
    /// Reads all streams. One that was removed while it was in use is removed again, until its money is settled.
    pub(crate) async fn load(store: Store, money: Money) -> Result<Self, store::Error> {
        let (by_id, by_key) = (DashMap::new(), DashMap::new());
        for row in store.streams().await? {
            by_key.insert(row.key_hash.0, row.id.clone());
            let price = money.terms(&row.id).map_or_else(Price::default, |terms| terms.price);
            by_id.insert(row.id.clone(), Known::new(row, price));
        }
        for stream in money.streams().into_iter().filter(|stream| !by_id.contains_key(stream)) {
            if let Err(refused) = money.remove_stream(&stream).await {
                tracing::warn!(%stream, "a removed stream cannot be forgotten: {refused}");
            }
        }
        Ok(Self { store, money, by_id: Arc::new(by_id), by_key: Arc::new(by_key) })
    }

    pub(crate) fn get(&self, id: &StreamId) -> Option<Stream> {
        self.by_id.get(id).map(|known| known.describe())
    }

    /// The stream that a publisher's key belongs to.
    pub(crate) fn by_key(&self, key: &str) -> Option<Stream> {
        let id = self.by_key.get(&store::hash_key(key).0)?.clone();
        self.get(&id)
    }

    /// The first `rows` streams after `after`, by name.
    pub(crate) fn page(&self, after: Option<&StreamId>, rows: usize) -> Vec<Stream> {
        let names = self.by_id.iter().map(|known| known.key().clone());
        let mut names: Vec<StreamId> = names.filter(|id| after.is_none_or(|after| id > after)).collect();
        names.sort_unstable();
        names.truncate(rows);
        names.iter().filter_map(|id| self.get(id)).collect()
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
            packager: None,
            created: now,
        };
        self.store.add_stream(row.clone()).await?;
        self.by_key.insert(row.key_hash.0, row.id.clone());
        let known = Known::new(row, new.terms.price);
        let stream = known.describe();
        self.by_id.insert(new.id, known);
        Ok(Created { stream, key })
    }

    /// Changes what a broadcaster may; on disk when it returns.
    pub(crate) async fn change(&self, id: &StreamId, changes: Changes) -> Result<Stream, Error> {
        let unknown = || Error::Unknown(id.clone());
        let known = self.by_id.get(id).map(|known| known.clone()).ok_or_else(unknown)?;
        let terms = self.money.terms(id).ok_or_else(unknown)?;
        let terms = Terms {
            price: changes.price.unwrap_or(terms.price),
            budget_day: changes.budget_day.unwrap_or(terms.budget_day),
            stopped: changes.stopped.unwrap_or(terms.stopped),
            ..terms
        };
        self.money.set_stream(id, &known.row.account, terms).await?;
        let row = {
            let mut known = self.by_id.get_mut(id).ok_or_else(unknown)?;
            known.price = terms.price;
            known.row.public = changes.public.unwrap_or(known.row.public);
            known.row.ticket_key = changes.ticket_key.unwrap_or(known.row.ticket_key);
            known.row.clone()
        };
        self.store.put_stream(row).await?;
        self.get(id).ok_or_else(unknown)
    }

    pub(crate) async fn remove(&self, id: &StreamId) -> Result<(), Error> {
        if !self.by_id.contains_key(id) {
            return Err(Error::Unknown(id.clone()));
        }
        self.money.remove_stream(id).await?;
        self.store.remove_stream(id).await?;
        if let Some((_, known)) = self.by_id.remove(id) {
            self.by_key.remove(&known.row.key_hash.0);
        }
        Ok(())
    }

    /// The seed of a stream's root key, for its owner to keep.
    pub(crate) fn export_root(&self, id: &StreamId) -> Option<[u8; 32]> {
        self.by_id.get(id).map(|known| *known.row.root_seed.expose())
    }

    /// Uses up a ticket, for good: false when it was used before.
    pub(crate) async fn spend_ticket(
        &self,
        id: &StreamId,
        claims: &Claims,
        now: WallTime,
    ) -> Result<bool, store::Error> {
        if claims.forget_at() < now {
            return Ok(false);
        }
        self.store.spend_ticket(id, &claims.jti, claims.forget_at()).await
    }

    /// Whom a stream was delegated to last.
    pub(crate) fn carrier(&self, id: &StreamId) -> Option<Carrier> {
        let known = self.by_id.get(id)?;
        Some(Carrier { packager: known.row.packager, generation: known.row.generation })
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
            let mut known = self.by_id.get_mut(id).ok_or_else(|| Error::Unknown(id.clone()))?;
            let row = &mut known.row;
            let next = next_generation(row.generation, above).ok_or_else(|| Error::Exhausted(id.clone()))?;
            (row.generation, row.packager) = (next, Some(packager));
            (row.clone(), SecretKey::from_seed(row.root_seed.expose()))
        };
        self.store.put_stream(row.clone()).await?;
        let delegation = Delegation {
            stream: id.clone(),
            generation: row.generation,
            packager,
            not_before: WallTime(now.0.saturating_sub(DELEGATION_BACKDATED_MS)),
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
