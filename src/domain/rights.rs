//! What a caller may do: methods, numbers, accounts and events. What is not named is not allowed.

use std::sync::{Arc, LazyLock};

use super::filter::{EventFilter, EventScope, types_overlap};
use super::quoted::{Quoted, id_shown};

/// Stands for everything, in any of the lists.
pub const EVERYTHING: &str = "*";

/// What a method is about, and so which other right it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The caller itself: open to everyone who is known.
    Caller,
    /// A business number: `phone_numbers`.
    Number,
    /// A WABA: `wabas`.
    Waba,
    /// A business number or a WABA, by the request.
    NumberOrWaba,
    /// Events: `event_types`, and the numbers and WABAs that they are of.
    Events,
}

/// Every method, and every action of `ManageTemplate` as one of its own, by the names that rights, metrics and the audit
/// log use. What does not stand here is served to nobody.
pub const METHODS: &[(&str, Concern)] = &[
    ("SendMessage", Concern::Number),
    ("SendMessages", Concern::Number),
    ("UploadMedia", Concern::NumberOrWaba),
    ("DownloadMedia", Concern::Number),
    ("GetMedia", Concern::Number),
    ("DeleteMedia", Concern::Number),
    ("GetConversation", Concern::Number),
    ("MarkMessageRead", Concern::Number),
    ("GetMessage", Concern::Number),
    ("WatchMessage", Concern::Number),
    ("ManageTemplate/get", Concern::Waba),
    ("ManageTemplate/list", Concern::Waba),
    ("ManageTemplate/create", Concern::Waba),
    ("ManageTemplate/edit", Concern::Waba),
    ("ManageTemplate/delete", Concern::Waba),
    ("ManageTemplate/upsert", Concern::Waba),
    ("ManageTemplate/library", Concern::Waba),
    ("ManageTemplate/archive", Concern::Waba),
    ("ManageTemplate/unarchive", Concern::Waba),
    ("ManageTemplate/compare", Concern::Waba),
    ("ManageTemplate/migrate", Concern::Waba),
    ("ManageTemplate/unpause", Concern::Waba),
    ("ManageTemplate/preview", Concern::Waba),
    ("SubscribeEvents", Concern::Events),
    ("AcknowledgeEvents", Concern::Events),
    ("CreateSubscription", Concern::Events),
    ("GetSubscription", Concern::Events),
    ("ListSubscriptions", Concern::Events),
    ("UpdateSubscription", Concern::Events),
    ("DeleteSubscription", Concern::Events),
    ("SeekSubscription", Concern::Events),
    ("ListParkedEvents", Concern::Events),
    ("ReplayParkedEvents", Concern::Events),
    ("DropParkedEvents", Concern::Events),
    ("WhoAmI", Concern::Caller),
];

/// What one caller may do, and how much of it. Nothing, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Methods: names of [`METHODS`], groups such as `ManageTemplate/*`, or `*`.
    pub methods: Vec<String>,
    /// Ids of business numbers, or `*`.
    pub phone_numbers: Vec<String>,
    /// Ids of WABAs, or `*`.
    pub wabas: Vec<String>,
    /// Types of events, as filters name them.
    pub event_types: Vec<String>,
    /// Messages given to `SendMessage` and `SendMessages` in a second; `None` sets no limit.
    pub sends_per_second: Option<u32>,
    /// Streams and watches open at once; `None` sets no limit.
    pub streams_max: Option<u32>,
}

/// What a caller asked for by name and may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{named} is not among the {list} of this caller; whoever runs the gateway grants them (callers.{list})"
)]
pub struct Forbidden {
    /// What was named, as the request has it. Nothing in it tells whether it exists.
    pub named: String,
    /// The list in which it does not stand.
    pub list: &'static str,
}

impl Rights {
    /// Everything, without a limit.
    pub fn all() -> Self {
        let all = || vec![EVERYTHING.to_owned()];
        Self {
            methods: all(),
            phone_numbers: all(),
            wabas: all(),
            event_types: all(),
            sends_per_second: None,
            streams_max: None,
        }
    }

    /// As [`Rights::all`], made once.
    pub fn everything() -> Arc<Self> {
        static EVERYTHING: LazyLock<Arc<Rights>> = LazyLock::new(|| Arc::new(Rights::all()));
        Arc::clone(&EVERYTHING)
    }

    /// Whether this method is allowed, an action by its own name.
    pub fn may_call(&self, method: &str) -> bool {
        let known = METHODS.iter().find(|(name, _)| *name == method);
        known.is_some_and(|(_, concern)| {
            *concern == Concern::Caller || self.methods.iter().any(|pattern| covers(pattern, method))
        })
    }

