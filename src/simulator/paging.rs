//! Lists as the Graph API pages them, and the `fields` that a read asks for. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::graph::Call;
use super::graph_error::GraphError;

const LIMIT_DEFAULT: usize = 25;
const LIMIT_MAX: usize = 100;

/// One page of `items`, each with the id that its cursor names. `paging.next` is absent at the end.
pub(super) fn page(call: &Call, items: &[(String, Value)]) -> Result<Value, GraphError> {
    let limit = match call.query("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| GraphError::parameter("Param limit must be a positive integer."))?
            .min(LIMIT_MAX),
    };
    let position = |name: &str| match call.query(name) {
        None => Ok(None),
        Some(cursor) => position_of(cursor, items).map(Some),
    };
    let (start, end) = match (position("after")?, position("before")?) {
        (Some(after), _) => (after + 1, after + 1 + limit),
        (None, Some(before)) => (before.saturating_sub(limit), before),
        (None, None) => (0, limit),
    };
    let end = end.min(items.len());
    let page = items.get(start.min(end)..end).unwrap_or_default();
    let mut answer = json!({ "data": page.iter().map(|(_, item)| item).collect::<Vec<_>>() });
    if let (Some((first, _)), Some((last, _)), Some(fields)) =
        (page.first(), page.last(), answer.as_object_mut())
    {
        let mut paging = Map::new();
        paging.insert("cursors".to_owned(), json!({ "before": cursor(first), "after": cursor(last) }));
        if end < items.len() {
            paging.insert("next".to_owned(), json!(link(call, "after", &cursor(last))));
        }
        if start > 0 {
            paging.insert("previous".to_owned(), json!(link(call, "before", &cursor(first))));
        }
        fields.insert("paging".to_owned(), Value::Object(paging));
    }
    Ok(answer)
}

fn cursor(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

fn position_of(cursor: &str, items: &[(String, Value)]) -> Result<usize, GraphError> {
    let id = URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
    items
        .iter()
        .position(|(item, _)| item.as_bytes() == id)
        .ok_or_else(|| GraphError::parameter("Invalid cursors values: the cursor is unknown or expired."))
}

/// The same request with another cursor.
fn link(call: &Call, name: &str, cursor: &str) -> String {
    let mut url = format!("{}/v{}.0/{}?", call.base_url, call.version, call.path);
    for (key, value) in
        call.query.iter().filter(|(key, _)| !["after", "before", "access_token"].contains(&key.as_str()))
    {
        url.push_str(&format_pair(key, value));
        url.push('&');
    }
    url.push_str(&format_pair(name, cursor));
    url
}

/// A parameter of a query, escaped.
pub(super) fn format_pair(key: &str, value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    format!("{key}={encoded}")
}

/// What a read asks for: `fields` if given, else the defaults; the id always.
pub(super) fn select(
    call: &Call,
    node: &Value,
    defaults: &[&str],
    node_type: &str,
) -> Result<Value, GraphError> {
    let Some(all) = node.as_object() else { return Ok(node.clone()) };
    let mut selected = Map::new();
    match call.query("fields") {
        None => {
            for name in defaults {
                if let Some(value) = all.get(*name) {
                    selected.insert((*name).to_owned(), value.clone());
                }
            }
        }
        Some(fields) => {
            for name in field_names(fields) {
                let value = all.get(name).ok_or_else(|| {
                    GraphError::parameter(format!(
                        "Tried accessing nonexisting field ({name}) on node type ({node_type})"
                    ))
                })?;
                // A field that is known but has no value for this node is left out.
                if !value.is_null() {
                    selected.insert(name.to_owned(), value.clone());
                }
            }
        }
    }
    if let Some(id) = all.get("id") {
        selected.insert("id".to_owned(), id.clone());
    }
    Ok(Value::Object(selected))
}

/// The top-level names of `a,b{c,d},e.f(1)`: `a`, `b`, `e`.
fn field_names(fields: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (position, byte) in fields.bytes().enumerate() {
        match byte {
            b'{' | b'(' => depth += 1,
            b'}' | b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                names.extend(fields.get(start..position));
                start = position + 1;
            }
            _ => {}
        }
    }
    names.extend(fields.get(start..));
    names
        .into_iter()
        .map(|name| name.split(['{', '.', '(']).next().unwrap_or(name).trim())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(query: &[(&str, &str)]) -> Call {
        Call {
            method: http::Method::GET,
            path: "1/message_templates".to_owned(),
            version: 25,
            query: query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            base_url: "http://host".to_owned(),
            ..Call::default()
        }
    }

    fn items(count: usize) -> Vec<(String, Value)> {
        (0..count).map(|id| (id.to_string(), json!(id))).collect()
    }

    #[test]
    fn pages_follow_until_next_is_absent() {
        let items = items(5);
        let mut query = vec![("limit".to_owned(), "2".to_owned())];
        let mut seen = Vec::new();
        loop {
            let pairs: Vec<(&str, &str)> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let page = page(&call(&pairs), &items).unwrap();
            seen.extend(page["data"].as_array().unwrap().clone());
            if page["paging"].get("next").is_none() {
                break;
            }
            let after = page["paging"]["cursors"]["after"].as_str().unwrap().to_owned();
            assert!(page["paging"]["next"].as_str().unwrap().ends_with(&format!("limit=2&after={after}")));
            query = vec![("limit".to_owned(), "2".to_owned()), ("after".to_owned(), after)];
        }
        assert_eq!(seen, (0..5).map(|id| json!(id)).collect::<Vec<_>>());
    }

    #[test]
    fn edges_of_paging() {
        assert_eq!(page(&call(&[]), &[]).unwrap(), json!({ "data": [] }));
        let all = page(&call(&[("limit", "5")]), &items(5)).unwrap();
        assert!(all["paging"].get("next").is_none() && all["paging"].get("previous").is_none());
        let clamped = page(&call(&[("limit", "5000")]), &items(200)).unwrap();
        assert_eq!(clamped["data"].as_array().unwrap().len(), 100);
        let before = cursor("3");
        let back = page(&call(&[("limit", "2"), ("before", &before)]), &items(5)).unwrap();
        assert_eq!(back["data"], json!([1, 2]));
        assert!(page(&call(&[("after", "bogus")]), &items(5)).is_err());
        assert!(page(&call(&[("limit", "0")]), &items(5)).is_err());
    }

    #[test]
    fn fields() {
        assert_eq!(field_names("a, b{c,d},e.f(1,2),"), ["a", "b", "e"]);
        let node = json!({ "id": "1", "name": "x", "status": "y", "unset": null });
        let defaults = &["name"];
        assert_eq!(select(&call(&[]), &node, defaults, "T").unwrap(), json!({ "id": "1", "name": "x" }));
        assert_eq!(
            select(&call(&[("fields", "status,unset")]), &node, defaults, "T").unwrap(),
            json!({ "id": "1", "status": "y" })
        );
        assert!(select(&call(&[("fields", "nothing")]), &node, defaults, "T").is_err());
    }
}
