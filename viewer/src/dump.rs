//! Writes what one viewer played: init segment and parts of each rendition, one file each.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Open files by rendition name.
#[derive(Debug)]
pub(crate) struct Dump {
    base: PathBuf,
    files: HashMap<String, File>,
}

impl Dump {
    pub(crate) fn new(base: &Path) -> Self {
        Self { base: base.to_path_buf(), files: HashMap::new() }
    }

    /// Appends init segment or part.
    pub(crate) fn write(&mut self, rendition: &str, bytes: &[u8]) -> io::Result<()> {
        if !self.files.contains_key(rendition) {
            let mut name = self.base.clone().into_os_string();
            name.push(format!(".{rendition}.mp4"));
            self.files.insert(rendition.to_owned(), File::create(name)?);
        }
        self.files.get_mut(rendition).map_or(Ok(()), |file| file.write_all(bytes))
    }
}
