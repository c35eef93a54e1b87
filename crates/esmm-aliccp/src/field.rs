//! The 23 fields of Ali-CCP, and how each is stored.

/// Which raw file a field stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// `common_features_*`: the user.
    Common,
    /// `sample_skeleton_*`: the item, its crosses with the user, the position.
    Skeleton,
}

/// A field.
#[derive(Debug)]
pub(crate) struct Field {
    /// As the raw files and the columns of the prepared ones call it.
    pub(crate) code: &'static str,
    /// What the run file calls the feature.
    pub(crate) name: &'static str,
    pub(crate) table: Table,
    /// Whether it has several values, or values other than 1, in the official files.
    bag: bool,
}

const fn common(code: &'static str, name: &'static str, bag: bool) -> Field {
    Field { code, name, table: Table::Common, bag }
}

const fn skeleton(code: &'static str, name: &'static str, bag: bool) -> Field {
    Field { code, name, table: Table::Skeleton, bag }
}

/// Number of fields.
pub(crate) const FIELDS_LEN: usize = 23;

/// All fields, those of the common files first.
pub(crate) static FIELDS: [Field; FIELDS_LEN] = [
    common("101", "user_id", false),
    common("121", "user_profile", false),
    common("122", "user_group", false),
    common("124", "gender", false),
    common("125", "age", false),
    common("126", "consumption_1", false),
    common("127", "consumption_2", false),
    common("128", "working", false),
    common("129", "geography", false),
    common("109_14", "user_categories", true),
    common("110_14", "user_shops", true),
    common("127_14", "user_brands", true),
    common("150_14", "user_intentions", true),
    skeleton("205", "item_id", false),
    skeleton("206", "category", false),
    skeleton("207", "shop", false),
    skeleton("210", "intentions", true),
    skeleton("216", "brand", false),
    skeleton("508", "category_affinity", true),
    skeleton("509", "shop_affinity", true),
    skeleton("702", "brand_affinity", true),
    skeleton("853", "intention_affinity", true),
    skeleton("301", "position", false),
];

/// Stands for a code that is no field.
const NO_FIELD: u8 = u8::MAX;

/// By number, and by number + 1024 with `_14` after it.
static PLACES: [u8; 2048] = places();

const fn places() -> [u8; 2048] {
    let mut places = [NO_FIELD; 2048];
    let mut field = 0;
    while field < FIELDS_LEN {
        let code = FIELDS_CODES[field].as_bytes();
        let number =
            (code[0] - b'0') as usize * 100 + (code[1] - b'0') as usize * 10 + (code[2] - b'0') as usize;
        places[number + if code.len() > 3 { 1024 } else { 0 }] = field as u8;
        field += 1;
    }
    places
}

/// The codes once more, because a constant cannot read a static.
const FIELDS_CODES: [&str; FIELDS_LEN] = [
    "101", "121", "122", "124", "125", "126", "127", "128", "129", "109_14", "110_14", "127_14", "150_14",
    "205", "206", "207", "210", "216", "508", "509", "702", "853", "301",
];

/// The field with a number below 1000, and with or without `_14` after it.
#[inline]
pub(crate) fn find(number: usize, in_14_days: bool) -> Option<usize> {
    let place = PLACES.get(number + if in_14_days { 1024 } else { 0 })?;
    (number < 1024 && *place != NO_FIELD).then_some(usize::from(*place))
}

/// The fields of a table, by their places in [`FIELDS`].
pub(crate) fn fields_of(table: Table) -> impl Iterator<Item = usize> {
    (0..FIELDS_LEN).filter(move |field| FIELDS[*field].table == table)
}

/// Which fields are stored as lists with weights; the others as one value a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout([bool; FIELDS_LEN]);

impl Layout {
    /// As the official files need it.
    pub(crate) fn official() -> Self {
        Self(std::array::from_fn(|field| FIELDS[field].bag))
    }

    pub(crate) fn is_bag(&self, field: usize) -> bool {
        self.0[field]
    }

    /// With one more field as lists.
    pub(crate) fn widened(mut self, field: usize) -> Self {
        self.0[field] = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_and_nothing_else() {
        assert_eq!(FIELDS_CODES, std::array::from_fn(|field| FIELDS[field].code));
        let all = (0..1100).flat_map(|number| [(number, false), (number, true)]);
        let found: Vec<usize> = all.filter_map(|(number, long)| find(number, long)).collect();
        assert_eq!(found.len(), FIELDS_LEN);
        assert_eq!(find(127, false).map(|field| FIELDS[field].code), Some("127"));
        assert_eq!(find(127, true).map(|field| FIELDS[field].code), Some("127_14"));
    }
}
