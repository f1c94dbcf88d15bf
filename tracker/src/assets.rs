//! The pages and the player, embedded in the binary: `/`, `/watch/<stream>`, `/sdk/…`.

use millstream_model::StreamId;
use millstream_wire::sign::sha256;
use warp::{
    Filter, Reply as _,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reject::Rejection,
    reply::Response,
};

/// One embedded file.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const INDEX: Asset = Asset { name: "", kind: HTML, bytes: include_bytes!("../assets/index.html") };
const WATCH: Asset = Asset { name: "watch", kind: HTML, bytes: include_bytes!("../assets/watch.html") };

/// What lies under `/assets` and `/sdk`.
const FILES: [Asset; 6] = [
    Asset {
        name: "style.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../assets/style.css"),
    },
    Asset { name: "index.js", kind: SCRIPT, bytes: include_bytes!("../assets/index.js") },
    Asset { name: "watch.js", kind: SCRIPT, bytes: include_bytes!("../assets/watch.js") },
    Asset {
        name: "millstream.js",
        kind: SCRIPT,
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/millstream.js")),
    },
    Asset {
        name: "millstream.script.js",
        kind: SCRIPT,
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/millstream.script.js")),
    },
    Asset {
        name: "millstream.full.js",
        kind: SCRIPT,
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/millstream.full.js")),
    },
];

/// What the pages may do. The player compiles wasm, plays from memory, and connects to trackers, origins and edges
/// of any name.
const PAGE_POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
                           connect-src *; media-src 'self' blob: *; img-src 'self' data:; worker-src 'self' blob:; \
                           frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

/// The routes of pages and files.
pub(crate) fn routes() -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let get = || warp::get().or(warp::head()).unify().and(warp::header::headers_cloned());
    let index = warp::path::end().and(get()).map(|headers: HeaderMap| serve(&INDEX, &headers));
    let watch = warp::path!("watch" / String).and(get()).map(|stream: String, headers: HeaderMap| {
        if stream.parse::<StreamId>().is_ok() {
            serve(&WATCH, &headers)
        } else {
            warp::reply::with_status("no stream has such a name\n", StatusCode::NOT_FOUND).into_response()
        }
    });
    let file = |name: String, headers: HeaderMap| async move {
        FILES
            .iter()
            .find(|file| file.name == name)
            .map(|file| serve(file, &headers))
            .ok_or_else(warp::reject::not_found)
    };
    let assets = warp::path!("assets" / String).and(get()).and_then(file);
    let sdk = warp::path!("sdk" / String).and(get()).and_then(file);
    index.or(watch).unify().or(assets).unify().or(sdk).unify()
}

fn serve(asset: &Asset, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", sha256(asset.bytes));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known {
        warp::reply::with_status("", StatusCode::NOT_MODIFIED).into_response()
    } else {
        warp::reply::with_header(asset.bytes, header::CONTENT_TYPE, asset.kind).into_response()
    };
    let fields = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        fields.insert(header::ETAG, tag);
    }
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if asset.kind == HTML {
        fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    } else {
        // Any page may embed the player.
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}
