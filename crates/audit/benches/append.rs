//! What group commit costs: so many producers, each waiting for its record, against a bare
//! `fdatasync` of a record of the same size on the same disk.
//!
//! Read as ratios: records per second with 256 waiters divided by bare syncs per second is what
//! group commit gains; the time with one waiter divided by that of a bare sync is what it costs.

#![allow(missing_docs)]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::{AuditLog, Options};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A typical intent record.
const RECORD: &[u8] = &[b'r'; 400];

fn bare(c: &mut Criterion) {
    let home = tempfile::tempdir_in(".").expect("a folder");
    let mut file = File::create(home.path().join("bare")).expect("a file");
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare fdatasync", |b| {
        b.iter(|| {
            file.write_all(RECORD).expect("written");
            file.sync_data().expect("synced");
        });
    });
    group.finish();
}

fn waiters(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("append");
    for (count, followed) in [(1u64, false), (16, false), (256, false), (256, true)] {
        let home = tempfile::tempdir_in(".").expect("a folder");
        let options = Options::new("bench.example/audit", home.path().join("log.key"));
        let (log, _) = AuditLog::open(&home.path().join("log"), options).expect("a log");
        // One who follows, and takes what comes: it must cost those who wait nothing.
        let tap = followed.then(|| log.tap(16_384, 32 << 20));
        let following = runtime.spawn(async move {
            if let Some(tap) = tap {
                while tap.next(256).await.is_some() {}
            }
        });
        let name = if followed { ", followed" } else { "" };
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} waiters{name}"), |b| {
            b.iter_custom(|rounds| runtime.block_on(append(&log, count, rounds)));
        });
        runtime.block_on(log.close());
        runtime.block_on(following).expect("no panic");
    }
    group.finish();
}

/// Each waiter appends `rounds` records one after the other.
async fn append(log: &Arc<AuditLog>, waiters: u64, rounds: u64) -> Duration {
    let begun = Instant::now();
    let waiters: Vec<_> = (0..waiters)
        .map(|_| {
            let log = Arc::clone(log);
            tokio::spawn(async move {
                for _ in 0..rounds {
                    log.append(Bytes::from_static(RECORD))
                        .await
                        .expect("durable");
                }
            })
        })
        .collect();
    for waiter in waiters {
        waiter.await.expect("no panic");
    }
    begun.elapsed()
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = bare, waiters
}
criterion_main!(benches);
