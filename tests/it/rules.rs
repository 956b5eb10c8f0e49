//! The alert rules and dashboards of the chart: each alert is tested both ways and has its runbook, each panel says what it
//! shows, and no metric is named that a gateway does not have. That the rules work is for promtool to check
//! (`make rules`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use whatsapp_gateway::domain::failure::Reason;
use whatsapp_gateway::telemetry::names::{Kind, METRICS, Metric};

use crate::promql::{self, Selected};

const RULES: &str = "helm/files/rules";
const RULE_TESTS: &str = "tests/rules";
const DASHBOARDS: &str = "helm/files/dashboards";
const RUNBOOKS: &str = "docs/operations.md";
const RUNBOOK_URL: &str =
    "https://github.com/whatsapp-gateway/whatsapp-gateway/blob/main/docs/operations.md#";

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<TestGroup>,
}

#[derive(Deserialize)]
struct TestGroup {
    input_series: Vec<Series>,
    promql_expr_test: Vec<Expectation>,
}

#[derive(Deserialize)]
struct Series {
    series: String,
}

#[derive(Deserialize)]
struct Expectation {
    expr: String,
    exp_samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    labels: String,
}

/// The files of a folder, by their paths.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let paths = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let paths = paths.map(|entry| entry.unwrap().path());
    let texts = paths.map(|path| {
        let name = path.display().to_string();
        assert!(path.extension().is_some_and(|found| found == extension), "{name}");
        (name, std::fs::read_to_string(path).unwrap())
    });
    let texts: Vec<_> = texts.collect();
    assert!(!texts.is_empty(), "{folder} is empty");
    texts
}

fn yaml<T: for<'a> Deserialize<'a>>(folder: &str) -> Vec<T> {
    let parse = |(path, text): (String, String)| {
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    files(folder, "yaml").into_iter().map(parse).collect()
}

fn rules() -> Vec<Rule> {
    let groups = yaml::<RuleFile>(RULES).into_iter().flat_map(|file| file.groups);
    groups.flat_map(|group| group.rules).collect()
}

fn alerts() -> BTreeMap<String, Rule> {
    let mut alerts = BTreeMap::new();
    for rule in rules() {
        if let Some(name) = rule.alert.clone() {
            assert!(name.starts_with("WhatsAppGateway"), "{name}: other rules may stand beside ours");
            assert!(alerts.insert(name.clone(), rule).is_none(), "{name} is there twice");
        }
    }
    // Twelve of the four objectives, and the causes.
    assert!(alerts.len() >= 40, "{:?}", alerts.keys());
    alerts
}

fn dashboards() -> Vec<(String, Value)> {
    let parse = |(path, text): (String, String)| {
        let dashboard = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path, dashboard)
    };
    files(DASHBOARDS, "json").into_iter().map(parse).collect()
}

/// The panels that show something, which is all but the headings of rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// The sections of the runbooks by their anchors, as GitHub makes them.
fn sections() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(RUNBOOKS)).unwrap();
    let mut sections = BTreeMap::<String, String>::new();
    let mut anchor = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            let title = title.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            anchor = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            assert!(!sections.contains_key(&anchor), "two sections {anchor}");
        }
        let section = sections.entry(anchor.clone()).or_default();
        section.push_str(line);
        section.push('\n');
    }
    sections
}

#[test]
fn every_alert_says_what_is_wrong_and_what_to_do() {
    let sections = sections();
    for (name, alert) in alerts() {
        let severity = alert.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("page" | "ticket")), "{name}: {severity:?}");
        for annotation in ["summary", "description", "runbook_url"] {
            let text = alert.annotations.get(annotation).map_or("", |text| text.trim());
            assert!(text.len() > 20, "{name}: {annotation} says {text:?}");
        }
        let url = &alert.annotations["runbook_url"];
        let anchor = url.strip_prefix(RUNBOOK_URL).unwrap_or_else(|| panic!("{name}: {url}"));
        let section = sections.get(anchor).unwrap_or_else(|| panic!("{name}: no section {anchor}"));
        assert!(section.contains(&format!("`{name}`")), "{name} is not named in its section {anchor}");
        for part in ["**Means.**", "**Look.**", "**Do.**"] {
            assert!(section.contains(part), "{anchor} has no {part}");
        }
    }
}

