//! A program's data folder: secrets made once and kept 0600, small state replaced whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::Secret;

/// Length of a seed: what Ed25519 (RFC 8032) makes a key pair of.
pub const SEED_BYTES: usize = 32;

/// Nobody but the owner may read or write a secret.
const SECRET_MODE: u32 = 0o600;

/// The permission bits of everybody who is not the owner.
const OTHERS: u32 = 0o077;

/// Suffix of a file that is not complete yet.
const UNFINISHED: &str = "unfinished";

/// Entries looked at for unfinished files when a folder is opened: a start must not take long, and the next one goes
/// on.
const ENTRIES_SWEPT_MAX: usize = 10_000;

/// A folder of one running program: made when absent (0700), locked against a second one.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files begun, so that each writer has an unfinished file of its own.
    begun: AtomicU64,
    /// Held, not read: the lock goes with the file.
    _lock: File,
}

/// Why the folder cannot be used. Each says the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the folder.
    #[error("{path}: another running program uses this folder; give each its own")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Others could read a secret.
    #[error(
        "{path}: others may read this secret (mode {mode:03o}); if it never left this machine: chmod 600 {path}, else delete it and a new one is made"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was expected.
        reason: String,
    },
    /// A name that would lead out of the folder.
    #[error("`{0}` is not a plain file name")]
    Name(String),
}

impl Folder {
    /// Opens `path`, makes it when absent, and locks it as long as the returned value lives.
    ///
    /// # Errors
    /// When it cannot be made, read or locked.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io_error(&path))?;
        let lock_path = path.join(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(SECRET_MODE)
            .open(&lock_path)
            .map_err(io_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {
                sweep(&path)?;
                Ok(Self { path, begun: AtomicU64::new(0), _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path }),
            Err(TryLockError::Error(source)) => Err(Error::Io { path: lock_path, source }),
        }
    }

    /// Where it is, for files that others write (databases).
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The seed kept under `name`; made of the system's randomness the first time.
    ///
    /// # Errors
    /// When others may read it, it is no seed, or the system refuses.
    pub fn seed(&self, name: &str) -> Result<Secret<[u8; SEED_BYTES]>, Error> {
        let path = self.file(name)?;
        if let Some(bytes) = read_secret(&path, SEED_BYTES)? {
            let seed =
                <[u8; SEED_BYTES]>::try_from(bytes.expose().as_slice()).map_err(|_| Error::Damaged {
                    path,
                    reason: format!("a seed has {SEED_BYTES} bytes, this has {}", bytes.expose().len()),
                })?;
            return Ok(Secret::new(seed));
        }
        let mut seed = [0; SEED_BYTES];
        getrandom::fill(&mut seed)
            .map_err(|error| Error::Io { path: path.clone(), source: io::Error::other(error) })?;
        self.replace(&path, &seed)?;
        tracing::info!(path = %path.display(), "made a new secret");
        Ok(Secret::new(seed))
    }

    /// The secret text kept under `name` (e.g. a token), if there is one.
    ///
    /// # Errors
    /// When others may read it, it is longer than `bytes_max` or no UTF-8, or the system refuses.
    pub fn secret_text(&self, name: &str, bytes_max: usize) -> Result<Option<Secret<String>>, Error> {
        let path = self.file(name)?;
        let Some(bytes) = read_secret(&path, bytes_max)? else { return Ok(None) };
        let text = std::str::from_utf8(bytes.expose())
            .map_err(|_| Error::Damaged { path, reason: String::from("is not text") })?;
        Ok(Some(Secret::new(text.trim_end().to_owned())))
    }

    /// The bytes of the small file `name`, if there is one.
    ///
    /// # Errors
    /// When it is longer than `bytes_max`, or the system refuses.
    pub fn read(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
        let path = self.file(name)?;
        open(&path)?.map(|file| read_bounded(&path, file, bytes_max)).transpose()
    }

    /// Replaces the small file `name` (0600) by `bytes`. When this returns, they are on disk; after a crash at any
    /// time, the file holds either the old bytes or the new. Several may write at a time; of those that write the
    /// same file, the one that is done last counts.
    ///
    /// Waits for the disk: call it off the event loop (`spawn_blocking`) when that matters.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.file(name)?;
        self.replace(&path, bytes)
    }

    fn file(&self, name: &str) -> Result<PathBuf, Error> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if plain { Ok(self.path.join(name)) } else { Err(Error::Name(name.to_owned())) }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}.{UNFINISHED}", self.begun.fetch_add(1, Relaxed)));
        let unfinished = PathBuf::from(unfinished);
        let written =
            fill(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path).map_err(io_error(path)));
        if written.is_err() {
            // It may not even exist. What stays goes when the folder is opened next.
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        // The rename itself is only on disk when the folder is.
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(io_error(&self.path))
    }
}

/// Writes a new file to the disk.
fn fill(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(SECRET_MODE)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(io_error(path))
}

