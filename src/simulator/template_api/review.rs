//! What Meta does with a template on its own: the review, and the pause that a name asks for.

use serde_json::json;

use super::report;
use crate::simulator::faults::WebhookShape;
use crate::simulator::schedule::Task;
use crate::simulator::world::World;

/// The verdict of the review. The name decides: `reject` in it means rejected, `pending` means that the
/// review never ends, `pause` means approved and paused soon after; all else is approved.
pub(in crate::simulator) fn review(world: &World, id: u64, shape: WebhookShape) {
    let mut state = world.state();
    let delay = state.delays.review;
    let pending = state.templates.by_id_mut(id).filter(|template| template.status == "PENDING");
    let Some(template) = pending.filter(|template| !template.name.contains("pending")) else { return };
    let is_rejected = template.name.contains("reject");
    let (status, reason) = if is_rejected { ("REJECTED", "INVALID_FORMAT") } else { ("APPROVED", "NONE") };
    status.clone_into(&mut template.status);
    reason.clone_into(&mut template.rejected_reason);
    if is_rejected {
        let why = "The name of the template asked for a rejection";
        template.extra.insert("specific_rejection_reason".to_owned(), json!(why));
    }
    let template = template.clone();
    drop(state);
    report::status(world, &template, status, shape);
    if template.name.contains("pause") && !is_rejected {
        world.schedule.add(delay, Task::Pause(id, shape));
    }
}

/// Pauses an approved template for bad quality.
pub(in crate::simulator) fn pause(world: &World, id: u64, shape: WebhookShape) {
    let mut state = world.state();
    let approved = state.templates.by_id_mut(id).filter(|template| template.status == "APPROVED");
    let Some(template) = approved else { return };
    "PAUSED".clone_into(&mut template.status);
    template.history.pauses += 1;
    let template = template.clone();
    drop(state);
    report::status(world, &template, "PAUSED", shape);
}
