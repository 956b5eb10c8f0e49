//! Judges interactive messages.

use std::collections::HashSet;

use serde_json::Value;

use super::graph_error::GraphError;
use super::judge::{Content, Facts};
use super::judge_content;
use super::judge_order;
use super::node::Node;

/// What a kind of interactive message may have around its action.
struct Kind {
    name: &'static str,
    headers: &'static [&'static str],
    needs_header: bool,
    needs_body: bool,
    has_footer: bool,
    body_max: usize,
    /// The fixed name of the action.
    action: Option<&'static str>,
}

const ANY: &[&str] = &["text", "image", "video", "document"];

const fn kind(name: &'static str, headers: &'static [&'static str], action: Option<&'static str>) -> Kind {
    Kind { name, headers, needs_header: false, needs_body: true, has_footer: true, body_max: 1024, action }
}

const KINDS: &[Kind] = &[
    kind("button", ANY, None),
    Kind { body_max: 4096, ..kind("list", &["text"], None) },
    kind("cta_url", ANY, Some("cta_url")),
    Kind { has_footer: false, ..kind("carousel", &[], None) },
    Kind { needs_body: false, ..kind("product", &[], None) },
    Kind { needs_header: true, ..kind("product_list", &["text"], None) },
    kind("catalog_message", &[], Some("catalog_message")),
    kind("flow", ANY, Some("flow")),
    Kind { has_footer: false, ..kind("location_request_message", &[], Some("send_location")) },
    kind("address_message", ANY, Some("address_message")),
    Kind {
        needs_body: false,
        has_footer: false,
        ..kind("call_permission_request", &[], Some("call_permission_request"))
    },
    kind("voice_call", ANY, Some("voice_call")),
    Kind { has_footer: false, ..kind("request_contact_info", &[], Some("request_contact_info")) },
    kind("order_details", &["image"], Some("review_and_pay")),
    kind("order_status", &[], Some("review_order")),
];

/// Judges the `interactive` object of a send; `is_direct` says that it is a Direct Send.
pub(super) fn judge(content: &Value, is_direct: bool, facts: &Facts<'_>) -> Result<Content, GraphError> {
    let message = Node::new("interactive", content);
    message.known(&["type", "header", "body", "footer", "action"])?;
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let name = message.required("type")?.word(&names)?;
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else { return Ok(Content::default()) };
    let action = message.required("action")?;
    let late = check_frame(&message, kind, facts)?;
    let parameters = match kind.action {
        None => action.clone(),
        Some(fixed) => {
            action.known(&["name", "parameters"])?;
            action.required("name")?.word(&[fixed])?;
            action.get("parameters").unwrap_or(Node::new("interactive['action']['parameters']", &Value::Null))
        }
    };
    match name {
        "button" => check_buttons(&action, is_direct)?,
        "list" => check_list(&action)?,
        "cta_url" => check_link(&parameters)?,
        "carousel" => return check_carousel(&action, facts),
        "product" => check_product(&action)?,
        "product_list" => {
            action.known(&["catalog_id", "sections"])?;
            action.required_text("catalog_id", 256)?;
            check_products(&action.required("sections")?)?;
        }
        "flow" => check_flow(&parameters)?,
        "address_message" => {
            parameters.required_text("country", 2)?;
        }
        "voice_call" => {
            parameters.optional_text("display_text", 20)?;
            parameters.optional_text("payload", 512)?;
            parameters.get("ttl_minutes").map(|node| node.number(1, 43_200)).transpose()?;
        }
        "order_details" => judge_order::details(&parameters)?,
        "order_status" => judge_order::status(&parameters)?,
        _ => {}
    }
    Ok(Content { late_failure: late, ..Content::default() })
}

fn check_frame(
    message: &Node<'_>,
    kind: &Kind,
    facts: &Facts<'_>,
) -> Result<Option<(u32, String)>, GraphError> {
    let late = match message.get("header") {
        Some(header) => check_header(&header, kind.headers, facts)?,
        None if kind.needs_header => return message.required("header").map(|_| None),
        None => None,
    };
    match message.get("body") {
        Some(body) => {
            body.known(&["text"])?;
            body.required_text("text", kind.body_max)?;
        }
        None if kind.needs_body => return message.required("body").map(|_| None),
        None => {}
    }
    if let Some(footer) = message.get("footer") {
        if !kind.has_footer {
            return Err(footer.invalid(&format!("is not supported for type {}", kind.name)));
        }
        footer.known(&["text"])?;
        footer.required_text("text", 60)?;
    }
    Ok(late)
}

/// Judges a header; returns why it will fail later.
fn check_header(
    header: &Node<'_>,
    kinds: &[&str],
    facts: &Facts<'_>,
) -> Result<Option<(u32, String)>, GraphError> {
    let kind = header.required("type")?.word(kinds)?;
    let content = header.required(kind)?;
    if kind == "text" {
        return content.text(60).map(|_| None);
    }
    let object = content.value.as_object().ok_or_else(|| content.invalid("must be a JSON object"))?;
    let options: &[&str] = if kind == "document" { &["filename"] } else { &[] };
    judge_content::medium(kind, object, options, facts).map(|judged| judged.late_failure)
}

fn check_buttons(action: &Node<'_>, is_direct: bool) -> Result<(), GraphError> {
    action.known(&["buttons"])?;
    let kinds: &[&str] = if is_direct { &["reply", "cta_url"] } else { &["reply"] };
    let buttons = action.required("buttons")?.list(1, if is_direct { 10 } else { 3 })?;
    let is_link = |button: &Node<'_>| button.value.get("type").is_some_and(|kind| kind == "cta_url");
    let links = buttons.iter().filter(|button| is_link(button)).count();
    if links > 2 || buttons.iter().skip(links).any(is_link) {
        return Err(action.invalid("has more than two buttons of type cta_url, or does not have them first"));
    }
    check_replies(&buttons, kinds, 256, &mut HashSet::new())
}

/// Ids are unique in the message, titles among these buttons.
fn check_replies<'a>(
    buttons: &[Node<'a>],
    kinds: &[&str],
    id_max: usize,
    ids: &mut HashSet<&'a str>,
) -> Result<(), GraphError> {
    let mut titles = HashSet::new();
    for button in buttons {
        let kind = button.required("type")?.word(kinds)?;
        let reply = button.required(kind)?;
        if kind == "cta_url" {
            check_link(&reply)?;
            continue;
        }
        reply.known(&["id", "title"])?;
        let (id, title) = (reply.required_text("id", id_max)?, reply.required_text("title", 20)?);
        if id.trim() != id {
            return Err(reply.invalid("has an id with a leading or trailing space"));
        }
        if !ids.insert(id) || !titles.insert(title) {
            return Err(reply.invalid("is duplicated: ids and titles of buttons must be unique"));
        }
    }
    Ok(())
}

fn check_list(action: &Node<'_>) -> Result<(), GraphError> {
    action.known(&["button", "sections"])?;
    action.required_text("button", 20)?;
    let sections = action.required("sections")?.list(1, 10)?;
    let (mut ids, mut rows) = (HashSet::new(), 0);
    for section in &sections {
        section.known(&["title", "rows"])?;
        if sections.len() > 1 || section.get("title").is_some() {
            section.required_text("title", 24)?;
        }
        for row in section.required("rows")?.list(1, usize::MAX)? {
            rows += 1;
            row.known(&["id", "title", "description"])?;
            row.required_text("title", 24)?;
            row.optional_text("description", 72)?;
            if !ids.insert(row.required_text("id", 200)?) {
                return Err(row.invalid("is duplicated: ids of rows must be unique"));
            }
        }
    }
    if rows > 10 {
        return Err(action.invalid("total row count exceeds the maximum of 10"));
    }
    Ok(())
}

fn check_link(parameters: &Node<'_>) -> Result<(), GraphError> {
    parameters.known(&["display_text", "url"])?;
    parameters.required_text("display_text", 20)?;
    let url = parameters.required("url")?;
    let text = url.text(usize::MAX)?;
    if text.starts_with("http://") || text.starts_with("https://") {
        Ok(())
    } else {
        Err(url.invalid("must start with http:// or https://"))
    }
}

fn check_product(action: &Node<'_>) -> Result<(), GraphError> {
    action.known(&["catalog_id", "product_retailer_id"])?;
    action.required_text("catalog_id", 256)?;
    action.required_text("product_retailer_id", 256).map(drop)
}

/// Judges sections of products, in a message or in a template's button.
pub(super) fn check_products(sections: &Node<'_>) -> Result<(), GraphError> {
    let list = sections.list(1, 10)?;
    let mut products = 0;
    for section in &list {
        section.known(&["title", "product_items"])?;
        if list.len() > 1 || section.get("title").is_some() {
            section.required_text("title", 24)?;
        }
        for item in section.required("product_items")?.list(1, usize::MAX)? {
            products += 1;
            item.required_text("product_retailer_id", 256)?;
        }
    }
    if products > 30 {
        return Err(sections.invalid("product count exceeds the maximum of 30"));
    }
    Ok(())
}

fn check_flow(parameters: &Node<'_>) -> Result<(), GraphError> {
    parameters.required("flow_message_version")?;
    parameters.required_text("flow_cta", 30)?;
    match (parameters.get("flow_id"), parameters.get("flow_name")) {
        (None, None) => return parameters.required("flow_id").map(drop),
        (Some(_), Some(_)) => return Err(parameters.invalid("has flow_id and flow_name; use one of them")),
        _ => {}
    }
    parameters.get("mode").map(|node| node.word(&["published", "draft"])).transpose()?;
    parameters.get("flow_action").map(|node| node.word(&["navigate", "data_exchange"])).transpose()?;
    let data = parameters.get("flow_action_payload").and_then(|payload| payload.get("data"));
    match data {
        Some(data) if data.value.as_object().is_none_or(serde_json::Map::is_empty) => {
            Err(data.invalid("must be a JSON object that is not empty"))
        }
        _ => Ok(()),
    }
}

fn check_carousel(action: &Node<'_>, facts: &Facts<'_>) -> Result<Content, GraphError> {
    action.known(&["cards"])?;
    let cards = action.required("cards")?.list(2, 10)?;
    let (mut shapes, mut indexes, mut ids) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut late = None;
    for card in &cards {
        card.known(&["card_index", "type", "header", "body", "action"])?;
        if !indexes.insert(card.required("card_index")?.number(0, 9)?) {
            return Err(card.invalid("has the index of another card"));
        }
        let content = card.required("action")?;
        if card.required("type")?.word(&["cta_url", "product"])? == "product" {
            check_product(&content)?;
            let catalog = content.required_text("catalog_id", 256)?;
            shapes.insert(format!("product {catalog}"));
            continue;
        }
        let header = card.required("header")?;
        late = check_header(&header, &["image", "video"], facts)?.or(late);
        if let Some(body) = card.get("body") {
            let text = body.required_text("text", 160)?;
            if text.matches('\n').count() > 2 {
                return Err(body.invalid("has more than two line breaks"));
            }
        }
        let header = header.required("type")?.value;
        if let Some(buttons) = content.get("buttons") {
            let buttons = buttons.list(1, 10)?;
            check_replies(&buttons, &["quick_reply"], 256, &mut ids)?;
            shapes.insert(format!("{header} {}", buttons.len()));
        } else {
            content.required("name")?.word(&["cta_url"])?;
            check_link(&content.required("parameters")?)?;
            shapes.insert(format!("{header} link"));
        }
    }
    if shapes.len() > 1 {
        return Err(action.invalid("must have cards with the same header, buttons and catalog"));
    }
    Ok(Content { late_failure: late, ..Content::default() })
}