    /// Whether this method of the service, which may have actions, is allowed in any way.
    pub fn may_reach(&self, method: &str) -> bool {
        let is_part = |name: &str| name == method || name.split_once('/').is_some_and(|(m, _)| m == method);
        METHODS.iter().any(|(name, _)| is_part(name) && self.may_call(name))
    }

    /// Whether this business number may be used.
    pub fn may_use_number(&self, id: &str) -> bool {
        lists(&self.phone_numbers, id)
    }

    /// Whether this WABA may be used.
    pub fn may_use_waba(&self, id: &str) -> bool {
        lists(&self.wabas, id)
    }

    /// The filter without what the caller may not see. What it names must be allowed: a stream that stays silent for ever
    /// would tell nobody why.
    pub fn narrow(&self, filter: EventFilter) -> Result<EventFilter, Forbidden> {
        let refuse = |named: &str, list| Err(Forbidden { named: named.to_owned(), list });
        if let Some(id) = filter.phone_number_ids.iter().find(|id| !self.may_use_number(id)) {
            return refuse(&format!("phone number id {}", id_shown(id)), "phone_numbers");
        }
        if let Some(id) = filter.waba_ids.iter().find(|id| !self.may_use_waba(id)) {
            return refuse(&format!("WABA {}", id_shown(id)), "wabas");
        }
        // A key begins with the id of its number.
        let number_of = |key: &str| key.split(':').next().unwrap_or_default().to_owned();
        if filter.conversation_keys.iter().any(|key| !self.may_use_number(&number_of(key))) {
            return refuse("the number of a conversation key", "phone_numbers");
        }
        let is_granted =
            |asked: &String| self.event_types.iter().any(|granted| types_overlap(granted, asked));
        if let Some(asked) = filter.types.iter().find(|asked| !is_granted(asked)) {
            return refuse(&format!("event type {}", Quoted(asked)), "event_types");
        }
        if self.event_types.is_empty() {
            return refuse("every event type", "event_types");
        }
        let is_everything = |list: &[String]| list.iter().any(|entry| entry == EVERYTHING);
        let lists = [&self.phone_numbers, &self.wabas, &self.event_types];
        let scope = (!lists.into_iter().all(|list| is_everything(list))).then(|| EventScope {
            phone_number_ids: self.phone_numbers.clone(),
            waba_ids: self.wabas.clone(),
            types: self.event_types.clone(),
        });
        Ok(EventFilter { scope, ..filter })
    }

    /// A method that is allowed and can do nothing, and the list that must not be empty for it.
    pub fn useless(&self) -> Option<(&'static str, &'static str)> {
        let (no_numbers, no_wabas) = (self.phone_numbers.is_empty(), self.wabas.is_empty());
        let lacks = |concern: Concern| match concern {
            Concern::Caller => None,
            Concern::Number => no_numbers.then_some("phone_numbers"),
            Concern::Waba => no_wabas.then_some("wabas"),
            Concern::NumberOrWaba => (no_numbers && no_wabas).then_some("phone_numbers"),
            Concern::Events if no_numbers && no_wabas => Some("phone_numbers"),
            Concern::Events => self.event_types.is_empty().then_some("event_types"),
        };
        METHODS.iter().filter(|(name, _)| self.may_call(name)).find_map(|(name, c)| Some((*name, lacks(*c)?)))
    }
}

/// Whether the text may stand in [`Rights::methods`].
pub fn is_method_pattern(text: &str) -> bool {
    METHODS.iter().any(|(name, _)| covers(text, name))
}

/// Whether a list of ids has this one. No id is empty: what concerns none needs the right to all.
pub(super) fn lists(list: &[String], id: &str) -> bool {
    list.iter().any(|entry| entry == EVERYTHING || (entry == id && !id.is_empty()))
}

