//! The machine on a clock that the test moves.

use super::*;
use crate::domain::failure::{Actor, Class, Reason, Retry};

const PAUSE: Duration = Duration::from_secs(30);

fn seconds(count: u64) -> Moment {
    Duration::from_secs(count)
}

fn complaint(code: i64) -> Complaint {
    let verdict = Verdict {
        class: Class::FailedPrecondition,
        reason: Reason::UpstreamAccount,
        actor: Actor::Operator,
        retry: Retry::AfterChange,
    };
    let cause = Cause::of_code(code).unwrap();
    Complaint { cause, code: Some(code), words: String::new(), verdict, until: None }
}

fn health() -> NumberHealth {
    NumberHealth::new(PAUSE)
}

#[test]
fn only_codes_of_the_whole_number_have_a_cause() {
    let cases = [
        (Cause::Token, [0, 102, 104, 190].as_slice()),
        (Cause::Permission, &[10, 200, 299, 131_005]),
        (Cause::Account, &[368, 131_031]),
        (Cause::Registration, &[131_045, 133_006, 133_010]),
        (Cause::Quality, &[131_048, 131_064]),
    ];
    for (cause, codes) in cases {
        assert!(codes.iter().all(|code| Cause::of_code(*code) == Some(cause)), "{cause:?}");
    }
    // One message, one recipient, one country, one feature, one moment.
    for code in
        [1, 3, 4, 100, 130_429, 130_497, 131_026, 131_037, 131_042, 131_047, 131_049, 131_056, 131_057]
    {
        assert_eq!(Cause::of_code(code), None, "{code}");
    }
}

