//! What of a subscription must survive the process.

use super::{Cause, Place};

/// How far a subscription has come: every event up to `through` is done or parked, but for the holes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last event that was handed out, or passed because nobody wants it.
    pub through: u64,
    /// In ascending order.
    pub holes: Vec<Hole>,
    /// Events that retention removed before they were handed out, in all.
    pub missed: u64,
}

/// An event that is not done although a later one was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Position in the log.
    pub seq: u64,
    /// How often it was delivered, as far as that was stored.
    pub attempts: u32,
    /// Not to be delivered before; 0 means at once.
    pub due_ms: u64,
}

/// An event that is to be parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    /// Which.
    pub place: Place,
    /// How often it was delivered.
    pub attempts: u32,
    /// Why.
    pub cause: Cause,
    /// The worker's words.
    pub reason: String,
}

/// What is to be stored now, in this order: parked events, progress, parked events that are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaved {
    /// All changes up to this one.
    pub change: u64,
    /// Events that are parked with it.
    pub parkings: Vec<Parking>,
    /// How far the subscription has come.
    pub progress: Progress,
    /// Parked events that were delivered again and are done.
    pub unparked: Vec<u64>,
}