#[test]
fn runbooks_lead_somewhere() {
    let sections = sections();
    let dashboards = dashboards();
    let titles: Vec<_> = dashboards.iter().flat_map(|(_, d)| panels(d)).map(|p| &p["title"]).collect();
    let (link, quoted) = (Regex::new(r"\]\(#([\w-]+)\)").unwrap(), Regex::new("\"([^\"]+)\"").unwrap());
    for text in sections.values() {
        for found in link.captures_iter(text) {
            assert!(sections.contains_key(&found[1]), "there is no section {}", &found[1]);
        }
        // What is quoted is a panel, by its title.
        for found in quoted.captures_iter(&text.split_whitespace().collect::<Vec<_>>().join(" ")) {
            assert!(titles.iter().any(|title| **title == found[1]), "there is no panel {:?}", &found[1]);
        }
    }
}

#[test]
fn every_alert_is_tested_firing_and_quiet() {
    let tests: Vec<TestGroup> =
        yaml::<TestFile>(RULE_TESTS).into_iter().flat_map(|file| file.tests).collect();
    let label = Regex::new(r"\$labels\.(\w+)").unwrap();
    let job = Regex::new(r#"job=~?"([a-z0-9-]+)"#).unwrap();
    for (name, alert) in alerts() {
        let of_alert = |expr: &str| expr.contains(&format!("ALERTS{{alertname=\"{name}\""));
        let (mut fired, mut quiet) = (Vec::new(), 0);
        for group in &tests {
            for expectation in group.promql_expr_test.iter().filter(|test| of_alert(&test.expr)) {
                fired.extend(expectation.exp_samples.iter().map(|sample| sample.labels.clone()));
                if expectation.exp_samples.is_empty() {
                    // An alert about a gateway that the test does not have is quiet for no reason.
                    let about =
                        job.captures(&expectation.expr).map_or("", |found| found.get(1).unwrap().as_str());
                    let about = format!("job=\"{about}");
                    assert!(
                        group.input_series.iter().any(|s| s.series.contains(&about)),
                        "{}",
                        expectation.expr
                    );
                    quiet += 1;
                }
            }
        }
        assert!(!fired.is_empty(), "no test lets {name} fire");
        assert!(quiet > 0, "no test keeps {name} quiet");
        for text in alert.annotations.values() {
            for used in label.captures_iter(text).map(|found| found[1].to_owned()) {
                let has = |labels: &String| labels.contains(&format!("{used}=\""));
                assert!(
                    fired.iter().all(has),
                    "{name} shows the label {used}, which it does not have: {fired:?}"
                );
            }
        }
    }
}

#[test]
fn dashboards_are_complete() {
    let dashboards = dashboards();
    assert_eq!(dashboards.len(), 6);
    let mut uids = BTreeSet::new();
    for (path, dashboard) in &dashboards {
        let uid = dashboard["uid"].as_str().unwrap();
        assert!(uids.insert(uid) && uid.len() <= 40, "{path}: {uid}");
        assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39, "{path}");
        let text = dashboard.to_string();
        assert!(text.contains("/explore?") && text.contains("${traces}"), "{path}: no link to traces");
        let ids = dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64().unwrap());
        let ids: Vec<u64> = ids.collect();
        assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{path}: {ids:?}");
        assert!(panels(dashboard).count() >= 8, "{path}");
        for panel in panels(dashboard) {
            let shown = format!("{path}, {}", panel["title"]);
            for text in [&panel["title"], &panel["description"], &panel["fieldConfig"]["defaults"]["unit"]] {
                assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{shown}");
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{shown}");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{shown}");
                let is_histogram = target["expr"].as_str().unwrap().contains("_bucket{");
                assert_eq!(target["exemplar"], is_histogram, "{shown}");
            }
        }
    }
}