#[test]
fn a_token_is_looked_at_at_once_and_then_ever_less_often() {
    let mut health = health();
    assert_eq!(health.refused(seconds(5), Source::Answer, complaint(190)), Some(Change::Parked));
    // The others that were on their way change nothing.
    assert_eq!(health.refused(seconds(5), Source::Answer, complaint(190)), None);
    assert_eq!(health.worked(Source::Answer), None);
    let (mut now, mut pauses) = (seconds(5), Vec::new());
    for _ in 0..7 {
        assert_eq!(health.look(now), Some(Cause::Token));
        assert_eq!(health.look(now), None, "one look at a time");
        assert_eq!(health.refused(now, Source::Word, complaint(190)), None);
        let next = health.parked().unwrap().look_at;
        pauses.push(next.saturating_sub(now).as_secs());
        now = next;
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
    assert_eq!(health.parked().unwrap().since, seconds(5));
    assert!(matches!(health.end_if(|parked| parked.complaint.cause.is_of_token()), Some(Change::Resumed(_))));
    assert_eq!(health.look(now), None);
    assert_eq!(health.parked(), None);
}

#[test]
fn a_refusal_by_mistake_costs_a_moment_and_a_second_one_more() {
    let mut health = health();
    health.refused(seconds(0), Source::Answer, complaint(190));
    assert_eq!(health.look(seconds(0)), Some(Cause::Token));
    assert!(health.resume_if(|_| true).is_some());
    // Nothing has worked since.
    assert_eq!(health.refused(seconds(1), Source::Answer, complaint(190)), Some(Change::Parked));
    assert_eq!(health.parked().unwrap().look_at, seconds(31));
    assert!(health.resume_if(|_| true).is_some());
    assert_eq!(health.worked(Source::Answer), None);
    assert_eq!(health.refused(seconds(40), Source::Answer, complaint(190)), Some(Change::Parked));
    assert_eq!(health.parked().unwrap().look_at, seconds(40));
}

#[test]
fn what_may_hit_some_messages_only_must_hit_three_in_a_row() {
    for code in [131_048, 10] {
        let mut health = health();
        for _ in 0..5 {
            assert_eq!(health.refused(seconds(0), Source::Answer, complaint(code)), None);
            assert_eq!(health.refused(seconds(0), Source::Answer, complaint(code)), None);
            assert_eq!(health.worked(Source::Answer), None);
        }
        health.refused(seconds(0), Source::Answer, complaint(code));
        health.refused(seconds(0), Source::Answer, complaint(code));
        assert_eq!(health.refused(seconds(0), Source::Answer, complaint(code)), Some(Change::Parked));
    }
}

#[test]
fn one_message_proves_what_reading_does_not() {
    let mut health = health();
    assert_eq!(health.refused(seconds(0), Source::Answer, complaint(131_031)), Some(Change::Parked));
    assert_eq!(health.look(seconds(29)), None);
    assert_eq!(health.look(seconds(30)), Some(Cause::Account));
    health.try_one();
    assert_eq!(health.refused(seconds(31), Source::Answer, complaint(131_031)), None);
    assert_eq!(health.parked().unwrap().look_at, seconds(91));
    // Nobody wants to send, or nobody knows what became of the message: the next one may try.
    assert_eq!(health.look(seconds(91)), Some(Cause::Account));
    health.try_one();
    assert_eq!(health.look(seconds(151)), Some(Cause::Account));
    health.try_one();
    assert!(matches!(health.worked(Source::Answer), Some(Change::Resumed(_))));
    // It worked, so the next time is a first time.
    health.refused(seconds(200), Source::Answer, complaint(131_031));
    assert_eq!(health.parked().unwrap().look_at, seconds(230));
}

#[test]
fn what_statuses_say_only_statuses_disprove() {
    let mut health = health();
    for _ in 0..2 {
        health.worked(Source::Answer);
        assert_eq!(health.refused(seconds(0), Source::Status, complaint(131_048)), None);
    }
    health.worked(Source::Status);
    for _ in 0..2 {
        assert_eq!(health.refused(seconds(0), Source::Status, complaint(131_048)), None);
    }
    assert_eq!(health.refused(seconds(0), Source::Status, complaint(131_048)), Some(Change::Parked));
    assert_eq!(health.refused(seconds(1), Source::Status, complaint(131_048)), None);
    health.look(seconds(30));
    health.try_one();
    assert_eq!(health.worked(Source::Status), None, "of a message that was sent before");
    assert!(health.worked(Source::Answer).is_some());
    // Accepted, and failed afterwards: at once, and for longer.
    assert_eq!(health.refused(seconds(32), Source::Status, complaint(131_048)), Some(Change::Parked));
    assert_eq!(health.parked().unwrap().look_at, seconds(92));
}

#[test]
fn a_word_about_the_account_counts_at_once() {
    let mut health = health();
    health.refused(seconds(0), Source::Answer, complaint(190));
    assert_eq!(health.refused(seconds(1), Source::Word, complaint(368)), Some(Change::Parked));
    assert_eq!(health.parked().unwrap().complaint.cause, Cause::Account);
    assert_eq!(health.end_if(|parked| parked.complaint.cause == Cause::Token), None);
    assert!(health.end_if(|parked| parked.complaint.cause == Cause::Account).is_some());
}

#[test]
fn of_two_matters_the_end_of_one_leaves_the_other() {
    let lifted = |health: &mut NumberHealth, cause| health.end_if(|parked| parked.complaint.cause == cause);
    let now = |health: &NumberHealth| health.parked().map(|parked| parked.complaint.cause);
    // Three refusals for quality, then a webhook that the account is restricted.
    let both = || {
        let mut health = health();
        for _ in 0..3 {
            health.refused(seconds(0), Source::Answer, complaint(131_048));
        }
        assert_eq!(now(&health), Some(Cause::Quality));
        assert_eq!(health.refused(seconds(5), Source::Word, complaint(131_031)), Some(Change::Parked));
        assert_eq!(now(&health), Some(Cause::Account));
        health
    };
    let mut health = both();
    assert_eq!(lifted(&mut health, Cause::Account), Some(Change::Parked), "for the other cause");
    assert_eq!(now(&health), Some(Cause::Quality));
    assert_eq!(health.parked().unwrap().since, seconds(0));
    // It is looked at as it would have been.
    assert_eq!(health.look(seconds(30)), Some(Cause::Quality));
    health.try_one();
    assert!(matches!(health.worked(Source::Answer), Some(Change::Resumed(_))));

    let mut health = both();
    assert_eq!(lifted(&mut health, Cause::Quality), None, "the account is what is told");
    assert_eq!(now(&health), Some(Cause::Account));
    assert!(matches!(lifted(&mut health, Cause::Account), Some(Change::Resumed(_))));

    // Said again, it is there once. A message that passes disproves all.
    let mut health = both();
    assert_eq!(health.refused(seconds(6), Source::Word, complaint(131_031)), None);
    health.try_one();
    assert!(matches!(health.worked(Source::Answer), Some(Change::Resumed(_))));
    assert_eq!(now(&health), None);

    // What a message that was let through is refused for takes the place of what it was let through for.
    let mut health = both();
    health.try_one();
    assert_eq!(health.refused(seconds(40), Source::Answer, complaint(131_048)), Some(Change::Parked));
    assert!(matches!(lifted(&mut health, Cause::Quality), Some(Change::Resumed(_))));
}

#[test]
fn readings_prove_what_they_can() {
    let limited = |tier: &str| {
        NumberStatus { messaging_limit: Some(tier.to_owned()), ..NumberStatus::default() }.users_per_day()
    };
    let known = [("TIER_50", 50.0), ("TIER_2K", 2e3), ("TIER_100K", 1e5), ("TIER_UNLIMITED", f64::INFINITY)];
    assert!(known.into_iter().all(|(tier, users)| limited(tier) == Some(users)));
    assert!(["TIER_NOT_SET", "TIER_", "250", ""].into_iter().all(|tier| limited(tier).is_none()));
    let status = |status: &str, can_send: &str| NumberStatus {
        status: Some(status.to_owned()),
        can_send: Some(can_send.to_owned()),
        ..NumberStatus::default()
    };
    let silent = NumberStatus::default();
    assert!(Cause::Token.is_over(&silent), "the token was taken");
    assert!(Cause::Account.is_over(&status("CONNECTED", "LIMITED")));
    assert!(!Cause::Account.is_over(&status("CONNECTED", "BLOCKED")) && !Cause::Account.is_over(&silent));
    assert!(Cause::Registration.is_over(&status("CONNECTED", "BLOCKED")));
    assert!(!Cause::Registration.is_over(&status("PENDING", "AVAILABLE")));
    for cause in [Cause::Permission, Cause::Quality] {
        assert!(!cause.is_over(&status("CONNECTED", "AVAILABLE")));
    }
}

#[test]
fn levels_have_rates() {
    let at = |level: Option<&str>, is_on_app| {
        NumberStatus { throughput: level.map(str::to_owned), is_on_app, ..NumberStatus::default() }.rate()
    };
    assert_eq!(at(Some("STANDARD"), false), Some(80));
    assert_eq!(at(Some("HIGH"), false), Some(1000));
    assert_eq!(at(Some("NOT_APPLICABLE"), true), Some(20));
    assert_eq!((at(Some("NOT_APPLICABLE"), false), at(None, false)), (None, None));
}
