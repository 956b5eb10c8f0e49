//! Every code of reference section 5, one row each, in the order of the reference.

#![expect(clippy::unreadable_literal, reason = "people search for a code as Meta writes it")]

use crate::domain::failure::{Actor, Class, Reason};

/// What the reference says about trying again (5.1, "Retry").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// `FIX`.
    Fix,
    /// `NEVER`.
    Never,
    /// `BACKOFF`, from this many seconds on.
    Backoff(u64),
    /// `WAIT`, this many seconds at least. Where the reference names two spans, the shorter; where the waiting
    /// time stands in Meta's text only, one minute.
    Wait(u64),
    /// `WAIT` for something that happens, not for a time.
    WaitForEvent,
    /// `PAIR`.
    Pair,
    /// `AMBIG`.
    Ambiguous,
    /// No retry class: the error concerns what a user sent.
    Inbound,
}

/// The verdict on a code, or on a range of codes.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) meaning: &'static str,
    pub(super) class: Class,
    pub(super) reason: Reason,
    pub(super) actor: Actor,
    pub(super) policy: Policy,
}

/// The row of `code`.
pub(super) fn find(code: i64) -> Option<&'static Row> {
    ROWS.iter().find(|row| (row.first..=row.last).contains(&code))
}

macro_rules! rows {
    ($($first:literal $(to $last:literal)? $meaning:literal
       $class:ident $reason:ident $actor:ident $policy:ident $(($seconds:expr))?;)*) => {
        pub(super) const ROWS: &[Row] = &[$(Row {
            first: $first,
            last: rows!(@last $first $($last)?),
            meaning: $meaning,
            class: Class::$class,
            reason: Reason::$reason,
            actor: Actor::$actor,
            policy: Policy::$policy $(($seconds))?,
        },)*];
    };
    (@last $first:literal) => { $first };
    (@last $first:literal $last:literal) => { $last };
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

rows! {
    // 5.2 Authorization
    0 "the access token cannot be authenticated" FailedPrecondition UpstreamCredentials Operator Fix;
    3 "a capability or permission is missing" FailedPrecondition UpstreamCredentials Operator Fix;
    10 "a permission or asset is missing" FailedPrecondition UpstreamCredentials Operator Fix;
    102 "the session key is invalid" FailedPrecondition UpstreamCredentials Operator Fix;
    104 "the access token or its proof is missing" FailedPrecondition UpstreamCredentials Operator Fix;
    190 "the access token has expired or was revoked" FailedPrecondition UpstreamCredentials Operator Fix;
    200 to 299 "a permission was not granted" FailedPrecondition UpstreamCredentials Operator Fix;

    // 5.3 Integrity and account
    368 "blocked for policy violations" FailedPrecondition UpstreamAccount Operator Fix;
    130497 "the business may not message this country" FailedPrecondition RecipientNotAllowed Operator Never;
    131031 "the account is locked" FailedPrecondition UpstreamAccount Operator Fix;
    131042 "payment issue of the account" FailedPrecondition UpstreamAccount Operator Fix;
    131044 "payment issue of the account" FailedPrecondition UpstreamAccount Operator Fix;
    131045 "the number's certificate is incorrect" FailedPrecondition UpstreamAccount Operator Fix;
    131057 "the account is in maintenance mode" Unavailable UpstreamUnavailable Meta Wait(MINUTE);
    131037 "the display name needs approval" FailedPrecondition UpstreamAccount Operator Fix;
    131005 "access denied" FailedPrecondition UpstreamCredentials Operator Fix;

    // 5.4 Throttling
    4 "call limit of the app" ResourceExhausted UpstreamAccountRate Caller Backoff(MINUTE);
    17 "call limit of the system user" ResourceExhausted UpstreamAccountRate Caller Backoff(MINUTE);
    32 "call limit of the page" ResourceExhausted UpstreamAccountRate Caller Backoff(MINUTE);
    613 "rate limit of this call" ResourceExhausted UpstreamAccountRate Caller Backoff(MINUTE);
    80007 "call limit of the WABA" ResourceExhausted UpstreamAccountRate Caller Backoff(MINUTE);
    80008 "call limit of the WABA" ResourceExhausted UpstreamAccountRate Caller Backoff(MINUTE);
    130429 "throughput of the number exceeded" ResourceExhausted UpstreamThroughput Caller Backoff(1);
    131048 "too many messages were blocked or flagged" ResourceExhausted UpstreamQualityLimit Operator Fix;
    131056 "too many messages to the same user" ResourceExhausted UpstreamPairRate Caller Pair;
    131064 "limited for misclassified templates" ResourceExhausted UpstreamQualityLimit Operator Fix;
    133016 "too many registrations of the number" ResourceExhausted UpstreamAccountRate Operator Wait(3 * DAY);

    // 5.5 Sending
    1 "invalid request or server error" Unknown SendOutcomeUnknown Meta Ambiguous;
    2 "temporary outage" Unknown SendOutcomeUnknown Meta Ambiguous;
    33 "the object does not exist or is hidden" NotFound UpstreamNotFound Caller Fix;
    100 "a parameter is invalid" InvalidArgument UpstreamInvalidParameter Caller Fix;
    803 "an id in the path is unknown" NotFound UpstreamNotFound Caller Fix;
    1026 "the user's app cannot show this message" FailedPrecondition RecipientUnreachable Recipient Never;
    130403 "the business has blocked the user" FailedPrecondition RecipientNotAllowed Caller Fix;
    130472 "the user is part of an experiment" FailedPrecondition UpstreamRefused Meta Never;
    130501 "unsupported message in a group" Unimplemented UpstreamRefused Meta Inbound;
    131000 "something went wrong" Unknown SendOutcomeUnknown Meta Ambiguous;
    131008 "a required parameter is missing" InvalidArgument UpstreamInvalidParameter Caller Fix;
    131009 "a parameter's value is not valid" InvalidArgument UpstreamInvalidParameter Caller Fix;
    131016 "service unavailable" Unknown SendOutcomeUnknown Meta Ambiguous;
    131021 "recipient and sender are the same" InvalidArgument UpstreamInvalidParameter Caller Fix;
    131026 "the message is undeliverable" FailedPrecondition RecipientUnreachable Recipient Never;
    131030 "a test number may not write to this recipient" FailedPrecondition RecipientNotAllowed Operator Fix;
    131047 "the customer service window is closed" FailedPrecondition WindowClosed Caller Fix;
    131049 "marketing limit of this user" ResourceExhausted UpstreamQualityLimit Meta Wait(DAY);
    131050 "the user stopped marketing messages" FailedPrecondition RecipientOptedOut Recipient Never;
    131051 "unsupported message type" InvalidArgument UpstreamInvalidParameter Caller Fix;
    131052 "the user's media could not be fetched" FailedPrecondition MediaRejected Recipient Inbound;
    131053 "the media is unsupported, too big or unreachable" InvalidArgument MediaRejected Caller Fix;
    131055 "the method is not enabled" FailedPrecondition UpstreamFeature Operator Fix;
    131062 "this message needs a phone number" InvalidArgument UpstreamInvalidParameter Caller Fix;
    131063 "marketing templates are disabled here" FailedPrecondition UpstreamFeature Operator Fix;
    135000 "a problem with the parameters" InvalidArgument UpstreamInvalidParameter Caller Fix;
    137000 "the recipient's identity key differs" FailedPrecondition UpstreamRefused Caller Fix;
    139200 "Direct Send is blocked" FailedPrecondition UpstreamFeature Operator Fix;

    // 5.6 Templates and Flows at send time
    132000 "the number of parameters differs" InvalidArgument TemplateParameters Caller Fix;
    132001 "no approved template of this name and language" NotFound TemplateNotFound Caller Fix;
    132005 "the filled-in text is too long" InvalidArgument TemplateParameters Caller Fix;
    132007 "a parameter breaks the character policy" InvalidArgument TemplateParameters Caller Fix;
    132008 "a parameter's format is invalid" InvalidArgument TemplateParameters Caller Fix;
    132012 "a parameter's format differs from the template" InvalidArgument TemplateParameters Caller Fix;
    132015 "the template is paused" FailedPrecondition TemplateNotSendable Operator WaitForEvent;
    132016 "the template is disabled" FailedPrecondition TemplateNotSendable Caller Fix;
    132018 "the parameters do not satisfy the template" InvalidArgument TemplateParameters Caller Fix;
    132021 "the name of the Direct Send template is taken" AlreadyExists UpstreamConflict Caller Fix;
    132068 "the Flow is blocked" FailedPrecondition UpstreamRefused Operator Fix;
    132069 "the Flow is throttled" ResourceExhausted UpstreamQualityLimit Operator Wait(HOUR);
    134011 "payments terms not accepted" FailedPrecondition UpstreamAccount Operator Fix;

    // 5.7 Registration and phone numbers
    133000 "an earlier deregistration is incomplete" FailedPrecondition UpstreamAccount Operator Fix;
    133004 "server temporarily unavailable" Unavailable UpstreamUnavailable Meta Backoff(1);
    133005 "wrong two-step PIN" InvalidArgument UpstreamInvalidParameter Caller Fix;
    133006 "the number must be verified again" FailedPrecondition UpstreamAccount Operator Fix;
    133008 "too many guesses of the PIN" ResourceExhausted UpstreamAccountRate Operator Wait(MINUTE);
    133009 "PIN guessed too fast" ResourceExhausted UpstreamAccountRate Operator Wait(MINUTE);
    133010 "the number is not registered" FailedPrecondition UpstreamAccount Operator Fix;
    133015 "the number was deleted a moment ago" Unavailable UpstreamUnavailable Meta Wait(5 * MINUTE);
    2388001 "confirm ownership or disable two-step first" FailedPrecondition UpstreamAccount Operator Fix;
    2388012 "the number is in your list" AlreadyExists UpstreamConflict Caller Fix;
    2388091 "not eligible for a registration code" FailedPrecondition UpstreamAccount Operator Fix;
    2388093 "not eligible for a registration code" FailedPrecondition UpstreamAccount Operator Fix;
    2388103 "the number cannot be migrated" FailedPrecondition UpstreamAccount Operator Fix;
    2494100 "the number is in maintenance mode" Unavailable UpstreamUnavailable Meta Wait(MINUTE);
    2593079 "the WABA is marked for another solution" FailedPrecondition UpstreamAccount Operator Fix;
    2593085 "not eligible for a transfer of ownership" FailedPrecondition UpstreamAccount Operator Fix;
    2593107 "sync may be requested once only" FailedPrecondition UpstreamAccount Operator Fix;
    2593108 "sync was requested too late" FailedPrecondition UpstreamAccount Operator Fix;
    2593109 "the business does not share its history" FailedPrecondition UpstreamRefused Operator Never;

    // 5.8 Template management
    2388019 "template limit of the WABA" ResourceExhausted TemplateRejected Operator Fix;
    2388023 "this name and language is being deleted" FailedPrecondition TemplateRejected Caller Wait(30 * DAY);
    2388024 "the content exists in this language" AlreadyExists UpstreamConflict Caller Fix;
    2388039 "not editable in this state" FailedPrecondition TemplateRejected Caller Fix;
    2388040 "a field is too long" InvalidArgument TemplateRejected Caller Fix;
    2388047 "invalid header" InvalidArgument TemplateRejected Caller Fix;
    2388072 "invalid body" InvalidArgument TemplateRejected Caller Fix;
    2388073 "invalid footer" InvalidArgument TemplateRejected Caller Fix;
    2388293 "too many variables for the text" InvalidArgument TemplateRejected Caller Fix;
    2388299 "a variable at the start or the end" InvalidArgument TemplateRejected Caller Fix;
    2388318 "a generated template cannot be edited" FailedPrecondition TemplateRejected Caller Never;
    2388330 "a generated template cannot be deleted" FailedPrecondition TemplateRejected Caller Never;
    200005 "template insights are not available" FailedPrecondition UpstreamFeature Operator Fix;
    200006 "template insights cannot be disabled again" FailedPrecondition UpstreamFeature Operator Fix;
    200007 "template insights are not enabled" FailedPrecondition UpstreamFeature Operator Fix;

    // 5.9 Marketing Messages API (131055 stands in 5.5)
    134100 "only marketing templates are allowed" InvalidArgument TemplateParameters Caller Fix;
    134101 "the template is still syncing" Unavailable TemplateNotSendable Meta Wait(10 * MINUTE);
    134102 "the template is unavailable here" FailedPrecondition TemplateNotSendable Caller Fix;
    1752041 "duplicate request for onboarding" AlreadyExists UpstreamConflict Caller Never;

    // 5.10 Flows, blocking, groups, calls, usernames, sign-ups, routing
    139000 "blocked for integrity" FailedPrecondition UpstreamRefused Operator Fix;
    139001 "the Flow could not be updated" FailedPrecondition UpstreamRefused Caller Fix;
    139002 "the Flow could not be published" FailedPrecondition UpstreamRefused Caller Fix;
    139003 "the Flow could not be deprecated" FailedPrecondition UpstreamRefused Caller Fix;
    139004 "the Flow could not be deleted" FailedPrecondition UpstreamRefused Caller Fix;
    139100 "some users were not blocked or unblocked" Aborted UpstreamRefused Caller Fix;
    139101 "the block list is full" ResourceExhausted UpstreamRefused Operator Fix;
    139102 "the block list changed while it was read" Aborted UpstreamConflict Caller Backoff(1);
    139103 "internal error of the block list" Unavailable UpstreamUnavailable Meta Backoff(1);
    131020 "the group has one member only" FailedPrecondition RecipientUnreachable Caller Fix;
    131041 "the group is unknown or not yours" NotFound UpstreamNotFound Caller Fix;
    131059 "invalid cursor" InvalidArgument UpstreamInvalidParameter Caller Fix;
    131201 "done in part" Aborted UpstreamRefused Caller Fix;
    131202 "duplicate participants" InvalidArgument UpstreamInvalidParameter Caller Fix;
    131203 "terms not accepted" FailedPrecondition UpstreamRefused Operator Fix;
    131204 "too many participants" OutOfRange UpstreamInvalidParameter Caller Fix;
    131207 "the group is suspended" FailedPrecondition UpstreamRefused Operator Fix;
    131208 "rate limit of group operations" ResourceExhausted UpstreamAccountRate Caller Backoff(MINUTE);
    131209 "the group picture is not square" InvalidArgument MediaRejected Caller Fix;
    131210 "the group picture is too small" InvalidArgument MediaRejected Caller Fix;
    131211 "group limit of the number" ResourceExhausted UpstreamRefused Operator Fix;
    131212 "the participant is not in the group" NotFound UpstreamNotFound Caller Fix;
    131213 "the join request does not exist" NotFound UpstreamNotFound Caller Fix;
    131214 "group creation is disabled for a week" ResourceExhausted UpstreamQualityLimit Operator Wait(7 * DAY);
    131215 "the number is not eligible for groups" FailedPrecondition UpstreamFeature Operator Fix;
    138000 "calling is not enabled" FailedPrecondition UpstreamFeature Operator Fix;
    138001 "the user cannot be called" FailedPrecondition RecipientUnreachable Recipient Never;
    138002 "too many calls at a time" ResourceExhausted UpstreamThroughput Caller Backoff(1);
    138003 "a call with the user is going on" Aborted UpstreamConflict Caller WaitForEvent;
    138004 "connection error of a call" Unknown SendOutcomeUnknown Meta Ambiguous;
    138005 "call rate limit" ResourceExhausted UpstreamThroughput Caller Backoff(1);
    138006 "the user has not permitted calls" FailedPrecondition RecipientNotAllowed Recipient Fix;
    138007 "timeout while connecting a call" Unknown SendOutcomeUnknown Meta Ambiguous;
    138009 "limit of requests for call permission" ResourceExhausted UpstreamPairRate Caller Wait(DAY);
    138012 "calls of the business per day" ResourceExhausted UpstreamPairRate Caller Wait(DAY);
    138013 "calls by the business are not available" FailedPrecondition UpstreamFeature Operator Fix;
    138014 "calling is disabled for low quality" FailedPrecondition UpstreamQualityLimit Operator WaitForEvent;
    138015 "the messaging limit is below 2000" FailedPrecondition UpstreamFeature Operator Fix;
    138017 "the user has permitted calls already" FailedPrecondition UpstreamConflict Caller Never;
    138018 "calling cannot be enabled" FailedPrecondition UpstreamFeature Operator Fix;
    138019 "call set-up failed" Aborted UpstreamRefused Caller Fix;
    138020 "relay connection failed" Aborted UpstreamRefused Caller Fix;
    138021 "no media received" Aborted UpstreamRefused Caller Fix;
    138022 "no media sent" Aborted UpstreamRefused Caller Fix;
    138023 "the call ended without media" Aborted UpstreamRefused Caller Fix;
    138024 "SIP health problem" FailedPrecondition UpstreamFeature Operator Fix;
    138025 "SIP health problem" FailedPrecondition UpstreamFeature Operator Fix;
    147001 "the username is not available" AlreadyExists UpstreamConflict Caller Fix;
    147002 "not eligible for a username" FailedPrecondition UpstreamFeature Operator Fix;
    147003 "link the Facebook Page first" FailedPrecondition UpstreamFeature Operator Fix;
    147004 "link the Instagram account first" FailedPrecondition UpstreamFeature Operator Fix;
    147005 "the username must be transferred" FailedPrecondition UpstreamConflict Caller Fix;
    2494164 "the sign-up does not exist" NotFound UpstreamNotFound Caller Fix;
    2494165 "sign-ups are not enabled" Unimplemented UpstreamFeature Operator Fix;
    2494166 "unknown placeholder" InvalidArgument UpstreamInvalidParameter Caller Fix;
    2494167 "the promo code is missing" InvalidArgument UpstreamInvalidParameter Caller Fix;
    2494177 "the URL of the terms is not allowed" InvalidArgument UpstreamInvalidParameter Caller Fix;
    2494179 "the website is not https" InvalidArgument UpstreamInvalidParameter Caller Fix;
    2494168 "terms not accepted" FailedPrecondition UpstreamAccount Operator Fix;
    2494176 "terms accepted already" FailedPrecondition UpstreamConflict Caller Fix;
    2494191 "only the escalation app may take a conversation" FailedPrecondition UpstreamFeature Operator Fix;
}
