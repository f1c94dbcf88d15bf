//! The HTTP interfaces of our programs, as a test asks them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use millstream_service::Trust;
use serde_json::Value;

/// How often something that has no event is asked again.
const POLL: Duration = Duration::from_millis(50);

/// An HTTP client with a bearer token.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::blocking::Client,
    base: String,
    token: String,
}

impl Api {
    /// Asks `base` with `token`.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(base: &str, token: &str) -> anyhow::Result<Self> {
        Self::trusting(&Trust::system()?, base, token)
    }

    /// The same, for a `base` with a certificate of an authority that `trust` knows.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn trusting(trust: &Trust, base: &str, token: &str) -> anyhow::Result<Self> {
        let http = client(trust, Duration::from_secs(10))?;
        Ok(Self { http, base: base.to_owned(), token: token.to_owned() })
    }

    /// `GET`, as JSON.
    ///
    /// # Errors
    /// When the answer is not a success or no JSON.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send()?;
        read(path, answer)
    }

    /// `GET`, as bytes.
    ///
    /// # Errors
    /// When the answer is not a success.
    pub fn bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.http.get(format!("{}{path}", self.base)).send()?.error_for_status()?;
        Ok(answer.bytes()?.to_vec())
    }

    /// `GET` with the token, as bytes.
    ///
    /// # Errors
    /// When there is no answer; the status alone where it is not a success.
    pub fn fetch(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send()?;
        if !answer.status().is_success() {
            bail!("{}", answer.status().as_u16());
        }
        Ok(answer.bytes()?.to_vec())
    }

    /// `POST` of JSON, answered with JSON.
    ///
    /// # Errors
    /// When the answer is not a success or no JSON.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        read(path, request.send()?)
    }

    /// Asks until `judge` has an answer.
    ///
    /// # Errors
    /// When there is none in time; the last answer is in the error.
    pub fn wait<T>(
        &self,
        path: &str,
        patience: Duration,
        mut judge: impl FnMut(&Value) -> Option<T>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            let answer = self.get(path);
            if let Ok(value) = &answer
                && let Some(result) = judge(value)
            {
                return Ok(result);
            }
            if started.elapsed() > patience {
                bail!("{path} did not become what was expected in {patience:?}; it is {answer:?}");
            }
            std::thread::park_timeout(POLL);
        }
    }
}

fn read(path: &str, answer: reqwest::blocking::Response) -> anyhow::Result<Value> {
    let status = answer.status();
    let text = answer.text()?;
    if !status.is_success() {
        bail!("{path}: {status} {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
}

/// An HTTP client.
pub(crate) fn client(trust: &Trust, patience: Duration) -> reqwest::Result<reqwest::blocking::Client> {
    reqwest::blocking::Client::builder().tls_backend_preconfigured(trust.http()).timeout(patience).build()
}
