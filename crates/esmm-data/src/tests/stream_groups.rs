//! Rows whose users stand apart, in files and in memory.

use esmm_core::Side;

use super::stream::{ROWS, batches, batches_of, features, grouped, labels, numbers, windows};
use super::{Folder, StreamOptions, load_splits, single_ids, stream_splits};
use crate::loader::Purpose;
use crate::stream::{FileRows, WindowSizes};
use crate::{Dataset, SplitRows, SplitSpec, UserGroups};

/// The same rows, each with its user's features of its own.
fn flat(data: Dataset) -> Dataset {
    let Some(UserGroups { of_rows, sides, .. }) = &data.users else {
        return data;
    };
    let repeat = |column: &Vec<f32>| of_rows.iter().map(|&group| column[group as usize]).collect();
    let sparse = data.sparse.iter().zip(&sides.sparse);
    let dense = data.dense.iter().zip(&sides.dense);
    Dataset {
        sparse: sparse
            .map(|(column, user)| if *user { column.take(of_rows) } else { column.clone() })
            .collect(),
        dense: dense.map(|(column, user)| if *user { repeat(column) } else { column.clone() }).collect(),
        users: None,
        ..data
    }
}

/// Rows of a user stay together and hold its features once, and come to the same batches of rows.
#[test]
fn groups_are_held_once_and_stay_together() {
    let folder = Folder::new();
    let source = grouped(&folder);
    // A place of its own beside the others of an impression: `user` stands with the groups.
    let mut features = features();
    features[1].side = Side::Item;
    features[2].side = Side::Item;
    let spec = SplitSpec::Random { source, valid: 0.2, test: 0.0, seed: 8 };
    let stream = |by_group| {
        let options = StreamOptions { memory: 1 << 30, shuffle_rows: 300, by_group };
        stream_splits(&spec, &features, &labels(), Some("user"), None, options).unwrap()
    };
    let (apart, streamed) = (stream(false), stream(true));
    assert_eq!(streamed.report, apart.report);
    let all = |rows: &FileRows| windows(rows, None, WindowSizes::equal(ROWS), 0).remove(0);
    let (expected, found) = (all(&apart.train), all(&streamed.train));
    let users = found.users.as_ref().unwrap();
    assert_eq!(users.count, ROWS / 10, "each group once: none has lost all of its ten rows");
    assert_eq!(single_ids(&found.sparse[0]).len(), users.count);
    let rows: Vec<u32> = (0..found.rows as u32).rev().collect();
    assert_eq!(flat(found.take(&rows)), expected.take(&rows));
    assert_eq!(flat(found.clone()), expected);

    let purpose = Purpose::Training { seed: 4 };
    let group = |row: &u64| row / 10;
    let whole = batches(&SplitRows::from(streamed.train.clone()), purpose, 0, 0);
    let groups = whole.concat().chunk_by(|left, right| group(left) == group(right)).count();
    // A window boundary can cut a group in two, and there are 6 windows of 32 to 288 rows at most.
    assert!((users.count..users.count + 6).contains(&groups), "{groups}");
    assert!(
        whole.concat()
            != numbers(&windows(&streamed.train, None, WindowSizes::equal(ROWS), 0))
                .iter()
                .map(|row| *row as u64)
                .collect::<Vec<_>>()
    );
    for skip in 0..whole.len() {
        assert_eq!(batches(&SplitRows::from(streamed.train.clone()), purpose, 0, skip), whole[skip..]);
    }

    // In memory they are one window, and no boundary cuts a group.
    let load = |by_group| load_splits(&spec, &features, &labels(), Some("user"), None, by_group).unwrap();
    let (apart, held) = (load(false), load(true));
    assert_eq!((&held.train, &held.report), (&found, &apart.report));
    assert_eq!(*held.train.written_out(usize::MAX), apart.train);
    let (encoders, loaded) = (held.encoders, SplitRows::from(held.train));
    let whole = batches_of(&encoders, &loaded, purpose, 0, 0);
    let groups = whole.concat().chunk_by(|left, right| group(left) == group(right)).count();
    assert_eq!(groups, users.count);
    assert_eq!(batches_of(&encoders, &loaded, purpose, 0, 3), whole[3..]);
    assert_ne!(batches_of(&encoders, &loaded, purpose, 1, 0), whole);

    // A feature of an impression that is called the user's: every row gets all of its features.
    features[2].side = Side::User;
    let options = StreamOptions { memory: 1 << 30, shuffle_rows: 300, by_group: true };
    let mixed = stream_splits(&spec, &features, &labels(), None, None, options).unwrap();
    assert!(all(&mixed.train).users.is_none());
}