/// Every expression of a rule or a dashboard, and every input of a test.
fn expressions() -> Vec<String> {
    let tests = yaml::<TestFile>(RULE_TESTS).into_iter().flat_map(|file| file.tests);
    let inputs = tests.flat_map(|test| test.input_series).map(|input| input.series);
    let mut expressions: Vec<_> = rules().into_iter().map(|rule| rule.expr).chain(inputs).collect();
    for (_, dashboard) in dashboards() {
        let targets = panels(&dashboard).flat_map(|panel| panel["targets"].as_array().unwrap());
        expressions.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    expressions
}

/// Every metric that the gateway itself must have, with the labels and words by which it is selected.
fn named() -> Selected {
    let recorded: BTreeSet<_> = rules().into_iter().filter_map(|rule| rule.record).collect();
    assert!(recorded.len() >= 10, "{recorded:?}");
    let mut named = Selected::new();
    for expr in expressions() {
        let selected = promql::selected(&expr);
        assert!(!selected.is_empty() || expr.starts_with("vector("), "no metric in {expr}");
        for (metric, labels) in selected {
            // Prometheus makes these itself.
            if !recorded.contains(&metric) && !["up", "ALERTS"].contains(&metric.as_str()) {
                let known = named.entry(metric).or_default();
                for (label, words) in labels {
                    known.entry(label).or_default().extend(words);
                }
            }
        }
    }
    assert!(named.len() >= 80, "only {named:?}");
    named
}

/// Fails unless these samples of a live gateway have every metric that is named.
pub fn assert_has_what_rules_and_dashboards_name(samples: &BTreeSet<&str>) {
    let named = named();
    let missing = named.keys().filter(|name| !samples.contains(name.as_str()));
    // Only where there are other gateways; `cluster` sees it.
    let missing: Vec<_> =
        missing.filter(|name| !name.starts_with("whatsapp_gateway_relayed_call_seconds_")).collect();
    assert!(missing.is_empty(), "rules or dashboards name {missing:?}, which the gateway does not have");
}

#[test]
fn metrics_are_selected_by_labels_and_words_that_they_have() {
    let word = Regex::new(r"^[A-Za-z_]+$").unwrap();
    for (name, labels) in named() {
        let found = metric_of(&name);
        let (metric, part) = found.unwrap_or_else(|| panic!("{name} is no metric of the gateway"));
        for (label, words) in labels {
            // Prometheus adds these.
            if ["namespace", "job", "instance"].contains(&label.as_str()) {
                continue;
            }
            if label == "le" {
                assert!(metric.kind == Kind::Histogram && part == "_bucket", "{name} has no bounds");
                continue;
            }
            let known = metric.labels.iter().find(|known| known.name == label);
            let known = known.unwrap_or_else(|| panic!("{name} has no label {label}"));
            for used in words.iter().filter(|used| word.is_match(used)) {
                let is_reason = || used == "OK" || Reason::named(used).is_some();
                let is_known = match (known.words, label.as_str()) {
                    ([], "reason") => is_reason(),
                    ([], _) => true,
                    (words, _) => words.contains(&used.as_str()),
                };
                assert!(is_known, "{name}: {label} is never {used}");
            }
        }
    }
}

#[test]
fn what_is_grouped_and_shown_by_a_label_has_it() {
    let by = Regex::new(r"\bby \(([^)]*)\)").unwrap();
    let shown = Regex::new(r"\{\{(\w+)\}\}").unwrap();
    let mut checked = 0;
    for expr in expressions() {
        let metrics = promql::selected(&expr);
        let own = metrics.keys().filter_map(|name| metric_of(name)).flat_map(|(metric, _)| metric.labels);
        let own: BTreeSet<_> = own.map(|label| label.name).collect();
        for label in by.captures_iter(&expr).flat_map(|found| found.extract::<1>().1[0].split(", ")) {
            let is_known = own.contains(label)
                || ["namespace", "job", "instance", "le"].contains(&label)
                || metrics.contains_key("ALERTS");
            assert!(is_known, "nothing in {expr} has the label {label}");
            checked += 1;
        }
    }
    assert!(checked >= 100, "only {checked} labels");
    for (_, dashboard) in dashboards() {
        for target in panels(&dashboard).flat_map(|panel| panel["targets"].as_array().unwrap()) {
            let expr = target["expr"].as_str().unwrap();
            let kept: Vec<_> =
                by.captures_iter(expr).flat_map(|f| f.extract::<1>().1[0].split(", ")).collect();
            for label in shown.captures_iter(target["legendFormat"].as_str().unwrap()) {
                // What a rule has recorded is of a job, and of an objective.
                let is_kept =
                    kept.contains(&&label[1]) || kept.is_empty() && ["job", "slo"].contains(&&label[1]);
                assert!(is_kept, "{expr} has no {} to show", &label[1]);
            }
        }
    }
}

/// The metric of a sample, and which part of it that is; nothing if it is none of the gateway.
fn metric_of(sample: &str) -> Option<(&'static Metric, &'static str)> {
    let of = |part: &'static str| {
        let name = sample.strip_suffix(part)?;
        let metric = METRICS.iter().find(|metric| metric.name == name)?;
        ((metric.kind == Kind::Histogram) != part.is_empty()).then_some((metric, part))
    };
    ["", "_bucket", "_sum", "_count"].into_iter().find_map(of)
}
