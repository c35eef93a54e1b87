//! Impressions and groups side by side: flat rows, segments, and pairs that do not belong together.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, RecordBatch, UInt32Array};
use arrow::datatypes::{Field, Int32Type, Schema};
use parquet::arrow::ArrowWriter;

use super::{Folder, chunks, names};
use crate::{GroupedFile, ListFormat, SourceSpec};

/// A Parquet file with one row group for each batch.
fn write(folder: &Folder, name: &str, row_groups: &[Vec<(&str, ArrayRef)>]) {
    let fields = row_groups[0].iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let file = File::create(folder.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema.clone(), None).unwrap();
    for columns in row_groups {
        let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
        writer.write(&RecordBatch::try_new(schema.clone(), arrays).unwrap()).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
}

fn numbers(values: &[u32]) -> ArrayRef {
    Arc::new(UInt32Array::from(values.to_vec()))
}

fn lists(values: &[&[i32]]) -> ArrayRef {
    let rows = values.iter().map(|list| Some(list.iter().map(|value| Some(*value)).collect::<Vec<_>>()));
    Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows))
}

fn impressions(folder: &Folder, groups: &[&[u32]]) -> SourceSpec {
    let mut item = 0..;
    let row_groups: Vec<Vec<(&str, ArrayRef)>> = groups
        .iter()
        .map(|groups| {
            let items: Vec<i32> = groups.iter().map(|_| item.next().unwrap()).collect();
            vec![("item", Arc::new(Int32Array::from(items)) as ArrayRef), ("group", numbers(groups))]
        })
        .collect();
    write(folder, "impressions.parquet", &row_groups);
    let source = SourceSpec::new([folder.path("impressions.parquet")]);
    SourceSpec { groups: Some("groups.parquet".to_owned()), ..source }
}

/// Three groups in two segments, the second one cut between them.
pub(super) fn pair(folder: &Folder) -> SourceSpec {
    let groups = [
        vec![("group", numbers(&[0, 1])), ("shops", lists(&[&[7], &[8, 9]]))],
        vec![("group", numbers(&[1, 2])), ("shops", lists(&[&[8, 9], &[]]))],
    ];
    write(folder, "groups.parquet", &groups);
    impressions(folder, &[&[0, 0, 1], &[1, 1, 2]])
}

#[test]
fn flat_rows_repeat_their_group_and_keep_the_order_of_columns() {
    let folder = Folder::new();
    let source = pair(&folder);
    assert_eq!(source.column_names().unwrap(), ["item", "group", "shops"]);
    let read = chunks(&source, &["shops", "item"]).unwrap();
    let mut rows = Vec::new();
    for chunk in &read {
        let schema = chunk.batch().schema();
        assert_eq!(schema.fields().iter().map(|field| field.name()).collect::<Vec<_>>(), ["shops", "item"]);
        assert_eq!(chunk.first_row(), rows.len() as u64);
        let items = chunk.column("item").unwrap().as_primitive::<Int32Type>().clone();
        let shops = chunk.column("shops").unwrap().as_list::<i32>().clone();
        for row in 0..chunk.rows() {
            rows.push((items.value(row), shops.value(row).as_primitive::<Int32Type>().values().to_vec()));
        }
    }
    let expected: [(i32, &[i32]); 6] =
        [(0, &[7]), (1, &[7]), (2, &[8, 9]), (3, &[8, 9]), (4, &[8, 9]), (5, &[])];
    assert_eq!(rows, expected.map(|(item, shops)| (item, shops.to_vec())));
    assert_eq!(folder.message_of(&read[1].origin().place(1)), "impressions.parquet: row 5");
    let none = chunks(&source, &[]).unwrap();
    assert_eq!(none.iter().map(|chunk| chunk.rows()).sum::<usize>(), 6);
}

