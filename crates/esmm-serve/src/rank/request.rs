//! What a body of `/v1/rank` may hold.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A body: one request, or several.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    requests: Option<Vec<RankRequest>>,
    user: Option<Map<String, Value>>,
    context: Option<Map<String, Value>>,
    items: Option<Vec<Item>>,
    top: Option<usize>,
    by: Option<By>,
}

/// One user with candidates.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RankRequest {
    /// Features of the user, by their columns.
    #[serde(default)]
    pub(crate) user: Map<String, Value>,
    /// Features of the context.
    #[serde(default)]
    pub(crate) context: Map<String, Value>,
    /// The candidates.
    pub(crate) items: Vec<Item>,
    /// How many of them are answered; all by default.
    pub(crate) top: Option<usize>,
    /// What they are ordered by.
    #[serde(default)]
    pub(crate) by: By,
}

/// A candidate.
#[derive(Debug)]
pub(crate) enum Item {
    /// Its id in the catalogue.
    Id(String),
    /// Its features, or its id with what differs between candidates.
    Features(Map<String, Value>),
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

impl Body {
    /// The requests, and whether they were sent as a list.
    pub(crate) fn requests(self) -> Result<(Vec<RankRequest>, bool), String> {
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

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;

        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an item: its id, or an object")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Item, E> {
                Ok(Item::Id(id.to_owned()))
            }

            fn visit_string<E: de::Error>(self, id: String) -> Result<Item, E> {
                Ok(Item::Id(id))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Item, E> {
                Ok(Item::Id(id.to_string()))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Item, E> {
                Ok(Item::Id(id.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                let features = Map::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Item::Features(features))
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

    fn parse(text: &str) -> Result<(Vec<RankRequest>, bool), String> {
        serde_json::from_str::<Body>(text).map_err(|error| error.to_string())?.requests()
    }

    #[test]
    fn a_body_is_one_request_or_a_list_of_them() {
        let (requests, many) =
            parse(r#"{"user": {"age": 3}, "items": ["a", 7, {"x": 1}], "top": 2}"#).unwrap();
        assert!(!many && requests.len() == 1 && requests[0].top == Some(2) && requests[0].by == By::Last);
        assert!(
            matches!(&requests[0].items[..], [Item::Id(a), Item::Id(b), Item::Features(_)] if a == "a" && b == "7")
        );
        let (requests, many) =
            parse(r#"{"requests": [{"items": []}, {"items": [], "by": {"value": "price"}}]}"#).unwrap();
        assert!(many && requests[1].by == By::Value("price".to_owned()));
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
    }
}
