//! The ops listener: `/healthz`, `/readyz`, `/metrics`, and the routes a program adds, on an address of its own.
//!
//! For operators, orchestrators and Prometheus; never for the public. What the routes tell is the program's matter.

mod ready;

use std::{
    collections::BTreeMap, convert::Infallible, fmt, future::Future, io, net::SocketAddr, pin::Pin,
    sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use prometheus::{Encoder as _, IntGauge, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

pub use self::ready::Gate;
use self::ready::Readiness;
use crate::{
    http::{Limits, bind, serve},
    tasks::{Drain, Spawner},
};

/// Operators and scrapers are few.
const CONNECTIONS_MAX: usize = 64;

/// Requests here have short heads.
const HEADER_BYTES_MAX: u32 = 8 * 1024;

/// A route that takes longer has hung; the operator learns that, and the connection is free again.
const ROUTE_TIME_MAX: Duration = Duration::from_secs(10);

crate::settings! {
    /// The ops listener: health, readiness, metrics and status. Not for the public.
    pub struct Config {
        /// Address and port; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9100)),
    }
}

/// A request without its body: routes here only tell.
pub type Request = http::request::Parts;

/// What a route answers; made by [`json`], [`html`] or [`text`].
pub type Response = http::Response<Full<Bytes>>;

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
type Route = Box<dyn Fn(Request) -> Answer + Send + Sync>;

/// A bound ops listener, to be filled with gates, metrics and routes and then [served](Self::serve).
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    registry: Registry,
    readiness: Readiness,
    routes: BTreeMap<String, Route>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes: Vec<&String> = self.routes.keys().collect();
        out.debug_struct("Listener")
            .field("address", &self.address)
            .field("routes", &routes)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds the address. The registry holds the process's own metrics and `millstream_build`.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(config: &Config, program: &str, version: &str) -> io::Result<Self> {
        let listener = bind(config.listen).await?;
        let address = listener.local_addr()?;
        let registry = Registry::new();
        register_process(&registry, program, version).map_err(io::Error::other)?;
        Ok(Self { listener, address, registry, readiness: Readiness::default(), routes: BTreeMap::new() })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the program registers its metrics. Clones share their content.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A condition for being ready, closed for `reason` until it is opened.
    pub fn gate(&self, name: impl Into<String>, reason: impl Into<String>) -> Gate {
        self.readiness.gate(name.into(), reason.into())
    }

    /// Answers `GET path`. The last one given for a path counts; `/` replaces the list of routes.
    #[must_use]
    pub fn route<F, A>(mut self, path: impl Into<String>, answer: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        self.routes.insert(path.into(), Box::new(move |request| Box::pin(answer(request))));
        self
    }

    /// Serves until the drain is over; meanwhile `/readyz` says that the program drains. Gives the address.
    pub fn serve(self, tasks: &Spawner) -> SocketAddr {
        let address = self.address;
        let limits = Limits {
            connections_max: CONNECTIONS_MAX,
            header_bytes_max: HEADER_BYTES_MAX,
            ..Limits::default()
        };
        let desk = Arc::new(Desk {
            registry: self.registry,
            readiness: self.readiness,
            routes: self.routes,
            drain: tasks.drain(),
        });
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let desk = Arc::clone(&desk);
            async move { Ok::<_, Infallible>(desk.answer(request.into_parts().0).await) }
        });
        serve(self.listener, None, &limits, service, &tasks.to_the_end());
        tracing::info!(%address, "ops listener");
        address
    }
}

/// `value` as JSON; an error in its place when it cannot be written.
pub fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => respond(StatusCode::OK, "application/json", bytes),
        Err(error) => {
            tracing::error!(%error, "a status cannot be written as JSON");
            text(StatusCode::INTERNAL_SERVER_ERROR, "cannot be written as JSON\n")
        }
    }
}

/// A page.
pub fn html(page: impl Into<Bytes>) -> Response {
    respond(StatusCode::OK, "text/html; charset=utf-8", page)
}

/// Plain text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    respond(status, "text/plain; charset=utf-8", text)
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Answers requests.
struct Desk {
    registry: Registry,
    readiness: Readiness,
    routes: BTreeMap<String, Route>,
    drain: Drain,
}

impl Desk {
    async fn answer(&self, request: Request) -> Response {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let path = request.uri.path();
        if let Some(route) = self.routes.get(path) {
            let name = path.to_owned();
            return tokio::time::timeout(ROUTE_TIME_MAX, route(request)).await.unwrap_or_else(|_| {
                tracing::warn!(path = name, "an ops route hangs");
                text(StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n")
            });
        }
        match path {
            "/" => self.index(),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "no such route; / lists them\n"),
        }
    }

    fn index(&self) -> Response {
        let own = self.routes.keys().map(String::as_str);
        let mut list: Vec<&str> = own.chain(["/healthz", "/readyz", "/metrics"]).collect();
        list.sort_unstable();
        text(StatusCode::OK, list.join("\n") + "\n")
    }

    fn ready(&self) -> Response {
        let mut reasons = self.readiness.reasons();
        if self.drain.has_begun() {
            reasons.push(String::from("draining"));
        }
        if reasons.is_empty() {
            text(StatusCode::OK, "ready\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
        }
    }

    fn metrics(&self) -> Response {
        let mut bytes = Vec::new();
        let encoder = TextEncoder::new();
        match encoder.encode(&self.registry.gather(), &mut bytes) {
            Ok(()) => respond(StatusCode::OK, "text/plain; version=0.0.4", bytes),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n")
            }
        }
    }
}

fn register_process(registry: &Registry, program: &str, version: &str) -> prometheus::Result<()> {
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    let about = Opts::new("millstream_build", "1, labelled with what runs here")
        .const_label("program", program)
        .const_label("version", version);
    let build = IntGauge::with_opts(about)?;
    build.set(1);
    registry.register(Box::new(build))
}
