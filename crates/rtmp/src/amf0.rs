//! AMF0, the values in RTMP's commands and metadata (AMF 0 specification, Adobe 2007), bounded in depth and count.
//!
//! Values from outside cost memory only in proportion to [`VALUES_MAX`] and to the bytes they came in.

/// Values nested in values at most. Encoders send objects in a list at the deepest.
pub const DEPTH_MAX: usize = 8;

/// Values in one message at most: a null takes one byte on the wire and some fifty here.
pub const VALUES_MAX: usize = 512;

/// One value. References, AMF3 and other markers that no encoder sends are refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number; RTMP knows only doubles.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// A string, long string or XML document; bytes that are no UTF-8 were replaced.
    String(String),
    /// An object, typed object or ECMA array: names with values, in the order they came.
    Object(Vec<(String, Value)>),
    /// A strict array.
    Array(Vec<Value>),
    /// Milliseconds since 1970.
    Date(f64),
    /// Null.
    Null,
    /// Undefined, and what AMF0 calls unsupported.
    Undefined,
}

/// Why bytes are no AMF0 that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value goes on beyond the end of the message.
    #[error("the value is cut off")]
    Truncated,
    /// Deeper than [`DEPTH_MAX`].
    #[error("values are nested deeper than {DEPTH_MAX}")]
    Deep,
    /// More than [`VALUES_MAX`].
    #[error("more than {VALUES_MAX} values in one message")]
    Many,
    /// A marker that is not read here.
    #[error("marker {0} is not read")]
    Marker(u8),
}

