//! Values of a JSON body as Arrow columns, so that the encoders read them by the rules for files.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, NullArray, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};

use super::value::Value;

/// A value that has no place in a column.
#[derive(Debug, PartialEq)]
pub(crate) struct BadValue {
    /// Its row, from 0.
    pub(crate) row: usize,
    /// What it is.
    pub(crate) found: String,
    /// What it may be.
    pub(crate) allowed: &'static str,
}

const SINGLE: &str = "text, a number, true, false or null";
const LIST: &str = "a list, an object of weights, text, a number or null";
const PAIR: &str = "an object with `id` and `weight`";
const WEIGHT: &str = "a number";

/// The column of a feature that takes one value a row.
pub(crate) fn single(values: &[&Value<'_>]) -> Result<ArrayRef, BadValue> {
    match values.iter().position(|value| value.is_nested()) {
        None => Ok(scalars(values)),
        Some(row) => Err(BadValue { row, found: values[row].kind().to_owned(), allowed: SINGLE }),
    }
}

/// The column of a bag: lists, objects of weights by id, or what a text column of lists may hold.
pub(crate) fn bag(values: &[&Value<'_>], weighted: bool) -> Result<ArrayRef, BadValue> {
    if !values.iter().any(|value| value.is_nested()) {
        return Ok(scalars(values));
    }
    let mut lengths = Vec::with_capacity(values.len());
    let mut ids: Vec<Value<'_>> = Vec::new();
    let mut weights: Vec<f64> = Vec::new();
    for (row, value) in values.iter().enumerate() {
        let bad = |found: &Value<'_>, allowed| BadValue { row, found: found.kind().to_owned(), allowed };
        let before = ids.len();
        match value {
            Value::Null => {}
            Value::List(items) if weighted => {
                for item in items {
                    let (id, weight) = pair(item).ok_or_else(|| bad(item, PAIR))?;
                    weights.push(number(weight).ok_or_else(|| bad(weight, WEIGHT))?);
                    ids.push(id.clone());
                }
            }
            Value::List(items) => {
                if let Some(item) = items.iter().find(|item| item.is_nested()) {
                    return Err(bad(item, SINGLE));
                }
                ids.extend(items.iter().cloned());
            }
            Value::Object(items) if weighted => {
                for (id, weight) in items.iter() {
                    weights.push(number(weight).ok_or_else(|| bad(weight, WEIGHT))?);
                    ids.push(Value::Text(id.clone()));
                }
            }
            Value::Object(_) => return Err(bad(value, "a list: the feature has no weights")),
            // One column is written in one way: text with separators beside lists would have two meanings.
            Value::Text(_) | Value::Number(_) | Value::Bool(_) => return Err(bad(value, LIST)),
        }
        lengths.push(ids.len() - before);
    }
    let ids = scalars(&ids.iter().collect::<Vec<_>>());
    let items: ArrayRef = if weighted {
        let weights: ArrayRef = Arc::new(Float64Array::from(weights));
        let fields = Fields::from(vec![
            Field::new("id", ids.data_type().clone(), true),
            Field::new("weight", DataType::Float64, false),
        ]);
        let len = ids.len();
        match StructArray::try_new_with_length(fields, vec![ids, weights], None, len) {
            Ok(items) => Arc::new(items),
            Err(error) => return Err(BadValue { row: 0, found: error.to_string(), allowed: PAIR }),
        }
    } else {
        ids
    };
    let nulls: NullBuffer = values.iter().map(|value| !value.is_null()).collect();
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    match ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, Some(nulls)) {
        Ok(lists) => Ok(Arc::new(lists)),
        Err(error) => Err(BadValue { row: 0, found: error.to_string(), allowed: LIST }),
    }
}

fn pair<'v, 'a>(item: &'v Value<'a>) -> Option<(&'v Value<'a>, &'v Value<'a>)> {
    let Value::Object(item) = item else { return None };
    let id = item.get("id").or_else(|| item.get("key"))?;
    let weight = item.get("weight").or_else(|| item.get("value"))?;
    (!id.is_nested()).then_some((id, weight))
}

fn number(value: &Value<'_>) -> Option<f64> {
    value.as_number()?.as_f64()
}

/// Plain values as the narrowest column that holds all of them: integers, floats, booleans, or else their texts.
fn scalars(values: &[&Value<'_>]) -> ArrayRef {
    let all = |fits: fn(&Value<'_>) -> bool| values.iter().all(|value| value.is_null() || fits(value));
    if values.iter().all(|value| value.is_null()) {
        return Arc::new(NullArray::new(values.len()));
    }
    if all(|value| value.as_str().is_some()) {
        return Arc::new(values.iter().map(|value| value.as_str()).collect::<StringArray>());
    }
    if all(|value| whole(value).is_some()) {
        return Arc::new(values.iter().map(|value| whole(value)).collect::<Int64Array>());
    }
    // Whole numbers beyond i64 are ids, and floats would round them.
    if all(|value| value.as_number().is_some_and(|number| number.is_i64() || number.is_f64())) {
        return Arc::new(values.iter().map(|value| number(value)).collect::<Float64Array>());
    }
    if all(|value| value.as_bool().is_some()) {
        return Arc::new(values.iter().map(|value| value.as_bool()).collect::<BooleanArray>());
    }
    Arc::new(values.iter().map(|value| text(value)).collect::<StringArray>())
}

fn whole(value: &Value<'_>) -> Option<i64> {
    value.as_number()?.as_i64()
}

/// What a file would have in this place.
fn text<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Bool(truth) => Some(Cow::Owned(truth.to_string())),
        Value::Number(number) => Some(Cow::Owned(match number.as_f64() {
            // 3.0 is the key 3, as in a column of floats.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        })),
        Value::List(_) | Value::Object(_) => Some(Cow::Owned(value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use serde::Deserialize;
    use serde_json::{Value as Json, json};

    use super::*;

    /// The values of a list.
    fn values(list: Json) -> Vec<Value<'static>> {
        Vec::deserialize(list).unwrap()
    }

    fn single_of(list: Json) -> Result<ArrayRef, BadValue> {
        single(&values(list).iter().collect::<Vec<_>>())
    }

    fn bag_of(list: Json, weighted: bool) -> Result<ArrayRef, BadValue> {
        bag(&values(list).iter().collect::<Vec<_>>(), weighted)
    }

    #[test]
    fn values_take_the_type_that_a_file_would_have() {
        let kind = |list: Json| single_of(list).unwrap().data_type().clone();
        assert_eq!(kind(json!([1, null, -3])), DataType::Int64);
        assert_eq!(kind(json!([1, 2.5])), DataType::Float64);
        assert_eq!(kind(json!([null])), DataType::Null);
        assert_eq!(kind(json!([true, null])), DataType::Boolean);
        assert_eq!(kind(json!(["a"])), DataType::Utf8);
        let mixed = single_of(json!(["a", 7, 3.0, true, 18446744073709551615_u64, null])).unwrap();
        let mixed: Vec<_> = mixed.as_string::<i32>().iter().collect();
        let expected = ["a", "7", "3", "true", "18446744073709551615"].map(Some);
        assert_eq!(mixed, [&expected[..], &[None]].concat());
    }

    #[test]
    fn bags_are_lists_with_and_without_weights() {
        let lists = bag_of(json!([["a", "b"], [], null]), false).unwrap();
        assert_eq!(lists.as_list::<i32>().value_offsets(), [0, 2, 2, 2]);
        assert!(lists.is_null(2));
        for weighted in [json!([[{"id": "a", "weight": 0.5}], null]), json!([{"a": 0.5}, null])] {
            let lists = bag_of(weighted, true).unwrap();
            let items = lists.as_list::<i32>().values().as_struct().clone();
            assert_eq!(items.column(0).as_string::<i32>().value(0), "a");
        }
        let text = bag_of(json!(["a|b", null]), false).unwrap();
        assert_eq!(text.data_type(), &DataType::Utf8);
    }

    #[test]
    fn what_fits_nowhere_is_named_by_its_row() {
        let bad = |found: Result<ArrayRef, BadValue>| {
            let bad = found.unwrap_err();
            (bad.row, bad.found)
        };
        assert_eq!(bad(single_of(json!([1, [2]]))), (1, "a list".to_owned()));
        assert_eq!(bad(bag_of(json!([["a"], "a|b"]), false)), (1, "text".to_owned()));
        assert_eq!(bad(bag_of(json!([[["a"]]]), false)), (0, "a list".to_owned()));
        assert_eq!(bad(bag_of(json!([{"a": 1}]), false)), (0, "an object".to_owned()));
        assert_eq!(bad(bag_of(json!([["a"]]), true)), (0, "text".to_owned()));
        assert_eq!(bad(bag_of(json!([{"a": "x"}]), true)), (0, "text".to_owned()));
    }
}