/// Removes what crashes left unfinished; the folder's lock keeps everybody else away.
fn sweep(path: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(path).map_err(io_error(path))?.take(ENTRIES_SWEPT_MAX) {
        let file = entry.map_err(io_error(path))?.path();
        if file.extension().is_some_and(|suffix| suffix == UNFINISHED) {
            fs::remove_file(&file).map_err(io_error(&file))?;
        }
    }
    Ok(())
}

fn read_secret(path: &Path, bytes_max: usize) -> Result<Option<Secret<Vec<u8>>>, Error> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mode = file.metadata().map_err(io_error(path))?.mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    Ok(Some(Secret::new(read_bounded(path, file, bytes_max)?)))
}

fn open(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path)(error)),
    }
}

fn read_bounded(path: &Path, file: File, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(io_error(path))?;
    if bytes.len() > bytes_max {
        let reason = format!("longer than {bytes_max} bytes");
        return Err(Error::Damaged { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let outer = tempfile::tempdir().unwrap();
        let folder = Folder::open(outer.path().join("data")).unwrap();
        (outer, folder)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_seed_is_made_once_and_only_the_owner_can_read_it() {
        let (outer, folder) = folder();
        let seed = folder.seed("node.key").unwrap();
        assert_eq!(folder.seed("node.key").unwrap(), seed);
        assert_ne!(folder.seed("other.key").unwrap(), seed);
        assert_eq!(mode(&folder.path().join("node.key")), 0o600);
        assert_eq!(mode(folder.path()), 0o700);
        drop(folder);
        let again = Folder::open(outer.path().join("data")).unwrap();
        assert_eq!(again.seed("node.key").unwrap(), seed);
        assert_eq!(
            fs::read_dir(again.path()).unwrap().count(),
            3,
            "two seeds and the lock, nothing left over"
        );
    }

    #[test]
    fn a_seed_that_others_can_read_is_refused_with_the_way_out() {
        let (_outer, folder) = folder();
        folder.seed("node.key").unwrap();
        let path = folder.path().join("node.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = folder.seed("node.key").unwrap_err().to_string();
        assert!(
            error.contains("mode 640") && error.contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        folder.seed("node.key").unwrap();
    }

    #[test]
    fn a_seed_of_the_wrong_length_is_refused_and_kept() {
        let (_outer, folder) = folder();
        folder.write("short.key", &[1; 31]).unwrap();
        folder.write("long.key", &[1; 33]).unwrap();
        assert!(matches!(folder.seed("short.key"), Err(Error::Damaged { .. })));
        assert!(matches!(folder.seed("long.key"), Err(Error::Damaged { .. })));
        assert_eq!(folder.read("short.key", 64).unwrap().unwrap(), [1; 31]);
    }

    #[test]
    fn state_is_replaced_whole_over_the_rest_of_a_crash() {
        let (outer, folder) = folder();
        assert_eq!(folder.read("state", 10).unwrap(), None);
        folder.write("state", b"old").unwrap();
        // What a crash in the middle leaves behind, readable by all.
        let rest = folder.path().join("state.0.unfinished");
        fs::write(&rest, b"ne").unwrap();
        drop(folder);
        let folder = Folder::open(outer.path().join("data")).unwrap();
        assert_eq!(folder.read("state", 10).unwrap().unwrap(), b"old");
        folder.write("state", b"new").unwrap();
        assert_eq!(folder.read("state", 10).unwrap().unwrap(), b"new");
        assert_eq!(mode(&folder.path().join("state")), 0o600);
        assert!(!rest.exists());
        assert!(matches!(folder.read("state", 2), Err(Error::Damaged { .. })));
    }

    #[test]
    fn those_who_write_at_the_same_time_do_not_disturb_each_other() {
        let (_outer, folder) = folder();
        let whole: Vec<Vec<u8>> = (0..20).map(|fill| vec![fill; 4_096]).collect();
        std::thread::scope(|scope| {
            for bytes in &whole {
                scope.spawn(|| folder.write("state", bytes).unwrap());
            }
        });
        assert!(whole.contains(&folder.read("state", 4_096).unwrap().unwrap()), "whole, whoever was last");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the file and the lock");
    }

    #[test]
    fn a_secret_text_is_read_without_its_line_end() {
        let (_outer, folder) = folder();
        assert_eq!(folder.secret_text("token", 64).unwrap(), None);
        folder.write("token", b"abc\n").unwrap();
        assert!(folder.secret_text("token", 64).unwrap().unwrap().matches(b"abc"));
        fs::set_permissions(folder.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(folder.secret_text("token", 64), Err(Error::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_second_program_is_kept_out() {
        let (outer, folder) = folder();
        assert!(matches!(Folder::open(outer.path().join("data")), Err(Error::InUse { .. })));
        drop(folder);
        Folder::open(outer.path().join("data")).unwrap();
    }

    #[test]
    fn names_do_not_lead_out_of_the_folder() {
        let (_outer, folder) = folder();
        for name in ["", ".", "..", "../x", "a/b", ".lock", "a\0b"] {
            assert!(matches!(folder.read(name, 1), Err(Error::Name(_))), "{name:?}");
        }
    }
}
