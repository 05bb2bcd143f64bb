//! JSON with one meaning per text. Two readers that disagree about a document disagree about who may pass, so what leaves
//! room for that is refused at every depth: members named twice, a byte order mark, bytes that are not UTF-8, numbers out
//! of range, anything after the value, and nesting that nothing we read needs.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The members of an object.
pub type Object = Map<String, Value>;

/// How deep arrays and objects may be nested.
const MAX_DEPTH: usize = 16;

/// Reads a document that is one object; `None` for anything else. The caller bounds its size.
#[must_use]
pub fn object(bytes: &[u8]) -> Option<Object> {
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: MAX_DEPTH }.deserialize(&mut document).ok()?;
    document.end().ok()?;
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// Reads one value, with so many levels below it.
#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn below<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = members.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(below)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member named twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_member_named_twice_is_refused_at_every_depth() {
        assert!(object(br#"{"a":1,"b":{"a":1}}"#).is_some());
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"a":2}}"#, r#"{"b":[{"a":1,"\u0061":2}]}"#] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn only_one_whole_object_is_read() {
        for text in ["", "[]", "1", "\"a\"", "{} {}", "{}x", "\u{feff}{}", "{'a':1}", "{\"a\":1e999}", "{\"a\":NaN}"] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
        assert!(object(br#"{"a":"\ud800"}"#).is_none(), "half a surrogate pair");
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(nested(MAX_DEPTH - 1).as_bytes()).is_some());
        assert!(object(nested(MAX_DEPTH).as_bytes()).is_none());
        assert!(object(nested(100_000).as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = object(&bytes);
        }

        #[test]
        fn what_is_read_is_what_serde_reads(text in r#"\{("[a-c]":(1|-2|0\.5|true|null|"x"|\[1\])(,"[d-f]":\{\})?)?\}"#) {
            let read = object(text.as_bytes()).map(Value::Object);
            prop_assert_eq!(read, serde_json::from_str::<Value>(&text).ok());
        }
    }
}
