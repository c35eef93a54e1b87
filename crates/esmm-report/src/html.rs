//! HTML and SVG, in which nothing from the data can be anything but text.

/// A page, or a piece of one, as it is written. Tag and attribute names are the program's own; texts and attribute values
/// are escaped here and nowhere else.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Html {
    text: String,
}

/// Attributes of an element: names of the program, values of any kind.
pub(crate) type Attributes<'a> = [(&'static str, &'a str)];

impl Html {
    /// Opens an element.
    pub(crate) fn open(&mut self, tag: &'static str, attributes: &Attributes<'_>) {
        self.start(tag, attributes);
        self.text.push('>');
    }

    /// Closes an element.
    pub(crate) fn close(&mut self, tag: &'static str) {
        for part in ["</", tag, ">"] {
            self.text.push_str(part);
        }
    }

    /// An element without content, as SVG has them.
    pub(crate) fn empty(&mut self, tag: &'static str, attributes: &Attributes<'_>) {
        self.start(tag, attributes);
        self.text.push_str("/>");
    }

    /// An element with a text.
    pub(crate) fn element(&mut self, tag: &'static str, attributes: &Attributes<'_>, text: &str) {
        self.open(tag, attributes);
        self.text(text);
        self.close(tag);
    }

    /// An element with whatever `content` writes.
    pub(crate) fn within(
        &mut self,
        tag: &'static str,
        attributes: &Attributes<'_>,
        content: impl FnOnce(&mut Self),
    ) {
        self.open(tag, attributes);
        content(self);
        self.close(tag);
    }

    /// A shape of SVG that says `title` when the pointer rests on it.
    pub(crate) fn shape(&mut self, tag: &'static str, attributes: &Attributes<'_>, title: &str) {
        self.within(tag, attributes, |html| html.element("title", &[], title));
    }

    /// A paragraph.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.element("p", &[], text);
    }

    /// A small paragraph that explains.
    pub(crate) fn note(&mut self, text: &str) {
        self.element("p", &[("class", "note")], text);
    }

    /// A heading that can be linked to.
    pub(crate) fn heading(&mut self, level: u8, id: &str, text: &str) {
        let tag = match level {
            1 => "h1",
            2 => "h2",
            3 => "h3",
            _ => "h4",
        };
        match id {
            "" => self.element(tag, &[], text),
            id => self.element(tag, &[("id", id)], text),
        }
    }

    /// Escaped text.
    pub(crate) fn text(&mut self, text: &str) {
        text.chars().for_each(|letter| self.push(letter));
    }

    /// Text of the program itself, as it is: style and script.
    pub(crate) fn trusted(&mut self, text: &'static str) {
        self.text.push_str(text);
    }

    /// Another piece.
    pub(crate) fn append(&mut self, other: &Self) {
        self.text.push_str(&other.text);
    }

    /// The text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn start(&mut self, tag: &'static str, attributes: &Attributes<'_>) {
        self.text.push('<');
        self.text.push_str(tag);
        for (name, value) in attributes {
            for part in [" ", name, "=\""] {
                self.text.push_str(part);
            }
            self.text(value);
            self.text.push('"');
        }
    }

    fn push(&mut self, letter: char) {
        match letter {
            '&' => self.text.push_str("&amp;"),
            '<' => self.text.push_str("&lt;"),
            '>' => self.text.push_str("&gt;"),
            '"' => self.text.push_str("&quot;"),
            '\'' => self.text.push_str("&#39;"),
            '\t' | '\n' => self.text.push(letter),
            // HTML allows no other control characters, nor the code points that are no characters.
            _ if letter.is_control() || u32::from(letter) & 0xfffe == 0xfffe => self.text.push('\u{fffd}'),
            '\u{fdd0}'..='\u{fdef}' => self.text.push('\u{fffd}'),
            // Texts in another direction must not turn around what follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.text.push('\u{fffd}'),
            letter => self.text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn data_stays_text() {
        let mut html = Html::default();
        let evil = "</title><script>alert(\"1\")</script>&amp;'\0\u{202e}\u{ffff}";
        html.within("td", &[("title", evil)], |html| html.text(evil));
        let escaped = "&lt;/title&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;amp;&#39;\u{fffd}\u{fffd}\u{fffd}";
        assert_eq!(html.finish(), format!("<td title=\"{escaped}\">{escaped}</td>"));
    }

    #[test]
    fn elements_nest() {
        let mut html = Html::default();
        html.heading(2, "a", "A");
        html.shape("circle", &[("r", "2")], "x < y");
        html.empty("br", &[]);
        let expected = "<h2 id=\"a\">A</h2><circle r=\"2\"><title>x &lt; y</title></circle><br/>";
        assert_eq!(html.finish(), expected);
    }
}
