//! Judges orders, in messages and in parameters of templates.

use super::graph_error::GraphError;
use super::node::Node;

const STATUSES: &[&str] = &["pending", "processing", "partially_shipped", "shipped", "completed", "canceled"];

/// Judges the parameters of a request to pay. Wrong sums are refused.
pub(super) fn details(parameters: &Node<'_>) -> Result<(), GraphError> {
    parameters.required_text("reference_id", usize::MAX)?;
    parameters.required("type")?.word(&["digital-goods", "physical-goods"])?;
    parameters.required_text("currency", 3)?;
    let total = amount(&parameters.required("total_amount")?)?;
    let order = parameters.required("order")?;
    order.required_text("status", 64)?;
    let mut items_total = 0;
    for item in order.required("items")?.list(1, usize::MAX)? {
        item.required_text("name", usize::MAX)?;
        let usual = amount(&item.required("amount")?)?;
        let piece = item.get("sale_amount").map_or(Ok(usual), |sale| amount(&sale))?;
        items_total += i128::from(piece) * i128::from(item.required("quantity")?.number(1, i64::MAX)?);
    }
    let subtotal = order.required("subtotal")?;
    if i128::from(amount(&subtotal)?) != items_total {
        return Err(subtotal.invalid("is not the sum of the items"));
    }
    let part = |key: &str| order.get(key).map_or(Ok(0), |node| amount(&node)).map(i128::from);
    if i128::from(total) != items_total + part("tax")? + part("shipping")? - part("discount")? {
        return Err(parameters.invalid("has a total_amount that is not the sum of its parts"));
    }
    Ok(())
}

fn amount(node: &Node<'_>) -> Result<i64, GraphError> {
    node.required("offset")?.number(1, i64::MAX)?;
    node.required("value")?.number(0, i64::MAX)
}

/// Judges the news of an order.
pub(super) fn status(parameters: &Node<'_>) -> Result<(), GraphError> {
    parameters.required_text("reference_id", usize::MAX)?;
    parameters.required("order")?.required("status")?.word(STATUSES).map(drop)
}
