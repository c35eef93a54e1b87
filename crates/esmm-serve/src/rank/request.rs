//! What a body of `/v1/rank` may hold.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

use super::value::{Fields, Value};

/// A body: one request, or several.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body<'a> {
    #[serde(borrow)]
    requests: Option<Vec<RankRequest<'a>>>,
    #[serde(borrow)]
    user: Option<Fields<'a>>,
    #[serde(borrow)]
    context: Option<Fields<'a>>,
    #[serde(borrow)]
    items: Option<Vec<Item<'a>>>,
    top: Option<usize>,
    by: Option<By>,
}

/// One user with candidates.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RankRequest<'a> {
    /// Features of the user, by their columns.
    #[serde(borrow, default)]
    pub(crate) user: Fields<'a>,
    /// Features of the context.
    #[serde(borrow, default)]
    pub(crate) context: Fields<'a>,
    /// The candidates.
    #[serde(borrow)]
    pub(crate) items: Vec<Item<'a>>,
    /// How many of them are answered; all by default.
    pub(crate) top: Option<usize>,
    /// What they are ordered by.
    #[serde(default)]
    pub(crate) by: By,
}

/// A candidate.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// Its id in the catalogue.
    Id(ItemId<'a>),
    /// Its features, or its id with what differs between candidates.
    Features(Fields<'a>),
}

/// An id as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ItemId<'a> {
    Text(Cow<'a, str>),
    Number(Number),
}

impl<'a> ItemId<'a> {
    /// The id that a value is, if it is one.
    pub(crate) fn of(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => Some(Self::Number(number.clone())),
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Object(_) => None,
        }
    }

    /// As text.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Owned(number.to_string()),
        }
    }

    /// Calls a function with the text; a whole number is written on the stack.
    #[inline]
    pub(crate) fn with_text<T>(&self, call: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Text(text) => call(text),
            Self::Number(number) => match number.as_u64() {
                Some(number) => call(itoa::Buffer::new().format(number)),
                None => call(&number.to_string()),
            },
        }
    }
}

/// What candidates are ordered by.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum By {
    /// The probability of reaching the last stage, pCTCVR.
    #[default]
    Last,
    /// A column of the answer.
    Column(String),
    /// The probability of the last stage times a number of the item: its expected value.
    Value(String),
}

impl<'a> Body<'a> {
    /// The requests, and whether they were sent as a list.
    pub(crate) fn requests(self) -> Result<(Vec<RankRequest<'a>>, bool), String> {
        let alone = self.user.is_some() || self.context.is_some() || self.items.is_some();
        match (self.requests, self.items) {
            (Some(_), _) if alone || self.top.is_some() || self.by.is_some() => {
                Err("`requests` stands alone: `user`, `context`, `items`, `top` and `by` belong into each of them".into())
            }
            (Some(requests), _) => Ok((requests, true)),
            (None, Some(items)) => {
                let (user, context) = (self.user.unwrap_or_default(), self.context.unwrap_or_default());
                let by = self.by.unwrap_or_default();
                Ok((vec![RankRequest { user, context, items, top: self.top, by }], false))
            }
            (None, None) => Err("`items` is missing: the candidates, as ids or as objects".into()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;

        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an item: its id, or an object")
            }

            fn visit_borrowed_str<E: de::Error>(self, id: &'de str) -> Result<Item<'de>, E> {
                Ok(Item::Id(ItemId::Text(Cow::Borrowed(id))))
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Item<'de>, E> {
                Ok(Item::Id(ItemId::Text(Cow::Owned(id.to_owned()))))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Item<'de>, E> {
                Ok(Item::Id(ItemId::Number(id.into())))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Item<'de>, E> {
                Ok(Item::Id(ItemId::Number(id.into())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item<'de>, A::Error> {
                Fields::read(map).map(Item::Features)
            }
        }

        deserializer.deserialize_any(ItemVisitor)
    }
}

impl<'de> Deserialize<'de> for By {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByVisitor;

        impl<'de> Visitor<'de> for ByVisitor {
            type Value = By;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`by`: the name of a score, or {\"value\": \"a number of the items\"}")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<By, E> {
                Ok(By::Column(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<By, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct ByValue {
                    value: String,
                }
                let by = ByValue::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(By::Value(by.value))
            }
        }

        deserializer.deserialize_any(ByVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Vec<RankRequest<'_>>, bool), String> {
        serde_json::from_str::<Body<'_>>(text).map_err(|error| error.to_string())?.requests()
    }

    #[test]
    fn a_body_is_one_request_or_a_list_of_them() {
        let (requests, many) =
            parse(r#"{"user": {"age": 3}, "items": ["a", 7, {"x": 1}], "top": 2}"#).unwrap();
        assert!(!many && requests.len() == 1 && requests[0].top == Some(2) && requests[0].by == By::Last);
        assert!(
            matches!(&requests[0].items[..], [Item::Id(a), Item::Id(b), Item::Features(_)] if a.text() == "a" && b.text() == "7")
        );
        let (requests, many) =
            parse(r#"{"requests": [{"items": []}, {"items": [], "by": {"value": "price"}}]}"#).unwrap();
        assert!(many && requests[1].by == By::Value("price".to_owned()));
    }

    #[test]
    fn ids_are_texts_however_they_were_sent() {
        let (requests, _) = parse(r#"{"items": ["\u0061", 7, -7, 18446744073709551615]}"#).unwrap();
        let ids = requests[0].items.iter().map(|item| match item {
            Item::Id(id) => id.with_text(|text| (text.to_owned(), id.text().into_owned())),
            Item::Features(_) => panic!("an id"),
        });
        let expected = ["a", "7", "-7", "18446744073709551615"].map(|id| (id.to_owned(), id.to_owned()));
        assert_eq!(ids.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn wrong_bodies_say_what_is_wrong() {
        let error = |text| parse(text).unwrap_err();
        assert!(error("{}").contains("`items` is missing"));
        assert!(error(r#"{"requests": [], "top": 1}"#).contains("stands alone"));
        assert!(error(r#"{"items": [], "usr": {}}"#).contains("unknown field `usr`"));
        assert!(error(r#"{"items": [[1]]}"#).contains("its id, or an object"));
        assert!(error(r#"{"items": [], "by": 3}"#).contains("the name of a score"));
        assert!(error(r#"{"items": [1.5]}"#).contains("its id, or an object"));
        assert!(error(r#"{"items": [], "items": []}"#).contains("duplicate field `items`"));
        assert!(error(r#"{"items": [], "user": {"age": 3, "age": 4}}"#).contains("`age` is there twice"));
        assert!(error(r#"{"items": [{"x": 1, "x": 1}]}"#).contains("`x` is there twice"));
    }
}
