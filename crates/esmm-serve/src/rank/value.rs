//! Values of a JSON body: texts borrowed from it, and no key twice.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// Any value of a body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Object(Fields<'a>),
}

/// The fields of an object, each once.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields<'a> {
    /// In the order of their names.
    fields: Vec<(Cow<'a, str>, Value<'a>)>,
}

impl Value<'_> {
    /// Whether it has values of its own.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self, Self::List(_) | Self::Object(_))
    }

    pub(crate) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    pub(crate) fn as_number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            Self::Null | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl<'a> Fields<'a> {
    /// The value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        let place = self.fields.binary_search_by(|(other, _)| other.as_ref().cmp(name)).ok()?;
        Some(&self.fields[place].1)
    }

    /// Whether there is a field of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names of all fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.fields.iter().map(|(name, _)| name.as_ref())
    }

    /// All fields, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Cow<'a, str>, &Value<'a>)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }

    /// Reads an object whose opening brace is read already.
    pub(super) fn read<'de: 'a, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut fields: Vec<(Cow<'a, str>, Value<'a>)> = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        match fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            None => Ok(Self { fields }),
            // Which of the two counts would be a guess.
            Some(pair) => Err(de::Error::custom(format_args!("the key `{}` is there twice", pair[0].0))),
        }
    }
}

/// A key, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields<'de>, A::Error> {
                Fields::read(map)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Value<'de>, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Value<'de>, E> {
                Ok(Value::Bool(truth))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value<'de>, E> {
                Ok(Value::Number(number.into()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value<'de>, E> {
                Ok(Value::Number(number.into()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value<'de>, E> {
                let finite = Number::from_f64(number);
                finite.map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value<'de>, E> {
                Ok(Value::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'de>, A::Error> {
                Fields::read(map).map(Value::Object)
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

impl fmt::Display for Value<'_> {
    /// As JSON has it; what is nested by its kind.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("null"),
            Self::Bool(truth) => write!(formatter, "{truth}"),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Text(text) => write!(formatter, "{}", serde_json::Value::from(text.as_ref())),
            Self::List(_) | Self::Object(_) => formatter.write_str(self.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_stand_and_borrowed_where_they_can_be() {
        let text = r#"{"b": [1, -2, 2.5, 18446744073709551615], "a": "x", "c\n": "\u00e9", "d": {"e": null, "f": true}}"#;
        let Value::Object(fields) = serde_json::from_str(text).unwrap() else { panic!("an object") };
        assert_eq!(fields.names().collect::<Vec<_>>(), ["a", "b", "c\n", "d"]);
        assert!(matches!(fields.get("a"), Some(Value::Text(Cow::Borrowed("x")))));
        assert_eq!(fields.get("c\n").and_then(Value::as_str), Some("\u{e9}"));
        let Some(Value::List(numbers)) = fields.get("b") else { panic!("a list") };
        let numbers: Vec<String> = numbers.iter().map(Value::to_string).collect();
        assert_eq!(numbers, ["1", "-2", "2.5", "18446744073709551615"]);
        let Some(Value::Object(nested)) = fields.get("d") else { panic!("an object") };
        assert!(nested.get("e").is_some_and(Value::is_null));
        assert_eq!(nested.get("f").and_then(Value::as_bool), Some(true));
        assert!(!fields.has("e"));
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_wherever_it_is() {
        for text in [r#"{"a": 1, "b": 2, "a": 1}"#, r#"[[{"x": {"a": 1, "\u0061": 2}}]]"#] {
            let error = serde_json::from_str::<Value<'_>>(text).unwrap_err().to_string();
            assert!(error.contains("the key `a` is there twice"), "{error}");
        }
    }
}
