//! What Meta does to numbers and accounts, on demand: throughput, the phone app, bans. Each with its webhook.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::faults::WebhookShape;
use super::limits::Rate;
use super::unix_seconds;
use super::webhooks::Update;
use super::world::{State, World};

/// Messages per second of a number that is also used in the phone app, and of one with high throughput.
const ON_APP_PER_SECOND: u32 = 20;
const HIGH_PER_SECOND: u32 = 1_000;

/// What was done to numbers and accounts; what is not here is as usual.
#[derive(Debug, Default)]
pub(super) struct Standing {
    numbers: BTreeMap<String, NumberStanding>,
    disabled_wabas: BTreeSet<String>,
    /// When all access tokens expire, in seconds since 1970; 0 for never.
    pub(super) tokens_expire_at: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct NumberStanding {
    is_high: bool,
    is_on_app: bool,
    quality: Quality,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Quality {
    #[default]
    Green,
    Yellow,
    Red,
}

/// What `POST /_simulator/numbers/{id}` takes; what is absent stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NumberChange {
    throughput: Option<Level>,
    is_on_biz_app: Option<bool>,
    quality: Option<Quality>,
    /// Without the webhook.
    #[serde(default)]
    silently: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Standard,
    High,
}

/// What `POST /_simulator/wabas/{id}` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WabaChange {
    ban: Ban,
    /// Without the webhook.
    #[serde(default)]
    silently: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Ban {
    Disable,
    Reinstate,
    ScheduleForDisable,
}

impl Standing {
    /// Whether the account may not send.
    pub(super) fn is_disabled(&self, waba_id: &str) -> bool {
        self.disabled_wabas.contains(waba_id)
    }

    /// Whether the number is also used in the phone app.
    pub(super) fn is_on_app(&self, phone_number_id: &str) -> bool {
        self.number(phone_number_id).is_on_app
    }

    /// How users judge the number.
    pub(super) fn quality(&self, phone_number_id: &str) -> Quality {
        self.number(phone_number_id).quality
    }

    fn number(&self, phone_number_id: &str) -> NumberStanding {
        self.numbers.get(phone_number_id).copied().unwrap_or_default()
    }
}

impl State {
    /// How fast the number may send and receive.
    pub(super) fn throughput_of(&self, phone_number_id: &str) -> Rate {
        let usual = self.limits.messages_per_second;
        Rate::per_second(match self.standing.number(phone_number_id) {
            NumberStanding { is_on_app: true, .. } => usual.min(ON_APP_PER_SECOND),
            NumberStanding { is_high: true, .. } => usual.max(HIGH_PER_SECOND),
            NumberStanding { .. } => usual,
        })
    }

    /// The level as the number's node shows it.
    pub(super) fn level_of(&self, phone_number_id: &str) -> &'static str {
        let NumberStanding { is_high, is_on_app, .. } = self.standing.number(phone_number_id);
        if is_on_app {
            "NOT_APPLICABLE"
        } else if is_high || self.limits.messages_per_second >= HIGH_PER_SECOND {
            "HIGH"
        } else {
            "STANDARD"
        }
    }
}

/// Changes a number. More throughput is announced, and the quality.
pub(super) fn change_number(world: &World, id: &str, change: &NumberChange) -> Result<Value, String> {
    let number = world.number(id).ok_or_else(|| format!("{id} is no phone number id"))?;
    let standing = {
        let mut state = world.state();
        let standing = state.standing.numbers.entry(id.to_owned()).or_default();
        standing.is_on_app = change.is_on_biz_app.unwrap_or(standing.is_on_app);
        standing.quality = change.quality.unwrap_or(standing.quality);
        standing.is_high = change.throughput.map_or(standing.is_high, |level| level == Level::High);
        *standing
    };
    let upgrade = (change.throughput == Some(Level::High)).then_some("THROUGHPUT_UPGRADE");
    let judgement =
        change.quality.map(|quality| if quality == Quality::Red { "FLAGGED" } else { "UNFLAGGED" });
    for event in upgrade.into_iter().chain(judgement).filter(|_| !change.silently) {
        let value = json!({
            "display_phone_number": number.display_phone_number,
            "event": event,
            "max_daily_conversations_per_business": "TIER_UNLIMITED",
        });
        report(world, &number.waba_id, "phone_number_quality_update", value);
    }
    Ok(json!(standing))
}

/// Bans an account, or lets it go again.
pub(super) fn change_waba(world: &World, id: &str, change: &WabaChange) -> Result<Value, String> {
    if !world.account.has_waba(id) {
        return Err(format!("{id} is no WABA"));
    }
    let is_disabled = {
        let disabled = &mut world.state().standing.disabled_wabas;
        match change.ban {
            Ban::Disable => disabled.insert(id.to_owned()),
            Ban::Reinstate => disabled.remove(id),
            Ban::ScheduleForDisable => false,
        };
        disabled.contains(id)
    };
    if !change.silently {
        let info = json!({ "waba_ban_state": change.ban, "waba_ban_date": "April 17, 2025" });
        let value = json!({ "event": "DISABLED_UPDATE", "ban_info": info });
        report(world, id, "account_update", value);
    }
    Ok(json!({ "is_disabled": is_disabled }))
}

fn report(world: &World, waba_id: &str, field: &'static str, value: Value) {
    let update = Update {
        waba_id: waba_id.to_owned(),
        field,
        value,
        time: Some(unix_seconds(world.now())),
        queue: format!("account {waba_id}"),
    };
    world.report(update, WebhookShape::default());
}