/// The folder of a pair, and a glob of both, stand for the impressions.
#[test]
fn groups_beside_impressions_are_no_impressions() {
    let folder = Folder::new();
    let pair = pair(&folder);
    let named = |path: &str, groups: Option<&str>| SourceSpec {
        paths: vec![folder.path(path)],
        groups: groups.map(str::to_owned),
        ..pair.clone()
    };
    let files = |source: &SourceSpec| -> Vec<String> {
        source.files().unwrap().iter().map(|file| folder.message_of(&file.path().display())).collect()
    };
    for path in ["", "*.parquet", "impressions.parquet"] {
        let source = named(path, Some("groups.parquet"));
        assert_eq!(files(&source), ["impressions.parquet"], "{path}");
        assert_eq!(source.paths_there().len(), 1, "{path}");
        let rows: usize = chunks(&source, &["item", "shops"]).unwrap().iter().map(|chunk| chunk.rows()).sum();
        assert_eq!(rows, 6, "{path}");
    }
    // Without the key both are files of impressions, and a file that is named is taken at its name.
    assert_eq!(files(&named("*.parquet", None)).len(), 2);
    assert_eq!(files(&named("groups.parquet", Some("groups.parquet"))), ["groups.parquet"]);
    std::fs::remove_file(folder.path("impressions.parquet")).unwrap();
    let error = named("*.parquet", Some("groups.parquet")).files().unwrap_err();
    assert!(
        error.to_string().ends_with("holds no file of impressions beside that of the groups (data.groups)"),
        "{error}"
    );
}

#[test]
fn segments_are_read_in_any_order_with_each_group_once() {
    let folder = Folder::new();
    let source = pair(&folder);
    let columns = names(&["item", "shops"]);
    let path = std::path::Path::new(&source.paths[0]);
    let file = GroupedFile::open(path, "groups.parquet", &columns, source.lists).unwrap();
    assert_eq!((file.segments(), file.rows(), file.segment_rows(1)), (2, 6, 3));
    let second = file.segment(1).unwrap();
    assert_eq!(second.group_of, [0, 0, 1]);
    assert_eq!(second.impressions.column("item").unwrap().as_primitive::<Int32Type>().values(), &[3, 4, 5]);
    assert_eq!((second.groups.rows(), second.impressions.first_row()), (2, 3));
    assert!(second.impressions.column("shops").is_err());
    assert_eq!(file.segment(0).unwrap().group_of, [0, 0, 1]);
    let rows = source.segments(&columns).unwrap().unwrap().map(|segment| segment.unwrap().rows());
    assert_eq!(rows.collect::<Vec<_>>(), [3, 3]);
    assert!(SourceSpec::new(["a.parquet"]).segments(&[]).unwrap().is_none());
}

#[test]
fn pairs_that_do_not_belong_together_are_errors() {
    let folder = Folder::new();
    let source = pair(&folder);
    let fails = |source: &SourceSpec| folder.message(&chunks(source, &["item", "shops"]).unwrap_err());
    assert_eq!(
        fails(&impressions(&folder, &[&[0, 0, 1], &[1, 3]])),
        "impressions.parquet: row 5: column `group`: found `3`, allowed is 2, the next group of groups.parquet"
    );
    assert_eq!(
        fails(&impressions(&folder, &[&[0, 1, 2], &[1, 2]])),
        "impressions.parquet: row 3: column `group`: found `2`, allowed is a group of this segment, of which groups.parquet has no more"
    );
    assert_eq!(
        fails(&impressions(&folder, &[&[0, 1], &[1, 1]])),
        "groups.parquet: row 4: column `group`: found `2`, allowed is a group with impressions"
    );
    assert_eq!(
        fails(&impressions(&folder, &[&[0, 1]])),
        "groups.parquet: has 2 row groups for 1 of impressions.parquet, they must be written as pairs"
    );
    let other = |groups: &str| SourceSpec { groups: Some(groups.to_owned()), ..source.clone() };
    assert_eq!(fails(&other("gone.parquet")), "gone.parquet: No such file or directory");
    assert_eq!(
        fails(&other("impressions.parquet")),
        "impressions.parquet: column `item` is in impressions.parquet as well"
    );
    write(&folder, "groups.parquet", &[vec![("shops", lists(&[&[7]]))]]);
    assert_eq!(fails(&source), "groups.parquet: there is no column `group`, there are `shops`");
    let text = SourceSpec { groups: source.groups.clone(), ..folder.text("a.csv", "x\n1\n") };
    assert_eq!(fails(&text), "a.csv: is no Parquet file; `groups` goes with Parquet only");
}

#[test]
fn an_unknown_column_lists_those_of_both_files() {
    let folder = Folder::new();
    let error = chunks(&pair(&folder), &["shop"]).unwrap_err();
    assert_eq!(
        folder.message(&error),
        "impressions.parquet: there is no column `shop`, did you mean `shops`?"
    );
    assert_eq!(
        GroupedFile::open(
            folder.path("impressions.parquet").as_ref(),
            "groups.parquet",
            &[],
            ListFormat::default()
        )
        .unwrap()
        .segment(0)
        .unwrap()
        .rows(),
        3
    );
}
