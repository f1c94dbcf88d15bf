//! Logs: structured, to stderr, for a person or (when asked) for a machine.

use std::io::{self, IsTerminal as _};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt as _, registry};

crate::settings! {
    /// What is logged, and how.
    pub struct Config {
        /// What is logged, as in `RUST_LOG`: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels for
        /// some targets, e.g. `info,millstream_tracker=debug`.
        pub filter: String = String::from("info"),
        /// `human` (with colours on a terminal) or `json` (one object a line).
        pub format: Format = Format::Human,
    }
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For a person.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("log filter `{filter}`: {reason}")]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody set up logging before.
    #[error("logging is already set up")]
    Twice,
}

/// Sets up logging for the whole process.
///
/// # Errors
/// When the filter cannot be read, or logging is already set up.
pub fn init(config: &Config) -> Result<(), Error> {
    let colours = io::stderr().is_terminal();
    let subscriber = subscriber(config, colours, io::stderr)?;
    // Also turns what libraries send to `log` into events.
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).map_err(|_| Error::Twice)
}

/// What [`init`] installs, writing to `writer`.
///
/// # Errors
/// When the filter cannot be read.
pub fn subscriber<W>(
    config: &Config,
    colours: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| Error::Filter { filter: config.filter.clone(), reason: error.to_string() })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.format {
        Format::Human => lines.with_ansi(colours).boxed(),
        Format::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    Ok(registry().with(lines.with_filter(filter)))
}

#[cfg(test)]
pub(crate) use tests::Memory;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A log that a test can read.
    #[derive(Clone, Default)]
    pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        /// Takes what this thread logs, until the guard is dropped.
        pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
            tracing::subscriber::set_default(self.subscriber(&Config::default()))
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn subscriber(&self, config: &Config) -> impl Subscriber + Send + Sync + use<> {
            let writer = self.clone();
            subscriber(config, false, move || writer.clone()).unwrap()
        }
    }

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(config: &Config) -> String {
        let memory = Memory::default();
        tracing::subscriber::with_default(memory.subscriber(config), || {
            let _span = tracing::info_span!("session", session = "s1").entered();
            tracing::info!(pieces = 3, "delivered");
            tracing::debug!("hidden");
        });
        memory.text()
    }

    #[test]
    fn a_person_reads_lines_without_escape_codes_off_a_terminal() {
        let text = log(&Config::default());
        assert!(
            text.contains("INFO session{session=\"s1\"}") && text.contains("delivered pieces=3"),
            "{text}"
        );
        assert!(!text.contains("hidden") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_machine_reads_one_object_a_line() {
        let text = log(&Config { format: Format::Json, ..Config::default() });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["message"], "delivered");
        assert_eq!(line["pieces"], 3);
        assert_eq!(line["span"]["session"], "s1");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused_with_its_text() {
        let config = Config { filter: String::from("info,a=b=c"), ..Config::default() };
        let error = subscriber(&config, false, io::sink).err().unwrap().to_string();
        assert!(error.starts_with("log filter `info,a=b=c`: "), "{error}");
    }
}