impl Value {
    /// The text, where it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, where it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The value of the property `name`, where it is an object that has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// All values of a message.
///
/// # Errors
/// When they do not end with the message, or pass a bound.
pub fn read_all(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let mut reader = Reader { rest: bytes, values_left: VALUES_MAX };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

/// Appends `value`. Strings above 64 KiB become long strings; names of properties are cut there.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            out.push(NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Boolean(truth) => out.extend_from_slice(&[BOOLEAN, u8::from(*truth)]),
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(len) => {
                out.push(STRING);
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Err(_) => {
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.push(LONG_STRING);
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        },
        Value::Object(properties) => {
            out.push(OBJECT);
            for (name, value) in properties {
                write_name(name, out);
                write(value, out);
            }
            out.extend_from_slice(&[0, 0, OBJECT_END]);
        }
        Value::Array(values) => {
            out.push(STRICT_ARRAY);
            out.extend_from_slice(&u32::try_from(values.len()).unwrap_or(u32::MAX).to_be_bytes());
            for value in values {
                write(value, out);
            }
        }
        Value::Date(millis) => {
            out.push(DATE);
            out.extend_from_slice(&millis.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
        }
        Value::Null => out.push(NULL),
        Value::Undefined => out.push(UNDEFINED),
    }
}

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
const ECMA_ARRAY: u8 = 8;
const OBJECT_END: u8 = 9;
const STRICT_ARRAY: u8 = 10;
const DATE: u8 = 11;
const LONG_STRING: u8 = 12;
const UNSUPPORTED: u8 = 13;
const XML: u8 = 15;
const TYPED_OBJECT: u8 = 16;

fn write_name(name: &str, out: &mut Vec<u8>) {
    let end = name.floor_char_boundary(usize::from(u16::MAX));
    let name = name.get(..end).unwrap_or_default();
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
}

struct Reader<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > DEPTH_MAX {
            return Err(Error::Deep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(Error::Many)?;
        let [marker] = self.take()?;
        match marker {
            NUMBER => Ok(Value::Number(f64::from_be_bytes(self.take()?))),
            BOOLEAN => self.take::<1>().map(|[truth]| Value::Boolean(truth != 0)),
            STRING => self.short_string().map(Value::String),
            LONG_STRING | XML => self.long_string().map(Value::String),
            OBJECT => self.properties(depth),
            TYPED_OBJECT => {
                self.short_string()?;
                self.properties(depth)
            }
            ECMA_ARRAY => {
                // The count is advice: encoders send 0 or one too few, and the end marker is what counts.
                self.take::<4>()?;
                self.properties(depth)
            }
            STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.take()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Ok(Value::Array(values))
            }
            DATE => {
                let millis = f64::from_be_bytes(self.take()?);
                self.take::<2>()?;
                Ok(Value::Date(millis))
            }
            NULL => Ok(Value::Null),
            UNDEFINED | UNSUPPORTED => Ok(Value::Undefined),
            other => Err(Error::Marker(other)),
        }
    }

    fn properties(&mut self, depth: usize) -> Result<Value, Error> {
        let mut properties = Vec::new();
        loop {
            let name = self.short_string()?;
            if name.is_empty() && self.rest.first() == Some(&OBJECT_END) {
                self.take::<1>()?;
                return Ok(Value::Object(properties));
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let len = u16::from_be_bytes(self.take()?);
        self.text(usize::from(len))
    }

    fn long_string(&mut self) -> Result<String, Error> {
        let len = u32::from_be_bytes(self.take()?);
        self.text(usize::try_from(len).map_err(|_| Error::Truncated)?)
    }

    fn text(&mut self, len: usize) -> Result<String, Error> {
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `connect` as GStreamer and ffmpeg begin it, written out by hand from the specification.
    const CONNECT: &[u8] = &[
        2, 0, 7, b'c', b'o', b'n', b'n', b'e', b'c', b't', // string
        0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, // number 1
        3, 0, 3, b'a', b'p', b'p', 2, 0, 4, b'l', b'i', b'v', b'e', // object { app: "live",
        0, 4, b'f', b'p', b'a', b'd', 1, 0, // fpad: false }
        0, 0, 9,
    ];

    #[test]
    fn connect_reads_and_writes_byte_for_byte() {
        let values = read_all(CONNECT).unwrap();
        assert_eq!(values[0], Value::String("connect".into()));
        assert_eq!(values[1], Value::Number(1.0));
        assert_eq!(values[2].get("app").and_then(Value::as_str), Some("live"));
        assert_eq!(values[2].get("fpad"), Some(&Value::Boolean(false)));
        let mut written = Vec::new();
        values.iter().for_each(|value| write(value, &mut written));
        assert_eq!(written, CONNECT);
    }

    #[test]
    fn an_ecma_array_ends_at_its_marker_whatever_its_count_says() {
        let bytes = [8, 0, 0, 0, 9, 0, 1, b'w', 0, 0x40, 0x94, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(read_all(&bytes).unwrap(), [Value::Object(vec![("w".into(), Value::Number(1280.0))])]);
    }

    #[test]
    fn other_markers_read_as_specified() {
        let bytes = [
            [10, 0, 0, 0, 2, 5, 6].as_slice(),         // strict array [null, undefined]
            &[11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],       // date 0
            &[12, 0, 0, 0, 1, b'x'],                   // long string
            &[16, 0, 1, b'T', 0, 1, b'a', 5, 0, 0, 9], // typed object T { a: null }
            &[13],                                     // unsupported
        ]
        .concat();
        assert_eq!(
            read_all(&bytes).unwrap(),
            [
                Value::Array(vec![Value::Null, Value::Undefined]),
                Value::Date(0.0),
                Value::String("x".into()),
                Value::Object(vec![("a".into(), Value::Null)]),
                Value::Undefined,
            ]
        );
    }

    #[test]
    fn every_prefix_of_a_value_is_truncated() {
        for end in 11..CONNECT.len() {
            if end != 19 {
                assert_eq!(read_all(&CONNECT[..end]), Err(Error::Truncated), "{end}");
            }
        }
    }

    #[test]
    fn depth_count_and_lying_lengths_are_refused() {
        let nested = [10, 0, 0, 0, 1].repeat(DEPTH_MAX + 2);
        assert_eq!(read_all(&nested), Err(Error::Deep));
        assert_eq!(read_all(&[5; VALUES_MAX + 1]), Err(Error::Many));
        assert_eq!(read_all(&[5; VALUES_MAX]).unwrap().len(), VALUES_MAX);
        assert_eq!(read_all(&[10, 0xff, 0xff, 0xff, 0xff, 5]), Err(Error::Truncated));
        assert_eq!(read_all(&[12, 0xff, 0xff, 0xff, 0xff, b'x']), Err(Error::Truncated));
        assert_eq!(read_all(&[7, 0, 0]), Err(Error::Marker(7)));
        assert_eq!(read_all(&[17, 0]), Err(Error::Marker(17)));
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        assert_eq!(read_all(&[2, 0, 1, 0xff]).unwrap(), [Value::String("\u{fffd}".into())]);
    }
}
