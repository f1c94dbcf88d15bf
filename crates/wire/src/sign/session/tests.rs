//! `ring` and `p256` held against each other: what one accepts and the other does not would be a voucher that an edge
//! takes and somebody else does not pay.

extern crate std;

use std::vec::Vec;

use p256::{
    FieldBytes, ProjectivePoint, Scalar,
    ecdsa::RecoveryId,
    elliptic_curve::{ops::Reduce as _, point::AffineCoordinates as _},
};
use proptest::prelude::*;

use super::*;
use crate::sign::sha256;

/// The order of the curve's group (FIPS 186-5, SP 800-186 §3.2.1.3).
const N: [u8; 32] = hex(b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");

/// The prime of its field.
const P: [u8; 32] = hex(b"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");

const fn hex(text: &[u8; 64]) -> [u8; 32] {
    const fn digit(character: u8) -> u8 {
        if character <= b'9' { character - b'0' } else { character - b'a' + 10 }
    }
    let (mut bytes, mut at) = ([0; 32], 0);
    while at < 32 {
        bytes[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
        at += 1;
    }
    bytes
}

/// A number of 32 bytes and a little more or less.
fn beside(number: [u8; 32], by: i64) -> [u8; 32] {
    let (mut sum, mut carry) = (number, by);
    for byte in sum.iter_mut().rev() {
        carry += i64::from(*byte);
        *byte = u8::try_from(carry.rem_euclid(256)).unwrap();
        carry = carry.div_euclid(256);
    }
    sum
}

fn join(r: [u8; 32], s: [u8; 32]) -> [u8; SIGNATURE_BYTES] {
    let mut signature = [0; SIGNATURE_BYTES];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

fn halves(signature: &[u8; SIGNATURE_BYTES]) -> ([u8; 32], [u8; 32]) {
    (signature[..32].try_into().unwrap(), signature[32..].try_into().unwrap())
}

fn scalar(bytes: [u8; 32]) -> Scalar {
    Scalar::reduce(&FieldBytes::from(bytes))
}

fn bytes(scalar: Scalar) -> [u8; 32] {
    FieldBytes::from(scalar).into()
}

fn invert(scalar: Scalar) -> Scalar {
    Option::from(scalar.invert()).unwrap()
}

/// The `r` of a nonce.
fn r_of(nonce: Scalar) -> Scalar {
    scalar((ProjectivePoint::GENERATOR * nonce).to_affine().x().into())
}

fn secret(bytes: [u8; 32]) -> SessionSecret {
    SessionSecret::from_bytes(&bytes).unwrap()
}

/// What both say, as one.
fn verdict(key: &VerifyingKey, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    let (ring, p256) = (by_ring(key, message, signature), by_p256(key, message, signature));
    assert_eq!(ring, p256, "ring and p256 differ: {key:?} {message:02x?} {signature:02x?}");
    ring
}

/// A session's secret is not shown when a test fails, so these are the bytes of one.
fn secrets() -> impl Strategy<Value = [u8; 32]> {
    let near_ends =
        (1..4_i64).prop_flat_map(|by| prop_oneof![Just(beside([0; 32], by)), Just(beside(N, -by))]);
    prop_oneof![4 => any::<[u8; 32]>(), 1 => near_ends]
        .prop_filter("a scalar", |bytes| SessionSecret::from_bytes(bytes).is_some())
}

/// Numbers at the edges of what is allowed, and any others.
fn numbers() -> impl Strategy<Value = [u8; 32]> {
    let by = -3..=3_i64;
    prop_oneof![
        any::<[u8; 32]>(),
        (0..=3_i64).prop_map(|by| beside([0; 32], by)),
        by.clone().prop_map(|by| beside(N, by)),
        by.prop_map(|by| beside(P, by)),
        Just([0xff; 32]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_signed_holds_with_either_s_and_for_nothing_else(
        own in secrets(),
        message in prop::collection::vec(any::<u8>(), 0..300),
        bit in 0..SIGNATURE_BYTES * 8,
    ) {
        let secret = secret(own);
        let key = SessionVerifier::new(&secret.public()).unwrap();
        let signature = secret.sign(&message);
        let (r, s) = halves(&signature);
        prop_assert!(verdict(&key.0, &message, &signature));
        prop_assert!(verdict(&key.0, &message, &join(r, bytes(-scalar(s)))), "the other s");
        prop_assert_eq!(key.check(&message, &signature), Ok(()));
        prop_assert_eq!(secret.public().check(&message, &signature), Ok(()));

        let mut bent = signature;
        bent[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verdict(&key.0, &message, &bent));
        prop_assert_eq!(key.check(&message, &bent), Err(Error::Signature));
        prop_assert!(!verdict(&key.0, &message, &join(s, r)));
        prop_assert!(!verdict(&key.0, &[&message[..], b"."].concat(), &signature));
    }

    #[test]
    fn any_two_numbers_are_judged_alike(
        own in secrets(),
        message in prop::collection::vec(any::<u8>(), 0..300),
        r in numbers(),
        s in numbers(),
    ) {
        let secret = secret(own);
        let key = secret.0.verifying_key();
        let (good_r, good_s) = halves(&secret.sign(&message));
        for signature in [join(r, s), join(good_r, s), join(r, good_s)] {
            verdict(key, &message, &signature);
        }
    }

    /// Nobody's secret is needed: to nearly every pair of numbers there is a key that has signed with them.
    #[test]
    fn any_two_numbers_hold_for_the_key_that_they_lead_to(
        message in prop::collection::vec(any::<u8>(), 0..300),
        r in numbers(),
        s in numbers(),
        odd in any::<bool>(),
        wraps in any::<bool>(),
    ) {
        let signature = join(r, s);
        if let Some(key) = recovered(&message, &signature, odd, wraps) {
            prop_assert!(verdict(&key, &message, &signature));
        }
    }

    #[test]
    fn a_key_is_a_compressed_point(tag in any::<u8>(), x in numbers()) {
        let mut text = [tag; SessionKey::BYTES];
        text[1..].copy_from_slice(&x);
        let key = SessionKey(text);
        match SessionVerifier::new(&key) {
            Ok(verifier) => {
                prop_assert!(matches!(tag, 2 | 3));
                prop_assert!(x < P, "one text for a point");
                prop_assert_eq!(compressed(&verifier.0), key);
            }
            Err(error) => prop_assert_eq!(error, Error::Key),
        }
    }
}

fn recovered(
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
    odd: bool,
    wraps: bool,
) -> Option<VerifyingKey> {
    let signature = Signature::from_slice(signature).ok()?;
    let id = RecoveryId::new(odd, wraps);
    VerifyingKey::recover_from_prehash(&sha256(message).0, &signature, id).ok()
}

#[test]
fn an_x_beyond_the_order_counts_as_what_is_left_of_it() {
    // r + n is the x of a point for about every second r, and below p for those that are short.
    let message = b"a voucher";
    let signatures = (1..40).map(|r| join(beside([0; 32], r), [0x5a; 32]));
    let wrapped: Vec<_> = signatures
        .filter_map(|signature| Some((recovered(message, &signature, false, true)?, signature)))
        .collect();
    assert!(wrapped.len() > 5, "only {} of them", wrapped.len());
    for (key, signature) in wrapped {
        assert!(verdict(&key, message, &signature));
    }
}

#[test]
fn numbers_that_are_nought_or_too_high_are_refused() {
    // From a signature whose r, s stay below 2²⁵⁶ with n added, so that it differs in its text alone.
    let message = b"a voucher";
    let short = (1..40).find_map(|r| {
        let signature = join(beside([0; 32], r), beside([0; 32], 7));
        Some((recovered(message, &signature, false, false)?, r))
    });
    let (key, r) = short.unwrap();
    let (r, s) = (beside([0; 32], r), beside([0; 32], 7));
    assert!(verdict(&key, message, &join(r, s)));
    let over = |number: [u8; 32]| beside(N, i64::from(number[31]));
    for (r, s) in [(over(r), s), (r, over(s)), (over(r), over(s)), ([0; 32], s), (r, [0; 32]), (N, s), (r, N)]
    {
        assert!(!verdict(&key, message, &join(r, s)), "{r:02x?} {s:02x?}");
    }
    assert!(!verdict(&key, message, &[0; SIGNATURE_BYTES]));
}

#[test]
fn sums_that_formulas_for_sums_stumble_on_are_right() {
    let message = b"a voucher";
    let z = scalar(sha256(message).0);
    for nonce in 1_u64..20 {
        let nonce = Scalar::from(nonce);
        let r = r_of(nonce);
        // Both halves of the sum are the same point: it is a doubling.
        let key = secret(bytes(z * invert(r)));
        let s = z.double() * invert(nonce);
        assert!(verdict(key.0.verifying_key(), message, &join(bytes(r), bytes(s))));
        // One half is the other's negative: the sum is no point at all, whatever s is.
        let key = secret(bytes(-z * invert(r)));
        for s in [Scalar::ONE, nonce, s] {
            assert!(!verdict(key.0.verifying_key(), message, &join(bytes(r), bytes(s))));
        }
    }
}

#[test]
fn keys_that_are_no_compressed_points_are_refused() {
    let good = secret([5; 32]).public();
    assert!(SessionVerifier::new(&good).is_ok());
    // The infinite point, a point uncompressed or hybrid and cut short, and the "compact" form of the very key.
    for tag in [0, 1, 4, 5, 6, 7, 0x82] {
        let mut other = good;
        other.0[0] = tag;
        assert_eq!(SessionVerifier::new(&other), Err(Error::Key), "tag {tag}");
        assert_eq!(other.check(b"", &[1; SIGNATURE_BYTES]), Err(Error::Key), "tag {tag}");
    }
    assert_eq!(SessionVerifier::new(&SessionKey([0; 33])), Err(Error::Key));
    // x = 1 is on no point of this curve; 5 is, and 5 + p is another text for it.
    let at = |x: [u8; 32]| {
        let mut key = [2; SessionKey::BYTES];
        key[1..].copy_from_slice(&x);
        SessionVerifier::new(&SessionKey(key))
    };
    assert_eq!(at(beside([0; 32], 1)), Err(Error::Key));
    assert!(at(beside([0; 32], 5)).is_ok());
    assert_eq!(at(beside(P, 5)), Err(Error::Key));
}
