//! TLS everywhere: tracker and origin with certificates of a private authority, edge and viewer that believe it or not.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use millstream_e2e::{
    api::Api,
    media::PLAIN,
    process::Process,
    program::{EDGE, PACKAGER, Program, TRACKER},
    publisher,
    viewers::{Report, Watch},
};
use millstream_service::{Trust, trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

/// The admin token.
const TOKEN: &str = "token-of-the-test";

/// Time for something to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A private authority, and the file of its certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    fn trust(&self) -> Trust {
        Trust::load(&trust::Config { ca_file: self.file.clone() }).unwrap()
    }

    /// Writes a new certificate and key for loopback over the old ones, as renewal tools do.
    fn issue(&self, files: &Files) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        fs::write(&files.certificate, certificate.pem()).unwrap();
    }
}

/// Where a program finds its certificate.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(folder: &Path) -> Self {
        Self { certificate: folder.join("server.pem"), key: folder.join("server.key") }
    }
}

/// A tracker and a packager that speak TLS, and a stream that is live.
struct World {
    folder: tempfile::TempDir,
    authority: Authority,
    files: Files,
    tracker: Program,
    packager: Program,
    api: Api,
    _publisher: Process,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "own");
        let files = Files::new(folder.path());
        authority.issue(&files);
        let (certificate, key) = (text(&files.certificate), text(&files.key));
        let settings = [
            ("admin_token", TOKEN),
            ("tls.certificate", &certificate),
            ("tls.key", &key),
            ("tls.reload_seconds", "1"),
        ];
        let tracker = Program::start(TRACKER, "tracker", folder.path(), &settings).unwrap();
        let url = tracker.said("url").unwrap().to_owned();
        assert!(url.starts_with("https://"), "{url}");
        let ca_file = text(&authority.file);
        let settings = [
            ("tracker.url", url.as_str()),
            ("tracker.token", TOKEN),
            ("trust.ca_file", &ca_file),
            ("origin.tls.certificate", &certificate),
            ("origin.tls.key", &key),
            ("origin.tls.reload_seconds", "1"),
        ];
        let packager = Program::start(PACKAGER, "packager", folder.path(), &settings).unwrap();
        assert!(packager.said("origin").unwrap().starts_with("https://"));
        let api = Api::trusting(&authority.trust(), &url, TOKEN).unwrap();
        api.post("/v1/accounts/show/fund", &json!({ "amount": 1_000_000_000, "transfer": "one" })).unwrap();
        let wanted = json!({ "id": "show", "account": "show", "price_per_gib": 20_000 });
        let created = api.post("/v1/streams", &wanted).unwrap();
        let key = created["stream_key"].as_str().unwrap();
        let rtmp = format!("rtmp://{}/live/{key}", packager.said("rtmp").unwrap());
        let publisher = publisher::push(&PLAIN, &rtmp, folder.path()).unwrap();
        api.wait("/v1/overview", START, |overview| {
            overview["streams"].as_array()?.iter().any(|line| line["state"] == "live").then_some(())
        })
        .unwrap();
        Self { folder, authority, files, tracker, packager, api, _publisher: publisher }
    }

    fn url(&self) -> &str {
        self.tracker.said("url").unwrap()
    }

    fn edge(&self, name: &str, ca_file: &Path) -> Program {
        let settings = [("tracker", self.url()), ("trust.ca_file", &text(ca_file))];
        Program::start(EDGE, name, self.folder.path(), &settings).unwrap()
    }

    fn watch(&self, ca_file: &Path, seconds: u32) -> (Report, String) {
        let mut watch = Watch::new(self.url(), "show", seconds);
        watch.flags = vec!["--ca-file".to_owned(), text(ca_file)];
        let mut watching = watch.start(self.folder.path()).unwrap();
        (watching.report().unwrap(), watching.log())
    }

    fn edges(&self, count: usize) {
        self.api
            .wait("/v1/edges", START, |edges| (edges["edges"].as_array()?.len() == count).then_some(()))
            .unwrap();
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn over_tls_an_edge_delivers_and_a_new_certificate_is_taken_without_a_restart() {
    let world = World::new();
    let _edge = world.edge("edge", &world.authority.file);
    world.edges(1);
    let (report, log) = world.watch(&world.authority.file, 10);
    eprintln!(">> {report:?}");
    // The edge's feed is the origin's; what comes to the viewer straight from there depends on when it came.
    assert!(report.bytes.edge > 0, "{report:?}\n{log}");
    // What it vouched for reaches the book by wss as well, at the latest when it leaves.
    let earned = |edges: &Value| edges["edges"][0]["earned"].as_i64().filter(|micros| *micros > 0);
    world.api.wait("/v1/edges", START, earned).unwrap();

    // Another authority issues the next certificate: only who believes that one may come in then.
    let other = Authority::new(world.folder.path(), "other");
    other.issue(&world.files);
    let origin = world.packager.said("origin").unwrap();
    for (base, path) in [(world.url(), "/v1/overview"), (origin, "/s/show/index.m3u8")] {
        let api = Api::trusting(&other.trust(), base, TOKEN).unwrap();
        let started = std::time::Instant::now();
        while let Err(error) = api.bytes(path) {
            assert!(started.elapsed() < START, "{base} still shows the old certificate: {error:#}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
    // The edge's connection of before goes on, and so do new feeds' and viewers' with both authorities in one file.
    let both = world.folder.path().join("both.pem");
    let pems = [&world.authority.file, &other.file].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&both, pems.concat()).unwrap();
    let (report, log) = world.watch(&both, 5);
    assert!(report.pieces.verified > 0 && report.bytes.edge > 0, "{report:?}\n{log}");
}

#[test]
fn who_does_not_know_the_authority_says_so_and_how_to_name_it() {
    let world = World::new();
    let stranger = Authority::new(world.folder.path(), "stranger");
    let mut edge = world.edge("edge", &stranger.file);
    let said =
        edge.process.logged(START, |line| line.contains("no tracker").then(|| line.to_owned())).unwrap();
    assert!(said.contains("UnknownIssuer") && said.contains("trust.ca_file"), "{said}");
    let (report, log) = world.watch(&stranger.file, 3);
    assert_eq!(report.pieces.verified, 0, "{report:?}");
    assert!(log.contains("UnknownIssuer") && log.contains("--ca-file"), "{log}");

    // A packager whose tracker shows a certificate that it does not believe turns publishers away, and says why.
    let settings =
        [("tracker.url", world.url()), ("tracker.token", TOKEN), ("trust.ca_file", &text(&stranger.file))];
    let mut packager = Program::start(PACKAGER, "other-packager", world.folder.path(), &settings).unwrap();
    let rtmp = format!("rtmp://{}/live/some-key", packager.said("rtmp").unwrap());
    let _publisher = publisher::push(&PLAIN, &rtmp, world.folder.path()).unwrap();
    let said = packager
        .process
        .logged(START, |line| line.contains("out of reach").then(|| line.to_owned()))
        .unwrap();
    assert!(said.contains("UnknownIssuer") && said.contains("trust.ca_file"), "{said}");
    world.edges(0);
}

#[test]
fn a_file_of_authorities_that_is_not_there_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pem");
    let failed =
        Program::start(EDGE, "edge", folder.path(), &[("trust.ca_file", &text(&missing))]).unwrap_err();
    let said = format!("{failed:#}");
    assert!(said.contains("missing.pem") && said.contains("cannot be read"), "{said}");
}
