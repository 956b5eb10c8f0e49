//! Rules between fields of products and orders.

use super::Violations;
use crate::contract::v1;

/// Products of all sections together, at most (reference 6.3).
const PRODUCTS_MAX: usize = 30;

/// Checks sections of products.
pub(super) fn check_sections(path: &str, sections: &[v1::ProductSection], found: &mut Violations) {
    let products: usize = sections.iter().map(|section| section.product_items.len()).sum();
    if products > PRODUCTS_MAX {
        let rule = format!(
            "must have at most {PRODUCTS_MAX} products together, has {products}; use catalog_message for the whole \
             catalog, or several messages"
        );
        found.add(path, rule);
    }
    for (position, section) in sections.iter().enumerate() {
        if sections.len() > 1 && section.title.is_empty() {
            found.add(&format!("{path}[{position}].title"), "is required when there are several sections");
        }
    }
}

/// Checks the sums of an order: Meta refuses wrong ones (reference 3.10).
pub(super) fn check_details(path: &str, details: &v1::OrderDetails, found: &mut Violations) {
    let Some(order) = &details.order else { return };
    let subtotal = order.items.iter().try_fold(0_i64, |sum, item| {
        let piece = value(item.sale_amount.as_ref().or(item.amount.as_ref()))?;
        sum.checked_add(piece.checked_mul(i64::from(item.quantity))?)
    });
    expect(
        &format!("{path}.order.subtotal"),
        order.subtotal.as_ref(),
        subtotal,
        "the sum of the items",
        found,
    );
    let extra = |amount: &Option<v1::Amount>| amount.as_ref().map_or(Some(0), |amount| amount.value);
    let total = || {
        let sum = value(order.subtotal.as_ref())?.checked_add(extra(&order.tax)?)?;
        sum.checked_add(extra(&order.shipping)?)?.checked_sub(extra(&order.discount)?)
    };
    let rule = "subtotal plus tax plus shipping minus discount";
    expect(&format!("{path}.total_amount"), details.total_amount.as_ref(), total(), rule, found);
}

fn value(amount: Option<&v1::Amount>) -> Option<i64> {
    amount.and_then(|amount| amount.value)
}

fn expect(
    path: &str,
    amount: Option<&v1::Amount>,
    expected: Option<i64>,
    rule: &str,
    found: &mut Violations,
) {
    if let (Some(given), Some(expected)) = (value(amount), expected)
        && given != expected
    {
        found.add(&format!("{path}.value"), format!("must be {rule}, {expected}, and is {given}"));
    }
}
