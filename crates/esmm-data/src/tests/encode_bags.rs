//! Encoding of bags: several values of a row, with and without weights.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float32Array, Int64Array, LargeListArray, ListArray, MapArray, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Int64Type};
use esmm_core::{Feature, Pooling, Side};

use super::encode::{RAW, column, failure, with_weights_column};
use super::{Folder, bag, bag_column, encode, encode_with, fit, vocabulary};

#[test]
fn bags_in_text_and_in_lists_are_the_same() {
    let folder = Folder::new();
    let specs = [bag("x", vocabulary(), Pooling::Mean, false)];
    let text = folder.text("a.csv", "x,y\n5|7|5,1\n,1\n7||new,1\n5,1\n");
    let encoders = fit(&folder.text("fit.csv", "x\n5|7|5\n"), &specs).unwrap();
    let expected = [bag_column(&[0, 3, 3, 6, 7], &[1, 2, 1, 2, 0, 0, 1], None)];
    assert_eq!(encode_with(&encoders, &text).unwrap().sparse, expected);
    let lists = || {
        vec![
            Some(vec![Some(5), Some(7), Some(5)]),
            None,
            Some(vec![Some(7), None, Some(99)]),
            Some(vec![Some(5)]),
        ]
    };
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(lists());
    let large = LargeListArray::from_iter_primitive::<Int64Type, _, _>(lists());
    for (name, columns) in [("l.parquet", column(list)), ("ll.parquet", column(large))] {
        let encoded = encode_with(&encoders, &folder.parquet(name, columns)).unwrap();
        assert_eq!(encoded.sparse, expected, "{name}");
    }
    let fixed = arrow::array::FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(
        vec![Some(vec![Some(5), Some(7)]), None],
        2,
    );
    let encoded = encode_with(&encoders, &folder.parquet("f.parquet", column(fixed))).unwrap();
    assert_eq!(encoded.sparse, [bag_column(&[0, 2, 2], &[1, 2], None)]);
    let ones = folder.parquet("one.parquet", column(Int64Array::from(vec![Some(7), None])));
    assert_eq!(encode_with(&encoders, &ones).unwrap().sparse, [bag_column(&[0, 1, 1], &[2], None)]);
    assert_eq!(encoders.schema().features(), [Feature::bag("x", Side::User, 3, Pooling::Mean)]);
}

/// A null list may still cover items.
#[test]
fn items_under_a_null_list_are_left_out() {
    let folder = Folder::new();
    let values = Arc::new(Int64Array::from(vec![5, 7, 5]));
    let field = Arc::new(Field::new_list_field(DataType::Int64, true));
    let nulls = NullBuffer::from(vec![true, false, true]);
    let list = ListArray::new(field, OffsetBuffer::from_lengths([1, 1, 1]), values, Some(nulls));
    let source = folder.parquet("a.parquet", column(Int64Array::from(vec![0])));
    let origin = source.open(&[]).unwrap().next().unwrap().unwrap().origin().clone();
    let batch = arrow::array::RecordBatch::try_from_iter(column(list)).unwrap();
    let chunk = crate::Chunk::new(batch, origin, source.lists, 0);
    let encoders =
        fit(&folder.text("fit.csv", "x\n5|7|5\n"), &[bag("x", vocabulary(), Pooling::Sum, false)]).unwrap();
    assert_eq!(encoders.encode(&chunk).unwrap().sparse, [bag_column(&[0, 1, 1, 2], &[1, 1], None)]);
}

fn pairs(ids: Vec<&str>, weights: Vec<f32>, names: [&str; 2]) -> StructArray {
    let ids: ArrayRef = Arc::new(StringArray::from(ids));
    let weights: ArrayRef = Arc::new(Float32Array::from(weights));
    StructArray::from(vec![
        (Arc::new(Field::new(names[0], DataType::Utf8, false)), ids),
        (Arc::new(Field::new(names[1], DataType::Float32, false)), weights),
    ])
}

#[test]
fn weights_stand_beside_ids_in_text_structs_and_maps() {
    let folder = Folder::new();
    let specs = [bag("x", vocabulary(), Pooling::Sum, true)];
    let text = folder.text("a.csv", "x,y\na:b:0.5|c:2,1\n,1\nc:0,1\n");
    let encoders = fit(&folder.text("fit.csv", "x\na:b:1|a:b:1|c:1\n"), &specs).unwrap();
    let expected = [bag_column(&[0, 2, 2, 3], &[1, 2, 2], Some(&[0.5, 2.0, 0.0]))];
    assert_eq!(encode_with(&encoders, &text).unwrap().sparse, expected);
    let offsets = || OffsetBuffer::from_lengths([2, 0, 1]);
    for names in [["id", "weight"], ["key", "value"]] {
        let items = pairs(vec!["a:b", "c", "c"], vec![0.5, 2.0, 0.0], names);
        let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
        let list = ListArray::new(field, offsets(), Arc::new(items), None);
        let source = folder.parquet("a.parquet", column(list));
        assert_eq!(encode_with(&encoders, &source).unwrap().sparse, expected);
    }
    let items = pairs(vec!["a:b", "c", "c"], vec![0.5, 2.0, 0.0], ["keys", "values"]);
    let field = Arc::new(Field::new("entries", items.data_type().clone(), false));
    let source = folder.parquet("m.parquet", column(MapArray::new(field, offsets(), items, None, false)));
    assert_eq!(encode_with(&encoders, &source).unwrap().sparse, expected);
}

