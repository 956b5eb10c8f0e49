//! Authentication templates, whose texts are Meta's, and their buttons (reference 2.4.3, 2.4.4).

use super::{Context, words};
use crate::contract::v1;
use crate::grpc::convert::Violations;

const OTP_TYPES: [&str; 3] = ["COPY_CODE", "ONE_TAP", "ZERO_TAP"];

/// Checks the body of an authentication template.
pub(super) fn check_body(path: &str, body: &v1::TemplateDefinitionBody, found: &mut Violations) {
    if !body.text.is_empty() {
        found.add(&format!("{path}.text"), "must be absent: the text of authentication templates is Meta's");
    }
    if body.example.is_some() {
        found.add(
            &format!("{path}.example"),
            "must be absent: the text of authentication templates is Meta's",
        );
    }
}

/// Checks the footer of an authentication template.
pub(super) fn check_footer(path: &str, footer: &v1::TemplateDefinitionFooter, found: &mut Violations) {
    if !footer.text.is_empty() {
        let remedy = "set code_expiration_minutes, and Meta writes it";
        found.add(&format!("{path}.text"), format!("must be absent in authentication templates; {remedy}"));
    }
}

/// Checks a button that hands over a code.
pub(super) fn check_otp(path: &str, context: Context, otp: &v1::TemplateOtpButton, found: &mut Violations) {
    let kind = otp.otp_type.as_str();
    words::check(&format!("{path}.otp_type"), kind, &OTP_TYPES, found);
    if ["ONE_TAP", "ZERO_TAP"].contains(&kind) && otp.supported_apps.is_empty() {
        found.add(&format!("{path}.supported_apps"), format!("must have 1 to 5 apps for {kind}"));
    }
    if kind == "ZERO_TAP" && !otp.zero_tap_terms_accepted {
        let rule = "must be true for ZERO_TAP: you accept Meta's terms by it";
        found.add(&format!("{path}.zero_tap_terms_accepted"), rule);
    }
    for (name, label) in [("text", &otp.text), ("autofill_text", &otp.autofill_text)] {
        if context.is_upsert && !label.is_empty() {
            let rule = "must be absent: it would be in one language, and Meta has labels in all";
            found.add(&format!("{path}.{name}"), rule);
        }
    }
}
