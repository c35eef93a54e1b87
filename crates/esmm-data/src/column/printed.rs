//! Lists as programs print them: `[1007, 1012]`, `['a', 'b']`, `["a", "b"]`, `{1,2}`, `[1007 1012]`.

/// An item of a printed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its text, without the quotes that it was printed with.
    pub(crate) text: String,
    /// What follows a `:` after it, as in `{'a': 0.7}`.
    pub(crate) after_colon: Option<String>,
}

/// The items of a list as programs print it, `[a, b]` or `{a,b}`; `None` where a cell is no such list, or one that is nested,
/// was cut short or has weights.
pub fn printed_list(cell: &str) -> Option<Vec<String>> {
    if !is_printed(cell) {
        return None;
    }
    items(cell)?.into_iter().map(|item| item.after_colon.is_none().then_some(item.text)).collect()
}

/// Whether a cell looks like a printed list.
pub(crate) fn is_printed(cell: &str) -> bool {
    let bytes = cell.as_bytes();
    matches!(
        (bytes.first(), bytes.last()),
        (Some(b'['), Some(b']')) | (Some(b'{'), Some(b'}')) | (Some(b'('), Some(b')'))
    ) && bytes.len() >= 2
}

/// The items of a printed list; `None` where it is no flat list, or was cut short.
pub(crate) fn items(cell: &str) -> Option<Vec<Item>> {
    let inside = cell.get(1..cell.len() - 1)?;
    let is_dictionary = cell.starts_with('{');
    let mut parts = parts(inside, |byte| byte == b',')?;
    if let ([only], false) = (parts.as_slice(), is_dictionary) {
        parts = numbers_between_blanks(only)?;
    }
    // Python writes a tuple of one as `(1,)`.
    if parts.last().is_some_and(|last| last.trim().is_empty()) {
        parts.pop();
    }
    parts.into_iter().map(|part| item(part.trim(), is_dictionary)).collect()
}

/// NumPy puts nothing but blanks between numbers, and between quoted texts.
fn numbers_between_blanks(only: &str) -> Option<Vec<&str>> {
    let words = parts(only, |byte| byte.is_ascii_whitespace())?;
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let is_word =
        |word: &&str| word.parse::<f64>().is_ok() || word.starts_with(['\'', '"']) || *word == "...";
    Some(match words.len() > 1 && words.iter().all(is_word) {
        true => words,
        false => vec![only],
    })
}

/// Cuts a text outside of quotes; `None` where brackets stand in it or a quote is left open.
fn parts(text: &str, cuts: impl Fn(u8) -> bool) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut quote = None;
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if matches!(byte, b'\'' | b'"') && starts_item(&text[start..place]) => quote = Some(byte),
            None if matches!(byte, b'[' | b']' | b'{' | b'}') => return None,
            None if cuts(byte) => {
                parts.push(&text[start..place]);
                start = place + 1;
            }
            None => {}
        }
    }
    parts.push(&text[start..]);
    quote.is_none().then_some(parts)
}

/// Whether a quote after these characters opens a text: an apostrophe inside of a word does not.
fn starts_item(before: &str) -> bool {
    let before = before.trim_end();
    before.is_empty() || before.ends_with([':', '('])
}

fn item(part: &str, is_dictionary: bool) -> Option<Item> {
    if part == "..." {
        return None;
    }
    let halves = parts(part, |byte| byte == b':')?;
    let (text, after_colon) = match halves.as_slice() {
        [text] => (*text, None),
        // A time or an address is one bare text.
        [.., weight] if is_dictionary && weight.trim().parse::<f64>().is_ok() && halves.len() == 2 => {
            (halves[0].trim(), Some(weight.trim().to_owned()))
        }
        _ => (part, None),
    };
    Some(Item { text: bare(text)?, after_colon })
}

/// `np.int64(7)`, as NumPy prints its numbers since version 2, and quoted texts.
fn bare(text: &str) -> Option<String> {
    if let Some(inside) = text.strip_prefix("np.").and_then(|text| text.strip_suffix(')')) {
        return bare(inside.split_once('(')?.1);
    }
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '\'' | '"')) else {
        return Some(text.to_owned());
    };
    let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut plain = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        plain.push(match characters.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'u' => {
                let digits: String = characters.by_ref().take(4).collect();
                char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
            }
            'x' => {
                let digits: String = characters.by_ref().take(2).collect();
                char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
            }
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(cell: &str) -> Option<Vec<String>> {
        assert!(is_printed(cell), "{cell}");
        Some(items(cell)?.into_iter().map(|item| item.text).collect())
    }

    #[test]
    fn every_printer_prints_the_same_list() {
        for cell in [
            "[1007, 1012]",
            "[1007,1012]",
            "{1007,1012}",
            "(1007, 1012)",
            "[1007 1012]",
            "[ 1007  1012]",
            "['1007', '1012']",
            "[\"1007\", \"1012\"]",
            "[np.int64(1007), np.int64(1012)]",
            "['1007' '1012']",
        ] {
            assert_eq!(texts(cell).unwrap(), ["1007", "1012"], "{cell}");
        }
        assert_eq!(texts("[]").unwrap(), Vec::<String>::new());
        assert_eq!(texts("(7,)").unwrap(), ["7"]);
        assert_eq!(texts("[new york, it's, 12:30]").unwrap(), ["new york", "it's", "12:30"]);
        assert_eq!(texts(r#"["a, b", "say \"c\"", "caf\u00e9"]"#).unwrap(), ["a, b", "say \"c\"", "café"]);
        let pair = Item { text: "a".into(), after_colon: Some("0.7".into()) };
        assert_eq!(items("{'a': 0.7}"), Some(vec![pair]));
    }

    #[test]
    fn what_is_no_flat_list_is_refused() {
        for cell in ["[1, ..., 9]", "[1 2 ... 9]", "[[1], [2]]", "['a, b]", "[{\"a\": 1}]"] {
            assert_eq!(texts(cell), None, "{cell}");
        }
        assert!(!is_printed("[1]|2") && !is_printed("["));
        assert_eq!(
            (printed_list("a|b"), printed_list("{'a': 1}"), printed_list("[[1]]")),
            (None, None, None)
        );
        assert_eq!(printed_list("['a', 'b']"), Some(vec!["a".to_owned(), "b".to_owned()]));
    }
}
