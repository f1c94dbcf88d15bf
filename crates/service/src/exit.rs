//! How a program ends: with nothing, or with one line that says what is wrong.

use std::{io, net::SocketAddr, process::ExitCode};

/// What `main` returns. An error is one line on standard error, with its causes, and whoever set `RUST_BACKTRACE` for
/// other reasons is spared a page of addresses.
#[must_use]
pub fn code(outcome: Result<(), impl Into<Box<dyn std::error::Error>>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use io::Write as _;
            // Standard error may be gone; then there is nobody to tell.
            let _ = writeln!(io::stderr(), "error: {}", line(&*error.into()));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line; causes that the text before has already are left out.
#[must_use]
pub fn line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text.replace('\n', " ")
}

/// An address that cannot be listened on, with the way out.
#[must_use]
pub fn cannot_listen(address: SocketAddr, error: &io::Error) -> io::Error {
    let way_out = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop the program that listens there (is this one running already?), or choose another port"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 are for root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; that is no address of this machine",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{way_out}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn chain(texts: &[&'static str]) -> Link {
        let (text, rest) = texts.split_first().unwrap();
        Link { text, source: (!rest.is_empty()).then(|| Box::new(chain(rest))) }
    }

    #[test]
    fn an_error_is_one_line_that_says_nothing_twice() {
        let error = chain(&["it does not start", "file: no space\nleft", "no space\nleft", "code 28"]);
        assert_eq!(line(&error), "it does not start: file: no space left: code 28");
    }
}
