//! As much JSON (RFC 8259) as the door needs. `serde_json` does the same in four times the bytes, and each viewer
//! downloads them; the tests hold this to what `serde_json` reads and writes.

use alloc::{string::String, vec::Vec};

/// Nesting of a message at most: the deepest, a welcome, has four levels.
const DEPTH_MAX: usize = 8;

/// What was read. Numbers are counts: other numbers are read and have no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    Number(Option<u64>),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The value of this text; `None` when it is not JSON, or nested deeper than [`DEPTH_MAX`].
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let mut reader = Reader { rest: core::str::from_utf8(text).ok()?.as_bytes() };
        let value = reader.value(DEPTH_MAX)?;
        reader.space();
        reader.rest.is_empty().then_some(value)
    }

    /// An object's member. The last one counts where a name stands twice.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// An object's member that may be absent or null: then it is `Some(None)`.
    pub(crate) fn maybe<T>(&self, name: &str, read: impl Fn(&Self) -> Option<T>) -> Option<Option<T>> {
        match self.get(name) {
            None | Some(Self::Null) => Some(None),
            Some(value) => read(value).map(Some),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A text that is parsed: ids, keys, signed objects, addresses.
    pub(crate) fn parsed<T: core::str::FromStr>(&self) -> Option<T> {
        self.text()?.parse().ok()
    }

    pub(crate) fn number<T: TryFrom<u64>>(&self) -> Option<T> {
        if let Self::Number(number) = self { T::try_from((*number)?).ok() } else { None }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(*flag) } else { None }
    }

    /// A list, each element read the same way.
    pub(crate) fn list<T>(&self, read: impl Fn(&Self) -> Option<T>) -> Option<Vec<T>> {
        let Self::List(values) = self else { return None };
        let mut list = Vec::with_capacity(values.len());
        for value in values {
            list.push(read(value)?);
        }
        Some(list)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.space();
        match *self.rest.first()? {
            b'n' => self.word(b"null", Value::Null),
            b't' => self.word(b"true", Value::Flag(true)),
            b'f' => self.word(b"false", Value::Flag(false)),
            b'"' => self.text().map(Value::Text),
            b'[' => {
                let mut values = Vec::new();
                self.members(depth, b']', |reader, depth| {
                    values.push(reader.value(depth)?);
                    Some(())
                })?;
                Some(Value::List(values))
            }
            b'{' => {
                let mut members = Vec::new();
                self.members(depth, b'}', |reader, depth| {
                    let name = reader.text()?;
                    reader.space();
                    reader.take(b':').then_some(())?;
                    members.push((name, reader.value(depth)?));
                    Some(())
                })?;
                Some(Value::Object(members))
            }
            _ => self.number(),
        }
    }

    /// What stands between an opening bracket and `end`, one by one.
    fn members(
        &mut self,
        depth: usize,
        end: u8,
        mut member: impl FnMut(&mut Self, usize) -> Option<()>,
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.skip(1);
        self.space();
        if self.take(end) {
            return Some(());
        }
        loop {
            self.space();
            member(self, depth)?;
            self.space();
            if self.take(end) {
                return Some(());
            }
            self.take(b',').then_some(())?;
        }
    }

    fn text(&mut self) -> Option<String> {
        self.take(b'"').then_some(())?;
        let mut text = String::new();
        loop {
            let plain = self.rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
            text.push_str(core::str::from_utf8(self.rest.get(..plain)?).ok()?);
            self.skip(plain);
            if self.take(b'"') {
                return Some(text);
            }
            self.take(b'\\').then_some(())?;
            let escape = *self.rest.first()?;
            self.skip(1);
            text.push(match escape {
                b'"' | b'\\' | b'/' => char::from(escape),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.escaped()?,
                _ => return None,
            });
        }
    }

    /// What stands behind `\u`, a surrogate pair's second half included.
    fn escaped(&mut self) -> Option<char> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high);
        }
        (self.take(b'\\') && self.take(b'u')).then_some(())?;
        let low = self.hex()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + low)
    }

    fn hex(&mut self) -> Option<u32> {
        let mut value = 0;
        for digit in self.rest.first_chunk::<4>()? {
            value = value * 16 + char::from(*digit).to_digit(16)?;
        }
        self.skip(4);
        Some(value)
    }

    fn number(&mut self) -> Option<Value> {
        let of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest.iter().position(|byte| !of_number(byte)).unwrap_or(self.rest.len());
        let digits = self.rest.get(..length).filter(|digits| !digits.is_empty())?;
        let plain =
            digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits.first() != Some(&b'0'));
        let count =
            core::str::from_utf8(digits).ok().filter(|_| plain).and_then(|digits| digits.parse().ok());
        self.skip(length);
        Some(Value::Number(count))
    }

    fn word(&mut self, word: &[u8], value: Value) -> Option<Value> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(value)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.rest.first() {
            self.skip(1);
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.rest.first() == Some(&byte);
        if there {
            self.skip(1);
        }
        there
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}

