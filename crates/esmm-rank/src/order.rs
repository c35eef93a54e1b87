//! The best of many: which candidates come first.

use std::cmp::Ordering;

/// Puts the places of the `top` largest values into `places`, the largest first; of equal values the earlier.
///
/// # Example
/// ```
/// let mut places = Vec::new();
/// esmm_rank::best(&[0.1, 0.7, 0.7, 0.3], 3, &mut places);
/// assert_eq!(places, [1, 2, 3]);
/// ```
pub fn best(values: &[f32], top: usize, places: &mut Vec<u32>) {
    places.clear();
    places.extend(0..values.len() as u32);
    let order =
        |a: &u32, b: &u32| -> Ordering { values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b)) };
    if top < places.len() {
        if top > 0 {
            places.select_nth_unstable_by(top - 1, order);
        }
        places.truncate(top);
    }
    places.sort_unstable_by(order);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_top_is_the_head_of_the_sorted_whole() {
        // Many ties.
        let values: Vec<f32> = (0..200_u32).map(|place| (place * 7919 % 13) as f32).collect();
        let mut all: Vec<u32> = (0..200).collect();
        all.sort_by(|a, b| values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b)));
        let mut places = Vec::new();
        for top in [0, 1, 7, 199, 200, 1000] {
            best(&values, top, &mut places);
            assert_eq!(places, all[..top.min(200)], "top {top}");
        }
    }
}
