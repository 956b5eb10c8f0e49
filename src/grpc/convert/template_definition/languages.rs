//! The languages of templates (reference 2.4.9).

use crate::domain::quoted::Quoted;
use crate::grpc::convert::Violations;

#[rustfmt::skip] // a list, and no table of one column
const CODES: [&str; 111] = [
    "af", "sq", "ar", "ar_EG", "ar_AE", "ar_LB", "ar_MA", "ar_QA", "az", "be_BY", "bn", "bn_IN", "bg", "ca",
    "zh_CN", "zh_HK", "zh_TW", "hr", "cs", "da", "prs_AF", "nl", "nl_BE", "en", "en_GB", "en_US", "en_AE",
    "en_AU", "en_CA", "en_GH", "en_IE", "en_IN", "en_JM", "en_MY", "en_NZ", "en_QA", "en_SG", "en_UG",
    "en_ZA", "et", "fil", "fi", "fr", "fr_BE", "fr_CA", "fr_CH", "fr_CI", "fr_MA", "ka", "de", "de_AT",
    "de_CH", "el", "gu", "ha", "he", "hi", "hu", "id", "ga", "it", "ja", "kn", "kk", "rw_RW", "ko", "ky_KG",
    "lo", "lv", "lt", "mk", "ms", "ml", "mr", "nb", "ps_AF", "fa", "pl", "pt_BR", "pt_PT", "pa", "ro", "ru",
    "sr", "si_LK", "sk", "sl", "es", "es_AR", "es_CL", "es_CO", "es_CR", "es_DO", "es_EC", "es_HN", "es_MX",
    "es_PA", "es_PE", "es_ES", "es_UY", "sw", "sv", "ta", "te", "th", "tr", "uk", "ur", "uz", "vi", "zu",
];

/// Checks a language code. A misspelt one and one without the region that Meta wants are refused; a new one goes to Meta,
/// who adds languages. An absent one is the business of a static rule.
pub(super) fn check(path: &str, code: &str, found: &mut Violations) {
    if code.is_empty() || CODES.contains(&code) {
        return;
    }
    let spelt = code.replace('-', "_");
    let known = CODES.iter().find(|known| known.eq_ignore_ascii_case(&spelt));
    let regions: Vec<&str> = CODES
        .iter()
        .filter(|known| known.split_once('_').is_some_and(|(l, _)| l == spelt))
        .copied()
        .collect();
    let remedy = match known {
        Some(known) => (*known).to_owned(),
        None if !regions.is_empty() => regions.join(" or "),
        None if !is_code(&spelt) => "a code such as en_US or pt_BR".to_owned(),
        None if spelt == code => return,
        None => spelt,
    };
    found.add(path, format!("{} is no language of Meta's templates; use {remedy}", Quoted(code)));
}

/// Whether it is a language, and a region if there is one.
fn is_code(code: &str) -> bool {
    let (language, region) = code.split_once('_').unwrap_or((code, "AA"));
    let is_language = (2..=3).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_lowercase());
    is_language && (2..=4).contains(&region.len()) && region.bytes().all(|b| b.is_ascii_alphanumeric())
}
