//! Cards (reference 2.4.3 to 2.4.5).

use super::Context;
use super::components::Parts;
use crate::contract::v1;
use crate::grpc::convert::Violations;

/// Checks the cards, which are all of one structure. `path` is that of the carousel.
pub(super) fn check(
    path: &str,
    context: Context,
    carousel: &v1::TemplateDefinitionCarousel,
    found: &mut Violations,
) {
    let cards: Vec<_> = carousel.cards.iter().map(|card| Parts::card(context, &card.components)).collect();
    let first = cards.first().map(Parts::structure);
    for (position, card) in cards.iter().enumerate() {
        let path = format!("{path}.cards[{position}].components");
        card.check(&path, found);
        let structure = card.structure();
        if let Some(first) = first.as_ref().filter(|first| **first != structure) {
            let (first, own) = (first.join(", "), structure.join(", "));
            found.add(&path, format!("all cards must be alike: the first has {first}, this one has {own}"));
        }
    }
}
