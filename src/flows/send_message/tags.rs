//! The tags of sends: version 7 UUIDs, 22 characters of base64.

use std::cell::RefCell;

use uuid::{Builder, NoContext, Timestamp, Uuid};

use crate::domain::message::SendTag;
use crate::telemetry::SpanIds;
use crate::tenants::bearer;

/// Random bytes that one call to the kernel brings, which costs as much as all of the rest.
const POOL_BYTES: usize = 1000;
/// Of them, what one tag takes.
const TAG_BYTES: usize = 10;

thread_local! {
    static POOL: RefCell<Vec<[u8; TAG_BYTES]>> = const { RefCell::new(Vec::new()) };
}

/// A tag that nobody has had, later ones greater. It says whether the trace of the current call is exported.
pub(in crate::flows) fn new_tag() -> SendTag {
    SendTag::of_bytes(uuid().into_bytes(), SpanIds::current().is_some())
}

fn uuid() -> Uuid {
    let (seconds, nanos) = Timestamp::now(NoContext).to_unix();
    let millis = seconds * 1000 + u64::from(nanos / 1_000_000);
    // Where the kernel has no random numbers, the library stops the call.
    drawn()
        .map_or_else(Uuid::now_v7, |random| Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

fn drawn() -> Option<[u8; TAG_BYTES]> {
    POOL.with_borrow_mut(|pool| {
        if pool.is_empty() {
            let fresh: [u8; POOL_BYTES] = bearer::random().ok()?;
            pool.extend(fresh.as_chunks().0);
        }
        pool.pop()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_tag_comes_twice() {
        let count = 3 * POOL_BYTES / TAG_BYTES;
        let tags: BTreeSet<String> = (0..count).map(|_| new_tag().as_str().to_owned()).collect();
        assert_eq!(tags.len(), count);
    }

    #[test]
    fn tags_tell_their_time() {
        let (first, now) =
            (uuid().get_timestamp().unwrap().to_unix().0, Timestamp::now(NoContext).to_unix().0);
        assert!(now.abs_diff(first) <= 1);
    }
}