#[test]
fn a_mean_over_weights_of_zero_is_an_empty_bag() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "x,y\na:0|b:0,1\na:0|b:1,1\n,1\n");
    let mean = encode(&source, &[bag("x", vocabulary(), Pooling::Mean, true)]).unwrap();
    assert_eq!(mean.sparse, [bag_column(&[0, 0, 2, 2], &[1, 2], Some(&[0.0, 1.0]))]);
    let sum = encode(&source, &[bag("x", vocabulary(), Pooling::Sum, true)]).unwrap();
    assert_eq!(sum.sparse, [bag_column(&[0, 2, 4, 4], &[1, 2, 1, 2], Some(&[0.0, 0.0, 0.0, 1.0]))]);
}

#[test]
fn weights_in_a_column_of_their_own_fit_the_bag() {
    let folder = Folder::new();
    let specs = [with_weights_column("x")];
    let expected = [bag_column(&[0, 2, 2], &[1, 2], Some(&[0.5, 2.0]))];
    let text = folder.text("a.csv", "x,w\na|b,0.5|2\n,\n");
    assert_eq!(encode(&text, &specs).unwrap().sparse, expected);
    let mut ids = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    ids.append_value([Some("a"), Some("b")]);
    ids.append_null();
    let weights = ListArray::from_iter_primitive::<arrow::datatypes::Float64Type, _, _>(vec![
        Some(vec![Some(0.5), Some(2.0)]),
        Some(vec![]),
    ]);
    let columns: Vec<(&str, ArrayRef)> = vec![("x", Arc::new(ids.finish())), ("w", Arc::new(weights))];
    assert_eq!(encode(&folder.parquet("a.parquet", columns), &specs).unwrap().sparse, expected);
    assert_eq!(
        failure(&folder, &folder.text("a.csv", "x,w\na,1\na|b|c,0.5|2\n"), &specs),
        "a.csv:3: column `w`: found 2 weights, allowed is 3, one for each item of column `x`"
    );
    assert_eq!(fit(&text, &specs).unwrap().required_columns(), ["x", "w"]);
}

#[test]
fn bad_weights_say_where() {
    let folder = Folder::new();
    let specs = [bag("x", vocabulary(), Pooling::Sum, true)];
    let fails = |cell: &str| failure(&folder, &folder.text("a.csv", format!("x\na:1\n{cell}\n")), &specs);
    assert_eq!(fails("a:1|b"), "a.csv:3: column `x`: found `b`, allowed is id:weight");
    for bad in ["b:-1", "b:NaN", "b:inf", "b:", "b:1e39"] {
        let message = fails(&format!("a:1|{bad}"));
        assert_eq!(
            message,
            format!("a.csv:3: column `x`: found `{bad}`, allowed is a finite weight that is not negative")
        );
    }
    let plain = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)])]);
    let message = failure(&folder, &folder.parquet("a.parquet", column(plain)), &specs);
    let allowed =
        "text, maps and lists of structs with a field `id` or `key` and a field `weight` or `value`";
    assert!(message.starts_with("a.parquet: column `x` is List("), "{message}");
    assert!(message.ends_with(&format!(", allowed are {allowed}")), "{message}");
    let items = pairs(vec!["a", "b"], vec![0.5, -2.0], ["id", "weight"]);
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let list = ListArray::new(field, OffsetBuffer::from_lengths([1, 0, 1]), Arc::new(items), None);
    assert_eq!(
        failure(&folder, &folder.parquet("b.parquet", column(list)), &specs),
        "b.parquet: row 3: column `x`: found `-2`, allowed is a finite weight that is not negative"
    );
}

#[test]
fn errors_in_lists_name_the_row_of_the_item() {
    let folder = Folder::new();
    let lists = vec![Some(vec![Some(1)]), Some(vec![]), None, Some(vec![Some(2), Some(10)])];
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    let message =
        failure(&folder, &folder.parquet("a.parquet", column(list)), &[bag("x", RAW, Pooling::Sum, false)]);
    assert_eq!(message, "a.parquet: row 4: column `x`: found `10`, allowed is a whole number from 0 to 9");
    let message = failure(
        &folder,
        &folder.text("a.csv", "x,y\n1|2,1\n,1\n3|x,1\n"),
        &[bag("x", RAW, Pooling::Sum, false)],
    );
    assert_eq!(message, "a.csv:4: column `x`: found `x`, allowed is a whole number from 0 to 9");
}
