//! Which metrics a `PromQL` expression names, and by which labels it selects them.

use std::collections::{BTreeMap, BTreeSet};

/// The names of metrics, each with the labels that its selectors name, each with the words that it is held against.
pub type Selected = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Words that stand where a name could, apart from functions, which a parenthesis follows.
const WORDS: [&str; 8] = ["and", "or", "unless", "bool", "offset", "inf", "nan", "atan2"];
/// Words that a list of labels follows.
const LABELS_FOLLOW: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What an expression selects. A metric that is only matched by the label `__name__` is refused.
pub fn selected(expr: &str) -> Selected {
    let mut selected = Selected::new();
    let mut last = None;
    let mut rest = expr;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' => string(rest).1,
            '{' => {
                let (labels, after) = matchers(rest);
                let name = last.take().unwrap_or_else(|| panic!("name the metric before its braces: {expr}"));
                let known = selected.entry(name).or_default();
                for (label, pattern) in labels {
                    let words = pattern.split('|').map(str::to_owned);
                    known.entry(label.to_owned()).or_default().extend(words);
                }
                after
            }
            '[' => rest.split_once(']').expect("no end of the range").1,
            '0'..='9' => rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'),
            'a'..='z' | 'A'..='Z' | '_' | ':' => {
                let (word, after) = word(rest);
                let next = after.trim_start();
                let lower = word.to_lowercase();
                // An aggregation may have its labels before its parenthesis.
                let is_call = ["(", "by ", "by(", "without "].iter().any(|call| next.starts_with(call));
                if LABELS_FOLLOW.contains(&lower.as_str()) {
                    next.split_once(')').expect("no end of the labels").1
                } else if is_call || WORDS.contains(&lower.as_str()) {
                    after
                } else {
                    selected.entry(word.to_owned()).or_default();
                    last = Some(word.to_owned());
                    after
                }
            }
            _ => &rest[first.len_utf8()..],
        };
    }
    selected
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    text.split_at(end.unwrap_or(text.len()))
}

/// A string, which has no escaped quotes, and what follows it.
fn string(text: &str) -> (&str, &str) {
    text[1..].split_once(&text[..1]).expect("no end of the string")
}

/// The labels of a selector with what they are held against, and what follows it.
fn matchers(text: &str) -> (Vec<(&str, &str)>, &str) {
    let mut labels = Vec::new();
    let mut rest = text[1..].trim_start();
    while !rest.starts_with('}') {
        let (label, after) = word(rest);
        assert!(!label.is_empty() && label != "__name__", "name the metric before its braces: {text}");
        let (pattern, after) = string(after.trim_start_matches(|c: char| c == ' ' || "=!~".contains(c)));
        labels.push((label, pattern));
        rest = after.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    }
    (labels, &rest[1..])
}

#[test]
fn metrics_and_labels_are_found_wherever_they_stand() {
    for (expr, expected) in [
        ("up", "up"),
        ("sum(rate(a_total{x=\"}b\", y!~'c|d' , }[5m]))", "a_total{x:}b,y:c/d}"),
        ("sum by (job, le) (rate(a_bucket[5m] offset 1d)) > 0.5", "a_bucket"),
        ("sum(a) without (job) / on (slo) group_left () b:c:d", "a b:c:d"),
        ("a and on (x) b unless c or 0 * d > bool 3e4 * e", "a b c d e"),
        ("histogram_quantile(0.99, a_bucket{ }) - time() < 14 * 86400", "a_bucket"),
        ("max_over_time((a{z=\"1\"} - b)[10m:1m])\n- a{x=\"1\"}", "a{x:1,z:1} b"),
        ("count by (alertname) (ALERTS{alertstate=\"firing\"}) == Inf", "ALERTS{alertstate:firing}"),
        ("vector(0.001)", ""),
    ] {
        let shown = selected(expr).into_iter().map(|(name, labels)| {
            let shown = |(label, words): (String, BTreeSet<String>)| {
                format!("{label}:{}", words.into_iter().collect::<Vec<_>>().join("/"))
            };
            let labels: Vec<_> = labels.into_iter().map(shown).collect();
            if labels.is_empty() { name } else { format!("{name}{{{}}}", labels.join(",")) }
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{expr}");
    }
}
