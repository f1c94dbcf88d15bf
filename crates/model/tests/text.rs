//! Text forms: what prints parses back, and what does not belong is refused with the reason.

use millstream_model::{Hash, SessionId, SlugError, StreamId, TextError};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_session_id_prints_and_parses(bytes: [u8; 16]) {
        let id = SessionId(bytes);
        prop_assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(serde_json::from_str::<SessionId>(&json).unwrap(), id);
    }

    #[test]
    fn any_text_is_a_value_or_an_error(text in ".{0,80}") {
        let _ = text.parse::<Hash>();
        let _ = StreamId::new(&text);
    }
}

#[test]
fn a_value_of_another_size_says_both_sizes() {
    assert_eq!("AAAA".parse::<SessionId>(), Err(TextError::Length { want: 16, got: 3 }));
    assert_eq!("!".parse::<SessionId>(), Err(TextError::Alphabet));
    assert!(matches!("A".repeat(10_000).parse::<SessionId>(), Err(TextError::Length { .. })));
}

#[test]
fn a_slug_is_a_dns_label() {
    assert!(StreamId::new("demo").is_ok());
    assert!(StreamId::new(&"a".repeat(63)).is_ok());
    assert_eq!(StreamId::new(""), Err(SlugError::Length(0)));
    assert_eq!(StreamId::new(&"a".repeat(64)), Err(SlugError::Length(64)));
    for wrong in ["Demo", "-a", "a-", "a_b", "a/b", "ä"] {
        assert_eq!(StreamId::new(wrong), Err(SlugError::Character), "{wrong}");
    }
}
