//! What everybody does with every piece, record and voucher, by itself: in a loop, on one core, by processor time.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millstream_model::{Hash, MediaTime, RenditionId, SessionId, StreamId, WallTime};
use millstream_wire::{
    chain::piece_fits,
    frame::Frame,
    media::Record,
    session::Voucher,
    sign::{Context, SecretKey, SessionSecret, SessionVerifier, Signed, Signer as _, sha256},
};

use super::Bench;
use crate::{cost, sheet::Sheet};

const PIECE_BYTES: u32 = 65_536;

/// Processor time that is measured: a tick of the kernel's clock is a hundredth of it.
const CPU_SECONDS: f64 = 1.0;

/// From one look at the clock to the next at least, so that looking costs nothing beside it.
const BATCH: Duration = Duration::from_millis(20);

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let data = Bytes::from(vec![0x5a; usize::try_from(PIECE_BYTES)?]);
    let record = record(&data);
    let packager = SecretKey::from_seed(&[1; 32]);
    let signed = Signed::new(record.clone(), Context::None, &packager);
    let viewer = SessionSecret::from_bytes(&[2; 32]).context("a session's key")?;
    let voucher = Signed::new(voucher()?, Context::None, &viewer);
    let (packager_key, viewer_key) = (packager.public(), SessionVerifier::new(&viewer.public())?);
    let piece = Frame::Piece { rendition: record.rendition, number: 7, index: 0, data: data.clone() };
    let encoded = piece.encode();

    // Each of these must do what it is measured for.
    ensure!(
        piece_fits(&record, 0, &data) && !piece_fits(&record, 0, &encoded),
        "a piece is not told from another"
    );
    ensure!(signed.verify(&packager_key, Context::None).is_ok(), "the record does not verify");
    ensure!(voucher.verify(&viewer_key, Context::None).is_ok(), "the voucher does not verify");
    ensure!(Frame::decode(encoded.clone())?.is_some(), "the frame is not read");

    bench.each_run(|| {
        let micros = micros_each(bench, || piece_fits(black_box(&record), 0, black_box(&data)))?;
        sheet.note("piece: hash it and compare", "µs", micros);
        sheet.note("the same, for a gigabyte", "CPU-s", micros / 1e6 * 1e9 / f64::from(PIECE_BYTES));
        let micros = micros_each(bench, || black_box(&signed).verify(&packager_key, Context::None).is_ok())?;
        sheet.note("record: check its signature (Ed25519)", "µs", micros);
        let micros = micros_each(bench, || black_box(&piece).encode())?;
        sheet.note("piece: write its frame", "µs", micros);
        let micros = micros_each(bench, || Frame::decode(black_box(encoded.clone())))?;
        sheet.note("piece: read its frame", "µs", micros);
        let micros = micros_each(bench, || black_box(&voucher).verify(&viewer_key, Context::None).is_ok())?;
        sheet.note("voucher: check its signature (P-256)", "µs", micros);
        Ok(())
    })?;
    sheet.remark(
        "Processor time of one core over a second of each, of a piece of 64 KiB; all of it in cache.",
    );
    Ok(())
}

/// Microseconds of processor time that one round of `work` takes.
fn micros_each<T>(bench: &Bench, work: impl Fn() -> T) -> anyhow::Result<f64> {
    let own = std::process::id();
    let limit = if bench.short { CPU_SECONDS / 10.0 } else { CPU_SECONDS };
    let turn = |rounds: u32| {
        let began = Instant::now();
        for _ in 0..rounds {
            black_box(work());
        }
        began.elapsed()
    };
    let mut batch = 1_u32;
    while turn(batch) < BATCH {
        batch = batch.saturating_mul(2);
    }
    let (before, mut rounds) = (cost::cpu_seconds(own)?, 0.0);
    loop {
        turn(batch);
        rounds += f64::from(batch);
        let spent = cost::cpu_seconds(own)? - before;
        if spent >= limit {
            return Ok(spent * 1e6 / rounds);
        }
    }
}

fn record(data: &Bytes) -> Record {
    Record {
        generation: 1,
        catalog: 1,
        rendition: RenditionId(0),
        number: 7,
        segment: 1,
        part: 0,
        media_time: MediaTime(0),
        duration: 22_500,
        program_date_time: WallTime(0),
        discontinuity: 0,
        independent: true,
        first: true,
        size: PIECE_BYTES,
        pieces: vec![sha256(data)],
        previous: Hash([0; 32]),
    }
}

fn voucher() -> anyhow::Result<Voucher> {
    Ok(Voucher {
        tracker: SecretKey::from_seed(&[3; 32]).public(),
        session: SessionId([4; 16]),
        edge: SecretKey::from_seed(&[5; 32]).public(),
        stream: StreamId::new("show")?,
        payable: 1_000_000,
        received: 1_000_000,
        segments: 4,
        rendition: RenditionId(0),
        number: 7,
    })
}
