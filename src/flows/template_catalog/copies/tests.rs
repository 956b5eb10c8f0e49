use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn name(waba_id: &str, name: &str) -> TemplateName {
    TemplateName { waba_id: waba_id.to_owned(), name: name.to_owned() }
}

fn shape(id: &str, language: &str, status: &str) -> TemplateShape {
    let text = ToOwned::to_owned;
    TemplateShape {
        id: id.to_owned(),
        name: text("a"),
        language: text(language),
        status: text(status),
        parts: None,
    }
}

fn copy(shapes: Vec<TemplateShape>, begun: Instant) -> TemplateCopy {
    TemplateCopy { shapes, is_whole: true, begun }
}

/// Begins a read, which nobody has begun yet.
fn begun(copies: &mut Copies, name: &TemplateName, now: Instant) -> (Reading, u64) {
    match copies.look(name, now) {
        Look::Begin(reading, ticket) => (reading, ticket),
        other @ (Look::Join(_) | Look::Busy) => panic!("{name:?}: {other:?}"),
    }
}

fn is_busy(copies: &mut Copies, name: &TemplateName, now: Instant) -> bool {
    matches!(copies.look(name, now), Look::Busy)
}

#[test]
fn one_read_serves_all_who_wait() {
    let (mut copies, now, a) = (Copies::default(), Instant::now(), name("1", "a"));
    let (first, ticket) = begun(&mut copies, &a, now);
    let Look::Join(second) = copies.look(&a, now + SECOND) else { panic!("not joined") };
    assert_eq!(second.begun, now);
    copies.finish(&a, ticket, Ok(copy(vec![shape("7", "en", "APPROVED")], now)), now + SECOND);
    for reading in [first, second] {
        assert_eq!(reading.copy.borrow().as_ref().unwrap().shapes[0].id, "7");
    }
    assert!(copies.copy(&a, now).is_some());
    assert!(copies.copy(&a, now + KEPT_FOR).is_none(), "too old");
    assert!(copies.copy(&name("2", "a"), now).is_none(), "of another WABA");
}

#[test]
fn only_a_new_copy_may_refuse() {
    let now = Instant::now();
    let copy = copy(Vec::new(), now);
    assert!(copy.may_refuse(now) && copy.may_refuse(now + REFUSES_FOR - SECOND));
    assert!(!copy.may_refuse(now + REFUSES_FOR));
}

#[test]
fn what_was_forgotten_while_it_was_read_is_not_kept() {
    let (mut copies, now, a) = (Copies::default(), Instant::now(), name("1", "a"));
    let (reading, ticket) = begun(&mut copies, &a, now);
    copies.forget("1", "a");
    assert!(reading.copy.has_changed().is_err(), "who waits is told at once");
    let (_, next) = begun(&mut copies, &a, now);
    copies.finish(&a, ticket, Ok(copy(Vec::new(), now)), now);
    assert!(copies.copy(&a, now).is_none());
    copies.finish(&a, next, Ok(copy(Vec::new(), now)), now);
    assert!(copies.copy(&a, now).is_some());
    assert_eq!(copies.reads, 0);
}

#[test]
fn a_failed_read_pauses_its_waba_and_keeps_the_copy() {
    let (mut copies, now, a) = (Copies::default(), Instant::now(), name("1", "a"));
    let (_, ticket) = begun(&mut copies, &a, now);
    copies.finish(&a, ticket, Ok(copy(Vec::new(), now)), now);
    let (reading, ticket) = begun(&mut copies, &a, now);
    copies.finish(&a, ticket, Err(Duration::ZERO), now);
    assert!(reading.copy.has_changed().is_err());
    assert!(copies.copy(&a, now).is_some());
    assert!(is_busy(&mut copies, &name("1", "b"), now + PAUSE - SECOND));
    begun(&mut copies, &name("2", "b"), now);
    let (_, ticket) = begun(&mut copies, &name("1", "b"), now + PAUSE);
    copies.finish(&name("1", "b"), ticket, Err(6 * PAUSE), now + PAUSE);
    assert!(is_busy(&mut copies, &a, now + 7 * PAUSE - SECOND), "Meta has said how long");
    begun(&mut copies, &a, now + 7 * PAUSE);
}

#[test]
fn ids_and_wabas_are_forgotten() {
    let (mut copies, now) = (Copies::default(), Instant::now());
    let names = [name("1", "a"), name("1", "b"), name("2", "a")];
    for (position, name) in names.iter().enumerate() {
        let (_, ticket) = begun(&mut copies, name, now);
        let shapes = vec![shape("0", "en", "APPROVED"), shape(&position.to_string(), "de", "APPROVED")];
        copies.finish(name, ticket, Ok(copy(shapes.into_iter().skip(1).collect(), now)), now);
    }
    let kept = |copies: &Copies| names.clone().map(|name| copies.copy(&name, now).is_some());
    let (reading, _) = begun(&mut copies, &name("1", "c"), now);
    copies.forget_ids("1", &["1".to_owned(), "2".to_owned()]);
    assert_eq!(kept(&copies), [true, false, true]);
    assert!(reading.copy.has_changed().is_err(), "it may be one of them");
    copies.forget_all("1");
    assert_eq!((kept(&copies), copies.kept), ([false, false, true], 1));
}

#[test]
fn reads_and_copies_are_bounded() {
    let (mut copies, now) = (Copies::default(), Instant::now());
    for n in 0..READS_MAX {
        begun(&mut copies, &name("1", &n.to_string()), now);
    }
    assert!(is_busy(&mut copies, &name("1", "more"), now));
    let mut copies = Copies::default();
    let many = KEPT_MAX / 4;
    for n in 0..6_u32 {
        let (name, then) = (name("1", &n.to_string()), now + SECOND * n);
        let (_, ticket) = begun(&mut copies, &name, then);
        copies.finish(&name, ticket, Ok(copy(vec![shape("1", "en", "APPROVED"); many], then)), then);
    }
    let kept = [0, 1, 2, 3, 4, 5].map(|n: u32| copies.copy(&name("1", &n.to_string()), now).is_some());
    assert_eq!(kept, [false, false, true, true, true, true]);
    assert_eq!(copies.kept, KEPT_MAX);
}

#[test]
fn an_approved_template_comes_before_one_that_goes() {
    let now = Instant::now();
    let shapes =
        vec![shape("1", "en", "PENDING_DELETION"), shape("2", "en", "APPROVED"), shape("3", "de", "PAUSED")];
    let copy = copy(shapes, now);
    assert_eq!(copy.shape("en").unwrap().id, "2");
    assert_eq!(copy.shape("de").unwrap().id, "3");
    assert_eq!(copy.shape("fr"), None);
}
