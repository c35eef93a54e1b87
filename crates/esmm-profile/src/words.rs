//! What the names of columns tell.

use esmm_core::Side;

/// A name in lower-case words: `userId`, `user_id` and `USER-ID` are `user`, `id`.
pub(crate) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        let starts = (before.is_lowercase() && letter.is_uppercase())
            || (before.is_alphabetic() && letter.is_numeric())
            || (before.is_numeric() && letter.is_alphabetic())
            || !letter.is_alphanumeric();
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a name has one of some words, which stand with spaces between them.
pub(crate) fn has(name: &str, wanted: &str) -> bool {
    words(name).iter().any(|word| is_one_of(word, wanted))
}

/// Whether a word is one of some words.
pub(crate) fn is_one_of(word: &str, wanted: &str) -> bool {
    wanted.split_ascii_whitespace().any(|other| other == word)
}

const USER: &str = "user users u uid userid member customer visitor buyer age gender sex person profile account newbie \
    occupation income";
const ITEM: &str = "item items iid itemid ad ads adid adgroup advertiser product goods sku spu shop seller merchant \
    store brand cate category price creative video article news movie book song rating";

/// Whom a column describes: the first word that says so decides. `None` where no word does.
pub(crate) fn side(name: &str) -> Option<Side> {
    words(name).iter().find_map(|word| match word.as_str() {
        word if is_one_of(word, USER) => Some(Side::User),
        word if is_one_of(word, ITEM) => Some(Side::Item),
        _ => None,
    })
}

const ID: &str = "id ids uid userid itemid iid pid sid cid adid user item member customer visitor ad product sku shop \
    seller merchant store brand cate category cat code zip campaign creative adgroup advertiser type \
    class segment gender sex city country region province channel device os browser site app domain slot \
    position hour weekday month level tag key hash";

/// Whether a column of whole numbers has the name of ids rather than of quantities.
pub(crate) fn sounds_like_id(name: &str) -> bool {
    !has(name, COUNT) && has(name, ID)
}

const COUNT: &str = "count counts cnt num number n total sum amount amt age price cost days freq frequency recency score \
    rate ratio avg mean length size distance duration seconds minutes mins weight height width depth temperature \
    income salary budget balance percent pct";

/// Whether a name is made of digits, as Ali-CCP and Criteo name fields of ids.
pub(crate) fn is_digits(name: &str) -> bool {
    let words = words(name);
    !words.is_empty() && words.iter().all(|word| word.chars().all(|letter| letter.is_ascii_digit()))
}

/// Whether a column has the name of a quantity.
pub(crate) fn sounds_like_count(name: &str) -> bool {
    has(name, COUNT)
}

const OUTCOME: &str = "spend spent revenue gmv sales dwell payment refund label click clicked conversion converted purchase \
    purchased bought order ordered";

/// Whether a column has the name of something that is known only after the impression.
pub(crate) fn sounds_like_outcome(name: &str) -> bool {
    has(name, OUTCOME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fall_into_words() {
        for name in ["userId", "user_id", "USER-ID", "user id", " user..id"] {
            assert_eq!(words(name), ["user", "id"], "{name}");
        }
        assert_eq!(words("label2"), ["label", "2"]);
        assert_eq!(words("109_14"), ["109", "14"]);
        assert!(words("--").is_empty());
    }

    #[test]
    fn the_first_word_that_tells_decides_the_side() {
        let cases = [("user_item_ctr", Some(Side::User)), ("adCategory", Some(Side::Item)), ("hour", None)];
        cases.iter().for_each(|(name, expected)| assert_eq!(side(name), *expected, "{name}"));
        assert!(is_digits("109_14") && !is_digits("c109") && !is_digits("--"));
        assert!(sounds_like_id("shopId") && !sounds_like_id("item_count") && !sounds_like_id("height"));
    }
}