/// Writes one value behind what stands in the vector already.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    /// An object whose members `write` writes.
    pub(crate) fn object(&mut self, write: impl FnOnce(&mut Members<'_>)) {
        self.0.push(b'{');
        write(&mut Members(self.0));
        self.close(b'}');
    }

    /// A list of what `write` writes for each of `items`.
    pub(crate) fn list<T>(&mut self, items: impl Iterator<Item = T>, write: impl Fn(&mut Writer<'_>, T)) {
        self.0.push(b'[');
        for item in items {
            write(&mut Writer(self.0), item);
            self.0.push(b',');
        }
        self.close(b']');
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.0.push(b'"');
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => self.0.extend_from_slice(&[b'\\', byte]),
                0..0x20 => {
                    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                    self.0.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
                }
                _ => self.0.push(byte),
            }
        }
        self.0.push(b'"');
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        let from = self.0.len();
        loop {
            self.0.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
            number /= 10;
            if number == 0 {
                break;
            }
        }
        if let Some(digits) = self.0.get_mut(from..) {
            digits.reverse();
        }
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.0.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    /// Every member and element is followed by a comma; the last one gives way to the bracket.
    fn close(&mut self, bracket: u8) {
        if self.0.last() == Some(&b',') {
            self.0.pop();
        }
        self.0.push(bracket);
    }
}

/// The members of an object being written.
pub(crate) struct Members<'a>(&'a mut Vec<u8>);

impl Members<'_> {
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.member(name, |to| to.text(text));
    }

    pub(crate) fn number(&mut self, name: &str, number: impl Into<u64>) {
        let number = number.into();
        self.member(name, |to| to.number(number));
    }

    pub(crate) fn flag(&mut self, name: &str, flag: bool) {
        self.member(name, |to| to.flag(flag));
    }

    pub(crate) fn member(&mut self, name: &str, write: impl FnOnce(&mut Writer<'_>)) {
        let mut to = Writer(self.0);
        to.text(name);
        to.0.push(b':');
        write(&mut to);
        to.0.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use serde_json::json;

    use super::*;

    fn same(ours: &Value, theirs: &serde_json::Value) -> bool {
        match (ours, theirs) {
            (Value::Null, serde_json::Value::Null) => true,
            (Value::Flag(a), serde_json::Value::Bool(b)) => a == b,
            (Value::Number(a), serde_json::Value::Number(b)) => *a == b.as_u64(),
            (Value::Text(a), serde_json::Value::String(b)) => a == b,
            (Value::List(a), serde_json::Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), serde_json::Value::Object(b)) => {
                a.len() == b.len() && b.iter().all(|(name, b)| ours.get(name).is_some_and(|a| same(a, b)))
            }
            _ => false,
        }
    }

    #[test]
    fn reads_what_serde_json_writes() {
        let theirs = json!({
            "texts": ["", "a\"b\\c/d", "\u{1}\n\r\t\u{8}\u{c}", "grüße 🎥", "\u{7f}"],
            "numbers": [0, 1, 10, u64::MAX, -1, 1.5, 1e300],
            "words": [true, false, null],
            "deep": {"a": {"b": [{"c": {}}]}},
            "empty": [[], {}],
        });
        for text in [theirs.to_string(), serde_json::to_string_pretty(&theirs).unwrap()] {
            assert!(same(&Value::read(text.as_bytes()).unwrap(), &theirs), "{text}");
        }
        let escaped = r#""\u0041\ud83c\udfa5\u00fc\/""#;
        assert_eq!(Value::read(escaped.as_bytes()), Some(Value::Text("A🎥ü/".into())));
    }

    #[test]
    fn refuses_what_is_not_json() {
        let broken = [
            "",
            " ",
            "{",
            "}",
            "[1",
            "[1,]",
            "[,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "\"",
            "\"\\x\"",
            "\"\n\"",
            "\"\\ud83c\"",
            "\"\\ud83c\\u0041\"",
            "\"\\udfa5\"",
            "\"\\u00g0\"",
            "nul",
            "truefalse",
            "1 2",
            "[1] x",
            "\u{feff}1",
        ];
        for text in broken {
            assert_eq!(Value::read(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Value::read(b"\"\xff\""), None);
        assert!(Value::read("[".repeat(8).as_bytes()).is_none());
        assert!(Value::read(("[".repeat(8) + &"]".repeat(8)).as_bytes()).is_some());
        assert!(Value::read(("[".repeat(9) + &"]".repeat(9)).as_bytes()).is_none());
    }

    #[test]
    fn a_number_with_another_spelling_is_no_count() {
        for text in ["01", "-1", "1.0", "1e3", "18446744073709551616", "+1"] {
            assert_eq!(Value::read(text.as_bytes()), Some(Value::Number(None)), "{text}");
        }
    }

    #[test]
    fn serde_json_reads_what_is_written() {
        let mut text = Vec::new();
        Writer(&mut text).object(|to| {
            to.text("text", "a\"b\\c\n\u{1f}🎥");
            to.number("number", u64::MAX);
            to.number("zero", 0_u32);
            to.flag("flag", true);
            to.member("none", |to| to.list([true; 0].into_iter(), |to, flag| to.flag(!flag)));
            to.member("list", |to| {
                to.list([1_u64, 20].into_iter(), |to, n| to.object(|to| to.number("n", n)));
            });
            to.member("object", |to| to.object(|_| {}));
        });
        let theirs: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let wanted = json!({"text": "a\"b\\c\n\u{1f}🎥", "number": u64::MAX, "zero": 0, "flag": true, "none": [],
            "list": [{"n": 1}, {"n": 20}], "object": {}});
        assert_eq!(theirs, wanted);
    }
}
