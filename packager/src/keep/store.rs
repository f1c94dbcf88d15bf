//! Where recordings lie: a folder, or a bucket that speaks S3. The one place that knows `object_store`.
//!
//! Every call is bounded in time and size. Nothing here tries again: who calls knows what waits meanwhile.

use std::{
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use millstream_service::{Secret, Trust};
use object_store::{
    ClientOptions, GetOptions, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    client::{HttpClient, HttpConnector},
    local::LocalFileSystem,
    path::Path,
};

/// A put or get that takes longer than this has failed: at 1 Mbit/s it brings 7 MB.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A store that does not even let us connect in this time is away.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection on which nothing comes for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Names of one listing at most: the segments of a rendition of a recording, or the streams of a store.
const NAMES_MAX: usize = 131_072;

millstream_service::settings! {
    /// A bucket's server, where `store` is `s3://bucket/prefix`. What is empty is taken from the environment
    /// (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, …), then from the machine's role.
    pub struct S3 {
        /// Base URL of a server that is not Amazon's, e.g. `http://127.0.0.1:8333`.
        pub endpoint: String = String::new(),
        /// Region.
        pub region: String = String::new(),
        /// Name of the access key.
        pub access_key_id: String = String::new(),
        /// The access key.
        pub secret_access_key: Secret<String> = Secret::new(String::new()),
        /// The bucket's name stands in the host's name.
        pub bucket_in_host: bool = false,
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("{0} is not there")]
    Absent(String),
    /// An object is longer than it may be.
    #[error("{0} has {1} bytes, more than it can have")]
    TooLong(String, u64),
    /// A disk that is nearly full is left to those that need the rest.
    #[error("{path}: {free} bytes are free, and `keep.free_bytes_min` are {min}")]
    Full {
        /// The folder.
        path: PathBuf,
        /// What is free.
        free: u64,
        /// What shall be.
        min: u64,
    },
    /// It did not answer in time.
    #[error("the store did not answer within {} s", CALL_MAX.as_secs())]
    Slow,
    /// It said no, or could not be reached.
    #[error("{0}")]
    Store(#[from] object_store::Error),
}

/// A store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where it is a folder.
    folder: Option<(PathBuf, u64)>,
}

impl Store {
    /// The store at `url`: a folder (a path, or `file:///…`) or `s3://bucket/prefix`. A bucket is not asked yet: it
    /// may be away.
    ///
    /// # Errors
    /// When the URL is neither, or the folder cannot be made.
    pub fn open(url: &str, s3: &S3, free_bytes_min: u64, trust: &Trust) -> anyhow::Result<Self> {
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let inner = bucket_store(bucket, s3, trust).context("keep.store")?;
            return Ok(Self { inner: Arc::new(inner), prefix: Path::from(prefix), folder: None });
        }
        let path = match url.split_once("://") {
            Some(("file", path)) => path,
            Some((scheme, _)) => {
                anyhow::bail!(
                    "keep.store: `{scheme}://` is not known; it is a folder, `file:///…` or `s3://bucket/prefix`"
                )
            }
            None => url,
        };
        let folder = FilePath::new(path);
        std::fs::create_dir_all(folder).with_context(|| format!("keep.store {path}"))?;
        let inner = LocalFileSystem::new_with_prefix(folder)
            .with_context(|| format!("keep.store {path}"))?
            .with_fsync(true);
        let folder = Some((folder.to_owned(), free_bytes_min));
        Ok(Self { inner: Arc::new(inner), prefix: Path::default(), folder })
    }

    /// Stores an object whole, or not at all.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<(), Error> {
        self.room().await?;
        let payload: PutPayload = parts.into_iter().collect();
        let path = self.path(name);
        let put = self.inner.put(&path, payload);
        tokio::time::timeout(CALL_MAX, put).await.map_err(|_| Error::Slow)??;
        Ok(())
    }

    /// An object of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, name: &str, bytes_max: u64) -> Result<Bytes, Error> {
        let get = async {
            let path = self.path(name);
            let found =
                self.inner.get_opts(&path, GetOptions::default()).await.map_err(|e| absent(name, e))?;
            if found.meta.size > bytes_max {
                return Err(Error::TooLong(name.to_owned(), found.meta.size));
            }
            let mut body = BytesMut::with_capacity(usize::try_from(found.meta.size).unwrap_or(0));
            let mut stream = found.into_stream();
            while let Some(bytes) = stream.try_next().await? {
                if (body.len() + bytes.len()) as u64 > bytes_max {
                    return Err(Error::TooLong(name.to_owned(), bytes_max));
                }
                body.extend_from_slice(&bytes);
            }
            Ok(body.freeze())
        };
        tokio::time::timeout(CALL_MAX, get).await.map_err(|_| Error::Slow)?
    }

    /// [`Self::get`], for many at a time.
    pub(super) async fn get_owned(&self, name: String, bytes_max: u64) -> Result<Bytes, Error> {
        self.get(&name, bytes_max).await
    }

    /// The names of the objects directly in a folder, with their sizes.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn objects(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        let path = self.path(folder);
        let list = async {
            let list = self.inner.list(Some(&path)).take(NAMES_MAX);
            let found = list.try_filter_map(|meta| async move {
                Ok(meta.location.filename().map(|name| (name.to_owned(), meta.size)))
            });
            found.try_collect().await
        };
        Ok(tokio::time::timeout(CALL_MAX, list).await.map_err(|_| Error::Slow)??)
    }

    /// The names of the folders in a folder; in all of the store where `folder` is empty.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.path(folder);
        let list = self.inner.list_with_delimiter(Some(&path));
        let found = match tokio::time::timeout(CALL_MAX, list).await.map_err(|_| Error::Slow)? {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let names = found.common_prefixes.into_iter().take(NAMES_MAX);
        Ok(names.filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    fn path(&self, name: &str) -> Path {
        // Names are made of slugs and numbers, which stand in paths as they are.
        name.split('/').filter(|name| !name.is_empty()).fold(self.prefix.clone(), Path::join)
    }

    /// The disk may hold more than recordings: the packager's numbers, for one, without which nothing can be signed.
    async fn room(&self) -> Result<(), Error> {
        let Some((path, min)) = self.folder.clone() else { return Ok(()) };
        let looked = tokio::task::spawn_blocking(move || match rustix::fs::statvfs(&path) {
            Ok(found) => {
                let free = found.f_bavail.saturating_mul(found.f_frsize);
                if free < min { Err(Error::Full { path, free, min }) } else { Ok(()) }
            }
            // What is wrong with it the put itself says best.
            Err(_) => Ok(()),
        });
        tokio::time::timeout(CALL_MAX, looked).await.map_err(|_| Error::Slow)?.unwrap_or(Ok(()))
    }
}

fn absent(name: &str, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::Absent(name.to_owned()),
        other => Error::Store(other),
    }
}

