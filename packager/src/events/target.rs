//! Where a webhook's requests may go. Pure.

use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

use super::{config::Webhook, event::Kind, signature::Key};

/// A webhook of the settings that can be used.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) url: Url,
    /// For logs and metrics: never the path, which is a secret at some receivers.
    pub(super) name: String,
    pub(super) key: Key,
    kinds: Vec<Kind>,
    /// By `http://`, so at private addresses alone.
    pub(super) is_plain: bool,
}

impl Target {
    /// Number `index` of the settings, if it can be used.
    pub(super) fn of(index: usize, webhook: &Webhook, plain_http: bool) -> anyhow::Result<Self> {
        let place = format!("events.webhooks[{index}]");
        let key = Key::parse(&webhook.secret).map_err(|error| anyhow::anyhow!("{place}: {error}"))?;
        // The text is not repeated: it may hold what is nobody's business.
        let url = Url::parse(&webhook.url).map_err(|error| {
            anyhow::anyhow!("{place}: its url cannot be read ({error}); write https://host/path")
        })?;
        let is_plain = url.scheme() == "http";
        anyhow::ensure!(
            is_plain || url.scheme() == "https",
            "{place}: its url must begin with https://, not {}:",
            url.scheme()
        );
        anyhow::ensure!(
            url.username().is_empty() && url.password().is_none(),
            "{place}: its url holds a name or password; receivers know us by the signature, so leave it out"
        );
        if is_plain {
            anyhow::ensure!(
                plain_http,
                "{place}: http:// is not encrypted; use https://, or on this machine or a private network set \
                 events.plain_http = true"
            );
            let literal = url.host_str().and_then(literal);
            anyhow::ensure!(
                literal.is_none_or(is_private),
                "{place}: http:// is for this machine and private networks, and this address is public; use https://"
            );
        }
        let host = url.host_str().unwrap_or_default();
        let name = match url.port() {
            Some(port) => format!("{index} {host}:{port}"),
            None => format!("{index} {host}"),
        };
        Ok(Self { name, key, kinds: webhook.events.clone(), is_plain, url })
    }

    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Of this machine, or of a network that nobody routes to: RFC 1918, RFC 4193.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST || address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use millstream_service::Secret;

    use super::*;

    fn target(url: &str, plain_http: bool) -> Result<Target, String> {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let webhook = Webhook { url: url.to_owned(), secret, events: vec![Kind::Ready] };
        Target::of(3, &webhook, plain_http).map_err(|error| error.to_string())
    }

    #[test]
    fn https_goes_anywhere_and_its_path_is_never_named() {
        let target = target("https://hooks.example.com:8443/services/T0/secret?token=x", false).unwrap();
        assert_eq!((target.name.as_str(), target.is_plain), ("3 hooks.example.com:8443", false));
        assert!(target.wants(Kind::Ready) && !target.wants(Kind::Publish));
    }

    #[test]
    fn plain_http_stays_at_home_and_only_when_asked() {
        for url in ["http://127.0.0.1:9/x", "http://[::1]/", "http://10.1.2.3/", "http://receiver:8080/x"] {
            assert!(target(url, true).is_ok(), "{url}");
            assert!(target(url, false).unwrap_err().contains("events.plain_http"), "{url}");
        }
        for url in
            ["http://192.0.2.1/", "http://[2001:db8::1]/", "http://169.254.169.254/", "http://0.0.0.0/"]
        {
            assert!(target(url, true).unwrap_err().contains("is public"), "{url}");
        }
        assert!(is_private("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!is_private("::ffff:8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_a_hook_is_refused_with_what_would_be_right() {
        for (url, says) in [
            ("ftp://example.com/", "must begin with https://"),
            ("example.com/hook", "write https://host/path"),
            ("https://name:hunter2@example.com/", "leave it out"),
        ] {
            let error = target(url, true).unwrap_err();
            assert!(error.contains(says) && error.contains("events.webhooks[3]"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