fn covers(pattern: &str, method: &str) -> bool {
    let group = pattern.strip_suffix("/*").and_then(|group| method.strip_prefix(group));
    pattern == EVERYTHING || pattern == method || group.is_some_and(|action| action.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::filter::Subject;
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn rights(methods: &[&str], numbers: &[&str], wabas: &[&str], types: &[&str]) -> Rights {
        Rights {
            methods: words(methods),
            phone_numbers: words(numbers),
            wabas: words(wabas),
            event_types: words(types),
            ..Rights::default()
        }
    }

    #[test]
    fn what_is_not_named_is_not_allowed() {
        let all = Rights::all();
        for (name, concern) in METHODS {
            assert!(all.may_call(name), "{name}");
            assert_eq!(Rights::default().may_call(name), *concern == Concern::Caller, "{name}");
        }
        assert!(!all.may_call("FlyToTheMoon") && !all.may_reach("FlyToTheMoon"));
        let some = rights(&["SendMessage", "ManageTemplate/list"], &[], &[], &[]);
        assert!(some.may_call("SendMessage") && some.may_reach("SendMessage"));
        assert!(some.may_call("ManageTemplate/list") && some.may_reach("ManageTemplate"));
        assert!(!some.may_call("ManageTemplate/delete") && !some.may_call("ManageTemplate"));
        assert!(!some.may_call("GetMedia") && !some.may_reach("GetMedia"));
        assert!(rights(&["ManageTemplate/*"], &[], &[], &[]).may_call("ManageTemplate/delete"));
        assert!(!all.may_call("") && !Rights::default().may_use_number("") && all.may_use_number("1"));
    }

    #[test]
    fn patterns_name_known_methods() {
        for good in ["*", "SendMessage", "ManageTemplate/*", "ManageTemplate/delete", "WhoAmI"] {
            assert!(is_method_pattern(good), "{good}");
        }
        for bad in ["", "Send*", "ManageTemplate", "ManageTemplate/fly", "/*", "SendMessage/*", "sendmessage"]
        {
            assert!(!is_method_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn a_method_without_what_it_needs_is_found() {
        let none: &[&str] = &[];
        let cases = [
            (&["SendMessage"][..], &["1"][..], none, none, None),
            (&["SendMessage"][..], none, &["2"][..], &["*"][..], Some("phone_numbers")),
            (&["ManageTemplate/*"][..], &["1"][..], none, none, Some("wabas")),
            (&["UploadMedia"][..], none, &["2"][..], none, None),
            (&["SubscribeEvents"][..], &["1"][..], none, none, Some("event_types")),
            (&["SubscribeEvents"][..], none, none, &["*"][..], Some("phone_numbers")),
            (&["SubscribeEvents"][..], none, &["2"][..], &["*"][..], None),
            (&["WhoAmI"][..], none, none, none, None),
        ];
        for (methods, numbers, wabas, types, expected) in cases {
            let found = rights(methods, numbers, wabas, types).useless().map(|(_, list)| list);
            assert_eq!(found, expected, "{methods:?} {numbers:?} {wabas:?} {types:?}");
        }
    }

    #[test]
    fn a_filter_is_narrowed_and_what_it_names_must_be_allowed() {
        let some = rights(&["*"], &["1"], &["2"], &["whatsapp.message.*"]);
        let event = |event_type, phone_number_id, waba_id| Subject {
            event_type,
            phone_number_id,
            waba_id,
            conversation_key: "",
        };
        let received = "whatsapp.message.received";
        let cases = [
            (event(received, "1", "9"), true),
            (event(received, "3", "2"), false),
            (event("whatsapp.calls", "1", "2"), false),
            // Of an account as a whole, and of nothing that is known.
            (event(received, "", "2"), true),
            (event(received, "", "9"), false),
            (event(received, "", ""), false),
        ];
        let narrowed = some.narrow(EventFilter::default()).unwrap();
        assert!(!narrowed.is_empty(), "streams of everything share what is encoded");
        for (event, expected) in cases {
            assert_eq!(narrowed.matches(&event), expected, "{event:?}");
        }
        let everything = Rights::all().narrow(EventFilter::default()).unwrap();
        assert!(everything.is_empty() && everything.matches(&event("x", "", "")));

        let named = |numbers: &[&str], wabas: &[&str], types: &[&str], keys: &[&str]| EventFilter {
            phone_number_ids: words(numbers),
            waba_ids: words(wabas),
            types: words(types),
            conversation_keys: words(keys),
            scope: None,
        };
        for good in [
            named(&["1"], &["2"], &[received], &["1:16505551234"]),
            named(&[], &[], &["whatsapp.*"], &[]),
            named(&[], &[], &["*"], &[]),
        ] {
            assert!(some.narrow(good.clone()).is_ok(), "{good:?}");
        }
        for (bad, list) in [
            (named(&["1", "3"], &[], &[], &[]), "phone_numbers"),
            (named(&[], &["9"], &[], &[]), "wabas"),
            (named(&[], &[], &["whatsapp.calls"], &[]), "event_types"),
            (named(&[], &[], &[], &["3:16505551234"]), "phone_numbers"),
        ] {
            assert_eq!(some.narrow(bad.clone()).unwrap_err().list, list, "{bad:?}");
        }
    }
}
