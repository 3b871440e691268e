//! What verification costs, each beside the one signature verification that it cannot do without.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up has nothing to measure"
)]

use std::hint::black_box;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey,
};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use identity::dpop::{Proofs, Request};
use identity::{AccessClaims, InstanceKey, KeyRing};
use jiff::Timestamp;

const URL: &str = "https://gateway.example.org/mcp/files";
const ISSUER: &str = "https://control.example.org";

fn verification(c: &mut Criterion) {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut group = c.benchmark_group("verify");

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let message = [b'x'; 500];
    let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key()).unwrap();
    group.bench_function("bare ES256", |b| {
        b.iter(|| {
            public
                .verify_sig(black_box(&message), signature.as_ref())
                .unwrap()
        });
    });

    let token = "t".repeat(700);
    let key = InstanceKey::generate().unwrap();
    let proofs = Proofs::new(50_000_000);
    let request = Request {
        method: "POST",
        url: URL,
        access_token: Some(&token),
    };
    let mut number = 0u64;
    let mut prove = || {
        number += 1;
        key.sign_dpop(
            "POST",
            URL,
            Some(&token),
            None,
            now,
            &format!("{number:032x}"),
        )
        .unwrap()
    };
    group.bench_function("DPoP proof", |b| {
        b.iter_batched(
            &mut prove,
            |proof| proofs.verify(black_box(&proof), &request, now).unwrap(),
            BatchSize::LargeInput,
        );
    });

    let home = tempfile::tempdir().unwrap();
    let ring = KeyRing::open(&home.path().join("keys"), now).unwrap();
    let claims = AccessClaims {
        iss: ISSUER.to_owned(),
        sub: "spiffe://example.org/agent/triage".to_owned(),
        aud: URL.to_owned(),
        exp: now.as_second() + 300,
        iat: now.as_second(),
        jti: "t1".to_owned(),
        client_id: model::InstanceId::new(now, [1; 10]),
        agent: model::AgentName::parse("triage").unwrap(),
        task: Some(model::TaskId::new(now, [2; 10])),
        scope: "mcp".to_owned(),
        cnf: None,
        authorization_details: None,
    };
    let access = ring.issue(&claims).unwrap();
    group.bench_function("access token", |b| {
        b.iter(|| ring.verify(black_box(&access), ISSUER, now).unwrap());
    });
    group.finish();
}

criterion_group!(benches, verification);
criterion_main!(benches);
