//! Answers made comparable: what each broker names or words in its own way is taken out of the text of an answer.

use std::collections::BTreeMap;

/// `node` is the broker's own id; `words` says what stands for what.
pub fn text(answer: &str, node: i32, words: &BTreeMap<String, String>) -> String {
    let mut text = without_messages(answer);
    // The longest first: one may begin with another.
    let mut words: Vec<_> = words.iter().collect();
    words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
    for (word, meaning) in words {
        text = text.replace(word.as_str(), meaning);
    }
    for field in ["leader_id: ", "node_id: ", "replica_nodes: [", "isr_nodes: ["] {
        text = text.replace(&format!("{field}{node}"), &format!("{field}N"));
    }
    text.replace(", unknown_tagged_fields: {}", "")
}

/// Each says in words of its own what is wrong.
fn without_messages(answer: &str) -> String {
    const FIELD: &str = "error_message: ";
    let mut text = String::with_capacity(answer.len());
    let mut rest = answer;
    while let Some(at) = rest.find(FIELD) {
        let (before, after) = rest.split_at(at + FIELD.len());
        text.push_str(before);
        text.push('_');
        rest =
            after.strip_prefix("None").or_else(|| past_string(after.strip_prefix("Some(")?)).unwrap_or(after);
    }
    text.push_str(rest);
    text
}

/// What follows a quoted string and the bracket after it.
fn past_string(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return text.get(at + 2..),
            _ => escaped = false,
        }
    }
    None
}

#[test]
fn messages_are_left_out() {
    let answer =
        r#"A { error_message: Some("a \"b\", c"), x: 1, error_message: None, leader_id: 7, id: 4f }"#;
    let words = BTreeMap::from([("4f".to_owned(), "topic".to_owned())]);
    let expected = "A { error_message: _, x: 1, error_message: _, leader_id: N, id: topic }";
    assert_eq!(text(answer, 7, &words), expected);
}
