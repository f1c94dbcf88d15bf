//! The tracker's API as `up --demo` uses it: by HTTP like anybody, so that the demo shows what works.

use anyhow::{Context as _, bail};
use millstream_service::Trust;
use serde::Deserialize;
use serde_json::{Value, json};

/// A client with the admin token.
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// A stream just made.
#[derive(Debug, Deserialize)]
pub(crate) struct Created {
    pub(crate) stream_key: String,
}

impl Api {
    pub(crate) fn new(base: &str, token: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().tls_backend_preconfigured(Trust::system()?.http()).build()?;
        Ok(Self { http, base: base.to_owned(), token: token.to_owned() })
    }

    /// Adds money to an account.
    pub(crate) async fn fund(&self, account: &str, micros: i64, transfer: &str) -> anyhow::Result<()> {
        let body = json!({ "amount": micros, "transfer": transfer });
        self.post(&format!("/v1/accounts/{account}/fund"), &body).await?;
        Ok(())
    }

    /// Makes a stream; its key is in the answer and nowhere else.
    pub(crate) async fn create(&self, body: &Value) -> anyhow::Result<Created> {
        Ok(serde_json::from_value(self.post("/v1/streams", body).await?)?)
    }

    /// Removes a stream, if it exists.
    pub(crate) async fn remove(&self, stream: &str) -> anyhow::Result<()> {
        let url = format!("{}/v1/streams/{stream}", self.base);
        let response = self.http.delete(url).bearer_auth(&self.token).send().await?;
        if !response.status().is_success() && response.status() != reqwest::StatusCode::NOT_FOUND {
            bail!("the tracker does not remove {stream}: {}", response.text().await?);
        }
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        let response = request.send().await.with_context(|| format!("asking the tracker for {path}"))?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("the tracker refuses {path}: {status} {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}
