//! How each row counts.

/// How each row counts, in the loss and in the metrics. Each part is as long as there are rows, or `None` where no column
/// tells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowCounts {
    /// Weight of the row, finite and not negative; `None`: 1.
    pub weight: Option<Vec<f32>>,
    /// The share of the impressions without a click that were kept among rows like this one, in `(0, 1]`, also of rows with
    /// a click; `None`: 1.
    pub negative_rate: Option<Vec<f32>>,
    /// Whether the outcome after the first stage is still open: the row then counts for the first stage alone; `None`: no
    /// row is.
    pub open: Option<Vec<bool>>,
}

impl RowCounts {
    /// What a row weighs in the metrics of the full log: its weight, and where it has no click as many times as there were
    /// impressions like it. 1 where nothing is known.
    pub fn weight(&self, row: usize, depth: u8) -> f64 {
        let weight = self.weight.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
        match &self.negative_rate {
            Some(rates) if depth == 0 => weight / f64::from(rates[row]),
            _ => weight,
        }
    }

    /// Whether the outcome of a row after the first stage is still open.
    pub fn is_open(&self, row: usize) -> bool {
        self.open.as_ref().is_some_and(|open| open[row])
    }

    /// Whether all rows count once, and for all stages.
    pub fn is_plain(&self) -> bool {
        self.weight.is_none() && self.negative_rate.is_none() && self.open.is_none()
    }

    /// The same without parts that say of every row what holds anyway: weights and rates of 1, no open outcome. So such
    /// columns change nothing, not even the last bit of a sum.
    #[must_use]
    pub fn without_plain_parts(self) -> Self {
        let is_one = |values: &Vec<f32>| values.iter().all(|value| *value == 1.0);
        Self {
            weight: self.weight.filter(|values| !is_one(values)),
            negative_rate: self.negative_rate.filter(|values| !is_one(values)),
            open: self.open.filter(|open| open.contains(&true)),
        }
    }

    /// Bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        let reals =
            |values: &Option<Vec<f32>>| values.as_ref().map_or(0, |values| size_of_val(values.as_slice()));
        reals(&self.weight) + reals(&self.negative_rate) + self.open.as_ref().map_or(0, Vec::len)
    }

    /// Adds some rows of others, which have the same parts.
    pub(crate) fn append(&mut self, other: &Self, rows: &[usize]) {
        add(&mut self.weight, other.weight.as_deref(), rows);
        add(&mut self.negative_rate, other.negative_rate.as_deref(), rows);
        add(&mut self.open, other.open.as_deref(), rows);
    }

    /// Some rows in the order given.
    pub(crate) fn take(&self, rows: &[u32]) -> Self {
        let pick = |values: &Vec<f32>| rows.iter().map(|&row| values[row as usize]).collect();
        Self {
            weight: self.weight.as_ref().map(pick),
            negative_rate: self.negative_rate.as_ref().map(pick),
            open: self.open.as_ref().map(|open| rows.iter().map(|&row| open[row as usize]).collect()),
        }
    }
}

fn add<T: Copy>(own: &mut Option<Vec<T>>, more: Option<&[T]>, rows: &[usize]) {
    if let (Some(own), Some(more)) = (own, more) {
        own.extend(rows.iter().map(|&row| more[row]));
    }
}