fn bucket_store(bucket: &str, s3: &S3, trust: &Trust) -> anyhow::Result<object_store::aws::AmazonS3> {
    anyhow::ensure!(!bucket.is_empty(), "`s3://` wants a bucket's name: s3://bucket/prefix");
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(s3.bucket_in_host)
        .with_http_connector(Connector { trust: trust.clone() })
        // Tried again by who waits, for meanwhile the backlog is looked after.
        .with_retry(RetryConfig { max_retries: 0, retry_timeout: CALL_MAX, ..RetryConfig::default() });
    let secret = s3.secret_access_key.expose();
    let settings = [
        (AmazonS3ConfigKey::Endpoint, s3.endpoint.as_str()),
        (AmazonS3ConfigKey::Region, s3.region.as_str()),
        (AmazonS3ConfigKey::AccessKeyId, s3.access_key_id.as_str()),
        (AmazonS3ConfigKey::SecretAccessKey, secret.as_str()),
    ];
    for (key, value) in settings.into_iter().filter(|(_, value)| !value.is_empty()) {
        builder = builder.with_config(key, value);
    }
    if s3.endpoint.starts_with("http://") {
        builder = builder.with_allow_http(true);
    }
    Ok(builder.build()?)
}

/// Connections that believe whom all of the packager's connections believe.
#[derive(Debug)]
struct Connector {
    trust: Trust,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.trust.http())
            .connect_timeout(CONNECT_MAX)
            .read_timeout(SILENCE_MAX)
            .timeout(CALL_MAX)
            .build()
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        Ok(HttpClient::new(client))
    }
}
